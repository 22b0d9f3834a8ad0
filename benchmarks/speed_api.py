"""Streams over the API, read at the least cost: client and server share a machine.

The client is a socket and a search for a few bytes. An HTTP library would take more
time for a chunk than some of what is measured here.
"""

from __future__ import annotations

import json
import selectors
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.speed_sample import Progress, Sample
from benchmarks.speed_upstream import WORD

PIECE_BYTES = f'"content":"{WORD}'.encode()
WORD_BYTES = WORD.encode()
READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Target:
    """A model, and the address where Chat Completions are asked for."""

    url: str
    model: str
    token: str = field(default="", repr=False)

    def request(self) -> bytes:
        """The whole HTTP request for a stream."""
        parts = urlsplit(self.url)
        message = {"role": "user", "content": "Say your words."}
        body = json.dumps(
            {"model": self.model, "stream": True, "messages": [message]}
        ).encode()
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {self.token}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def read_streams(target: Target, progress: Progress) -> Sample:
    """Open as many streams as `progress` counts and read all of them to their end."""
    with selectors.DefaultSelector() as selector:
        for number in range(progress.streams):
            stream = OpenStream(ask(target), number)
            selector.register(stream.connection, selectors.EVENT_READ, stream)
        while selector.get_map():
            for key, _ in selector.select():
                stream = key.data
                data = stream.connection.recv(READ_BYTES)
                if not data:
                    selector.unregister(stream.connection)
                    stream.connection.close()
                lines = stream.whole_lines(data)
                words, pieces = lines.count(WORD_BYTES), lines.count(PIECE_BYTES)
                progress.add(stream.number, words, pieces)
    return progress.sample()


@dataclass
class OpenStream:
    """A response under way."""

    connection: socket.socket
    number: int
    _rest: bytes = b""

    def whole_lines(self, data: bytes) -> bytes:
        """Give what is complete: a read may end within a word."""
        lines, end, self._rest = (self._rest + data).rpartition(b"\n")
        return lines + end


def ask(target: Target) -> socket.socket:
    """Send a request; the response is what the socket gives next."""
    parts = urlsplit(target.url)
    connection = socket.create_connection((parts.hostname, parts.port or 80), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(target.request())
    return connection
