"""Chat Completions streams, in the dialects of the servers there are."""

import pytest
from hypothesis import given

from shared.backends.openai_chat import ChatCompletionsDecoder
from shared.errors import UpstreamBroken
from shared.events import (
    FileOutput,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
)
from tests.unit.backends.support import (
    PROPERTY,
    calls_of,
    chunk,
    chunkings,
    decode_chat,
    fragment,
    reason_of,
    text_of,
    thoughts_of,
    usage_of,
)

KNOWN_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}


def test_text_and_the_end():
    assert decode_chat(
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk("stop"),
    ) == [TextDelta("Hel"), TextDelta("lo"), Finished("stop")]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_under_every_name(field):
    events = decode_chat(chunk(**{field: "Hm. "}), chunk(content="Yes"), chunk("stop"))
    assert events[:2] == [ReasoningDelta("Hm. "), TextDelta("Yes")]


def test_a_thought_under_two_names_is_told_once():
    events = decode_chat(chunk(reasoning="Hm", reasoning_content="Hm"))
    assert thoughts_of(events) == "Hm"


def test_a_thought_and_text_in_one_chunk():
    events = decode_chat(chunk(reasoning="Hm", content="Yes"))
    assert events[:2] == [ReasoningDelta("Hm"), TextDelta("Yes")]


def test_mistral_sends_parts():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
        {"type": "text", "text": "Yes"},
    ]
    events = decode_chat(chunk(content=parts))
    assert (thoughts_of(events), text_of(events)) == ("Hm", "Yes")


@PROPERTY
@given(chunkings("<think>Let me see.</think>\n\nSix."))
def test_think_tags_in_any_chunking(pieces):
    events = decode_chat(*(chunk(content=piece) for piece in pieces), chunk("stop"))
    assert (thoughts_of(events), text_of(events)) == ("Let me see.", "Six.")


def test_an_unfinished_tag_is_told_when_the_stream_ends():
    assert text_of(decode_chat(chunk(content="a < b, <thi"), chunk("stop"))) == (
        "a < b, <thi"
    )
    assert text_of(decode_chat(chunk(content="<thi"), chunk("stop"))) == "<thi"


def test_text_held_for_a_tag_comes_before_a_tool_call():
    events = decode_chat(
        chunk(content="<"), chunk(tool_calls=[fragment(index=0, id="a", name="t")])
    )
    assert events[0] == TextDelta("<")
    assert isinstance(events[1], ToolCallStarted)


def test_a_tool_call_ends_with_the_stream():
    events = decode_chat(
        chunk(tool_calls=[fragment(index=0, id="a", name="t", arguments="{")]),
        chunk(tool_calls=[fragment(index=0, arguments="}")]),
        chunk("tool_calls"),
    )
    assert calls_of(events) == [("t", "{}")]
    assert reason_of(events) == "tool_calls"


def test_the_old_way_to_call_one_function():
    """`delta.function_call`, which older servers and proxies still send."""
    events = decode_chat(
        chunk(function_call={"name": "add", "arguments": ""}),
        chunk(function_call={"arguments": '{"x": 1}'}),
        chunk("function_call"),
    )
    assert calls_of(events) == [("add", '{"x": 1}')]
    assert reason_of(events) == "tool_calls"


def test_a_server_that_runs_its_tools_tells_call_and_result():
    events = decode_chat(
        chunk(tool_calls=[fragment(index=0, id="a", name="clock", arguments="{}")]),
        chunk(role="tool", tool_call_id="a", content="noon"),
        chunk(tool_calls=[fragment(index=0, id="b", name="clock", arguments="{}")]),
        chunk(role="tool", tool_call_id="b", content=[{"type": "text", "text": "one"}]),
        chunk(role="assistant", content="It is one."),
        chunk("stop"),
    )
    told = [e for e in events if isinstance(e, ToolCallCompleted | ToolResult)]
    assert told == [
        ToolCallCompleted("a", "clock", "{}"),
        ToolResult("a", "noon"),
        ToolCallCompleted("b", "clock", "{}"),
        ToolResult("b", "one"),
    ]
    assert text_of(events) == "It is one."


@pytest.mark.parametrize(
    "delta",
    [
        {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;,A"}}]},
        {"images": [{"image_url": "data:image/png;,A"}]},
        {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;,A"}}]},
    ],
)
def test_images_of_every_shape(delta):
    files = [e for e in decode_chat(chunk(**delta)) if isinstance(e, FileOutput)]
    assert files == [FileOutput("data:image/png;,A", "image/png")]


def test_an_image_with_an_address_is_an_image():
    image = {"type": "image_url", "image_url": {"url": "https://x/y"}}
    [file, _] = decode_chat(chunk(images=[image]))
    assert file.mime_type.startswith("image/")


def test_usage_of_the_last_chunk_and_timings_of_llama_cpp():
    events = decode_chat(
        chunk(content="a"),
        chunk("stop"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
        {"choices": [], "timings": {"predicted_per_second": 9.5}},
    )
    counts = usage_of(events)
    assert counts["prompt_tokens"] == 3
    assert counts["predicted_per_second"] == 9.5
    assert reason_of(events) == "stop"


def test_usage_that_grows_with_every_chunk_is_told_once():
    events = decode_chat(
        {**chunk(content="a"), "usage": {"completion_tokens": 1}},
        {**chunk(content="b"), "usage": {"completion_tokens": 2}},
        {**chunk("stop"), "usage": None},
    )
    assert usage_of(events) == {"completion_tokens": 2}
    assert len(events) == 4


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter"])
def test_a_finish_reason_is_passed_on(reason):
    assert reason_of(decode_chat(chunk(reason))) == reason


@pytest.mark.parametrize("reason", ["eos_token", "end_turn", "abort", "model_length"])
def test_a_finish_reason_of_the_servers_own_becomes_a_known_one(reason):
    assert reason_of(decode_chat(chunk(reason))) in KNOWN_REASONS


def test_a_refusal_is_the_answer():
    assert text_of(decode_chat(chunk(refusal="I will not."))) == "I will not."


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        ({"error": {"message": "no  room", "code": 500}}, "no room"),
        ({"error": "no room"}, "no room"),
        ({"error": {"message": "no room"}, "choices": [{"delta": {}}]}, "no room"),
        ({"error": {"code": 1}}, ""),
    ],
)
def test_an_error_object_ends_the_stream_with_the_servers_words(payload, detail):
    with pytest.raises(UpstreamBroken) as broken:
        ChatCompletionsDecoder().feed("", payload)
    assert (broken.value.code, broken.value.fields["detail"]) == ("said_error", detail)


def test_an_error_event_needs_no_error_object():
    with pytest.raises(UpstreamBroken) as broken:
        ChatCompletionsDecoder().feed("error", {"message": "no room"})
    assert broken.value.fields["detail"] == "no room"


@pytest.mark.parametrize("payload", ["text", 5, None, ["list"], True])
def test_json_of_another_shape_is_unreadable(payload):
    with pytest.raises(UpstreamBroken) as broken:
        ChatCompletionsDecoder().feed("", payload)
    assert broken.value.code == "unreadable"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"choices": []},
        {"choices": None, "usage": None},
        {"choices": [{"delta": {}}]},
        {"choices": [{"delta": None, "finish_reason": None}]},
        {"choices": [{"delta": {"content": None, "tool_calls": None}}]},
        {"choices": [{"delta": {"content": ""}, "finish_reason": ""}]},
    ],
)
def test_empty_chunks_say_nothing_and_end_nothing(payload):
    decoder = ChatCompletionsDecoder()
    assert decoder.feed("", payload) == []
    assert not decoder.ended


def test_what_ends_a_stream():
    by_reason, by_done = ChatCompletionsDecoder(), ChatCompletionsDecoder()
    by_reason.feed("", chunk("stop"))
    by_done.done()
    assert by_reason.ended
    assert by_done.ended
    assert not ChatCompletionsDecoder().ended


def test_a_plain_answer_is_the_same_answer():
    message = {
        "role": "assistant",
        "content": "<think>Hm</think>Yes",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "t", "arguments": ""}}
        ],
    }
    events = decode_chat(
        {
            "object": "chat.completion",
            "choices": [{"message": message, "finish_reason": "tool_calls"}],
            "usage": {"total_tokens": 5},
        }
    )
    assert (thoughts_of(events), text_of(events)) == ("Hm", "Yes")
    assert calls_of(events) == [("t", "{}")]
    assert usage_of(events) == {"total_tokens": 5}
