"""What LangGraph's stream says: recorded runs, and what other graphs send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.langgraph_stream import LangGraphDecoder
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, FileOutput, Finished, ReasoningDelta, TextDelta
from tests.unit.backends.recorded import payloads, recorded, results_of
from tests.unit.backends.support import (
    PROPERTY,
    calls_of,
    check_call_events,
    chunkings,
    read_sse,
    reason_of,
    text_of,
    thoughts_of,
    usage_of,
)

HELLO = "Hello from the scripted model. This text is streamed in several small chunks."


def decoded(*names: str) -> list[AgentEvent]:
    """The events of recorded runs, one after the other."""
    decoder = LangGraphDecoder()
    events: list[AgentEvent] = []
    for name in names:
        for kind, payload in payloads(recorded(f"langgraph/{name}.sse")):
            events += decoder.feed(kind, payload)
    return [*events, *decoder.finish()]


def chunks(*messages, kind="AIMessageChunk") -> list[AgentEvent]:
    """The events of message chunks with these fields."""
    decoder = LangGraphDecoder()
    events: list[AgentEvent] = []
    for message in messages:
        events += decoder.feed("messages", [{"id": "m1", "type": kind, **message}, {}])
    return [*events, *decoder.finish()]


def test_text_is_told_once_though_an_update_repeats_it():
    events = decoded("text")
    assert text_of(events) == HELLO
    assert reason_of(events) == "stop"


def test_a_tool_call_with_its_result():
    events = decoded("tool")
    check_call_events(events)
    assert calls_of(events) == [("get_weather", '{"city":"Bern"}')]
    assert results_of(events) == [("21 degrees in Bern", False)]
    assert text_of(events).startswith("Let me check. Tool finished.")


def test_tokens_are_added_up_over_model_calls():
    counts = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    events = chunks(
        {"content": "a", "usage_metadata": counts},
        {"content": "b", "id": "m2", "usage_metadata": counts},
    )
    assert usage_of(events) == {
        "input_tokens": 10,
        "output_tokens": 4,
        "total_tokens": 14,
    }


def test_an_error_in_the_stream():
    with pytest.raises(UpstreamBroken) as caught:
        decoded("error")
    detail = "OpenAIAuthenticationError: An internal error occurred"
    assert caught.value.fields["detail"] == detail


@pytest.mark.parametrize("payload", ["it broke", {"message": "it broke"}])
def test_an_error_in_other_words(payload):
    with pytest.raises(UpstreamBroken) as caught:
        LangGraphDecoder().feed("error", payload)
    assert caught.value.fields["detail"] == "it broke"


def test_a_run_that_was_stopped():
    events = decoded("cancel")
    assert text_of(events) == "one two "


def test_a_request_for_approval_and_what_follows_a_rejection():
    decoder = LangGraphDecoder()
    events: list[AgentEvent] = []
    for kind, payload in payloads(recorded("langgraph/approval.sse")):
        events += decoder.feed(kind, payload)
    [interrupt] = decoder.interrupts
    assert interrupt.value["action_requests"][0]["name"] == "get_weather"
    assert results_of(events) == []
    for kind, payload in payloads(recorded("langgraph/approval-rejected.sse")):
        events += decoder.feed(kind, payload)
    events += decoder.finish()
    check_call_events(events)
    assert calls_of(events) == [("get_weather", '{"city":"Bern"}')]
    [(output, failed)] = results_of(events)
    assert failed
    assert "The user did not allow this." in output


def test_a_question_and_a_message_that_no_model_streamed():
    decoder = LangGraphDecoder()
    for kind, payload in payloads(recorded("langgraph/question.sse")):
        assert decoder.feed(kind, payload) == []
    assert [interrupt.value for interrupt in decoder.interrupts] == ["Which city?"]
    assert text_of(decoded("question-answered")) == "You chose Bern."


@pytest.mark.parametrize(
    "written",
    [
        [["assistant", "Yes."]],
        {"role": "assistant", "content": "Yes."},
        [["ai", "Earlier."], ["human", "Well?"], ["ai", "Yes."]],
        [{"role": "ai", "content": [{"type": "text", "text": "Yes."}]}, "?", None],
    ],
)
def test_answers_that_a_node_wrote_without_langchains_messages(written):
    decoder = LangGraphDecoder()
    events = decoder.feed("updates", {"node": {"messages": written}, "other": None})
    assert text_of(events) == "Yes."
    assert decoder.told


def test_a_call_without_a_result_gets_an_empty_one():
    call = {"name": "look", "args": "{}", "id": "c1", "index": 0}
    events = chunks({"content": "", "tool_call_chunks": [call]})
    check_call_events(events)
    assert results_of(events) == [("", False)]
    assert events[-1] == Finished()


def test_calls_of_a_message_that_no_model_streamed():
    call = {"name": "look", "args": {"at": "it"}, "id": "c1", "type": "tool_call"}
    events = chunks({"content": "", "tool_calls": [call]}, kind="ai")
    assert calls_of(events) == [("look", '{"at":"it"}')]


def test_a_result_of_a_call_that_is_not_of_this_turn():
    events = chunks({"content": "x", "tool_call_id": "other"}, kind="tool")
    assert events == [Finished()]


def test_two_models_at_once_keep_their_calls_apart():
    def fragment(**fields):
        return {"tool_call_chunks": [{"index": 0, "type": "tool_call_chunk", **fields}]}

    events = chunks(
        {"content": "", "id": "m1", **fragment(id="c1", name="look", args='{"a":')},
        {"content": "", "id": "m2", **fragment(id="c2", name="find", args='{"b":')},
        {"content": "", "id": "m1", **fragment(args="1}")},
        {"content": "", "id": "m2", **fragment(args="2}")},
    )
    check_call_events(events)
    assert sorted(calls_of(events)) == [("find", '{"b":2}'), ("look", '{"a":1}')]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "", "additional_kwargs": {"reasoning_content": "Hm."}},
        {"content": [{"type": "thinking", "thinking": "Hm."}]},
        {"content": [{"type": "reasoning", "reasoning": "Hm."}]},
        {"content": [{"type": "reasoning", "summary": [{"text": "Hm."}]}]},
    ],
)
def test_thoughts_in_every_shape(message):
    assert thoughts_of(chunks(message)) == "Hm."


def test_content_in_blocks():
    blocks = ["a", {"type": "text", "text": "b"}, {"type": "tool_use", "name": "x"}]
    assert text_of(chunks({"content": blocks})) == "ab"


@pytest.mark.parametrize(
    ("block", "url"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, "https://x/y.png"),
        ({"type": "image", "mime_type": "image/png", "base64": "QQ=="}, "data:image/png;base64,QQ=="),
        ({"type": "file", "mime_type": "text/csv", "url": "https://x/y"}, "https://x/y"),
    ],
)  # fmt: skip
def test_files_in_content(block, url):
    [file] = [e for e in chunks({"content": [block]}) if isinstance(e, FileOutput)]
    assert file.url == url


def test_addresses_that_are_no_links_are_left_out():
    block = {"type": "file", "mime_type": "text/html", "url": "javascript:alert(1)"}
    assert chunks({"content": [block]}) == [Finished()]


def test_an_answer_that_was_too_long():
    events = chunks({"content": "a", "response_metadata": {"finish_reason": "length"}})
    assert reason_of(events) == "length"


@pytest.mark.parametrize("kind", ["human", "system", "remove"])
def test_messages_that_are_not_the_agents(kind):
    assert chunks({"content": "hello"}, kind=kind) == [Finished()]


def test_events_of_subgraphs_and_unknown_ones():
    decoder = LangGraphDecoder()
    message = {"id": "m1", "type": "ai", "content": "from below"}
    assert decoder.feed("messages|child:1", [message, {}]) == [TextDelta("from below")]
    assert decoder.feed("values", {"messages": []}) == []
    assert decoder.feed("updates", {"node": None}) == []


@PROPERTY
@given(st.data())
def test_any_chunking_gives_the_same(data):
    stream = recorded("langgraph/tool.sse")
    pieces = data.draw(chunkings(stream))
    assert [(e.name, e.data) for e in read_sse(pieces)] == [
        (e.name, e.data) for e in read_sse([stream])
    ]


def test_thought_and_text_in_one_chunk_keep_their_order():
    message = {"content": "b", "additional_kwargs": {"reasoning_content": "a"}}
    assert chunks(message)[:2] == [ReasoningDelta("a"), TextDelta("b")]
