"""The stream of a Letta agent: server-sent events in, agent events out, no I/O.

Format: Letta 0.16, `letta/schemas/letta_message.py`; with `stream_tokens` texts and
arguments come in pieces.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.backends.openai_chat import content_text, must_be_text, read_counts
from shared.backends.payloads import error_detail
from shared.errors import UpstreamBroken, UpstreamError, UpstreamRefused
from shared.events import (
    AgentEvent,
    Finished,
    ReasoningDelta,
    Status,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
    Usage,
)

LETTA_STOPS = {"max_steps": "length", "max_tokens_exceeded": "length"}
LETTA_FAILURES = frozenset(
    {
        "context_window_overflow_in_system_prompt",
        "error",
        "insufficient_credits",
        "invalid_llm_response",
        "invalid_tool_call",
        "llm_api_error",
        "no_tool_call",
    }
)

CONFLICT_STATUS = 409
# What may say more of a call that is under way; anything else ends it.
GROWING_CALLS = ("tool_call_message", "approval_request_message", "ping")


@dataclass(slots=True)
class LettaCall:
    """A tool call of the agent; `asked` says that the server waits for our word."""

    call_id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    asked: bool = False
    completed: bool = False
    answered: bool = False

    @property
    def whole_arguments(self) -> str:
        return "".join(self.arguments).strip() or "{}"


class LettaDecoder:
    """Reads the runs of one turn: what we answer begins a further run.

    `run_id` is that of the latest run, `waiting` are the calls it has stopped for.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self.told = False
        self._calls: dict[str, LettaCall] = {}
        self._usage: dict[str, Any] = {}
        self._text_id = ""
        self.begin_run()

    def begin_run(self) -> None:
        """A further run follows."""
        self.stop_reason = ""
        for call in self._calls.values():
            call.asked = False

    @property
    def waiting(self) -> list[LettaCall]:
        return [call for call in self._calls.values() if call.asked]

    def feed(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """One message, decoded; raises UpstreamError where it reports an error."""
        self.run_id = str(payload.get("run_id") or self.run_id)
        kind = payload.get("message_type")
        if kind == "error_message" or (kind is None and payload.get("error")):
            raise letta_error(payload)
        events = [] if kind in GROWING_CALLS else self._complete()
        match kind:
            case "assistant_message":
                events += self._said(payload)
            case "reasoning_message":
                thought = must_be_text(payload.get("reasoning") or "")
                events += [ReasoningDelta(thought)] if thought else []
            case "tool_call_message":
                events += self._called(payload, asked=False)
            case "approval_request_message":
                events += self._called(payload, asked=True)
            case "tool_return_message":
                events += self._returned(payload)
            case "event_message":
                events.append(Status(str(payload.get("event_type") or ""), done=True))
            case "stop_reason":
                self.stop_reason = str(payload["stop_reason"])
            case "usage_statistics":
                self._count(payload)
        self.told = self.told or any(not isinstance(e, Status) for e in events)
        return events

    def end_run(self) -> list[AgentEvent]:
        """What remains to be told of a run; raises UpstreamBroken where it failed."""
        if not self.stop_reason:
            raise UpstreamBroken("cut_short")
        if self.stop_reason in LETTA_FAILURES:
            reason = self.stop_reason.replace("_", " ")
            raise UpstreamBroken("said_error", detail=reason)
        return self._complete()

    def denied(self, call: LettaCall, reason: str) -> ToolResult:
        """The result of a call that will not be made: the server tells of none."""
        call.answered = True
        return ToolResult(call.call_id, reason, failed=True)

    def finish(self, for_us: Sequence[LettaCall] = ()) -> list[AgentEvent]:
        """The end of the turn; the calls `for_us` are left for us to run.

        Any other without a result gets an empty one: Open WebUI would run it itself.
        """
        events: list[AgentEvent] = [
            ToolResult(call.call_id, "")
            for call in self._calls.values()
            if not (call.answered or call in for_us)
        ]
        if self._usage:
            events.append(Usage(self._usage))
        reason = LETTA_STOPS.get(self.stop_reason, "stop")
        return [*events, Finished("tool_calls" if for_us else reason)]

    def _said(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        text = content_text(payload.get("content"))
        if not text:
            return []
        text_id = str(payload.get("otid") or payload.get("id"))
        if self._text_id not in ("", text_id):
            text = f"\n\n{text}"
        self._text_id = text_id
        return [TextDelta(text)]

    def _called(self, payload: Mapping[str, Any], asked: bool) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        self._text_id = ""
        for piece in call_pieces(payload):
            call_id = str(piece.get("tool_call_id") or next(reversed(self._calls)))
            call = self._calls.setdefault(call_id, LettaCall(call_id))
            call.asked = asked
            if piece.get("name") and not call.name:
                call.name = str(piece["name"])
                events.append(ToolCallStarted(call_id, call.name))
            # A call that was streamed before it is asked for comes whole once more.
            repeated = bool(piece.get("name") and call.arguments)
            if repeated or call.completed or not piece.get("arguments"):
                continue
            delta = must_be_text(piece["arguments"])
            call.arguments.append(delta)
            events.append(ToolCallArgumentsDelta(call_id, delta))
        return events

    def _complete(self) -> list[AgentEvent]:
        """Every call begun so far is whole: something else has come."""
        events: list[AgentEvent] = []
        for call in self._calls.values():
            if call.name and not call.completed:
                call.completed = True
                whole = call.whole_arguments
                events.append(ToolCallCompleted(call.call_id, call.name, whole))
        return events

    def _returned(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """The results of the tools that the server has run."""
        self._text_id = ""
        results: list[AgentEvent] = []
        for one in payload.get("tool_returns") or [payload]:
            call_id, output = str(one["tool_call_id"]), one.get("tool_return")
            failed = one.get("status") == "error"
            # The results that we have sent come back in the next run.
            call = self._calls.get(call_id)
            if call is not None and not call.answered:
                call.answered = True
                results.append(ToolResult(call_id, content_text(output), failed))
        return results

    def _count(self, payload: Mapping[str, Any]) -> None:
        """Add up the tokens over runs; all else is the latest run's."""
        for key, value in read_counts(payload).items():
            if key.endswith("_tokens") and key != "context_tokens":
                value += self._usage.get(key, 0)
            self._usage[key] = value


def call_pieces(payload: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The calls of a message, or the piece of one; `tool_call` is the older name."""
    calls = payload.get("tool_calls") or payload.get("tool_call") or []
    return calls if isinstance(calls, list) else [calls]


def letta_error(payload: Mapping[str, Any]) -> UpstreamError:
    """The error in a message; its detail says more than its message.

    A conversation that waits for an answer to a call takes no other message.
    """
    detail = str(payload.get("detail") or error_detail(payload))
    if "CONFLICT" in (detail + str(payload.get("message"))):
        return UpstreamRefused("said_error", CONFLICT_STATUS, detail=detail)
    return UpstreamBroken("said_error", detail=detail)
