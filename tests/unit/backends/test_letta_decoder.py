"""What a Letta agent's stream says: recorded runs, and all else that it can hold."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.letta_stream import LETTA_FAILURES, LettaDecoder
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, Status
from tests.unit.backends.recorded import recorded, results_of
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
END = {"message_type": "stop_reason", "stop_reason": "end_turn"}


def fed(decoder: LettaDecoder, *messages: dict[str, Any]) -> list[AgentEvent]:
    said = [said for message in messages for said in decoder.feed(message)]
    return [*said, *decoder.end_run(), *decoder.finish()]


def messages_in(pieces: list[bytes]) -> list[dict[str, Any]]:
    events = (e for e in read_sse(pieces) if e.data != b"[DONE]")
    return [orjson.loads(event.data) for event in events]


def decoded(name: str) -> list[AgentEvent]:
    """The events of a recorded run."""
    return fed(LettaDecoder(), *messages_in([recorded(f"letta/{name}.sse")]))


def said(text: Any, otid: str = "o1") -> dict[str, Any]:
    return {"message_type": "assistant_message", "otid": otid, "content": text}


def call(kind: str = "tool_call_message", **piece: Any) -> dict[str, Any]:
    return {"message_type": kind, "tool_call": {"tool_call_id": "c1", **piece}}


def test_text_and_tokens():
    events = decoded("text")
    assert text_of(events) == HELLO
    assert usage_of(events)["prompt_tokens"] == 600
    assert usage_of(events)["completion_tokens"] == 20
    assert reason_of(events) == "stop"


def test_thoughts_stand_apart():
    events = decoded("think")
    assert thoughts_of(events) == "The user greets me; I should think a little first."
    assert text_of(events) == "Hello after thinking."


def test_a_tool_of_the_agent_with_its_result():
    events = decoded("tool")
    check_call_events(events)
    assert calls_of(events) == [("conversation_search", '{"query":"weather"}')]
    result = "{'message': 'No results found.', 'results': []}"
    assert results_of(events) == [(result, False)]
    assert text_of(events).startswith("Looking into memory. Tool finished.")


def test_an_error_in_the_stream():
    with pytest.raises(UpstreamBroken) as caught:
        decoded("error")
    assert "Invalid API key (scripted)" in caught.value.fields["detail"]


@pytest.mark.parametrize(
    "error",
    [
        {"message_type": "error_message", "message": "out of luck"},
        {"error": {"message": "out of luck"}},
    ],
)
def test_an_error_in_other_words(error):
    with pytest.raises(UpstreamBroken) as caught:
        LettaDecoder().feed(error)
    assert caught.value.fields["detail"] == "out of luck"


@pytest.mark.parametrize("reason", sorted(LETTA_FAILURES))
def test_a_run_that_failed_without_an_error(reason):
    end = {"message_type": "stop_reason", "stop_reason": reason}
    with pytest.raises(UpstreamBroken) as caught:
        fed(LettaDecoder(), said("Hi"), end)
    assert caught.value.fields["detail"] == reason.replace("_", " ")


def test_a_run_that_was_cancelled_has_ended():
    events = decoded("cancel")
    assert text_of(events) == "one two three fo"
    assert reason_of(events) == "stop"


def test_a_run_without_an_end_was_cut_short():
    with pytest.raises(UpstreamBroken, match="cut_short"):
        fed(LettaDecoder(), said("Hi"))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("tool_rule", "stop"),
        ("max_steps", "length"),
        ("max_tokens_exceeded", "length"),
    ],
)
def test_why_a_run_ended(reason, told):
    end = {"message_type": "stop_reason", "stop_reason": reason}
    assert reason_of(fed(LettaDecoder(), said("Hi"), end)) == told


def test_the_run_is_known_from_the_first_ping():
    decoder = LettaDecoder()
    assert decoder.feed({"message_type": "ping", "run_id": "run-1"}) == []
    assert decoder.run_id == "run-1"
    assert not decoder.told


def test_content_in_parts_and_two_messages_in_a_row():
    parts = [{"type": "text", "text": "One."}]
    events = fed(LettaDecoder(), said(parts), said("Two.", "o2"), END)
    assert text_of(events) == "One.\n\nTwo."


def test_what_the_agent_asks_for():
    decoder = LettaDecoder()
    kind = "approval_request_message"
    for piece in ({"name": "delete"}, {"arguments": '{"path":'}, {"arguments": '"a"}'}):
        decoder.feed(call(kind, **piece))
    decoder.feed({"message_type": "stop_reason", "stop_reason": "requires_approval"})
    [waiting] = decoder.waiting
    assert (waiting.name, waiting.whole_arguments) == ("delete", '{"path":"a"}')
    decoder.begin_run()
    assert decoder.waiting == []
    returned = {
        "message_type": "tool_return_message",
        "tool_call_id": "c1",
        "tool_return": "no such file",
        "status": "error",
    }
    assert results_of(fed(decoder, returned, said("Sorry."), END)) == [
        ("no such file", True)
    ]


@pytest.mark.parametrize("between", [[], [{"message_type": "user_message"}]])
def test_a_call_that_was_streamed_and_is_then_asked_for_whole(between):
    decoder = LettaDecoder()
    whole = {"name": "delete", "arguments": "{}"}
    events = [
        *decoder.feed(call(name="delete")),
        *decoder.feed(call(arguments="{}")),
        *(event for message in between for event in decoder.feed(message)),
        *decoder.feed(call("approval_request_message", **whole)),
        *fed(decoder, END),
    ]
    check_call_events(events)
    assert calls_of(events) == [("delete", "{}")]
    assert len(decoder.waiting) == 1


def test_several_calls_and_results_at_once():
    calls = [
        {"tool_call_id": "a", "name": "f", "arguments": "{}"},
        {"tool_call_id": "b", "name": "g"},
    ]
    returns = [
        {"tool_call_id": "a", "tool_return": "one", "status": "success"},
        {"tool_call_id": "b", "tool_return": [{"type": "text", "text": "two"}]},
    ]
    events = fed(
        LettaDecoder(),
        {"message_type": "tool_call_message", "tool_calls": calls},
        {"message_type": "tool_return_message", "tool_returns": returns},
        END,
    )
    check_call_events(events)
    assert calls_of(events) == [("f", "{}"), ("g", "{}")]
    assert results_of(events) == [("one", False), ("two", False)]


def test_tokens_are_added_up_over_runs():
    counts = {"message_type": "usage_statistics", "prompt_tokens": 3, "step_count": 1}
    decoder = LettaDecoder()
    decoder.feed({**counts, "context_tokens": 10})
    events = fed(decoder, {**counts, "context_tokens": 12}, END)
    assert usage_of(events) == {
        "prompt_tokens": 6,
        "step_count": 1,
        "context_tokens": 12,
    }


def test_a_compaction_is_a_status():
    event = {"message_type": "event_message", "event_type": "compaction"}
    assert LettaDecoder().feed(event) == [Status("compaction", True)]


@pytest.mark.parametrize(
    "kind",
    [
        "approval_response_message",
        "hidden_reasoning_message",
        "summary_message",
        "system_message",
        "user_message",
        "something_new",
    ],
)
def test_other_messages_say_nothing(kind):
    message = {"message_type": kind, "content": "x", "summary": "x"}
    assert LettaDecoder().feed(message) == []


@PROPERTY
@given(st.data(), st.sampled_from(["text", "think", "tool"]))
def test_any_chunking_says_the_same(data, name):
    pieces = data.draw(chunkings(recorded(f"letta/{name}.sse")))
    assert fed(LettaDecoder(), *messages_in(pieces)) == decoded(name)
