"""What an AG-UI run says: recorded runs, and what other agents send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.agui_stream import AGUIDecoder
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, Finished, Status, TextDelta
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


def fed(decoder: AGUIDecoder, *events: dict[str, Any]) -> list[AgentEvent]:
    said = [said for event in events for said in decoder.feed(event)]
    return [*said, *decoder.finish()]


def decoded(name: str) -> list[AgentEvent]:
    """The events of a recorded run."""
    stream = recorded(f"agui/{name}.sse")
    return fed(AGUIDecoder(), *(payload for _, payload in payloads(stream)))


def said(message_id: str, delta: str, kind: str = "CONTENT") -> dict[str, Any]:
    kind = f"TEXT_MESSAGE_{kind}"
    return {"type": kind, "messageId": message_id, "delta": delta}


def test_text_and_tokens():
    events = decoded("text")
    assert text_of(events) == HELLO
    assert usage_of(events) == {
        "input_tokens": 1,
        "output_tokens": 20,
        "total_tokens": 21,
    }
    assert reason_of(events) == "stop"


def test_thoughts_stand_apart():
    events = decoded("think")
    assert thoughts_of(events) == "The user greets me; I should think a little first."
    assert text_of(events) == "Hello after thinking."


def test_a_tool_call_with_its_result():
    events = decoded("tool")
    check_call_events(events)
    assert calls_of(events) == [("get_weather", '{"city":"Bern"}')]
    assert results_of(events) == [("21 degrees in Bern", False)]
    assert text_of(events).startswith("I will use a tool. Tool finished.")


def test_an_error_in_the_stream():
    with pytest.raises(UpstreamBroken) as caught:
        decoded("error")
    assert "Invalid API key (scripted)" in caught.value.fields["detail"]


def test_an_error_in_plain_json():
    with pytest.raises(UpstreamBroken) as caught:
        AGUIDecoder().feed({"error": {"message": "no such agent"}})
    assert caught.value.fields["detail"] == "no such agent"


def test_what_a_run_stopped_for():
    decoder = AGUIDecoder()
    stream = payloads(recorded("agui/approval.sse"))
    fed(decoder, *(payload for _, payload in stream))
    [interrupt] = decoder.interrupts
    assert decoder.call_of(interrupt) == ("delete_file", '{"path":"/notes/old.txt"}')
    [answer] = decoder.messages
    assert answer["content"] == "I will use a tool. "
    assert answer["tool_calls"][0]["function"]["name"] == "delete_file"


def test_a_further_run_goes_on_with_the_same_call():
    decoder = AGUIDecoder()
    first = payloads(recorded("agui/approval.sse"))
    for _, payload in first:
        decoder.feed(payload)
    [interrupt] = decoder.interrupts
    decoder.begin_run()
    assert not decoder.ended
    assert decoder.interrupts == []
    result = {
        "type": "TOOL_CALL_RESULT",
        "toolCallId": interrupt["toolCallId"],
        "content": [{"type": "text", "text": "gone"}],
    }
    events = fed(decoder, result, said("2", "Done."))
    assert results_of(events) == [("gone", False)]
    roles = [message["role"] for message in decoder.messages]
    assert roles == ["assistant", "tool", "assistant"]


def test_messages_in_chunks():
    events = fed(
        AGUIDecoder(),
        {"type": "REASONING_MESSAGE_CHUNK", "messageId": "r", "delta": "Hm."},
        said("1", "Hel", "CHUNK"),
        {"type": "TEXT_MESSAGE_CHUNK", "delta": "lo"},
        {"type": "TOOL_CALL_CHUNK", "toolCallId": "a", "toolCallName": "f"},
        {"type": "TOOL_CALL_CHUNK", "delta": '{"x":'},
        {"type": "TOOL_CALL_CHUNK", "toolCallId": "a", "delta": "1}"},
        {"type": "TOOL_CALL_CHUNK", "toolCallId": "b", "toolCallName": "g"},
        said("2", "Bye", "CHUNK"),
    )
    check_call_events(events)
    assert thoughts_of(events) == "Hm."
    assert text_of(events) == "HelloBye"
    assert calls_of(events) == [("f", '{"x":1}'), ("g", "{}")]


def test_two_messages_in_a_row_are_two_paragraphs():
    events = fed(AGUIDecoder(), said("1", "One."), said("2", "Two."))
    assert text_of(events) == "One.\n\nTwo."


def test_thoughts_in_the_events_of_earlier_versions():
    old = {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "Hm."}
    assert thoughts_of(fed(AGUIDecoder(), old)) == "Hm."


def test_what_the_user_said_is_not_part_of_the_answer():
    start = {"type": "TEXT_MESSAGE_START", "messageId": "1", "role": "user"}
    events = fed(AGUIDecoder(), start, said("1", "my question"), said("2", "Yes."))
    assert text_of(events) == "Yes."


def test_a_snapshot_repeats_what_was_streamed():
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": messages}
    assert text_of(fed(AGUIDecoder(), said("1", "!"), snapshot)) == "!"


def test_a_snapshot_is_the_answer_where_nothing_was_streamed():
    messages = [
        {"role": "assistant", "content": "earlier"},
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "one"},
        {"role": "assistant", "content": "two"},
    ]
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": messages}
    assert text_of(fed(AGUIDecoder(), snapshot)) == "one\n\ntwo"


def test_the_state_follows_snapshots_and_patches():
    decoder = AGUIDecoder({"a": 1})
    patch = [{"op": "replace", "path": "/a", "value": 2}]
    decoder.feed({"type": "STATE_DELTA", "delta": patch})
    assert decoder.state == {"a": 2}
    decoder.feed({"type": "STATE_SNAPSHOT", "snapshot": {"b": 3}})
    assert decoder.state == {"b": 3}


def test_a_patch_that_does_not_fit_is_an_error():
    patch = [{"op": "replace", "path": "/nowhere/at/all", "value": 2}]
    with pytest.raises(ValueError, match="does not fit"):
        AGUIDecoder().feed({"type": "STATE_DELTA", "delta": patch})


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"type": "STEP_STARTED", "stepName": "look_up"}, Status("look up")),
        ({"type": "STEP_FINISHED", "stepName": "look_up"}, Status("look up", True)),
        ({"type": "SUBAGENT_STARTED", "name": "Scout"}, Status("Scout")),
        ({"type": "ACTIVITY_SNAPSHOT", "activityType": "PLAN"}, Status("PLAN")),
    ],
)
def test_progress_is_a_status(event, status):
    decoder = AGUIDecoder()
    assert decoder.feed(event) == [status]
    assert not decoder.told


@pytest.mark.parametrize(
    "kind",
    ["CUSTOM", "RAW", "REASONING_START", "REASONING_ENCRYPTED_VALUE", "SOMETHING_NEW"],
)
def test_other_events_say_nothing(kind):
    assert AGUIDecoder().feed({"type": kind, "name": "x", "value": 1}) == []


def test_a_run_that_was_cancelled_there_has_ended():
    decoder = AGUIDecoder()
    outcome = {"type": "cancelled"}
    events = fed(decoder, said("1", "Hi"), {"type": "RUN_FINISHED", "outcome": outcome})
    assert decoder.ended
    assert events == [TextDelta("Hi"), Finished("stop")]


@PROPERTY
@given(st.data())
def test_any_chunking_says_the_same(data):
    stream = recorded("agui/tool.sse")
    events = read_sse(data.draw(chunkings(stream)))
    whole = read_sse([stream])
    assert [event.data for event in events] == [event.data for event in whole]
