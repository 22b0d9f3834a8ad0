"""What ACP agents say, from recordings of real ones and from what none of them did."""

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.acp_prompt import selectable, selection
from shared.backends.acp_updates import AcpDecoder
from shared.backends.acp_wire import acp_error, error_sentence
from shared.events import (
    FileOutput,
    Finished,
    Status,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
)
from tests.unit.backends.recorded import recorded, results_of
from tests.unit.backends.support import (
    PROPERTY,
    calls_of,
    check_call_events,
    reason_of,
    text_of,
    thoughts_of,
    usage_of,
)

HELLO = "Hello from the scripted model. This text is streamed in several small chunks."
ANSWER = "Tool finished. Final scripted answer: it is **21 degrees** in Bern."
WARNING = "Model metadata for `gpt-5` not found. Defaulting to fallback metadata; this can degrade performance and cause issues."
PATCH = "--- out.txt\n+++ out.txt\n@@ -0,0 +1 @@\n+scripted"


def messages(program):
    return [
        orjson.loads(line) for line in recorded(f"acp/{program}.jsonl").splitlines()
    ]


def turns(program):
    """The events of each prompt of a recording, and the requests for permission.

    A turn that ended in an error ends with the error's sentence and code instead.
    """
    found, asked = [], []
    events, decoder = [], AcpDecoder("/workspace")
    for message in messages(program)[2:]:
        method = message.get("method")
        if method == "session/update":
            events += decoder.feed(message["params"]["update"])
        elif method == "session/request_permission":
            said, request = decoder.permission(message["params"])
            events += said
            asked.append(request)
        elif "result" in message:
            found.append([*events, *decoder.finish(message["result"])])
            events, decoder = [], AcpDecoder("/workspace")
        else:
            error = message["error"]
            found.append([*events, acp_error(error, error_sentence(error))])
            events, decoder = [], AcpDecoder("/workspace")
    return found, asked


def test_gemini():
    (hello, tool, failed), asked = turns("gemini")
    assert text_of(hello) == HELLO
    assert reason_of(hello) == "stop"
    assert calls_of(tool) == [("execute", '{"title":"echo scripted-tool-21"}')]
    assert results_of(tool) == [("", False)]
    assert text_of(tool) == "I will run a command. " + ANSWER
    assert (failed[-1].code, failed[-1].number) == ("login_expired", 401)
    assert failed[-1].fields["detail"] == "Invalid API key (scripted)"
    assert asked == []


def test_claude_code():
    (hello, write, command, failed), asked = turns("claude")
    assert text_of(hello) == HELLO
    [(name, arguments)] = calls_of(write)
    assert name == "Write"
    assert orjson.loads(arguments)["content"] == "scripted\n"
    assert results_of(write) == [(f"```diff\n{PATCH}\n```", False)]
    [request] = asked
    assert (request.tool, request.title) == ("Write", "Write out.txt")
    assert (request.detail, request.paths) == (PATCH, ("out.txt",))
    assert results_of(command) == [("scripted-tool-21", False)]
    assert failed[-1].code == "said_error"
    assert "400 Scripted bad request" in failed[-1].fields["detail"]


def test_opencode():
    (hello, tool, failed), [request] = turns("opencode")
    assert usage_of(hello) == {
        "prompt_tokens": 3028,
        "completion_tokens": 20,
        "total_tokens": 3048,
    }
    assert results_of(tool) == [("scripted-tool-21\n", False)]
    assert (request.tool, request.title) == ("execute", "echo scripted-tool-21")
    assert request.detail == ""  # the title is the command
    assert failed[-1].code == "login_expired"


def test_codex():
    (hello, _, thinking, failed), _ = turns("codex")
    assert text_of(hello) == WARNING + HELLO
    assert thoughts_of(thinking).strip().startswith("The user greets me")
    assert text_of(thinking) == WARNING + "Hello after thinking."
    assert failed[-1].code == "login_expired"


def test_a_cancelled_prompt_ends():
    [events], _ = turns("gemini-cancel")
    assert events[-1] == Finished("stop")


@pytest.mark.parametrize("program", ["gemini", "claude", "opencode", "codex"])
def test_every_call_is_whole_and_has_its_result(program):
    for events in turns(program)[0]:
        check_call_events(events)
        called = [e.call_id for e in events if isinstance(e, ToolCallStarted)]
        answered = [e.call_id for e in events if isinstance(e, ToolResult)]
        assert called == answered


def decode(*updates, stop="end_turn"):
    decoder = AcpDecoder("/workspace")
    events = [event for update in updates for event in decoder.feed(update)]
    return [*events, *decoder.finish({"stopReason": stop})]


def call(**fields):
    return {"sessionUpdate": "tool_call", "toolCallId": "1", "title": "Do it", **fields}


def update(**fields):
    return {"sessionUpdate": "tool_call_update", "toolCallId": "1", **fields}


def chunk(text, **fields):
    content = {"type": "text", "text": text}
    return {"sessionUpdate": "agent_message_chunk", "content": content, **fields}


def test_a_plan_is_a_line_that_tells_how_far_it_is():
    def plan(*states):
        entries = [
            {"content": f"step {number}", "status": state}
            for number, state in enumerate(states, 1)
        ]
        return {"sessionUpdate": "plan", "entries": entries}

    *lines, _ = decode(
        plan("pending", "pending"),
        plan("completed", "in_progress"),
        plan("completed", "completed"),
        {"sessionUpdate": "plan", "entries": []},
    )
    assert lines == [
        Status("0/2 · step 1"),
        Status("1/2 · step 2"),
        Status("2/2 · step 2", done=True),
    ]


def test_a_call_without_an_end_has_an_empty_result():
    events = decode(call(status="pending"))
    assert [type(e) for e in events[:3]] == [
        ToolCallStarted,
        ToolCallCompleted,
        ToolResult,
    ]


def test_a_failed_call_and_what_comes_after_it():
    events = decode(
        call(), update(status="failed", rawOutput="no"), update(status="completed")
    )
    assert results_of(events) == [("no", True)]


def test_an_update_of_a_call_that_was_not_told():
    events = decode(update(status="completed", kind="read", rawOutput={"a": 1}))
    assert calls_of(events) == [("read", '{"title":""}')]
    assert results_of(events) == [('{"a":1}', False)]


def test_a_question_to_the_user_is_no_result():
    # As Codex asks before it runs a command outside its sandbox.
    asked = {
        "toolCallId": "call-1",
        "kind": "execute",
        "status": "pending",
        "title": "touch /srv/x",
        "content": [{"type": "content", "content": {"type": "text", "text": "May I?"}}],
        "rawInput": {
            "call_id": "call-1",
            "turn_id": "turn-1",
            "command": ["touch", "/srv/x"],
            "cwd": "/w",
        },
    }
    decoder = AcpDecoder("/workspace")
    said, request = decoder.permission({"toolCall": asked})
    assert request.detail == 'command: ["touch","/srv/x"]\ncwd: /w'
    ended = {"exit_code": 0, "formatted_output": "done\n", "stdout": "done\n"}
    said += decoder.feed(
        {
            "sessionUpdate": "tool_call_update",
            "toolCallId": "call-1",
            "status": "completed",
            "rawOutput": ended,
        }
    )
    assert results_of(said) == [("done\n", False)]


def test_what_a_card_shows():
    content = [
        {"type": "content", "content": {"type": "text", "text": "text"}},
        {"type": "diff", "path": "/a/b.py", "oldText": "x = 1\n", "newText": "x = 2\n"},
        {"type": "content", "content": {"type": "resource_link", "uri": "file:///c"}},
        {"type": "content", "content": {"type": "resource", "resource": {"text": "r"}}},
        {"type": "terminal", "terminalId": "t"},
        {
            "type": "content",
            "content": {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        },
    ]
    events = decode(call(), update(status="completed", content=content))
    diff = "--- b.py\n+++ b.py\n@@ -1 +1 @@\n-x = 1\n+x = 2"
    assert results_of(events) == [
        (f"text\n\n```diff\n{diff}\n```\n\nfile:///c\n\nr", False)
    ]
    assert FileOutput("data:image/png;base64,aGk=", "image/png") in events


def test_a_long_diff_is_cut():
    text = "\n".join(map(str, range(2000)))
    block = {"type": "diff", "path": "a", "oldText": None, "newText": text}
    [(output, _)] = results_of(
        decode(call(), update(status="completed", content=[block]))
    )
    assert output.endswith("…\n```")
    assert output.count("\n") < 500


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"kind": "execute", "title": "rm -rf build"}, "execute"),
        ({"title": "lookup"}, "lookup"),
        ({"title": "look something up"}, "other"),
        ({"kind": "edit", "_meta": {"claudeCode": {"toolName": "Edit"}}}, "Edit"),
        ({"kind": "read", "_meta": {"claudeCode": 1}}, "read"),
    ],
)
def test_the_name_of_a_card(facts, name):
    assert calls_of(decode(call(**facts)))[0][0] == name


def test_a_further_message_begins_a_paragraph():
    said = decode(
        chunk("One", messageId="a"),
        chunk(" more", messageId="a"),
        chunk("Two", messageId="b"),
    )
    assert text_of(said) == "One more\n\nTwo"


def test_a_message_behind_a_card_stands_apart_anyway():
    said = decode(
        chunk("One", messageId="a"),
        call(status="completed"),
        chunk("Two", messageId="b"),
    )
    assert text_of(said) == "OneTwo"


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("max_turn_requests", "length"),
        ("refusal", "content_filter"),
        ("new_reason", "stop"),
        (None, "stop"),
    ],
)
def test_why_a_turn_ended(stop, reason):
    assert decode(stop=stop) == [Finished(reason)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "text", "content", "path", "status", "uri", "resource", "a"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)
KINDS = [
    "agent_message_chunk",
    "agent_thought_chunk",
    "tool_call",
    "tool_call_update",
    "plan",
    "usage_update",
]
UPDATES = st.fixed_dictionaries(
    {"sessionUpdate": st.sampled_from(KINDS)},
    optional=dict.fromkeys(
        (
            "content",
            "toolCallId",
            "title",
            "kind",
            "status",
            "rawInput",
            "rawOutput",
            "locations",
            "entries",
            "_meta",
            "messageId",
        ),
        JSON,
    ),
)


@PROPERTY
@given(st.lists(UPDATES, max_size=6), st.dictionaries(st.just("toolCall"), JSON))
def test_no_odd_shape_breaks_a_turn(updates, asked):
    decoder = AcpDecoder("/workspace")
    events = [event for update in updates for event in decoder.feed(update)]
    said, request = decoder.permission(asked)
    events += [*said, *decoder.finish({"stopReason": "end_turn", "usage": updates})]
    check_call_events(events)
    assert isinstance(request.title, str)
    assert all(e.text for e in events if isinstance(e, TextDelta))


@pytest.mark.parametrize(
    ("program", "model", "method"),
    [
        ("gemini", "gemini-2.5-pro", "session/set_model"),
        ("claude", "sonnet", "session/set_config_option"),
        ("opencode", "mock/gpt-4o-mini", "session/set_config_option"),
        ("codex", "gpt-5.4", "session/set_config_option"),
    ],
)
def test_models_that_a_session_offers(program, model, method):
    session = messages(program)[1]["result"]
    assert model in selectable(session, "model")
    chosen = selection(session, "model", model)
    assert chosen[0] == method
    assert model in chosen[1].values()


@pytest.mark.parametrize(
    ("program", "mode"),
    [("gemini", "plan"), ("claude", "plan"), ("opencode", "plan"), ("codex", "auto")],
)
def test_modes_that_a_session_offers(program, mode):
    assert mode in selectable(messages(program)[1]["result"], "mode")


def test_a_session_that_offers_nothing():
    assert selectable({"sessionId": "1"}, "model") == {}
    assert selectable({"configOptions": None, "modes": None}, "mode") == {}
    odd = {"configOptions": [7, {}], "modes": {"availableModes": [{}, "x"]}}
    assert selectable(odd, "mode") == {}


def test_config_options_in_groups():
    groups = [{"name": "g", "options": [{"value": "a"}, {"value": "b", "name": "B"}]}]
    option = {"id": "m", "category": "model", "options": groups}
    assert selectable({"configOptions": [option]}, "model") == {"a": "a", "b": "B"}


def test_what_a_user_is_asked():
    given = {"path": "a.txt", "limit": 5, "nothing": None, "title": "Read"}
    facts = {"title": "Read a.txt", "rawInput": given}
    _, request = AcpDecoder().permission({"toolCall": facts})
    assert (request.title, request.detail) == ("Read a.txt", "limit: 5")
    _, request = AcpDecoder().permission({"toolCall": {"rawInput": ["x"]}})
    assert (request.title, request.detail) == ("other", '["x"]')


def test_errors_as_agents_word_them():
    def told(**error):
        refused = acp_error(error, error_sentence(error))
        return refused.code, refused.fields["detail"]

    assert told(code=-32000, message="Authentication required")[0] == "login_expired"
    assert told(code=-1, message="x", data={"message": "y"}) == ("said_error", "y")
    assert told(code=-1, message="x", data={"details": "z"}) == ("said_error", "z")
    assert told(code="odd", message="", data=[1]) == ("said_error", "")
    nested = '{"error": {"message": "inner"}}'
    assert told(code=1, message=f"Failed: {nested}") == ("said_error", "inner")
    assert len(told(code=1, message="x" * 1000)[1]) == 300
    words = itertools.chain(("HTTP 401", "Please log in", "token has expired"))
    assert {told(code=1, message=word)[0] for word in words} == {"login_expired"}
