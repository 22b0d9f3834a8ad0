"""Claude Code's JSON lines, as events.

Format: `claude -p --output-format stream-json --include-partial-messages --verbose`:
`stream_event` holds events of Anthropic's Messages API, `assistant` repeats each block
when it is whole, `user` holds the results of tools, `result` is the end.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.backends.cli_lines import JsonLines, token_counts, whole_call
from shared.backends.processes_errors import plain_detail
from shared.events import (
    AgentEvent,
    ReasoningDelta,
    SessionState,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
)
from shared.json_text import dump_json

# The model of messages that Claude Code writes itself, such as its errors.
SYNTHETIC = "<synthetic>"


class ClaudeLines(JsonLines):
    """The lines of one turn; what subagents say among themselves is left out."""

    def __init__(self) -> None:
        super().__init__()
        self._streamed: set[str] = set()
        # The calls whose arguments are coming, by the index of their block.
        self._calls: dict[int, tuple[str, str, list[str]]] = {}

    def event(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        if payload.get("parent_tool_use_id"):
            return []
        message = payload.get("message")
        match payload.get("type"):
            case "system" if payload.get("subtype") == "init":
                return [SessionState({"session_id": str(payload.get("session_id"))})]
            case "system" if payload.get("error_status") == 401:
                # It would try ten times, for minutes.
                self.fail("401")
            case "stream_event" if isinstance(payload.get("event"), Mapping):
                return self._stream_event(payload["event"])
            case "assistant" if isinstance(message, Mapping):
                return self._whole_message(message)
            case "user" if isinstance(message, Mapping):
                return tool_results(message.get("content"))
            case "result":
                self._result(payload)
                return token_counts(payload.get("usage"))
        return []

    def _stream_event(self, event: Mapping[str, Any]) -> list[AgentEvent]:
        index = int(event.get("index") or 0)
        match event.get("type"):
            case "message_start":
                self._streamed.add(str(event["message"].get("id")))
            case "content_block_start":
                block = event["content_block"]
                if block.get("type") == "tool_use":
                    call_id, name = str(block["id"]), str(block["name"])
                    self._calls[index] = (call_id, name, [])
                    return [ToolCallStarted(call_id, name)]
            case "content_block_delta":
                return self._delta(index, event["delta"])
            case "content_block_stop" if index in self._calls:
                call_id, name, parts = self._calls.pop(index)
                return [ToolCallCompleted(call_id, name, "".join(parts) or "{}")]
        return []

    def _delta(self, index: int, delta: Mapping[str, Any]) -> list[AgentEvent]:
        match delta.get("type"):
            case "text_delta":
                return [TextDelta(str(delta["text"]))]
            case "thinking_delta":
                return [ReasoningDelta(str(delta["thinking"]))]
            case "input_json_delta" if index in self._calls:
                call_id, _, parts = self._calls[index]
                parts.append(str(delta["partial_json"]))
                return [ToolCallArgumentsDelta(call_id, parts[-1])]
        return []

    def _result(self, result: Mapping[str, Any]) -> None:
        """The end; its `subtype` may say success all the same when it failed."""
        if not result.get("is_error"):
            return self.end()
        errors = "; ".join(map(str, result.get("errors") or ()))
        return self.fail(plain_detail(str(result.get("result") or errors)))

    def _whole_message(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        """A message that was not streamed; errors come again in `result`."""
        streamed = str(message.get("id")) in self._streamed
        if streamed or message.get("model") == SYNTHETIC:
            return []
        events: list[AgentEvent] = []
        for block in message.get("content") or ():
            match block.get("type"):
                case "text":
                    events.append(TextDelta(str(block["text"])))
                case "thinking":
                    events.append(ReasoningDelta(str(block["thinking"])))
                case "tool_use":
                    given = dump_json(block.get("input") or {}).decode()
                    events += whole_call(str(block["id"]), str(block["name"]), given)
        return events


def tool_results(content: Any) -> list[AgentEvent]:
    """The results of tools in a user message."""
    return [
        ToolResult(
            str(block.get("tool_use_id")),
            result_text(block.get("content")),
            failed=bool(block.get("is_error")),
        )
        for block in (content if isinstance(content, list) else ())
        if block.get("type") == "tool_result"
    ]


def result_text(content: Any) -> str:
    """A tool's result: text, or a list of blocks of which the texts are taken."""
    if isinstance(content, str):
        return content
    blocks: Iterable[Any] = content if isinstance(content, list) else ()
    return "\n".join(str(b.get("text")) for b in blocks if b.get("type") == "text")
