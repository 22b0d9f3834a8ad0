"""Chat Completions: request bodies and streams.

Format: OpenAI API reference, "Chat Completions"; the extensions of vLLM, llama.cpp,
Ollama, LM Studio, Mistral, Perplexity and Open WebUI are named where they are read.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.backends.base import Turn
from shared.backends.payloads import error_detail
from shared.backends.think_tags import ThinkTagSplitter
from shared.backends.tool_fragments import ToolCallAssembler
from shared.errors import UpstreamBroken
from shared.events import (
    AgentEvent,
    Citation,
    FileOutput,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolResult,
    Usage,
)

# What servers write, in the words of the API; all else is a normal end.
FINISH_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def chat_completions_body(model: str, turn: Turn) -> dict[str, Any]:
    """The request for this turn, always streaming; parameters of None are left out."""
    body: dict[str, Any] = {
        "stream_options": {"include_usage": True},
        **turn.params,
        "model": model,
        "messages": list(turn.messages),
        "stream": True,
    }
    if turn.tools:
        body["tools"] = list(turn.tools)
    return {key: value for key, value in body.items() if value is not None}


# What a chunk may hold for us besides its choices; most hold none of it.
BESIDE_CHOICES = frozenset(
    {"usage", "timings", "search_results", "citations", "sources"}
)


class ChatCompletionsDecoder:
    """Chunks of one Chat Completions stream in, agent events out.

    `ended` turns True with the finish_reason or `[DONE]`: a stream that stops
    before was cut short.
    """

    def __init__(self) -> None:
        self.ended = False
        self._think = ThinkTagSplitter()
        self._tools = ToolCallAssembler()
        self._usage: dict[str, Any] = {}
        self._cited: set[str] = set()
        self._reason = ""

    def feed(self, name: str, payload: Any, raw: bytes = b"") -> list[AgentEvent]:
        """One chunk, decoded and (for `TextDelta.raw`) as it came.

        Raises UpstreamBroken where it reports an error.
        """
        if not isinstance(payload, dict):
            raise UpstreamBroken("unreadable")
        if payload.get("error") or name == "error":
            raise UpstreamBroken("said_error", detail=error_detail(payload))
        events: list[AgentEvent] = []
        choices = payload.get("choices")
        # An agent gives one answer; a second choice is not a part of it.
        if choices and not choices[0].get("index"):
            choice = choices[0]
            delta = choice.get("delta") or choice.get("message")
            if choice.get("finish_reason"):
                self._reason = str(choice["finish_reason"])
                self.ended = True
            if delta:
                events = self._delta(delta, raw if self._plain(payload) else b"")
        if BESIDE_CHOICES.isdisjoint(payload):
            return events
        for key in ("usage", "timings"):  # llama.cpp sends timings
            if payload.get(key):
                self._usage.update(read_counts(payload[key]))
        for key in ("search_results", "citations", "sources"):
            if payload.get(key):  # Perplexity, Open WebUI
                events.extend(self._cite(payload[key]))
        return events

    def _plain(self, payload: Mapping[str, Any]) -> bool:
        """Whether anybody can read this chunk, and it does not end the answer."""
        return (
            payload.get("object") == "chat.completion.chunk"
            and len(payload["choices"]) == 1
            and "delta" in payload["choices"][0]
            and not self.ended
        )

    def done(self) -> None:
        """The `[DONE]` line came."""
        self.ended = True

    def held(self) -> list[AgentEvent]:
        """What was not yet told, when the stream broke."""
        return self._think.finish()

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the stream has ended."""
        events = [*self._think.finish(), *self._tools.complete()]
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished(FINISH_REASONS.get(self._reason, "stop"))]

    def _delta(self, delta: Mapping[str, Any], raw: bytes) -> list[AgentEvent]:
        content = delta.get("content")
        if delta.get("role") == "tool":  # a server that ran the tool itself
            return [
                *self._tools.complete(),
                ToolResult(str(delta.get("tool_call_id", "")), content_text(content)),
            ]
        if isinstance(content, str) and says_only("content", delta):
            return self._text(content, raw)
        events: list[AgentEvent] = []
        reasoning = (
            delta.get("reasoning_content")
            or delta.get("reasoning")
            or delta.get("thinking")
        )
        if reasoning:
            raw = raw if says_only("reasoning_content", delta) else b""
            events.append(ReasoningDelta(content_text(reasoning), raw))
        if content:
            if isinstance(content, str):
                events.extend(self._text(content))
            else:
                events.extend(self._parts(content))
        if delta.get("refusal"):
            events.append(TextDelta(str(delta["refusal"])))
        calls = delta.get("tool_calls")
        if not calls and delta.get("function_call"):  # before tools had that name
            calls = [{"index": 0, "function": delta["function_call"]}]
        if calls:
            events.extend(self._think.finish())
            events.extend(self._tools.feed(calls))
        if delta.get("images"):
            events.extend(image_outputs(delta["images"]))
        if delta.get("annotations"):
            events.extend(self._cite(delta["annotations"]))
        return events

    def _text(self, text: str, raw: bytes = b"") -> list[AgentEvent]:
        delta = TextDelta(text, raw)
        if self._think.passing:
            return [delta]
        events = self._think.feed(text)
        return [delta] if events == [delta] else events

    def _parts(self, parts: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        for part in parts:
            kind = part.get("type")
            if kind == "thinking":  # Mistral
                events.append(ReasoningDelta(content_text(part.get("thinking"))))
            elif kind == "image_url":
                events.extend(image_outputs([part]))
            elif part.get("text"):
                events.extend(self._text(str(part["text"])))
        return events

    def _cite(self, entries: Iterable[Any]) -> list[AgentEvent]:
        """Each source once, however often the server repeats its list."""
        events: list[AgentEvent] = []
        for entry in entries:
            citation = read_citation(entry)
            if citation and citation.url not in self._cited:
                self._cited.add(citation.url)
                events.append(citation)
        return events


def says_only(name: str, delta: Mapping[str, Any]) -> bool:
    """Whether a delta has nothing but this to say."""
    if len(delta) == 1:
        return name in delta
    return [k for k, value in delta.items() if value and k != "role"] == [name]


def read_counts(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a usage object; servers put null where they did not count."""
    counts: dict[str, Any] = {}
    for key, value in usage.items():
        if isinstance(value, Mapping):
            counts[key] = read_counts(value)
        elif isinstance(value, int | float):
            counts[key] = value
    return counts


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or parts with `text` in them."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            str(part.get("text") or part.get("refusal") or "")
            for part in content
            if isinstance(part, dict)
        )
    return "" if content is None else str(content)


def image_outputs(images: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
    """Images of `delta.images` or of content parts: {image_url: {url}} or {image_url}."""
    events: list[AgentEvent] = []
    for image in images:
        link = image.get("image_url")
        url = link.get("url") if isinstance(link, Mapping) else link
        if url:
            url = must_be_text(url)
            mime = url[5:].partition(";")[0] if url.startswith("data:") else "image/*"
            events.append(FileOutput(url, mime))
    return events


def read_citation(entry: Any) -> Citation | None:
    """A source in any of its shapes, or None where it has no address.

    Shapes: "https://…"; {url, title}; {type: url_citation, url_citation: {…}};
    Open WebUI's {source: {name, url}, document: […], metadata: [{source: url}]}.
    """
    if isinstance(entry, str):
        return Citation(entry, entry)
    if not isinstance(entry, Mapping):
        return None
    inner = entry.get("url_citation") or entry.get("source") or entry
    if not isinstance(inner, Mapping):
        return None
    pages = [str(page.get("source", "")) for page in entry.get("metadata") or ()]
    page = next((page for page in pages if page.startswith("http")), "")
    url = inner.get("url") or page
    if not url:
        return None
    title = inner.get("title") or inner.get("name") or url
    documents = entry.get("document")
    text = documents[0] if isinstance(documents, list) and documents else ""
    return Citation(must_be_text(url), str(title), str(inner.get("content") or text))


def must_be_text(value: Any) -> str:
    """The value; raises TypeError where it is no string, as the API says it is."""
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return value
