"""The Responses API: request bodies and streams.

Format: OpenAI API reference, "Responses" and "Streaming events".
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from shared.backends.base import Turn, messages_since_answer
from shared.backends.openai_chat import (
    content_text,
    must_be_text,
    read_citation,
    read_counts,
)
from shared.backends.payloads import error_detail
from shared.errors import UpstreamBroken
from shared.events import (
    AgentEvent,
    FileOutput,
    Finished,
    ReasoningDelta,
    SessionState,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
    Usage,
)

# Chat Completions parameters that the Responses API does not know.
CHAT_ONLY_PARAMS = frozenset(
    {
        "stop",
        "seed",
        "n",
        "logit_bias",
        "logprobs",
        "frequency_penalty",
        "presence_penalty",
        "stream_options",
    }
)

CONTENT_PART_TYPES = {
    "text": "input_text",
    "image_url": "input_image",
    "file": "input_file",
}


TEXT_DELTAS = frozenset({"response.output_text.delta", "response.refusal.delta"})
REASONING_DELTAS = frozenset(
    {"response.reasoning_text.delta", "response.reasoning_summary_text.delta"}
)
ARGUMENT_DELTAS = frozenset(
    {
        "response.function_call_arguments.delta",
        "response.mcp_call_arguments.delta",
    }
)
CALL_ITEMS = frozenset({"function_call", "mcp_call"})


def responses_body(model: str, turn: Turn, keep_session: bool) -> dict[str, Any]:
    """The request for this turn, always streaming.

    With `keep_session` the server keeps the conversation: it gets the id of the
    response that this turn follows, and only what was said since.
    """
    messages: Iterable[Mapping[str, Any]] = turn.messages
    previous = (turn.session or {}).get("response_id") if keep_session else None
    if previous:
        # A response does not carry its instructions on to those that follow it.
        system = (m for m in turn.messages if m.get("role") in ("system", "developer"))
        messages = [*system, *messages_since_answer(turn.messages)]
    body: dict[str, Any] = {
        **responses_params(turn.params),
        "model": model,
        "input": [item for message in messages for item in input_items(message)],
        "stream": True,
        "previous_response_id": previous,
    }
    if keep_session:
        body["store"] = True
    if turn.tools:
        body["tools"] = [
            {"type": "function", **(tool.get("function") or tool)}
            for tool in turn.tools
        ]
    return {key: value for key, value in body.items() if value is not None}


def responses_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Chat Completions parameters in the names of the Responses API."""
    mapped = {k: v for k, v in params.items() if k not in CHAT_ONLY_PARAMS}
    limit = mapped.pop("max_completion_tokens", None) or mapped.pop("max_tokens", None)
    mapped.pop("max_tokens", None)
    if limit is not None:
        mapped["max_output_tokens"] = limit
    effort = mapped.pop("reasoning_effort", None)
    if effort is not None:
        mapped["reasoning"] = {"effort": effort, **(mapped.get("reasoning") or {})}
    shape = mapped.pop("response_format", None)
    if shape is not None:
        schema = shape.get("json_schema") or {}
        mapped["text"] = {"format": {"type": shape.get("type"), **schema}}
    choice = mapped.get("tool_choice")
    if isinstance(choice, Mapping) and "function" in choice:
        mapped["tool_choice"] = {"type": "function", **choice["function"]}
    return mapped


def input_items(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One Chat Completions message as items of `input`."""
    role = message.get("role")
    content = message.get("content")
    if role == "tool":
        output = content_text(content)
        call_id = message.get("tool_call_id")
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    items: list[dict[str, Any]] = []
    if content:
        parts: Any = content
        if not isinstance(content, str):
            parts = [input_part(part, role == "assistant") for part in content]
        items.append({"role": role, "content": parts})
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        items.append(
            {
                "type": "function_call",
                "call_id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments") or "{}",
            }
        )
    return items


def input_part(part: Mapping[str, Any], answered: bool) -> dict[str, Any]:
    """A content part in the names of the Responses API."""
    kind = str(part.get("type"))
    if kind == "text":
        name = "output_text" if answered else CONTENT_PART_TYPES[kind]
        return {"type": name, "text": part.get("text", "")}
    if kind == "image_url":
        link = part.get("image_url")
        url = link.get("url") if isinstance(link, Mapping) else link
        return {"type": CONTENT_PART_TYPES[kind], "image_url": url}
    if kind == "file":
        return {"type": CONTENT_PART_TYPES[kind], **(part.get("file") or {})}
    return dict(part)


def item_key(payload: Mapping[str, Any]) -> str:
    """What names an item in the events of one stream.

    Some gateways give an item another id in every event; its place stays the same.
    """
    return str(payload.get("output_index", payload.get("item_id", "")))


class ResponsesDecoder:
    """Events of one Responses stream in, agent events out.

    Texts that come again whole in a `done` event are told once. `ended` turns True
    with `response.completed` or `response.incomplete`.
    """

    def __init__(self, keep_session: bool = False) -> None:
        self.ended = False
        self._keep_session = keep_session
        self._session: SessionState | None = None
        self._usage: dict[str, Any] = {}
        self._reason = "stop"
        self._told: set[str] = set()  # items whose deltas came, by `item_key`
        self._call_ids: dict[str, str] = {}
        self._cited: set[str] = set()

    def feed(self, name: str, payload: Any, raw: bytes = b"") -> list[AgentEvent]:
        """One decoded event. Raises UpstreamBroken where it reports an error."""
        if not isinstance(payload, dict):
            raise UpstreamBroken("unreadable")
        kind = payload.get("type") or name
        if payload.get("object") == "response" and "output" in payload:
            return self._whole(payload)
        if kind == "error" or (payload.get("error") and "type" not in payload):
            raise UpstreamBroken("said_error", detail=error_detail(payload))
        key = item_key(payload)
        if kind in TEXT_DELTAS:
            self._told.add(key)
            return [TextDelta(must_be_text(payload.get("delta", "")))]
        if kind in REASONING_DELTAS:
            self._told.add(key)
            return [ReasoningDelta(must_be_text(payload.get("delta", "")))]
        if kind in ARGUMENT_DELTAS:
            call_id = self._call_ids.get(key, "")
            delta = must_be_text(payload.get("delta", ""))
            return [ToolCallArgumentsDelta(call_id, delta)]
        if kind == "response.reasoning_summary_part.added":
            return [ReasoningDelta("\n\n")] if payload.get("summary_index") else []
        if kind == "response.output_text.annotation.added":
            return self._cite([payload.get("annotation")])
        if kind == "response.output_item.added":
            return self._item_added(key, payload.get("item") or {})
        if kind == "response.output_item.done":
            return self._item_done(key, payload.get("item") or {})
        return self._progress(kind, payload.get("response") or {})

    def done(self) -> None:
        """The `[DONE]` line that some gateways add."""
        self.ended = True

    def held(self) -> list[AgentEvent]:
        """What was not yet told, when the stream broke: nothing is held here."""
        return []

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the stream has ended."""
        events: list[AgentEvent] = []
        if self._session:
            events.append(self._session)
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished(self._reason)]

    def _progress(self, kind: str, response: Mapping[str, Any]) -> list[AgentEvent]:
        if kind == "response.failed":
            raise UpstreamBroken("said_error", detail=error_detail(response))
        if kind in ("response.completed", "response.incomplete"):
            self.ended = True
            self._usage.update(read_counts(response.get("usage") or {}))
            if self._keep_session and response.get("id"):
                self._session = SessionState({"response_id": response["id"]})
            cause = (response.get("incomplete_details") or {}).get("reason")
            if cause == "max_output_tokens":
                self._reason = "length"
            elif cause:
                self._reason = "content_filter"
        return []

    def _whole(self, response: Mapping[str, Any]) -> list[AgentEvent]:
        """A response that came at once, as plain JSON."""
        if response.get("status") == "failed":
            raise UpstreamBroken("said_error", detail=error_detail(response))
        events: list[AgentEvent] = []
        for index, item in enumerate(response["output"]):
            events.extend(self._item_added(str(index), item))
            events.extend(self._item_done(str(index), item))
        self._progress("response.completed", response)
        return events

    def _item_added(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        if item.get("type") not in CALL_ITEMS or key in self._call_ids:
            return []
        call_id = str(item.get("call_id") or item.get("id") or key)
        self._call_ids[key] = call_id
        return [ToolCallStarted(call_id, str(item.get("name") or ""))]

    def _item_done(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        kind = item.get("type")
        if kind in CALL_ITEMS:
            return self._call_done(key, item)
        if kind == "message":
            return self._message_done(key, item)
        if kind == "reasoning" and key not in self._told:
            parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
            text = "\n\n".join(content_text([part]) for part in parts)
            return [ReasoningDelta(text)] if text else []
        if kind == "image_generation_call" and item.get("result"):
            mime = f"image/{item.get('output_format') or 'png'}"
            return [FileOutput(f"data:{mime};base64,{item['result']}", mime)]
        return []

    def _call_done(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        """A whole call; one of an MCP server was run on the agent's side."""
        events = self._item_added(key, item)
        call_id = self._call_ids[key]
        arguments = item.get("arguments") or "{}"
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        name = str(item.get("name") or "")
        events.append(ToolCallCompleted(call_id, name, arguments))
        if item.get("type") == "mcp_call":
            error = item.get("error")
            output = error_detail(error) if error else content_text(item.get("output"))
            events.append(ToolResult(call_id, output, failed=bool(error)))
        else:
            self._reason = "tool_calls"
        return events

    def _message_done(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        parts = item.get("content") or []
        if key not in self._told:
            text = content_text(parts)
            events.extend([TextDelta(text)] if text else [])
        for part in parts:
            events.extend(self._cite(part.get("annotations") or []))
        return events

    def _cite(self, annotations: Iterable[Any]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        for annotation in annotations:
            citation = read_citation(annotation)
            if citation and citation.url not in self._cited:
                self._cited.add(citation.url)
                events.append(citation)
        return events
