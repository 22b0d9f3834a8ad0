"""Deltas that arrive faster than a screen can draw, joined."""

import asyncio
from collections.abc import AsyncGenerator

from shared.events import AgentEvent, ReasoningDelta, TextDelta

FRAME_SECONDS = 0.016
BACKLOG_EVENTS = 10_000
BACKLOG_CHARS = 4_000_000
DELTAS = (TextDelta, ReasoningDelta)  # a union of types is made anew at each look


class EventBuffer:
    """What was said and not yet shown: neighbouring deltas of one kind become one.

    It is `due` at once when the last was taken a frame ago or more, else at that
    frame's end. So a timer runs only where something waits: in a stream slower than
    a screen, and most are, there is none.

    Text is kept in pieces until it is taken, so that a long burst costs one join.
    """

    def __init__(self, frame: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._frame = frame
        self._frame_end = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._events: list[AgentEvent] = []
        self._pieces: list[str] = []
        self._chars = 0
        self._kind: type[TextDelta] | type[ReasoningDelta] | None = None
        self._room = asyncio.Event()
        self.due = asyncio.Event()
        self.ended = False

    def put(self, event: AgentEvent) -> None:
        if isinstance(event, DELTAS):
            if self._kind is not type(event):
                self._join()
                self._kind = type(event)
            self._pieces.append(event.text)
            self._chars += len(event.text)
        else:
            self._join()
            self._events.append(event)
        if self._timer is None and not self.due.is_set():
            if self._loop.time() >= self._frame_end:
                self.due.set()
            else:
                self._timer = self._loop.call_at(self._frame_end, self.due.set)

    def take(self) -> list[AgentEvent]:
        self._join()
        events, self._events = self._events, []
        self._chars = 0
        self._frame_end = self._loop.time() + self._frame
        self._stop_timer()
        self.due.clear()
        self._room.set()
        return events

    def end(self) -> None:
        """Nothing follows, so nothing is waited for."""
        self.ended = True
        self._stop_timer()
        self.due.set()

    @property
    def full(self) -> bool:
        count = len(self._pieces) + len(self._events)
        return count >= BACKLOG_EVENTS or self._chars >= BACKLOG_CHARS

    async def room(self) -> None:
        """Wait until the reader took something: a slow one must not cost memory."""
        self._room.clear()
        await self._room.wait()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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
        buffer.end()


async def joined(
    events: AsyncGenerator[AgentEvent, None], frame: float = FRAME_SECONDS
) -> AsyncGenerator[AgentEvent, None]:
    """The same events in the same order, deltas joined that come within one frame.

    The first event goes at once, and so does any after a pause of a frame; nothing
    is held for longer. The events are read in a task of their own, which ends with
    this generator, whichever way that ends.
    """
    buffer = EventBuffer(frame)
    reader = asyncio.create_task(read_ahead(events, buffer))
    try:
        while not buffer.ended or buffer.due.is_set():
            await buffer.due.wait()
            for event in buffer.take():
                yield event
        await reader
    finally:
        reader.cancel()
        # Not `gather`: it would hand a second cancellation on to the reader while
        # that closes the connection, and the server would work on for nobody.
        await asyncio.wait([reader])
