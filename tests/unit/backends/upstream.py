"""A server on a real socket that does to its caller whatever a test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from shared.agents.service import sentence_for
from shared.backends.base import Turn
from shared.backends.http import Endpoint, Timeouts
from shared.backends.openai import OpenAIBackend
from shared.events import AgentEvent, Failed
from tests.unit.guard import guarded

PATIENCE = 5.0  # seconds until a condition that does not come about fails a test
AGENT = "Scout"
KEY = "sk-very-secret-0123456789"
QUESTION = Turn(({"role": "user", "content": "Hello"},))


@dataclass
class Exchange:
    """One request and the open end of its connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    path: str
    headers: dict[str, str]
    body: Any

    async def head(
        self, status: int = 200, kind: str = "text/event-stream", **more: str
    ) -> None:
        """Begin an answer whose end is the end of the connection."""
        lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {kind}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
        await self.send("\r\n".join([*lines, "Connection: close", "", ""]))

    async def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await self.writer.drain()

    async def answer(self, status: int, payload: Any, **headers: str) -> None:
        """A whole answer in JSON."""
        await self.head(status, "application/json", **headers)
        await self.send(orjson.dumps(payload))

    async def until_closed(self) -> None:
        """Wait for the caller to hang up."""
        with suppress(ConnectionError):
            await self.reader.read()


@dataclass
class Upstream:
    """A running server: what it was asked, and whether a caller hung up."""

    url: str = ""
    asked: list[Exchange] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_until_hung_up(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.hung_up.wait()


Script = Callable[[Exchange], Awaitable[None]]


@asynccontextmanager
async def serve(
    script: Script, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """Run `script` for every request; the connection closes when it returns."""
    upstream = Upstream()
    running: set[asyncio.Task[None]] = set()

    async def connected(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task
        running.add(task)
        try:
            exchange = await read_request(reader, writer)
            upstream.asked.append(exchange)
            with suppress(ConnectionError):
                await script(exchange)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    upstream.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/v1"
    try:
        yield upstream
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Exchange:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    payload = orjson.loads(body) if body else None
    return Exchange(reader, writer, first.split()[1], headers, payload)


@asynccontextmanager
async def holding(*said: bytes | str) -> AsyncIterator[Upstream]:
    """A server that says this much and then waits for its caller to hang up."""

    async def script(exchange: Exchange) -> None:
        for data in said:
            await exchange.send(data)
        await exchange.until_closed()
        upstream.hung_up.set()

    async with serve(script) as upstream:
        yield upstream


HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def saying(*said: bytes | str, kind: str = "text/event-stream") -> Script:
    """The script of a server that says this and closes the connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(kind=kind)
        for data in said:
            await exchange.send(data)

    return script


def make_endpoint(url: str, **limits: float) -> Endpoint:
    """An endpoint that is more patient than a test, save where told."""
    return Endpoint(AGENT, url, KEY, timeouts=Timeouts(**limits))


@dataclass
class Told:
    """What a user gets to see of a turn: its events, and the sentence it failed with."""

    events: list[AgentEvent]
    host: str
    sentence: str = ""
    code: str = ""


async def ask(
    client: httpx.AsyncClient,
    url: str,
    *,
    api: Any = "chat",
    turn: Turn = QUESTION,
    keep_session: bool = False,
    **limits: float,
) -> Told:
    """One turn with the server at `url`, told as the pipe tells it."""
    endpoint = make_endpoint(url, **limits)
    backend = OpenAIBackend(client, endpoint, "m", api, keep_session)
    names = {"agent": endpoint.agent, "host": endpoint.host}
    async with asyncio.timeout(PATIENCE):
        events = [event async for event in guarded(backend.run(turn), names)]
    told = Told(events, endpoint.host)
    if isinstance(events[-1], Failed):
        failed = events.pop()
        assert isinstance(failed, Failed)
        told.code = failed.code
        told.sentence = sentence_for("en", {}, failed.code, failed.fields)
    return told
