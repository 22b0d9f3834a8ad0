"""A wire between Open WebUI and an agent that can be listened to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Wire:
    """What went over it: all that was asked, and how many callers hung up."""

    url: str = ""
    asked: bytearray = field(default_factory=bytearray)
    hung_up: int = 0

    def last_asked(self) -> str:
        """The last request with its headers, decoded."""
        _, _, last = bytes(self.asked).rpartition(b"POST ")
        return last.decode()


@asynccontextmanager
async def listening_to(url: str) -> AsyncIterator[Wire]:
    """Give the address of a wire to the server at `url` until the block ends."""
    target = urlsplit(url)
    wire = Wire()
    calls: set[asyncio.Task[None]] = set()

    async def connected(
        caller: asyncio.StreamReader, back: asyncio.StreamWriter
    ) -> None:
        call = asyncio.current_task()
        assert call
        calls.add(call)
        server, forth = await asyncio.open_connection(target.hostname, target.port)
        answers = asyncio.create_task(pass_on(server, back))
        try:
            while data := await caller.read(65536):
                wire.asked += data
                forth.write(data)
            wire.hung_up += 1
        except ConnectionError:
            wire.hung_up += 1
        finally:
            answers.cancel()
            forth.close()
            back.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        listener.close()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Everything that comes, as it comes; then the end."""
    with suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()
