"""Server-sent events: bytes in, events out, no I/O.

Format: WHATWG HTML, section 9.2.6 "Interpreting an event stream".
"""

import re
from dataclasses import dataclass

from shared.errors import UpstreamBroken

MAX_LINE_BYTES = 8 * 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_FIELD = re.compile(rb"[A-Za-z_-]+(:|$)")


@dataclass(slots=True)
class ServerSentEvent:
    """One dispatched event: its `event:` name ("" when absent) and joined `data:`."""

    name: str
    data: bytes


class LineBuffer:
    """Cuts a byte stream into lines (without their ends), whatever the chunking.

    Raises UpstreamBroken for a line over `limit` bytes: no event of a chat is that
    long, and buffering without end would let one server take the process's memory.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        if b"\n" not in data:
            self._hold(data)
            return []
        if self._parts:
            data = b"".join([*self._parts, data])
            self._parts.clear()
            self._size = 0
        *lines, rest = data.split(b"\n")
        if rest:
            self._hold(rest)
        if len(data) > self._limit and any(len(line) > self._limit for line in lines):
            raise UpstreamBroken("line_too_long", limit=self._limit / 2**20)
        if b"\r" not in data:
            return lines
        return [line.removesuffix(b"\r") for line in lines]

    def finish(self) -> list[bytes]:
        """The last line, when the stream ended without an end of line."""
        if not self._parts:
            return []
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return [line]

    def _hold(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._limit:
            raise UpstreamBroken("line_too_long", limit=self._limit / 2**20)


class SSEDecoder:
    """Turns lines into events; comments and unknown fields are passed over.

    A line that is neither a field nor a comment goes out as an event named
    `line`, since servers answer a streaming request with bare JSON or HTML.
    """

    def __init__(self) -> None:
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, line: bytes) -> ServerSentEvent | None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            return None
        if not line:
            return self.finish()
        if line.startswith(BYTE_ORDER_MARK):
            return self.feed(line.removeprefix(BYTE_ORDER_MARK))
        if line.startswith(b"event:"):
            self._name = line[6:].decode("utf-8", "replace").strip()
            return None
        if line.startswith(b":") or OTHER_FIELD.match(line):
            return None
        return ServerSentEvent("line", line)

    def finish(self) -> ServerSentEvent | None:
        """The event under way, at a blank line or the end of the stream."""
        if not self._data:
            self._name = ""
            return None
        event = ServerSentEvent(self._name, b"\n".join(self._data))
        self._name = ""
        self._data.clear()
        return event


class SSEReader:
    """Turns a byte stream into events, whatever the chunking."""

    def __init__(self) -> None:
        self._lines = LineBuffer()
        self._decoder = SSEDecoder()
        self._between = True  # two events: nothing is held

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete; raises UpstreamBroken as LineBuffer."""
        if self._between and is_one_event(data):
            return [ServerSentEvent("", data[6:-2])]
        self._between = data.endswith(b"\n\n")
        return self._events(self._lines.feed(data))

    def finish(self) -> list[ServerSentEvent]:
        """What remains when the stream has ended."""
        last = [*self._events(self._lines.finish()), self._decoder.finish()]
        return [event for event in last if event is not None]

    def _events(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events = map(self._decoder.feed, lines)
        return [event for event in events if event is not None]


def is_one_event(data: bytes) -> bool:
    """Whether this is one line of data and no more: nearly all that live servers send."""
    return (
        data.startswith(b"data: ")
        and data.find(b"\n") == len(data) - 2
        and data.endswith(b"\n\n")
        and not data.endswith(b"\r\n\n")
        and len(data) <= MAX_LINE_BYTES
    )
