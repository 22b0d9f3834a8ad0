"""AgentEvents as Chat Completions objects: what an API caller gets.

Format: OpenAI API reference, "Chat Completions", chunk object and completion object.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from shared.events import (
    AgentEvent,
    Citation,
    Failed,
    FileOutput,
    Finished,
    Handover,
    ReasoningDelta,
    TextDelta,
    ToolCallCompleted,
    ToolResult,
    Usage,
)
from shared.render.sending import server_sent


class CompletionRenderer:
    """Turns the events of one turn into chunks, or at the end into one completion.

    A tool call that the agent answered itself is its own affair and is left out;
    the others are the caller's, and known as such only when the turn is finished.
    Statuses and session states have no place in this format.
    """

    def __init__(
        self,
        model: str,
        sentence: Callable[[str, Mapping[str, Any]], str],
        include_usage: bool = False,
    ) -> None:
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._sentence = sentence
        self._include_usage = include_usage
        self._pending: dict[str, ToolCallCompleted] = {}
        self._usage: dict[str, Any] | None = None
        self._begun = False
        self._message: dict[str, Any] = {"role": "assistant", "content": ""}
        self._finish_reason = "stop"

    def render(self, event: AgentEvent) -> list[dict[str, Any]]:
        """The chunks for this event, in order."""
        match event:
            case TextDelta(text):
                return [self._chunk({"content": text})] if text else []
            case ReasoningDelta(text):
                return [self._chunk({"reasoning_content": text})] if text else []
            case ToolCallCompleted():
                self._pending[event.call_id] = event
            case ToolResult():
                self._pending.pop(event.call_id, None)
            case Citation():
                return [self._chunk({"annotations": [url_citation(event)]})]
            case FileOutput() if event.mime_type.startswith("image/"):
                image = {"type": "image_url", "image_url": {"url": event.url}}
                return [self._chunk({"images": [image]})]
            case Usage(counts):
                self._usage = add_usage(self._usage or {}, chat_usage(counts))
            case Handover(agent_id):
                self._head["answered_by"] = agent_id
            case Failed(code, fields):
                message = self._sentence(code, fields)
                return [{"error": {"message": message, "code": code}}]
            case Finished(reason):
                return self._finish(reason)
        return []

    def stream(self, event: AgentEvent) -> list[bytes]:
        """The same as server-sent events; what needs no change goes as it came.

        So the `logprobs` of an upstream and the like reach the caller. What we add to
        its chunks bears its id and model, for all are of one completion.
        """
        if not (isinstance(event, (TextDelta, ReasoningDelta)) and event.raw):
            return [server_sent(chunk) for chunk in self.render(event)]
        sent = b"data: " + event.raw + b"\n\n"
        if self._begun:
            return [sent]
        theirs = orjson.loads(event.raw)
        self._head = {key: theirs.get(key, ours) for key, ours in self._head.items()}
        return [server_sent(self._chunk({"content": ""})), sent]

    def add(self, event: AgentEvent) -> None:
        """Take an event for `completion` instead of rendering it."""
        for chunk in self.render(event):
            for choice in chunk.get("choices", ()):
                self._merge(choice["delta"])
                self._finish_reason = choice["finish_reason"] or self._finish_reason

    def completion(self) -> dict[str, Any]:
        """All that was added, as one completion."""
        choice = {
            "index": 0,
            "message": self._message,
            "finish_reason": self._finish_reason,
        }
        whole = {**self._head, "object": "chat.completion", "choices": [choice]}
        if self._usage:
            whole["usage"] = self._usage
        return whole

    def _finish(self, reason: str) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = []
        if self._pending:
            reason = "tool_calls"
            calls = [
                tool_call_delta(i, c) for i, c in enumerate(self._pending.values())
            ]
            chunks.append(self._chunk({"tool_calls": calls}))
        elif reason == "tool_calls":
            reason = "stop"
        chunks.append(self._chunk({}, reason))
        if self._include_usage and self._usage:
            usage = {**self._chunk({}), "choices": [], "usage": self._usage}
            chunks.append(usage)
        return chunks

    def _chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None
    ) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _merge(self, delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            if key == "role":
                continue
            if key == "tool_calls":
                value = [{k: v for k, v in c.items() if k != "index"} for c in value]
            if key in self._message:
                value = self._message[key] + value
            self._message[key] = value


def chat_usage(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts with Chat Completions' names, whichever API counted them."""
    prompt = counts.get("prompt_tokens", counts.get("input_tokens", 0))
    completion = counts.get("completion_tokens", counts.get("output_tokens", 0))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        **counts,
    }


def add_usage(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of two model calls together, also one level down."""
    total = dict(first)
    for key, value in second.items():
        known = total.get(key)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            total[key] = add_usage(known, value)
        elif isinstance(known, int | float) and not key.endswith("per_second"):
            total[key] = known + value
        else:
            total[key] = value
    return total


def tool_call_delta(index: int, call: ToolCallCompleted) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {
        "index": index,
        "id": call.call_id,
        "type": "function",
        "function": function,
    }


def url_citation(citation: Citation) -> dict[str, Any]:
    """A citation of the whole answer: the place in its text is not known."""
    inner = {
        "url": citation.url,
        "title": citation.title or citation.url,
        "start_index": 0,
        "end_index": 0,
    }
    return {"type": "url_citation", "url_citation": inner}
