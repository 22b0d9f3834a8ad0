"""Short ways to feed a decoder and to read what it said."""

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st

from shared.backends.openai_chat import ChatCompletionsDecoder
from shared.backends.openai_responses import ResponsesDecoder
from shared.backends.sse import ServerSentEvent, SSEReader
from shared.errors import AqueductError
from shared.events import (
    AgentEvent,
    Citation,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    Usage,
)

PROPERTY = settings(deadline=None, max_examples=150)


def chunkings(data: bytes | str) -> st.SearchStrategy[list[Any]]:
    """Every way to cut `data` into pieces, empty ones among them."""
    cuts = st.lists(st.integers(0, len(data)), max_size=12).map(sorted)
    return cuts.map(
        lambda at: [
            data[start:end]
            for start, end in zip([0, *at], [*at, len(data)], strict=True)
        ]
    )


def read_sse(pieces: Iterable[bytes]) -> list[ServerSentEvent]:
    """All events of a byte stream that arrives in these pieces."""
    reader = SSEReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [*events, *reader.finish()]


def decode_chat(*payloads: Any) -> list[AgentEvent]:
    """What a Chat Completions stream of these chunks says."""
    return decode(ChatCompletionsDecoder(), payloads)


def decode_responses(*payloads: Any, keep_session: bool = False) -> list[AgentEvent]:
    """What a Responses stream of these events says."""
    return decode(ResponsesDecoder(keep_session), payloads)


def decode(decoder: Any, payloads: Iterable[Any]) -> list[AgentEvent]:
    events = [event for payload in payloads for event in decoder.feed("", payload)]
    return [*events, *decoder.finish()]


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """One Chat Completions chunk with this delta."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def fragment(**fields: Any) -> dict[str, Any]:
    """One entry of `delta.tool_calls`; `name` and `arguments` go into `function`."""
    function = {k: fields.pop(k) for k in ("name", "arguments") if k in fields}
    return {**fields, "function": function}


def sse(*payloads: Mapping[str, Any] | str, end: str = "\n\n") -> bytes:
    """Payloads as server-sent events."""
    texts = (p if isinstance(p, str) else orjson.dumps(p).decode() for p in payloads)
    return "".join(f"data: {text}{end}" for text in texts).encode()


def text_of(events: Iterable[AgentEvent]) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta))


def thoughts_of(events: Iterable[AgentEvent]) -> str:
    return "".join(e.text for e in events if isinstance(e, ReasoningDelta))


def calls_of(events: Iterable[AgentEvent]) -> list[tuple[str, str]]:
    """Name and arguments of every completed call."""
    return [(e.name, e.arguments) for e in events if isinstance(e, ToolCallCompleted)]


def citations_of(events: Iterable[AgentEvent]) -> list[Citation]:
    return [e for e in events if isinstance(e, Citation)]


def usage_of(events: Iterable[AgentEvent]) -> dict[str, Any]:
    return {k: v for e in events if isinstance(e, Usage) for k, v in e.counts.items()}


def reason_of(events: Iterable[AgentEvent]) -> str:
    """The finish reason, which has to be the last thing said."""
    *_, last = events
    assert isinstance(last, Finished)
    return last.reason


def check_call_events(events: Iterable[AgentEvent]) -> None:
    """Every call begins once, grows to its arguments, and is completed once."""
    streamed: dict[str, str] = {}
    completed: set[str] = set()
    for event in events:
        match event:
            case ToolCallStarted(call_id, name):
                assert call_id
                assert name
                assert call_id not in streamed
                streamed[call_id] = ""
            case ToolCallArgumentsDelta(call_id, delta):
                assert call_id not in completed
                streamed[call_id] += delta
            case ToolCallCompleted(call_id, _, arguments):
                assert call_id not in completed
                assert streamed[call_id].strip() in (arguments, "")
                completed.add(call_id)
    assert completed == set(streamed)


async def collect(
    events: AsyncIterable[AgentEvent],
) -> tuple[list[AgentEvent], AqueductError | None]:
    """What was said, and the error it ended in."""
    said: list[AgentEvent] = []
    try:
        async for event in events:
            said.append(event)
    except AqueductError as error:
        return said, error
    return said, None
