"""Whatever JSON a server sends: events of the right types, or one known error."""

from functools import partial
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from shared.agents.service import sentence_for
from shared.backends.openai_chat import ChatCompletionsDecoder
from shared.backends.openai_responses import ResponsesDecoder
from shared.backends.payloads import events_of
from shared.errors import UpstreamBroken
from shared.events import Failed
from shared.render.chunks import CompletionRenderer
from shared.render.items import ChatRenderer
from tests.unit.backends.support import PROPERTY, chunk

TYPES = {"text": str, "call_id": str, "name": str, "delta": str, "arguments": str}
TYPES |= {"output": str, "url": str, "title": str, "mime_type": str, "reason": str}
TYPES |= {"counts": dict, "data": dict}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text("ab<>", max_size=4)
    | st.sampled_from(["", "https://x", "text", "tool", "thinking", "function_call"])
)


def objects(keys: str, values: Any) -> Any:
    return st.dictionaries(st.sampled_from(keys.split()), values, max_size=4)


inner = st.recursive(
    scalars,
    lambda deeper: (
        st.lists(deeper, max_size=3)
        | objects("type text name url title id index function arguments", deeper)
        | objects("image_url url_citation source document thinking message", deeper)
    ),
    max_leaves=10,
)
deltas = objects(
    "role content reasoning thinking tool_calls tool_call_id images annotations"
    " refusal function_call",
    inner,
)
chat_payloads = (
    objects("choices usage timings error citations sources search_results", inner)
    | deltas.map(lambda delta: chunk(**delta))
    | deltas.map(lambda message: {"choices": [{"message": message}]})
    | inner
)
kinds = st.sampled_from(
    [
        "error",
        "response.completed",
        "response.failed",
        "response.function_call_arguments.delta",
        "response.incomplete",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.annotation.added",
        "response.output_text.delta",
        "response.reasoning_summary_part.added",
        "response.reasoning_text.delta",
    ]
)
items = objects(
    "type id call_id name arguments content summary output result error status", inner
) | st.sampled_from(["message", "reasoning", "function_call", "mcp_call"]).flatmap(
    lambda kind: objects(
        "id call_id name arguments content summary output result error", inner
    ).map(lambda item: {**item, "type": kind})
)
responses_payloads = (
    st.builds(
        lambda kind, event, item: {**event, "type": kind, "item": item},
        kinds,
        objects("item_id output_index delta annotation response summary_index", inner),
        items,
    )
    | st.lists(items, max_size=2).map(lambda o: {"object": "response", "output": o})
    | inner
)


def check(decoder: Any, payloads: list[Any]) -> None:
    """Decode and render; only the one error may come of it."""
    events = []
    try:
        for payload in payloads:
            events += events_of(decoder.feed, "", payload)
    except UpstreamBroken as error:
        events.append(Failed(error.code, error.fields))
    events += decoder.finish()
    for event in events:
        for name, kind in TYPES.items():
            assert isinstance(getattr(event, name, kind()), kind), event
    chat = ChatRenderer("scout", partial(sentence_for, "en", {}))
    whole = CompletionRenderer("agents.scout", partial(sentence_for, "en", {}))
    for event in events:
        chat.render(event)
        whole.add(event)
    assert whole.completion()["choices"]


@PROPERTY
@given(st.lists(chat_payloads, max_size=4))
@example([{"usage": "much"}])
@example([{"timings": [1]}])
@example([chunk(tool_calls=[{"index": 0, "function": {"name": 5}}])])
@example([chunk(tool_calls=[{"index": [], "function": {"name": "t"}}])])
@example([chunk(tool_calls=[{"index": 0, "id": 7, "function": {"name": "t"}}])])
@example([{"citations": [{"url": 5}]}])
@example([{"citations": [{"url": ["a"]}]}])
@example([chunk(images=[{"image_url": 5}])])
@example([chunk(5)])
@example([chunk(function_call={"name": True})])
def test_any_json_in_a_chat_completions_stream(payloads):
    check(ChatCompletionsDecoder(), payloads)


@PROPERTY
@given(st.lists(responses_payloads, max_size=4))
@example([{"type": "response.output_text.delta", "delta": 5}])
@example([{"type": "response.output_text.delta", "delta": None}])
@example([{"type": "response.function_call_arguments.delta", "delta": None}])
@example([{"type": "response.completed", "response": {"usage": "much"}}])
@example([{"object": "response", "output": None}])
@example([{"object": "response", "output": [5]}])
def test_any_json_in_a_responses_stream(payloads):
    check(ResponsesDecoder(), payloads)
