"""What the Messages API's stream says: recorded ones, and all that it can hold."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.anthropic_stream import AnthropicDecoder
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, Citation, ToolResult
from tests.unit.backends.recorded import payloads, recorded, results_of
from tests.unit.backends.support import (
    PROPERTY,
    calls_of,
    check_call_events,
    chunkings,
    citations_of,
    read_sse,
    reason_of,
    text_of,
    thoughts_of,
    usage_of,
)

HELLO = "Hello from the scripted model. This text is streamed in several small chunks."
THOUGHT = "The user greets me; I should think a little first."


def fed(decoder: AnthropicDecoder, *events: dict[str, Any]) -> list[AgentEvent]:
    said = [said for event in events for said in decoder.feed(event)]
    return [*said, *decoder.finish()]


def decoded(name: str) -> tuple[AnthropicDecoder, list[AgentEvent]]:
    """A recorded message."""
    decoder = AnthropicDecoder()
    stream = payloads(recorded(f"anthropic/{name}.sse"))
    return decoder, fed(decoder, *(payload for _, payload in stream))


def block(start: dict[str, Any], *deltas: dict[str, Any], index: int = 0) -> list:
    """The events of one content block."""
    begun = {"type": "content_block_start", "index": index, "content_block": start}
    grown = [
        {"type": "content_block_delta", "index": index, "delta": delta}
        for delta in deltas
    ]
    return [begun, *grown, {"type": "content_block_stop", "index": index}]


def text(*parts: str, index: int = 0) -> list:
    deltas = [{"type": "text_delta", "text": part} for part in parts]
    return block({"type": "text", "text": ""}, *deltas, index=index)


def call(name: str, *parts: str, kind: str = "tool_use", index: int = 0) -> list:
    deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
    start = {"type": kind, "id": f"id_{name}", "name": name, "input": {}}
    return block(start, *deltas, index=index)


def end(reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    delta = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}
    return [delta, {"type": "message_stop"}]


def test_text():
    decoder, events = decoded("text")
    assert text_of(events) == HELLO
    assert reason_of(events) == "stop"
    assert decoder.ended
    assert decoder.content == [{"type": "text", "text": HELLO}]
    assert not decoder.must_be_kept


def test_thoughts_stand_apart_and_come_back_with_their_signature():
    decoder, events = decoded("think")
    assert thoughts_of(events) == THOUGHT
    assert text_of(events) == "Hello after thinking."
    signature = "aimock-placeholder-signature"
    thought = {"type": "thinking", "thinking": THOUGHT, "signature": signature}
    assert decoder.content[0] == thought
    assert decoder.must_be_kept


def test_a_tool_call():
    decoder, events = decoded("tool")
    check_call_events(events)
    assert calls_of(events) == [("get_weather", '{"city":"Bern"}')]
    assert reason_of(events) == "tool_calls"
    assert decoder.calls == [decoder.content[1]["id"]]
    assert decoder.content[1]["input"] == {"city": "Bern"}


def test_a_redacted_thought_comes_back_as_it_came():
    start = {"type": "redacted_thinking", "data": "c2VjcmV0"}
    decoder = AnthropicDecoder()
    events = fed(decoder, *block(start), *text("Hi", index=1), *end())
    assert thoughts_of(events) == ""
    assert decoder.content[0] == start


def test_a_call_without_arguments():
    events = fed(AnthropicDecoder(), *call("now"), *end("tool_use"))
    assert calls_of(events) == [("now", "{}")]


def test_a_call_that_the_limit_cut_off():
    events = fed(AnthropicDecoder(), *call("f", '{"a":'), *end("max_tokens"))
    assert calls_of(events) == [("f", '{"a":')]
    assert reason_of(events) == "length"


def test_a_web_search_of_the_api():
    found = [
        {"type": "web_search_result", "title": "Bern", "url": "https://b", "page": 1},
        {"type": "web_search_result", "title": "", "url": "https://c"},
    ]
    result = {
        "type": "web_search_tool_result",
        "tool_use_id": "id_web_search",
        "content": found,
    }
    source = {
        "type": "web_search_result_location",
        "url": "https://b",
        "title": "Bern",
        "cited_text": "a city",
    }
    decoder = AnthropicDecoder()
    events = fed(
        decoder,
        *call("web_search", '{"query":"x"}', kind="server_tool_use"),
        *block(result, index=1),
        *block(
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "Bern."},
            {"type": "citations_delta", "citation": source},
            index=2,
        ),
        *end(),
    )
    check_call_events(events)
    assert results_of(events) == [("Bern\nhttps://c", False)]
    assert citations_of(events) == [Citation("https://b", "Bern", "a city")]
    assert decoder.calls == []  # nothing is left for us to run
    assert decoder.content[1] == result


@pytest.mark.parametrize(
    ("content", "output", "failed"),
    [
        ({"error_code": "max_uses_exceeded"}, '{"error_code":"max_uses_exceeded"}', 1),
        ([{"type": "text", "text": "from MCP"}], "from MCP", 0),
        ({"stdout": "3", "return_code": 0}, '{"stdout":"3","return_code":0}', 0),
    ],
)
def test_results_of_the_apis_other_tools(content, output, failed):
    block = {"type": "mcp_tool_result", "tool_use_id": "t", "content": content}
    event = {"type": "content_block_start", "index": 0, "content_block": block}
    [result] = AnthropicDecoder().feed(event)
    assert result == ToolResult("t", output, bool(failed))


def test_a_passage_of_an_attached_document_is_no_source():
    citation = {"type": "char_location", "document_title": "a", "cited_text": "b"}
    delta = {"type": "citations_delta", "citation": citation}
    events = fed(AnthropicDecoder(), *block({"type": "text", "text": "x"}, delta))
    assert citations_of(events) == []


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_why_a_message_ended(reason, told):
    assert reason_of(fed(AnthropicDecoder(), *text("x"), *end(reason))) == told


def test_tokens_are_counted_once_in_a_message_and_added_up_over_messages():
    begun = {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": None}
    start = {"type": "message_start", "message": {"usage": begun}}
    decoder = AnthropicDecoder()
    counts = {"output_tokens": 5, "server_tool_use": {"web_search_requests": 1}}
    for event in (start, *text("a"), *end("pause_turn", **counts)):
        decoder.feed(event)
    assert decoder.paused
    events = fed(decoder, start, *text("b"), *end(**counts))
    assert not decoder.paused
    assert usage_of(events) == {
        "input_tokens": 20,
        "output_tokens": 10,
        "server_tool_use": {"web_search_requests": 1},
    }
    assert [block["text"] for block in decoder.content] == ["a", "b"]


def test_pings_and_new_kinds_of_events_say_nothing():
    decoder = AnthropicDecoder()
    assert decoder.feed({"type": "ping"}) == []
    assert decoder.feed({"type": "something_new"}) == []
    assert not decoder.told


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "status_429"),
        ("api_error", "said_error"),
    ],
)
def test_an_error_in_the_stream(kind, code):
    event = {"type": "error", "error": {"type": kind, "message": "Sorry"}}
    with pytest.raises(UpstreamBroken) as caught:
        AnthropicDecoder().feed(event)
    assert (caught.value.code, caught.value.fields["detail"]) == (code, "Sorry")


def test_a_message_in_one_piece():
    message = {
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "Hi", "citations": [{"url": "https://a"}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"output_tokens": 3},
    }
    decoder = AnthropicDecoder()
    events = fed(decoder, message)
    assert (thoughts_of(events), text_of(events)) == ("Hm.", "Hi")
    assert citations_of(events) == [Citation("https://a", "https://a")]
    assert calls_of(events) == [("f", '{"a":1}')]
    assert usage_of(events) == {"output_tokens": 3}
    assert decoder.ended
    assert decoder.content[0]["signature"] == "s"


def test_an_error_in_plain_json():
    with pytest.raises(UpstreamBroken, match="said_error"):
        AnthropicDecoder().feed({"error": "no such model"})


@PROPERTY
@given(st.data(), st.sampled_from(["text", "think", "tool"]))
def test_any_chunking_says_the_same(data, name):
    stream = recorded(f"anthropic/{name}.sse")
    decoder = AnthropicDecoder()
    events = read_sse(data.draw(chunkings(stream)))
    assert fed(decoder, *(orjson.loads(e.data) for e in events)) == decoded(name)[1]
