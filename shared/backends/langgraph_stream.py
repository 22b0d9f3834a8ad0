"""The stream of a LangGraph run: server-sent events in, agent events out, no I/O.

Format: LangGraph Server API, "Create Run, Stream Output", stream modes
`messages-tuple` (events named `messages`) and `updates`; messages are LangChain's in
their serialized form.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shared.backends.addresses import is_link
from shared.backends.openai_chat import content_text, image_outputs, read_counts
from shared.backends.tool_fragments import ToolCallAssembler
from shared.errors import UpstreamBroken
from shared.events import (
    AgentEvent,
    FileOutput,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallCompleted,
    ToolResult,
    Usage,
)

FINISH_REASON_OF_STOP = {"length": "length", "max_tokens": "length"}


@dataclass(frozen=True, slots=True)
class GraphInterrupt:
    """A graph that waits for a human: what it wants to know, and under which id."""

    interrupt_id: str
    value: Any


class LangGraphDecoder:
    """Reads the runs of one turn: after an interrupt, a further run goes on.

    `run_id` is that of the latest run; `interrupts` are what it waits for.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self.interrupts: list[GraphInterrupt] = []
        self.told = False
        self._calls: dict[str, ToolCallAssembler] = {}
        self._unanswered: dict[str, None] = {}
        self._streamed: set[str] = set()
        self._usage: dict[str, Any] = {}
        self._reason = "stop"

    def feed(self, name: str, payload: Any) -> list[AgentEvent]:
        """One event, decoded; raises UpstreamBroken where it reports an error."""
        kind = name.partition("|")[0]  # those of a subgraph end in `|` and its path
        events: list[AgentEvent] = []
        if kind == "metadata":
            self.run_id = str(payload.get("run_id") or self.run_id)
        elif kind == "messages":
            events = self._message(payload[0])
        elif kind == "updates":
            events = self._update(payload)
        elif kind == "error":
            raise UpstreamBroken("said_error", detail=run_error(payload))
        self.told = self.told or bool(events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the last run has ended.

        A call without a result gets an empty one: Open WebUI would run it itself.
        """
        events = self._complete_calls()
        events += [ToolResult(call_id, "") for call_id in self._unanswered]
        self._unanswered.clear()
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished(self._reason)]

    def _message(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        match message.get("type"):
            case "AIMessageChunk":
                return self._chunk(message)
            case "ai":
                return self._whole(message)
            case "tool" | "ToolMessageChunk":
                return self._result(message)
        return []

    def _chunk(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        message_id = str(message.get("id"))
        self._streamed.add(message_id)
        events = self._said(message)
        if fragments := message.get("tool_call_chunks"):
            calls = self._calls.setdefault(message_id, ToolCallAssembler())
            events += calls.feed(map(openai_fragment, fragments))
        if message.get("chunk_position") == "last":
            events += self._complete_calls()
        return events

    def _whole(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        """A message that no model streamed; one that was streamed is a repetition."""
        message_id = str(message.get("id"))
        if message_id in self._streamed:
            return []
        self._streamed.add(message_id)
        events = [*self._complete_calls(), *self._said(message)]
        for call in message.get("tool_calls") or ():
            arguments = orjson.dumps(call.get("args") or {}).decode()
            whole = ToolCallCompleted(str(call["id"]), str(call["name"]), arguments)
            self._unanswered[whole.call_id] = None
            events.append(whole)
        return events

    def _said(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        """Thoughts, text and images of a message or of a chunk of one."""
        for key, value in read_counts(message.get("usage_metadata") or {}).items():
            if not isinstance(value, Mapping):
                self._usage[key] = self._usage.get(key, 0) + value
        response = message.get("response_metadata") or {}
        stopped = response.get("finish_reason") or response.get("stop_reason")
        if stopped:
            self._reason = FINISH_REASON_OF_STOP.get(str(stopped), "stop")
        events: list[AgentEvent] = []
        # DeepSeek and others, by way of their LangChain packages.
        thought = (message.get("additional_kwargs") or {}).get("reasoning_content")
        if isinstance(thought, str) and thought:
            events.append(ReasoningDelta(thought))
        content = message.get("content")
        if isinstance(content, str):
            return [*events, TextDelta(content)] if content else events
        for block in content or ():
            events += block_events(block)
        return events

    def _result(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        events = self._complete_calls()
        call_id = str(message.get("tool_call_id"))
        if call_id not in self._unanswered:
            return events
        del self._unanswered[call_id]
        failed = message.get("status") == "error"
        output = content_text(message.get("content"))
        return [*events, ToolResult(call_id, output, failed)]

    def _update(self, update: Mapping[str, Any]) -> list[AgentEvent]:
        """What the nodes wrote. LangChain's messages in it repeat those streamed."""
        waiting = update.get("__interrupt__")
        for entry in waiting if isinstance(waiting, list) else ():
            found = GraphInterrupt(str(entry.get("id") or ""), entry.get("value"))
            self.interrupts.append(found)
        events = self._complete_calls()
        for written in update.values():
            if isinstance(written, Mapping):
                events += map(TextDelta, plain_answers(written.get("messages")))
        return events

    def _complete_calls(self) -> list[AgentEvent]:
        events = [e for calls in self._calls.values() for e in calls.complete()]
        self._calls.clear()
        for event in events:
            if isinstance(event, ToolCallCompleted):
                self._unanswered[event.call_id] = None
        return events


def plain_answers(written: Any) -> list[str]:
    """The agent's words among messages that a node wrote without LangChain's classes.

    Shapes: (role, text) and {role, content}; these are in no event of `messages`.
    What stands before a user's message is the past.
    """
    said: list[str] = []
    for entry in written if isinstance(written, list) else [written]:
        if isinstance(entry, list) and len(entry) == 2:
            role, content = entry
        elif isinstance(entry, Mapping) and "role" in entry:
            role, content = entry["role"], entry.get("content")
        else:
            continue
        if role in ("user", "human"):
            said = []
        elif role in ("assistant", "ai") and (text := content_text(content)):
            said.append(text)
    return said


def openai_fragment(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """LangChain's ToolCallChunk as a fragment of Chat Completions."""
    function = {"name": chunk.get("name"), "arguments": chunk.get("args")}
    return {"index": chunk.get("index"), "id": chunk.get("id"), "function": function}


def block_events(block: Any) -> list[AgentEvent]:
    """One content block: LangChain's own kinds and those of OpenAI and Anthropic."""
    if isinstance(block, str):
        return [TextDelta(block)] if block else []
    kind = block.get("type")
    if kind == "text" and block.get("text"):
        return [TextDelta(str(block["text"]))]
    if kind in ("reasoning", "thinking"):
        summary = block.get("summary")
        thought = block.get(kind) or content_text(summary)
        return [ReasoningDelta(str(thought))] if thought else []
    if kind == "image_url":
        return image_outputs([block])
    if kind in ("image", "file"):
        return file_block(block)
    return []


def file_block(block: Mapping[str, Any]) -> list[AgentEvent]:
    """LangChain's multimodal block: {mime_type, base64} or {mime_type, url}."""
    mime = str(block.get("mime_type") or "application/octet-stream")
    data, url = block.get("base64") or block.get("data"), block.get("url")
    if isinstance(data, str) and data:
        url = f"data:{mime};base64,{data}"
    name = str(block.get("filename") or block.get("name") or "")
    link = str(url or "")
    return [FileOutput(link, mime, name)] if is_link(link) else []


def run_error(payload: Any) -> str:
    """What an `error` event says: {error: class, message: text}."""
    if not isinstance(payload, Mapping):
        return str(payload or "")
    said: Iterable[Any] = (payload.get("error"), payload.get("message"))
    return ": ".join(str(part) for part in said if part)
