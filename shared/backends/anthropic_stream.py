"""The stream of Anthropic's Messages API: server-sent events in, agent events out.

Format: docs.claude.com, "Streaming Messages". No I/O.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.backends.openai_chat import content_text, must_be_text, read_counts
from shared.backends.payloads import error_detail
from shared.errors import UpstreamBroken
from shared.events import (
    AgentEvent,
    Citation,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
    Usage,
)

ANTHROPIC_STOPS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
ANTHROPIC_ERRORS = {"overloaded_error": "overloaded", "rate_limit_error": "status_429"}
ANTHROPIC_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")


@dataclass(slots=True)
class OpenBlock:
    """A content block under way: as it began, and what its deltas add."""

    start: Mapping[str, Any]
    said: list[str] = field(default_factory=list)
    json: list[str] = field(default_factory=list)
    signature: str = ""

    @property
    def arguments(self) -> str:
        """The JSON text of a call's input."""
        given = orjson.dumps(self.start.get("input") or {}).decode()
        return "".join(self.json).strip() or given

    def whole(self) -> dict[str, Any]:
        """The block as a further request has to repeat it.

        What has no deltas (a redacted thought, a result of the API's own tools) is as
        it came. A call that was cut off by the limit of tokens loses its input.
        """
        block = dict(self.start)
        for key in ("text", "thinking"):
            if key in block:
                block[key] = "".join(self.said)
        if self.signature:
            block["signature"] = self.signature
        if "input" in block:
            with suppress(orjson.JSONDecodeError):
                block["input"] = orjson.loads(self.arguments)
        return block


class AnthropicDecoder:
    """Reads one message, and those that go on after `pause_turn`.

    `content` is all that was said, in the API's words; `calls` are the ids of the
    calls that are for us to run. `paused` says that the API wants to be asked again
    with `content` to go on.
    """

    def __init__(self) -> None:
        self.ended = False
        self.told = False
        self.content: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self._blocks: dict[int, OpenBlock] = {}
        self._usage: dict[str, Any] = {}
        self._usage_before: dict[str, Any] = {}
        self._reason = ""

    @property
    def paused(self) -> bool:
        return self._reason == "pause_turn"

    @property
    def must_be_kept(self) -> bool:
        """Whether `content` holds what Chat Completions messages cannot."""
        plain = ("text", "tool_use")
        return any(block["type"] not in plain for block in self.content)

    def feed(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """One event, decoded; raises UpstreamBroken where it reports an error."""
        events = self._read(payload)
        self.told = self.told or bool(events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the message has ended."""
        usage = added_counts(self._usage_before, self._usage)
        counted: list[AgentEvent] = [Usage(usage)] if usage else []
        return [*counted, Finished(ANTHROPIC_STOPS.get(self._reason, "stop"))]

    def _read(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        match payload.get("type"):
            case "message_start":
                self._usage_before = added_counts(self._usage_before, self._usage)
                self._usage, self._reason, self.ended = {}, "", False
                self._count(payload["message"])
            case "content_block_start":
                return self._start(payload["index"], payload["content_block"])
            case "content_block_delta":
                return self._delta(self._blocks[payload["index"]], payload["delta"])
            case "content_block_stop":
                return self._stop(payload["index"])
            case "message_delta":
                self._count(payload)
                self._reason = str(payload["delta"].get("stop_reason") or "")
            case "message_stop":
                self.ended = True
            case "message":
                return self._whole(payload)
            case "error":
                raise anthropic_error(payload)
            case None:
                raise UpstreamBroken("said_error", detail=error_detail(payload))
        return []

    def _whole(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        """A message in one piece, from a server that does not stream."""
        events: list[AgentEvent] = []
        for index, block in enumerate(message["content"]):
            events += [*self._start(index, block), *self._stop(index)]
        self._count(message)
        self._reason = str(message.get("stop_reason") or "")
        self.ended = True
        return events

    def _count(self, counted: Mapping[str, Any]) -> None:
        """Counts are those so far, not those of one event."""
        self._usage.update(read_counts(counted.get("usage") or {}))

    def _start(self, index: int, block: Mapping[str, Any]) -> list[AgentEvent]:
        opened = self._blocks[index] = OpenBlock(block)
        kind = str(block.get("type"))
        if kind in ANTHROPIC_CALLS:
            return [ToolCallStarted(str(block["id"]), str(block["name"]))]
        if kind.endswith("_tool_result"):
            return [server_tool_result(block)]
        events: list[AgentEvent] = []
        for key in ("text", "thinking"):
            if block.get(key):
                said = {"type": f"{key}_delta", key: block[key]}
                events += self._delta(opened, said)
        for citation in block.get("citations") or ():
            events += cited(citation)
        return events

    def _delta(self, block: OpenBlock, delta: Mapping[str, Any]) -> list[AgentEvent]:
        match delta.get("type"):
            case "text_delta":
                text = must_be_text(delta["text"])
                block.said.append(text)
                return [TextDelta(text)] if text else []
            case "thinking_delta":
                thought = must_be_text(delta["thinking"])
                block.said.append(thought)
                return [ReasoningDelta(thought)] if thought else []
            case "signature_delta":
                block.signature += must_be_text(delta["signature"])
            case "input_json_delta":
                piece = must_be_text(delta["partial_json"])
                block.json.append(piece)
                call_id = str(block.start["id"])
                return [ToolCallArgumentsDelta(call_id, piece)] if piece else []
            case "citations_delta":
                return cited(delta["citation"])
        return []

    def _stop(self, index: int) -> list[AgentEvent]:
        block = self._blocks.pop(index)
        whole = block.whole()
        if whole.get("text") != "":  # the API takes no empty texts
            self.content.append(whole)
        kind = block.start.get("type")
        if kind not in ANTHROPIC_CALLS:
            return []
        if kind == "tool_use":
            self.calls.append(str(whole["id"]))
        name = str(whole["name"])
        return [ToolCallCompleted(str(whole["id"]), name, block.arguments)]


def added_counts(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts of two messages together; what is no number is the later one's."""
    total = {**one, **other}
    for key in one.keys() & other.keys():
        if isinstance(one[key], int) and isinstance(other[key], int):
            total[key] = one[key] + other[key]
    return total


def anthropic_error(payload: Mapping[str, Any]) -> UpstreamBroken:
    """The error in an event {type: error, error: {type, message}}."""
    kind = (payload.get("error") or {}).get("type")
    code = ANTHROPIC_ERRORS.get(str(kind), "said_error")
    return UpstreamBroken(code, detail=error_detail(payload))


def server_tool_result(block: Mapping[str, Any]) -> ToolResult:
    """What a tool gave back that the API has run itself, such as a web search."""
    content = block.get("content")
    if isinstance(content, list) and all("text" in part for part in content):
        output = content_text(content)
    elif isinstance(content, list):
        lines = (part.get("title") or part.get("url") for part in content)
        output = "\n".join(str(line) for line in lines if line)
    else:
        output = orjson.dumps(content).decode()
    failed = bool(block.get("is_error")) or "error_code" in output
    return ToolResult(str(block["tool_use_id"]), output, failed)


def cited(citation: Mapping[str, Any]) -> list[AgentEvent]:
    """A source with an address; passages of attached documents have none."""
    url = citation.get("url")
    if not url:
        return []
    title, text = citation.get("title") or url, citation.get("cited_text") or ""
    return [Citation(str(url), str(title), str(text))]
