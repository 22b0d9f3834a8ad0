"""What programs print, from recordings of real ones and by hand."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.cli_claude import ClaudeLines
from shared.backends.cli_lines import CodexLines, GeminiLines, TextLines
from shared.backends.sse import LineBuffer
from shared.events import Status
from tests.unit.backends.recorded import recorded, results_of, session_of
from tests.unit.backends.support import (
    PROPERTY,
    calls_of,
    check_call_events,
    chunkings,
    text_of,
    thoughts_of,
    usage_of,
)

HELLO = "Hello from the scripted model. This text is streamed in several small chunks."
ANSWER = "Tool finished. Final scripted answer: it is **21 degrees** in Bern."
THOUGHT = "The user greets me; I should think a little first."
DECODERS = {"claude": ClaudeLines, "gemini": GeminiLines, "codex": CodexLines}


def decode(name):
    """A recording's decoder and events; the name begins with the program's."""
    return read([recorded(f"cli/{name}.jsonl")], DECODERS[name.split("-")[0]]())


def read(pieces, decoder):
    lines, events = LineBuffer(), []
    for piece in pieces:
        for line in lines.feed(piece):
            events += decoder.feed(line)
    for line in lines.finish():
        events += decoder.feed(line)
    return decoder, events


def failure(decoder):
    assert decoder.done
    return decoder.error and (decoder.error.code, decoder.error.fields["detail"])


@pytest.mark.parametrize("name", ["claude-text", "gemini-text", "codex-text"])
def test_text(name):
    decoder, events = decode(name)
    assert text_of(events) == HELLO
    assert failure(decoder) is None
    assert len(session_of(events)["session_id"]) == 36


@pytest.mark.parametrize("name", ["claude-think", "codex-THINK"])
def test_thoughts(name):
    _, events = decode(name)
    assert thoughts_of(events).strip() == THOUGHT
    assert text_of(events) == "Hello after thinking."


def test_claude_runs_a_command():
    _, events = decode("claude-tool-allowed")
    [(name, arguments)] = calls_of(events)
    assert (name, orjson.loads(arguments)["command"]) == (
        "Bash",
        "echo scripted-tool-$((20+1))",
    )
    assert results_of(events) == [("scripted-tool-21", False)]
    assert text_of(events) == "I will run a command. " + ANSWER


def test_claude_was_not_allowed_to_write():
    decoder, events = decode("claude-tool-write-default")
    [(output, failed)] = results_of(events)
    assert failed
    assert "you haven't granted it yet" in output
    assert failure(decoder) is None


@pytest.mark.parametrize(
    ("name", "tool", "output", "failed"),
    [
        ("gemini-TOOL_GEMLS", "list_directory", "Directory is empty.", False),
        ("gemini-yolo", "run_shell_command", "scripted-tool-21", False),
        ("gemini-TOOL_GEMSH", "run_shell_command", "not found", True),
        ("codex-TOOL_EXEC", "command_execution", "scripted-tool-21\n", False),
    ],
)
def test_a_tool_and_its_result(name, tool, output, failed):
    decoder, events = decode(name)
    assert [called for called, _ in calls_of(events)] == [tool]
    [(said, went_wrong)] = results_of(events)
    assert output in said
    assert went_wrong is failed
    assert text_of(events).endswith(ANSWER)
    assert failure(decoder) is None
    check_call_events(events)


def test_two_messages_of_codex_are_two_paragraphs():
    _, events = decode("codex-TOOL_SHELL")
    assert text_of(events) == f"I will run a command. \n\n{ANSWER}"


@pytest.mark.parametrize(
    ("name", "code", "detail"),
    [
        ("claude-ERR400", "said_error", "API Error: 400 Scripted bad request"),
        ("claude-ERR401", "login_expired", "401"),
        ("claude-resume-unknown", "said_error", "No conversation found"),
        ("gemini-ERR400", "said_error", "Scripted bad request: context too long"),
        ("gemini-ERR401", "login_expired", "Invalid API key (scripted)"),
        ("gemini-CUTOFF", "said_error", "[API Error: terminated]"),
        ("codex-ERR400", "said_error", "Codex ran out of room"),
        ("codex-ERR401", "login_expired", "Invalid API key (scripted)"),
        ("codex-ERR500", "said_error", "experiencing high demand"),
        ("codex-CUTOFF", "said_error", "stream disconnected"),
    ],
)
def test_a_turn_that_failed(name, code, detail):
    decoder, events = decode(name)
    said_code, said = failure(decoder)
    assert said_code == code
    assert detail in said
    # An error is told as one, and not as text too.
    assert "Error" not in text_of(events)


RECORDINGS = ["claude-tool-allowed", "gemini-yolo", "codex-TOOL_EXEC"]


@pytest.mark.parametrize("name", RECORDINGS)
@PROPERTY
@given(data=st.data())
def test_any_chunking_says_the_same(name, data):
    whole = recorded(f"cli/{name}.jsonl")
    decoder = DECODERS[name.split("-")[0]]()
    assert read(data.draw(chunkings(whole)), decoder)[1] == decode(name)[1]


@pytest.mark.parametrize("name", RECORDINGS)
@PROPERTY
@given(data=st.data())
def test_a_program_that_is_killed_told_no_end(name, data):
    whole = recorded(f"cli/{name}.jsonl")
    cut = data.draw(st.integers(0, len(whole) - 3))
    decoder, _ = read([whole[:cut]], DECODERS[name.split("-")[0]]())
    assert not decoder.done


# fmt: off
KINDS = [
    "assistant", "user", "system", "stream_event", "result", "message", "init",
    "tool_use", "tool_result", "item.completed", "item.started", "turn.failed",
]
# fmt: on


@pytest.mark.parametrize("decoder", DECODERS.values())
@PROPERTY
@given(
    kind=st.sampled_from(KINDS),
    fields=st.dictionaries(
        st.sampled_from(
            ["message", "event", "item", "error", "usage", "stats", "type"]
        ),
        st.none()
        | st.integers(-9, 9)
        | st.text(max_size=4)
        | st.lists(st.none(), max_size=2)
        | st.dictionaries(st.sampled_from(["content", "type", "id"]), st.none()),
    ),
)
def test_no_odd_line_breaks_a_turn(decoder, kind, fields):
    decoder().feed(orjson.dumps({"type": kind} | fields))


@pytest.mark.parametrize("decoder", DECODERS.values())
@pytest.mark.parametrize(
    "line", [b"", b"Loading...", b"[]", b"7", b'"x"', b"{}", b"\xff"]
)
def test_noise(decoder, line):
    assert decoder().feed(line) == []


def lines(decoder, *payloads):
    return [event for p in payloads for event in decoder.feed(orjson.dumps(p))]


def test_what_claudes_subagents_say_is_left_out():
    inner = {"type": "text", "text": "among us"}
    message = {"id": "m", "role": "assistant", "content": [inner]}
    line = {"type": "assistant", "message": message}
    assert lines(ClaudeLines(), line | {"parent_tool_use_id": "t"}) == []
    assert text_of(lines(ClaudeLines(), line)) == "among us"


def test_a_message_of_claudes_that_was_not_streamed():
    content = [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "tool_use", "id": "t", "name": "Read", "input": {"path": "a"}},
    ]
    result = {"type": "tool_result", "tool_use_id": "t"}
    blocks = [{"type": "text", "text": "one"}, {"type": "image"}]
    events = lines(
        ClaudeLines(),
        {"type": "assistant", "message": {"id": "m", "content": content}},
        {"type": "user", "message": {"content": [result | {"content": blocks}]}},
    )
    assert thoughts_of(events) == "Hm."
    assert calls_of(events) == [("Read", '{"path":"a"}')]
    assert results_of(events) == [("one", False)]


def test_tokens_are_counted_in_the_usual_names():
    usage = {"input_tokens": 3, "output_tokens": 4, "service_tier": "x", "turns": 1}
    for decoder, line in (
        (ClaudeLines(), {"type": "result", "usage": usage}),
        (CodexLines(), {"type": "turn.completed", "usage": usage}),
        (GeminiLines(), {"type": "result", "status": "success", "stats": usage}),
    ):
        assert usage_of(lines(decoder, line)) == {
            "prompt_tokens": 3,
            "completion_tokens": 4,
        }


def test_codex_plans_changes_files_and_calls_tools():
    def item(kind, **fields):
        return {"type": kind, "item": {"id": "i", **fields}}

    steps = [{"text": "a", "completed": True}, {"text": "b", "completed": False}]
    change = {"type": "file_change", "changes": [{"path": "a", "kind": "add"}]}
    tool = {"type": "mcp_tool_call", "tool": "lookup", "arguments": {"q": 1}}
    assert lines(CodexLines(), item("item.updated", type="todo_list", items=steps)) == [
        Status("1/2 · b")
    ]
    events = lines(CodexLines(), item("item.completed", status="failed", **change))
    assert calls_of(events)[0][0] == "file_change"
    assert results_of(events) == [("", True)]
    events = lines(
        CodexLines(),
        item("item.started", **tool),
        item("item.completed", status="completed", result={"a": 1}, **tool),
    )
    assert calls_of(events)[0][0] == "lookup"
    assert results_of(events) == [('{"a":1}', False)]


def test_plain_text_without_noise_and_colours():
    printed = (
        b"\nLoaded cached credentials.\n\x1b[1mBold\x1b[0m \xf0\x9f\x98\x80\n\nend"
    )
    decoder, events = read([printed], TextLines([r"Loaded cached credentials\.?"]))
    assert text_of(events) == "Bold 😀\n\nend\n"
    assert decoder.done
