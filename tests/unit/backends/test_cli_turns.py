"""Turns with programs that answer one prompt: shell scripts in place of agents."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from shared.backends.base import Turn
from shared.backends.cli import CliBackend, CliSettings, cli_command
from shared.backends.http import Timeouts
from shared.backends.processes import Program
from shared.errors import UpstreamUnreachable
from shared.events import FileOutput, TextDelta, ToolCallCompleted, ToolResult
from tests.unit.backends.recorded import hear, recorded, session_of, user_turn
from tests.unit.backends.running import processes, until
from tests.unit.backends.support import text_of

GONE = "11111111-1111-4111-8111-111111111111"
SECRET = "sk-very-secret"
Make = Callable[..., CliBackend]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """`make(script, format)`: a backend that runs a script of the shell's."""
    runs: dict = {}

    def backend(script: str, format: str = "text", **settings) -> CliBackend:
        program = Program(("sh", "-c", script, "agent"), {"AGENT_KEY": SECRET})
        known = CliSettings("fake", program, Timeouts(20, 20, 20), format)
        return CliBackend(replace(known, **settings), tmp_path / "ws", runs)

    yield backend
    assert runs == {}
    assert processes() == []


def in_chat(*said: str, **fields) -> Turn:
    return user_turn(*said, user_id="ada", chat_id="chat-1", **fields)


def printing(tmp_path: Path, name: str) -> str:
    """A script that reads its prompt and prints a recording."""
    path = tmp_path / "recording"
    path.write_bytes(recorded(f"cli/{name}.jsonl"))
    return f"cat > /dev/null; cat {path}"


async def test_what_a_program_prints_is_the_answer(make: Make):
    told = await hear(make("echo Loading; cat", noise=("Loading",)), in_chat("hello"))
    assert text_of(told.events) == "hello\n"
    assert told.code == ""


async def test_the_prompt_is_in_no_argument(make: Make):
    told = await hear(make('echo "$@" "$AGENT_KEY" | tr a-z A-Z'), in_chat("hello"))
    assert text_of(told.events) == f"{SECRET.upper()}\n"


async def test_a_conversation_is_told_as_one_prompt(make: Make):
    told = await hear(make("cat"), in_chat("one", "two", "three"))
    assert text_of(told.events).startswith("# The conversation so far")


async def test_a_prompt_of_any_length_is_taken(make: Make):
    told = await hear(
        make("head -c 200000 /dev/zero | tr '\\0' x; wc -c"), in_chat("y" * 10**6)
    )
    assert text_of(told.events).strip().endswith("1000000")


@pytest.mark.parametrize(
    ("script", "format", "code"),
    [
        ("cat > /dev/null; echo half; exit 3", "text", "program_ended"),
        ("cat > /dev/null", "text", "empty_answer"),
        ("exec < /dev/null; true", "claude", "program_ended"),
        ("kill -9 $$", "gemini", "program_ended"),
    ],
)
async def test_what_went_wrong(make: Make, script: str, format: str, code: str):
    assert (await hear(make(script, format), in_chat("hello"))).code == code


async def test_the_log_holds_no_secret(make: Make, caplog):
    await hear(make('echo "bad $AGENT_KEY" >&2; exit 3'), in_chat("hello"))
    assert "bad ***" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("name", "code"),
    [("claude-ERR400", "said_error"), ("claude-ERR401", "login_expired")],
)
async def test_a_failure_at_exit_code_0(
    make: Make, tmp_path: Path, name: str, code: str
):
    told = await hear(make(printing(tmp_path, name), "claude"), in_chat("hello"))
    assert told.code == code
    assert text_of(told.events) == ""


async def test_it_is_not_waited_for_what_goes_on_trying(make: Make, tmp_path: Path):
    script = printing(tmp_path, "claude-ERR401") + "; sleep 7777"
    assert (await hear(make(script, "claude"), in_chat("hi"))).code == "login_expired"


async def test_a_session_goes_on_with_the_news_only(make: Make, tmp_path: Path):
    whole = tmp_path / "asked"
    script = f'echo "$@" > {whole}; cat >> {whole}; cat {tmp_path}/recording'
    printing(tmp_path, "gemini-text")
    backend = make(script, "gemini")
    first = await hear(backend, in_chat("one"))
    session = session_of(first.events)
    await hear(backend, in_chat("one", "two", "three", session=session))
    assert (
        whole.read_text() == f"-o stream-json --resume {session['session_id']}\nthree"
    )
    await hear(backend, in_chat("one", "two", "three", session=session, forks=True))
    assert whole.read_text().startswith("-o stream-json\n# The conversation so far")


async def test_a_forgotten_session_begins_anew(make: Make, tmp_path: Path):
    printing(tmp_path, "claude-text")
    (tmp_path / "unknown").write_bytes(recorded("cli/claude-resume-unknown.jsonl"))
    script = (
        f"cat > {tmp_path}/asked; case $* in "
        f"*resume*) cat {tmp_path}/unknown;; *) cat {tmp_path}/recording;; esac"
    )
    turn = in_chat("one", "two", "three", session={"session_id": GONE})
    told = await hear(make(script, "claude"), turn)
    assert told.code == ""
    assert text_of(told.events).startswith("Hello from the scripted model.")
    assert "The conversation so far" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("format", "command"),
    [
        ("text", "agent"),
        (
            "claude",
            "agent -p --output-format stream-json --include-partial-messages"
            " --verbose --model big --resume s-1",
        ),
        ("gemini", "agent -o stream-json -m big --resume s-1"),
        ("codex", "agent --json --skip-git-repo-check -m big resume s-1 -"),
    ],
)
def test_the_command_of_a_format(format: str, command: str):
    settings = CliSettings("a", Program(("agent",)), Timeouts(), format)
    assert " ".join(cli_command(settings, "big", "s-1")) == command


@pytest.mark.parametrize("kept", ["--yolo", "latest", "1", "a b", "../x", None, 7])
async def test_what_is_no_sessions_id_becomes_no_argument(make: Make, kept: object):
    turn = in_chat("one", "two", "three", session={"session_id": kept})
    script = 'printf \'{"type":"message","role":"assistant","content":"%s"}\n\' "$*"'
    told = await hear(
        make(script + '; echo \'{"type":"result","status":"success"}\'', "gemini"), turn
    )
    assert text_of(told.events) == "-o stream-json"


async def test_files_go_in_and_come_out(make: Make):
    data = base64.b64encode(b"secret plum").decode()
    file = {"filename": "../notes.txt", "file_data": f"data:text/plain;base64,{data}"}
    content = [{"type": "text", "text": "Copy it."}, {"type": "file", "file": file}]
    turn = replace(in_chat("x"), messages=({"role": "user", "content": content},))
    told = await hear(make("cat; cp notes.txt copy.txt"), turn)
    assert text_of(told.events).strip().endswith("- notes.txt")
    [made] = [e for e in told.events if isinstance(e, FileOutput)]
    assert (made.name, made.url.partition(",")[2]) == ("copy.txt", data)


async def test_stop_ends_all_that_was_started(make: Make):
    script = "trap '' INT TERM; setsid sleep 7777 & setsid -f sleep 7777; echo on; wait"
    async with aclosing(make(script).run(in_chat("hello"))) as run:
        async for event in run:
            if isinstance(event, TextDelta):
                break
        await until(lambda: len(processes()) == 3)
    await until(lambda: not processes())


async def test_what_it_left_running_ends_with_the_turn(make: Make):
    told = await hear(make("setsid -f sleep 7777; echo done"), in_chat("hello"))
    assert text_of(told.events) == "done\n"
    assert processes() == []


async def test_silence_is_not_waited_for_without_end(make: Make):
    backend = make("echo one; sleep 7777", timeouts=Timeouts(20, 20, 0.2))
    told = await hear(backend, in_chat("hello"))
    assert told.code == "silent_between"
    assert text_of(told.events) == "one\n"


async def test_no_more_programs_than_allowed(make: Make):
    backend = make("echo one; sleep 7777", max_processes=1)
    async with aclosing(backend.run(in_chat("hello"))) as run:
        await anext(run)
        told = await hear(backend, in_chat("hello"))
        assert told.code == "too_many_programs"


async def test_programs_that_are_about_to_start_count(make: Make):
    backend = make("cat", max_processes=1)
    turns = [hear(backend, in_chat("hello")) for _ in range(3)]
    codes = [told.code for told in await asyncio.gather(*turns)]
    assert sorted(code or "" for code in codes) == ["", *["too_many_programs"] * 2]
    assert backend.runs == {}


async def test_a_turn_without_a_chat_leaves_nothing(make: Make, tmp_path: Path):
    told = await hear(make("cat; touch made.txt"), user_turn("one", user_id="ada"))
    assert text_of(told.events) == "one\n"
    assert not any((tmp_path / "ws" / "ada").iterdir())


async def test_whether_a_program_is_there(make: Make):
    await make("true").health()
    assert await make("true").discover() == []
    with pytest.raises(UpstreamUnreachable, match="program_missing"):
        await make("true", program=Program(("no-such-agent",))).health()


async def test_a_call_without_a_result_is_not_left_to_be_run(make: Make):
    lines = '{"type":"tool_use","tool_id":"t","tool_name":"x"}\\n'
    lines += '{"type":"result","status":"success"}\\n'
    told = await hear(
        make(f"cat > /dev/null; printf '{lines}'", "gemini"), in_chat("x")
    )
    assert told.code == ""
    assert ToolResult("t", "") in told.events


async def test_a_call_is_passed_on_with_its_result(make: Make, tmp_path: Path):
    told = await hear(
        make(printing(tmp_path, "codex-TOOL_EXEC"), "codex"), in_chat("x")
    )
    assert [e.name for e in told.events if isinstance(e, ToolCallCompleted)] == [
        "command_execution"
    ]
