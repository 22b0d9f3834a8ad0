"""A connection to an A2A agent that breaks while its task runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from shared.backends.a2a import A2AConnection, run_task
from shared.backends.a2a_stream import A2ADecoder
from shared.backends.a2a_wire import A2AInterface
from shared.backends.base import Turn
from shared.backends.http import Endpoint, new_http_client
from shared.events import Finished, TextDelta
from tests.e2e.backends.programs import A2AServer, ScriptedUpstream
from tests.e2e.backends.script import fixture

WORDS = " ".join(f"word{number}" for number in range(30))
INTERFACES = {
    "jsonrpc": A2AInterface("/jsonrpc/", rest=False, legacy=False),
    "rest": A2AInterface("/rest/api", rest=True, legacy=False),
    "v03": A2AInterface("/v03/", rest=False, legacy=True),
}


@asynccontextmanager
async def breaking_at(mark: bytes, url: str) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A way to the server at `url` whose first connection breaks when `mark` comes.

    Gives its address and, for each connection, what came through.
    """
    place = urlsplit(url)
    heard: list[bytes] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        number = len(heard)
        heard.append(b"")
        there, back = await asyncio.open_connection(place.hostname, place.port)

        async def ask() -> None:
            while data := await reader.read(65536):
                back.write(data)

        asking = asyncio.create_task(ask())
        try:
            while data := await there.read(65536):
                heard[number] += data
                writer.write(data)
                await writer.drain()
                if number == 0 and mark in heard[0]:
                    writer.transport.abort()
                    return
        except ConnectionError:
            return
        finally:
            asking.cancel()
            writer.close()
            back.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", heard
    finally:
        server.close()


@pytest.mark.parametrize("way", INTERFACES)
async def test_the_answer_comes_whole(
    a2a_server: A2AServer, scripted_upstream: ScriptedUpstream, way: str
):
    scripted_upstream.add(fixture("CUT_ME", {"content": WORDS}, latency=60))
    question = {"role": "user", "content": "CUT_ME"}
    interface = INTERFACES[way]
    async with (
        breaking_at(b"word3", a2a_server.url) as (url, heard),
        new_http_client() as client,
    ):
        endpoint = Endpoint("Helper", url + interface.url, headers=interface.headers)
        connection = A2AConnection(client, endpoint, interface, streaming=True)
        run = run_task(connection, A2ADecoder(), Turn((question,)))
        events = [event async for event in run]
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said == WORDS
    assert events[-1] == Finished()
    assert b"word9 " not in heard[0]
    assert len(heard) > 1
    assert a2a_server.tasks()[-1]["ended"] == "completed"
