"""What A2A agents say, in both versions and over both bindings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.a2a_stream import A2ADecoder, state_name
from shared.backends.a2a_wire import unwrap_result
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, FileOutput, ReasoningDelta, Status, TextDelta
from tests.unit.backends.recorded import payloads, recorded
from tests.unit.backends.support import PROPERTY, text_of

HELLO = "Hello from the scripted model. This text is streamed in several small chunks."


def decoded(name: str) -> tuple[A2ADecoder, list[AgentEvent]]:
    decoder = A2ADecoder()
    events: list[AgentEvent] = []
    for _, payload in payloads(recorded(f"a2a/{name}.sse")):
        events += decoder.feed(unwrap_result(payload))
    return decoder, events


def artifact(*texts: str, append: bool | None = None, name: str = "a") -> dict:
    update = {"artifact": {"artifactId": name, "parts": [{"text": t} for t in texts]}}
    return {"artifactUpdate": update | ({} if append is None else {"append": append})}


def status(state: str, *texts: str) -> dict:
    message = {"role": "ROLE_AGENT", "parts": [{"text": text} for text in texts]}
    said = {"message": message} if texts else {}
    return {"statusUpdate": {"taskId": "t", "status": {"state": state, **said}}}


def fed(*results: dict) -> list[AgentEvent]:
    decoder = A2ADecoder()
    return [event for result in results for event in decoder.feed(result)]


@pytest.mark.parametrize("name", ["text", "v03-text"])
def test_text_in_pieces(name):
    decoder, events = decoded(name)
    assert text_of(events) == HELLO
    assert Status("Thinking about it") in events
    assert decoder.state == "completed"
    assert decoder.ended
    assert decoder.task_id
    assert decoder.context_id


def test_data_in_a_working_status_is_not_shown():
    _, events = decoded("tool")
    assert text_of(events) == (
        "Let me check. Tool finished. Final scripted answer: it is **21 degrees** in Bern."
    )
    assert [e.text for e in events if isinstance(e, Status)] == ["Thinking about it"]


@pytest.mark.parametrize("name", ["input", "rest-input", "v03-input", "v03-rest-input"])
def test_a_question(name):
    decoder, events = decoded(name)
    assert decoder.waiting
    assert decoder.said == "Which city?"
    assert text_of(events) == ""


@pytest.mark.parametrize(
    "name", ["jsonrpc-file", "rest-file", "v03-file", "v03-rest-file"]
)
def test_a_file_and_text_in_every_dialect(name):
    _, events = decoded(name)
    [file] = [e for e in events if isinstance(e, FileOutput)]
    assert file == FileOutput(
        "data:text/csv;base64,YSxiCjEsMgo=", "text/csv", "table.csv"
    )
    assert text_of(events).startswith("You said FILE")


def test_a_task_that_was_cancelled():
    with pytest.raises(UpstreamBroken) as caught:
        decoded("cancel")
    assert caught.value.code == "a2a_canceled"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("TASK_STATE_FAILED", "said_error"),
        ("TASK_STATE_REJECTED", "a2a_rejected"),
        ("TASK_STATE_CANCELED", "a2a_canceled"),
        ("TASK_STATE_CANCELLED", "a2a_canceled"),
        ("TASK_STATE_AUTH_REQUIRED", "agent_login_required"),
        ("failed", "said_error"),
        ("rejected", "a2a_rejected"),
        ("auth-required", "agent_login_required"),
    ],
)
def test_every_way_to_fail(state, code):
    decoder = A2ADecoder()
    with pytest.raises(UpstreamBroken) as caught:
        decoder.feed(status(state, "Because."))
    assert caught.value.code == code
    assert caught.value.fields["detail"] == "Because."
    assert decoder.ended


def test_errors_of_json_rpc_and_rest():
    for error in ({"code": -32603, "message": "No."}, {"code": 500, "message": "No."}):
        with pytest.raises(UpstreamBroken) as caught:
            unwrap_result({"error": error})
        assert caught.value.fields["detail"] == "No."


@pytest.mark.parametrize("payload", [None, [], "x", {"result": 5}])
def test_answers_that_are_none(payload):
    with pytest.raises(UpstreamBroken):
        unwrap_result(payload)


def test_a_message_needs_no_task():
    for message in (
        {"message": {"role": "ROLE_AGENT", "contextId": "c", "parts": [{"text": "Hi"}]}},
        {"kind": "message", "contextId": "c", "parts": [{"kind": "text", "text": "Hi"}]},
        {"msg": {"contextId": "c", "content": [{"text": "Hi"}]}},
    ):  # fmt: skip
        decoder = A2ADecoder()
        assert text_of(decoder.feed(message)) == "Hi"
        assert decoder.ended
        assert (decoder.context_id, decoder.task_id) == ("c", "")


def test_a_whole_task_as_the_answer():
    task = {
        "id": "t",
        "contextId": "c",
        "status": {"state": "TASK_STATE_COMPLETED"},
        "artifacts": [{"artifactId": "a", "parts": [{"text": "Done"}]}],
        "history": [{"role": "ROLE_AGENT", "parts": [{"text": "I work"}]}],
    }
    for result in ({"task": task}, task, {"kind": "task", **task}):
        assert text_of(fed(result)) == "Done"


def test_an_answer_that_stands_in_the_history_alone():
    said = [{"role": "user", "parts": [{"text": "Hi"}]}]
    said += [{"role": "agent", "parts": [{"text": "Hello"}]}]
    task = {"kind": "task", "status": {"state": "completed"}, "history": said}
    assert text_of(fed(task)) == "Hello"


def test_the_last_words_are_the_answer_where_there_is_no_other():
    assert text_of(fed(status("completed", "Done."))) == "Done."
    assert text_of(fed(artifact("Hi"), status("completed", "Done."))) == "Hi"


def test_a_second_answer_of_the_same_task():
    decoder = A2ADecoder()
    events = decoder.feed(artifact("One."))
    decoder.feed(status("input-required", "More?"))
    decoder.go_on()
    assert not decoder.ended
    events += decoder.feed(status("completed", "Two."))
    assert text_of(events) == "One.\n\nTwo."


def test_artifacts_are_paragraphs():
    assert text_of(fed(artifact("a"), artifact("b", name="b"))) == "a\n\nb"


def test_text_that_is_sent_anew_as_it_grows():
    """LangGraph's server sends the whole text so far, each time as a new artifact."""
    events = fed(artifact("Hel"), artifact("Hello"), artifact("Hello"), artifact("He"))
    assert text_of(events) == "Hello"


def test_a_text_that_is_replaced():
    assert text_of(fed(artifact("Draft"), artifact("Final"))) == "Draft\n\nFinal"


def test_a_stream_that_is_attached_again_begins_with_the_whole_task():
    task = {
        "id": "t",
        "status": {"state": "TASK_STATE_WORKING"},
        "artifacts": [{"artifactId": "a", "parts": [{"text": "Hello w"}]}],
    }
    events = fed(
        artifact("Hel"),
        artifact("lo", append=True),
        {"task": task},
        artifact("orld", append=True),
    )
    assert text_of(events) == "Hello world"


def test_a_status_line_is_told_once_and_cut_short():
    events = fed(*[status("working", "Still\n at it " + "x" * 300)] * 2)
    [line] = events
    assert isinstance(line, Status)
    assert line.text.startswith("Still at it x")
    assert len(line.text) == 200


def test_files_come_once_whatever_the_dialect():
    parts = [
        {"url": "https://x/y.pdf", "mediaType": "application/pdf", "filename": "y.pdf"},
        {"kind": "file", "file": {"uri": "https://x/z", "name": "z"}},
        {"file": {"fileWithUri": "https://x/v", "mimeType": "text/plain"}},
    ]
    update = {"artifactUpdate": {"artifact": {"artifactId": "f", "parts": parts}}}
    assert fed(update, update) == [
        FileOutput("https://x/y.pdf", "application/pdf", "y.pdf"),
        FileOutput("https://x/z", "application/octet-stream", "z"),
        FileOutput("https://x/v", "text/plain", ""),
    ]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", ""])
def test_addresses_that_are_no_links_are_left_out(url):
    part = {"url": url, "mediaType": "text/html"}
    update = {"artifactUpdate": {"artifact": {"artifactId": "f", "parts": [part]}}}
    assert fed(update) == []


def test_structured_output_is_shown_as_json():
    part = {"kind": "data", "data": {"degrees": 21}}
    update = {"artifactUpdate": {"artifact": {"artifactId": "d", "parts": [part]}}}
    assert text_of(fed(update)) == '\n```json\n{\n  "degrees": 21\n}\n```\n'


def test_thoughts_that_googles_adk_marks():
    part = {"text": "Hm.", "metadata": {"adk_thought": True}}
    held = {"artifactId": "a", "parts": [part, {"text": "Yes."}]}
    for append in (True, False):
        update = {"artifactUpdate": {"artifact": held, "append": append}}
        assert fed(update) == [ReasoningDelta("Hm."), TextDelta("Yes.")]


def test_results_of_an_unknown_kind_are_passed_over():
    assert fed({"somethingNew": {"x": 1}}, {"kind": "new"}) == []


@pytest.mark.parametrize(
    ("written", "state"),
    [
        ("TASK_STATE_INPUT_REQUIRED", "input-required"),
        ("working", "working"),
        (None, ""),
    ],
)
def test_names_of_states(written, state):
    assert state_name(written) == state


@PROPERTY
@given(st.text(min_size=1), st.lists(st.integers(0, 50), max_size=8))
def test_a_growing_text_is_told_whole_however_it_grows(text, cuts):
    grown = [artifact(text[:cut]) for cut in sorted(cuts)] + [artifact(text)]
    assert text_of(fed(*grown)) == text
