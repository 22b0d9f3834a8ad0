"""Responses streams."""

import pytest

from shared.backends.openai_responses import ResponsesDecoder
from shared.errors import UpstreamBroken
from shared.events import (
    Citation,
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
from tests.unit.backends.support import (
    calls_of,
    check_call_events,
    citations_of,
    decode_responses,
    reason_of,
    text_of,
    thoughts_of,
    usage_of,
)

URL = "https://example.org/a"
NOTE = {"type": "url_citation", "url": URL, "title": "A", "start_index": 0}


def event(kind, **fields):
    return {"type": f"response.{kind}", **fields}


def delta(kind, text, item_id, index=0, **fields):
    place = {"item_id": item_id, "output_index": index, **fields}
    return event(f"{kind}.delta", **place, delta=text)


def added(item, index=0):
    return event("output_item.added", output_index=index, item=item)


def done(item, index=0):
    return event("output_item.done", output_index=index, item=item)


def text_delta(text, item_id="m1"):
    return delta("output_text", text, item_id)


def arguments_delta(text, item_id="f1", index=0):
    return delta("function_call_arguments", text, item_id, index)


def message(text, item_id="m1", **part):
    content = [{"type": "output_text", "text": text, **part}]
    return {"type": "message", "id": item_id, "role": "assistant", "content": content}


def function_call(arguments="", **fields):
    item = {"type": "function_call", "id": "f1", "call_id": "c1", "name": "add"}
    return {**item, "arguments": arguments, **fields}


def completed(**response):
    return event("completed", response={"id": "r1", "status": "completed", **response})


def test_text_and_the_end():
    assert decode_responses(
        event("created", response={"id": "r1", "output": []}),
        event("in_progress", response={"id": "r1"}),
        added({"type": "message", "id": "m1", "content": []}),
        event("content_part.added", item_id="m1", part={"type": "output_text"}),
        text_delta("Hel"),
        text_delta("lo"),
        event("output_text.done", item_id="m1", text="Hello"),
        event("content_part.done", item_id="m1", part={"text": "Hello"}),
        done(message("Hello")),
        completed(output=[message("Hello")], usage={"total_tokens": 5}),
    ) == [
        TextDelta("Hel"),
        TextDelta("lo"),
        Usage({"total_tokens": 5}),
        Finished("stop"),
    ]


def test_a_text_that_comes_only_whole_is_told():
    assert text_of(decode_responses(done(message("Hello")), completed())) == "Hello"


def test_two_messages_one_streamed_and_one_whole():
    events = decode_responses(
        text_delta("One. "), done(message("One. ")), done(message("Two.", "m2"), 1)
    )
    assert text_of(events) == "One. Two."


def test_item_ids_that_change_with_every_event():
    """Some gateways give each event an id of its own; the index stays."""
    events = decode_responses(
        added({"type": "message", "id": "x1", "content": []}),
        text_delta("Hello", "x2"),
        done(message("Hello", "x3")),
    )
    assert text_of(events) == "Hello"


def test_a_call_whose_item_ids_change_with_every_event():
    events = decode_responses(
        added(function_call(id="x1")),
        arguments_delta("{}", "x2"),
        done(function_call("{}", id="x3")),
        completed(),
    )
    check_call_events(events)
    assert calls_of(events) == [("add", "{}")]


@pytest.mark.parametrize("kind", ["reasoning_text", "reasoning_summary_text"])
def test_thoughts(kind):
    whole = {"type": "reasoning", "id": "i1", "summary": [{"text": "Hm."}]}
    events = decode_responses(
        added({"type": "reasoning", "id": "i1", "summary": []}),
        delta(kind, "H", "i1"),
        delta(kind, "m.", "i1"),
        event(f"{kind}.done", item_id="i1", text="Hm."),
        done(whole),
    )
    assert events[:2] == [ReasoningDelta("H"), ReasoningDelta("m.")]
    assert thoughts_of(events) == "Hm."


def test_parts_of_a_summary_stand_apart():
    def part(index, text):
        return [
            event("reasoning_summary_part.added", item_id="i1", summary_index=index),
            delta("reasoning_summary_text", text, "i1", summary_index=index),
        ]

    events = decode_responses(*part(0, "One"), *part(1, "Two"))
    assert thoughts_of(events) == "One\n\nTwo"


def test_a_whole_summary_reads_like_a_streamed_one():
    parts = [
        {"type": "summary_text", "text": "One"},
        {"type": "summary_text", "text": "Two"},
    ]
    events = decode_responses(done({"type": "reasoning", "id": "i1", "summary": parts}))
    assert thoughts_of(events) == "One\n\nTwo"


def test_an_encrypted_thought_says_nothing():
    item = {"type": "reasoning", "id": "i1", "summary": [], "encrypted_content": "x"}
    assert decode_responses(added(item), done(item)) == [Finished("stop")]


def test_a_function_call():
    events = decode_responses(
        added(function_call()),
        arguments_delta('{"x":'),
        arguments_delta(" 1}"),
        event("function_call_arguments.done", item_id="f1", arguments='{"x": 1}'),
        done(function_call('{"x": 1}')),
        completed(),
    )
    assert events == [
        ToolCallStarted("c1", "add"),
        ToolCallArgumentsDelta("c1", '{"x":'),
        ToolCallArgumentsDelta("c1", " 1}"),
        ToolCallCompleted("c1", "add", '{"x": 1}'),
        Finished("tool_calls"),
    ]


def test_parallel_calls_keep_their_own_arguments():
    second = {"id": "f2", "call_id": "c2", "name": "sub"}
    events = decode_responses(
        added(function_call()),
        added(function_call(**second), 1),
        arguments_delta("{ }", "f2", 1),
        arguments_delta("{}"),
        done(function_call("{}")),
        done(function_call("{ }", **second), 1),
    )
    check_call_events(events)
    assert calls_of(events) == [("add", "{}"), ("sub", "{ }")]


def test_a_call_without_arguments():
    assert calls_of(decode_responses(done(function_call()))) == [("add", "{}")]


def mcp_call(**fields):
    item = {"type": "mcp_call", "id": "p1", "name": "search", "server_label": "docs"}
    return {**item, "arguments": "", **fields}


def test_a_call_of_an_mcp_server_was_run_over_there():
    events = decode_responses(
        added(mcp_call()),
        delta("mcp_call_arguments", '{"q": 6}', "p1"),
        event("mcp_call_arguments.done", item_id="p1", arguments='{"q": 6}'),
        event("mcp_call.completed", item_id="p1"),
        done(mcp_call(arguments='{"q": 6}', output="six", error=None)),
        completed(),
    )
    check_call_events(events)
    assert ToolCallCompleted("p1", "search", '{"q": 6}') in events
    assert ToolResult("p1", "six") in events
    assert reason_of(events) == "stop"


@pytest.mark.parametrize(
    "error", ["no room", {"type": "mcp_tool_error", "message": "no room"}]
)
def test_a_failed_call_of_an_mcp_server(error):
    events = decode_responses(done(mcp_call(error=error)), completed())
    assert ToolResult("p1", "no room", failed=True) in events


def test_annotations_while_streaming_and_again_in_the_end():
    events = decode_responses(
        text_delta("Six."),
        event("output_text.annotation.added", item_id="m1", annotation=NOTE),
        done(message("Six.", annotations=[NOTE])),
    )
    assert citations_of(events) == [Citation(URL, "A")]


def test_annotations_of_a_whole_message():
    events = decode_responses(done(message("Six.", annotations=[NOTE])))
    assert citations_of(events) == [Citation(URL, "A")]


def test_an_image_that_was_generated():
    item = {"type": "image_generation_call", "id": "g1", "result": "QUJD"}
    [file, _] = decode_responses(added(item | {"result": None}), done(item))
    assert file == FileOutput("data:image/png;base64,QUJD", "image/png")
    [file, _] = decode_responses(done(item | {"output_format": "webp"}))
    assert file == FileOutput("data:image/webp;base64,QUJD", "image/webp")


def test_a_refusal_streamed():
    events = decode_responses(delta("refusal", "No.", "m1"))
    assert text_of(events) == "No."


def test_a_refusal_that_comes_whole():
    part = {"type": "refusal", "refusal": "No."}
    item = {"type": "message", "id": "m1", "content": [part]}
    assert text_of(decode_responses(done(item), completed())) == "No."


@pytest.mark.parametrize(
    ("cause", "reason"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter")],
)
def test_an_incomplete_answer_says_why(cause, reason):
    response = {"id": "r1", "incomplete_details": {"reason": cause}}
    decoder = ResponsesDecoder()
    decoder.feed("", text_delta("Hel"))
    decoder.feed("", event("incomplete", response=response))
    assert decoder.ended
    assert decoder.finish() == [Finished(reason)]


@pytest.mark.parametrize(
    "payload",
    [
        event("failed", response={"status": "failed", "error": {"message": "no room"}}),
        {"type": "error", "message": "no room", "code": "x"},
        {"type": "error", "error": {"message": "no room"}},
        {"error": {"message": "no room"}},
        {
            "object": "response",
            "status": "failed",
            "error": {"message": "no room"},
            "output": [],
        },
    ],
)
def test_errors_end_the_stream_with_the_servers_words(payload):
    with pytest.raises(UpstreamBroken) as broken:
        ResponsesDecoder().feed("", payload)
    assert broken.value.code == "said_error"
    assert broken.value.fields["detail"] == "no room"


def test_the_name_of_an_sse_event_stands_for_a_missing_type():
    decoder = ResponsesDecoder()
    assert decoder.feed("response.output_text.delta", {"delta": "Hi"}) == [
        TextDelta("Hi")
    ]


@pytest.mark.parametrize("payload", ["text", 5, None, []])
def test_json_of_another_shape_is_unreadable(payload):
    with pytest.raises(UpstreamBroken) as broken:
        ResponsesDecoder().feed("", payload)
    assert broken.value.code == "unreadable"


def test_a_session_is_told_only_where_it_is_kept():
    kept = decode_responses(completed(), keep_session=True)
    assert SessionState({"response_id": "r1"}) in kept
    assert decode_responses(completed()) == [Finished("stop")]


def test_a_stream_that_did_not_complete_leaves_no_session():
    events = decode_responses(
        event("created", response={"id": "r1"}), text_delta("Hel"), keep_session=True
    )
    assert events == [TextDelta("Hel"), Finished("stop")]


def test_unknown_events_say_nothing():
    assert decode_responses(
        event("web_search_call.searching", item_id="w1"),
        added({"type": "web_search_call", "id": "w1"}),
        done({"type": "web_search_call", "id": "w1", "status": "completed"}),
        event("queued"),
        {},
    ) == [Finished("stop")]


def test_a_plain_answer_is_the_same_answer():
    thought = {"type": "reasoning", "id": "i1", "summary": [{"text": "Hm."}]}
    events = decode_responses(
        {
            "object": "response",
            "id": "r1",
            "status": "completed",
            "error": None,
            "output": [
                thought,
                mcp_call(output="six"),
                message("Six.", annotations=[NOTE]),
                function_call("{}"),
            ],
            "usage": {"total_tokens": 5},
        },
        keep_session=True,
    )
    check_call_events(events)
    assert thoughts_of(events) == "Hm."
    assert text_of(events) == "Six."
    assert calls_of(events) == [("search", "{}"), ("add", "{}")]
    assert ToolResult("p1", "six") in events
    assert citations_of(events) == [Citation(URL, "A")]
    assert SessionState({"response_id": "r1"}) in events
    assert usage_of(events) == {"total_tokens": 5}
    assert reason_of(events) == "tool_calls"


def test_a_plain_answer_that_was_cut_at_its_limit():
    events = decode_responses(
        {
            "object": "response",
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [message("Si")],
        }
    )
    assert (text_of(events), reason_of(events)) == ("Si", "length")
