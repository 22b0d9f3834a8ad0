"""Tool calls that an agent's model leaked as text, mended in the pipe."""

from collections.abc import AsyncGenerator

from shared.backends.base import Turn
from shared.errors import AqueductError
from shared.events import (
    AgentEvent,
    Finished,
    ReasoningDelta,
    Status,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
)
from shared.ids import new_id
from shared.texts import Sentence
from shared.toolcalls.pieces import CutCall, Piece, RecoveredCall, VisibleText
from shared.toolcalls.scanner import ToolCallScanner


class RecoveringReader:
    """Reads one model call: text and thoughts each through a scanner of their own.

    Some models call tools inside their thoughts. When the kind changes, what a
    scanner still holds is decided there, so that nothing is shown out of order.
    """

    def __init__(self, turn: Turn, sentence: Sentence) -> None:
        self._tools = turn.tools
        self._sentence = sentence
        self._kind: type[TextDelta] | type[ReasoningDelta] = TextDelta
        self._scanner: ToolCallScanner | None = None
        self._called = False

    def read(self, event: AgentEvent) -> list[AgentEvent]:
        """What is to be told for this event."""
        match event:
            case TextDelta(text) | ReasoningDelta(text):
                return [*self._switch(type(event)), *self._feed(text)]
            case ToolCallStarted():
                return [*self.release(), event]
            case Finished(reason):
                rest = self.release(truncated=reason == "length")
                return [*rest, Finished("tool_calls") if self._called else event]
        return [event]

    def _switch(self, kind: type[TextDelta] | type[ReasoningDelta]) -> list[AgentEvent]:
        if kind is self._kind and self._scanner is not None:
            return []
        rest = self.release()
        self._kind = kind
        self._scanner = ToolCallScanner(self._tools, reasoning=kind is ReasoningDelta)
        return rest

    def _feed(self, text: str) -> list[AgentEvent]:
        assert self._scanner is not None
        return self._events(self._scanner.feed(text))

    def release(self, truncated: bool = False) -> list[AgentEvent]:
        """What the scanner holds; the next text begins with a new one."""
        scanner, self._scanner = self._scanner, None
        return self._events(scanner.finish(truncated=truncated)) if scanner else []

    def _events(self, pieces: list[Piece]) -> list[AgentEvent]:
        """Pieces as events: markup is left out, a call that was cut is explained."""
        events: list[AgentEvent] = []
        for piece in pieces:
            match piece:
                case VisibleText(text):
                    events.append(self._kind(text))
                case RecoveredCall(name, arguments):
                    self._called = True
                    call_id = new_id("call")
                    status = self._sentence("recovered", {"tool": name})
                    events += [
                        Status(status, done=True),
                        ToolCallStarted(call_id, name),
                        ToolCallCompleted(call_id, name, arguments),
                    ]
                case CutCall():
                    notice = self._sentence("cut", {})
                    events.append(TextDelta(f"\n\n{notice}"))
        return events


async def recover_leaked_calls(
    events: AsyncGenerator[AgentEvent, None], turn: Turn, sentence: Sentence
) -> AsyncGenerator[AgentEvent, None]:
    """The same events, with leaked calls of the turn's tools as real ones."""
    reader = RecoveringReader(turn, sentence)
    try:
        async for event in events:
            for told in reader.read(event):
                yield told
    except AqueductError:
        for told in reader.release(truncated=True):
            yield told
        raise
    finally:
        await events.aclose()
