"""The stream of an AG-UI run: server-sent events in, agent events out, no I/O.

Format: Agent User Interaction Protocol 1.0 (docs.ag-ui.com, "Events"); the THINKING_*
events of 0.1 mean what REASONING_* mean now.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.backends.openai_chat import content_text, must_be_text
from shared.backends.payloads import error_detail
from shared.errors import UpstreamBroken
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

AGUI_THOUGHTS = frozenset(
    {
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_CHUNK",
        "THINKING_TEXT_MESSAGE_CONTENT",
    }
)
AGUI_COUNTS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "totalTokens": "total_tokens",
    "reasoningTokens": "reasoning_tokens",
    "cachedInputTokens": "cached_input_tokens",
}


@dataclass(slots=True)
class AGUICall:
    """A tool call of this run."""

    name: str
    arguments: list[str] = field(default_factory=list)
    completed: bool = False


class AGUIDecoder:
    """Reads the runs of one turn: after an interrupt, a further run goes on.

    `interrupts` are what the latest run stopped for, as the protocol has them, and
    `ended` turns True with its RUN_FINISHED. `state` is the agent's shared state.
    `messages` are what was said, as Chat Completions messages: an agent that keeps no
    history has to hear it again.
    """

    def __init__(self, state: Any = None) -> None:
        self.state = state
        self.messages: list[dict[str, Any]] = []
        self.told = False
        self._calls: dict[str, AGUICall] = {}
        self._message_id = ""
        self._foreign: set[str] = set()
        self._snapshot: list[Mapping[str, Any]] = []
        self._usage: dict[str, int] = {}
        self.begin_run()

    def begin_run(self) -> None:
        """A further run follows."""
        self.ended = False
        self.interrupts: list[Mapping[str, Any]] = []
        self._open_call = ""

    def feed(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """One event, decoded; raises UpstreamBroken where it reports an error."""
        if "type" not in payload:  # an error in plain JSON
            raise UpstreamBroken("said_error", detail=error_detail(payload))
        kind = str(payload["type"])
        events = [] if kind == "TOOL_CALL_CHUNK" else self._end_chunked_call()
        if kind.startswith("TEXT_MESSAGE_"):
            events += self._said(kind, payload)
        elif kind in AGUI_THOUGHTS:
            thought = must_be_text(payload.get("delta") or "")
            events += [ReasoningDelta(thought)] if thought else []
        elif kind.startswith("TOOL_CALL_"):
            events += self._called(kind, payload)
        elif kind.startswith("RUN_"):
            self._run(kind, payload)
        elif kind.startswith(("STEP_", "SUBAGENT_", "ACTIVITY_")):
            events += agui_progress(kind, payload)
        elif kind == "STATE_SNAPSHOT":
            self.state = payload.get("snapshot")
        elif kind == "STATE_DELTA":
            self.state = patched(self.state, payload["delta"])
        elif kind == "MESSAGES_SNAPSHOT":
            self._snapshot = list(payload["messages"])
        self.told = self.told or any(not isinstance(e, Status) for e in events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the run has ended.

        A run that streamed nothing may have its answer in a snapshot.
        """
        events = self._end_chunked_call()
        if not self.told and (text := snapshot_answer(self._snapshot)):
            events.append(TextDelta(text))
            self.told = True
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished()]

    def call_of(self, interrupt: Mapping[str, Any]) -> tuple[str, str]:
        """The name and the arguments of the tool call that an interrupt is about."""
        call = self._calls.get(str(interrupt.get("toolCallId")))
        return (call.name, "".join(call.arguments)) if call else ("", "")

    def _said(self, kind: str, payload: Mapping[str, Any]) -> list[AgentEvent]:
        message_id = str(payload.get("messageId") or self._message_id)
        if payload.get("role", "assistant") != "assistant":
            self._foreign.add(message_id)  # the agent repeats what it was told
        delta = must_be_text(payload.get("delta") or "")
        if not delta or message_id in self._foreign:
            return []
        said = self._answer_under_way()
        if said["content"] and message_id != self._message_id:
            delta = f"\n\n{delta}"
        self._message_id = message_id
        said["content"] += delta
        return [TextDelta(delta)]

    def _answer_under_way(self) -> dict[str, Any]:
        """The last message, where it is the agent's and has no calls yet."""
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant" or "tool_calls" in last:
            last = {"role": "assistant", "content": ""}
            self.messages.append(last)
        return last

    def _called(self, kind: str, payload: Mapping[str, Any]) -> list[AgentEvent]:
        call_id = str(payload.get("toolCallId") or self._open_call)
        events: list[AgentEvent] = []
        if kind == "TOOL_CALL_RESULT":
            output = content_text(payload.get("content"))
            result = {"role": "tool", "tool_call_id": call_id, "content": output}
            self.messages.append(result)
            return [ToolResult(call_id, output)]
        if kind == "TOOL_CALL_CHUNK" and call_id != self._open_call:
            events += self._end_chunked_call()
            self._open_call = call_id
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = AGUICall(str(payload["toolCallName"]))
            events.append(ToolCallStarted(call_id, call.name))
        if delta := must_be_text(payload.get("delta") or ""):
            call.arguments.append(delta)
            events.append(ToolCallArgumentsDelta(call_id, delta))
        if kind == "TOOL_CALL_END":
            events += self._complete(call_id)
        return events

    def _end_chunked_call(self) -> list[AgentEvent]:
        """A call in chunks has no end event: the next other event ends it."""
        call_id, self._open_call = self._open_call, ""
        return self._complete(call_id) if call_id else []

    def _complete(self, call_id: str) -> list[AgentEvent]:
        call = self._calls[call_id]
        if call.completed:
            return []
        call.completed = True
        arguments = "".join(call.arguments).strip() or "{}"
        self._keep_call(call_id, call.name, arguments)
        return [ToolCallCompleted(call_id, call.name, arguments)]

    def _keep_call(self, call_id: str, name: str, arguments: str) -> None:
        last = self.messages[-1] if self.messages else {}
        said = last if last.get("role") == "assistant" else self._answer_under_way()
        function = {"name": name, "arguments": arguments}
        call = {"id": call_id, "type": "function", "function": function}
        said.setdefault("tool_calls", []).append(call)

    def _run(self, kind: str, payload: Mapping[str, Any]) -> None:
        for counts in payload.get("usage") or ():
            for theirs, ours in AGUI_COUNTS.items():
                if counts.get(theirs):
                    self._usage[ours] = self._usage.get(ours, 0) + int(counts[theirs])
        if kind == "RUN_ERROR":
            raise UpstreamBroken("said_error", detail=str(payload.get("message") or ""))
        if kind == "RUN_FINISHED":
            self.ended = True
            outcome = payload.get("outcome") or {}
            self.interrupts = list(outcome.get("interrupts") or ())


def agui_progress(kind: str, payload: Mapping[str, Any]) -> list[AgentEvent]:
    """A status line for a step, a sub-agent or another activity."""
    name = payload.get("stepName") or payload.get("name") or payload.get("activityType")
    done = kind.endswith(("_FINISHED", "_ERROR"))
    return [Status(str(name).replace("_", " "), done)] if name else []


def snapshot_answer(messages: list[Mapping[str, Any]]) -> str:
    """What the agent said after the user's last message."""
    texts: list[str] = []
    for message in messages:
        if message.get("role") == "user":
            texts.clear()
        elif message.get("role") == "assistant" and message.get("content"):
            texts.append(content_text(message["content"]))
    return "\n\n".join(texts)


def patched(state: Any, patch: list[Mapping[str, Any]]) -> Any:
    """The state after a JSON patch (RFC 6902); raises ValueError where it fits not."""
    import jsonpatch

    try:
        return jsonpatch.apply_patch(state if state is not None else {}, patch)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise ValueError("a patch that does not fit the state") from error
