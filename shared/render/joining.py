"""Deltas that arrive faster than a screen can draw, joined."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from shared.events import AgentEvent, ReasoningDelta, TextDelta

FRAME_SECONDS = 0.016
BACKLOG_EVENTS = 10_000
BACKLOG_CHARS = 4_000_000


class EventBuffer:
    """What was said and not yet shown: neighbouring deltas of one kind become one.

    Text is kept in pieces until it is taken, so that a long burst costs one join.
    """

    def __init__(self) -> None:
        self._events: list[AgentEvent] = []
        self._pieces: list[str] = []
        self._chars = 0
        self._kind: type[TextDelta] | type[ReasoningDelta] | None = None
        self._room = asyncio.Event()
        self.filled = asyncio.Event()
        self.ended = asyncio.Event()

    def put(self, event: AgentEvent) -> None:
        if isinstance(event, TextDelta | ReasoningDelta):
            if self._kind is not type(event):
                self._join()
                self._kind = type(event)
            self._pieces.append(event.text)
            self._chars += len(event.text)
        else:
            self._join()
            self._events.append(event)
        self.filled.set()

    def take(self) -> list[AgentEvent]:
        self._join()
        events, self._events = self._events, []
        self._chars = 0
        self.filled.clear()
        self._room.set()
        return events

    @property
    def full(self) -> bool:
        count = len(self._pieces) + len(self._events)
        return count >= BACKLOG_EVENTS or self._chars >= BACKLOG_CHARS

    async def room(self) -> None:
        """Wait until the reader took something: a slow one must not cost memory."""
        self._room.clear()
        await self._room.wait()

    def _join(self) -> None:
        if self._kind is not None:
            self._events.append(self._kind("".join(self._pieces)))
            self._pieces = []
            self._kind = None


async def read_ahead(
    events: AsyncGenerator[AgentEvent, None], buffer: EventBuffer
) -> None:
    """Fill the buffer until the events end; their error is this task's."""
    try:
        async for event in events:
            buffer.put(event)
            if buffer.full:
                await buffer.room()
    finally:
        await events.aclose()
        buffer.ended.set()
        buffer.filled.set()


async def joined(
    events: AsyncGenerator[AgentEvent, None], frame: float = FRAME_SECONDS
) -> AsyncGenerator[AgentEvent, None]:
    """The same events in the same order, deltas joined that come within one frame.

    The first event goes at once, and so does any after a pause of a frame; nothing
    is held for longer. The events are read in a task of their own, which ends with
    this generator, whichever way that ends.
    """
    buffer = EventBuffer()
    reader = asyncio.create_task(read_ahead(events, buffer))
    try:
        while not buffer.ended.is_set() or buffer.filled.is_set():
            await buffer.filled.wait()
            for event in buffer.take():
                yield event
            if not buffer.ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(frame):
                        await buffer.ended.wait()
        await reader
    finally:
        reader.cancel()
        # Not `gather`: it would hand a second cancellation on to the reader while
        # that closes the connection, and the server would work on for nobody.
        await asyncio.wait([reader])
