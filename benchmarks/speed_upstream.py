"""A model server that costs next to nothing: Chat Completions from prebuilt bytes.

A model's name says what it does: `words-5000` sends 5,000 chunks of one word as fast as
the connection takes them, `words-200-every-20ms` sends one every 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from dataclasses import dataclass
from typing import ClassVar

MODEL_NAME = re.compile(r"words-(\d+)(?:-every-(\d+)ms)?")
WORD = "word "


@dataclass(frozen=True)
class WordModel:
    """How many words, and the milliseconds between two of them (0: none)."""

    words: int
    interval_ms: int = 0

    @property
    def name(self) -> str:
        """The model's id."""
        pace = f"-every-{self.interval_ms}ms" if self.interval_ms else ""
        return f"words-{self.words}{pace}"

    @classmethod
    def from_name(cls, name: str) -> WordModel:
        """Read an id; raises ValueError for one that is none of ours."""
        found = MODEL_NAME.fullmatch(name)
        if found is None:
            raise ValueError(f"no such model: {name}")
        return cls(int(found[1]), int(found[2] or 0))


def http_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, 7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def completion_chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    """One event of a Chat Completions stream, as a chunk of the body."""
    payload = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "words",
        "choices": [
            {
                "index": 0,
                "delta": delta,
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
    }
    data = json.dumps(payload, separators=(",", ":")).encode()
    return http_chunk(b"data: " + data + b"\n\n")


def plain_response(payload: object) -> bytes:
    """A whole response with a JSON body."""
    body = json.dumps(payload).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
FIRST = completion_chunk({"role": "assistant", "content": ""})
CHUNK = completion_chunk({"content": WORD})
LAST = completion_chunk({}, "stop") + http_chunk(b"data: [DONE]\n\n") + http_chunk(b"")


class UpstreamProtocol(asyncio.Protocol):
    """One connection; requests come one after another."""

    models: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self._buffer = b""
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None
        self._last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; buffered words would only blur the pace."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def pause_writing(self) -> None:
        """The reader is slower than we are."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The reader has caught up."""
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        """The caller went away: stop sending."""
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Collect a request and answer it."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if length and len(body) < int(length[1]):
            return
        self._buffer = b""
        self._last = b"connection: close" in head.lower()
        if head.startswith(b"POST"):
            model = WordModel.from_name(json.loads(body)["model"])
            self._task = asyncio.create_task(self._stream(model))
        else:
            models = [{"id": name, "object": "model"} for name in self.models]
            self._transport.write(plain_response({"object": "list", "data": models}))

    async def _stream(self, model: WordModel) -> None:
        """Every word is a write of its own, as servers do it that send live."""
        transport, writable = self._transport, self._writable
        loop = asyncio.get_running_loop()
        transport.write(STREAM_HEAD + FIRST)
        start = loop.time()
        for number in range(model.words):
            if model.interval_ms:
                # Due times are absolute: a late word does not delay the others.
                due = start + number * model.interval_ms / 1000
                await asyncio.sleep(due - loop.time())
            if not writable.is_set():
                await writable.wait()
            transport.write(CHUNK)
        transport.write(LAST)
        if self._last:
            transport.close()


async def serve(port: int, models: list[str]) -> None:
    """Answer until the process is ended."""
    UpstreamProtocol.models = models
    loop = asyncio.get_running_loop()
    server = await loop.create_server(UpstreamProtocol, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """`python -m benchmarks.speed_upstream --port 9000 words-5000 …`: serve these models."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("models", nargs="+")
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.models))


if __name__ == "__main__":
    main()
