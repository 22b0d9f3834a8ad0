"""Programs that answer one prompt: the real ones, with a scripted model behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import cards, error, eventually, thoughts
from tests.e2e.backends.acp_agents import agents_valve, running, sessions
from tests.e2e.backends.programs import CommandLine, ScriptedUpstream
from tests.e2e.backends.script import (
    AFTER_THOUGHT,
    HELLO,
    THOUGHT,
    TOOL_ANSWER,
    after_tool,
    fixture,
    tool,
)
from tests.e2e.backends.seen import seen
from tests.webui import WebUI

NAMES = {"claude": "Claude Code", "gemini": "Gemini CLI", "codex": "Codex"}
# Nobody is there to ask, so they may do what they want.
OPTIONS = {
    "claude": ["--dangerously-skip-permissions"],
    "gemini": ["--yolo"],
    "codex": ["exec", "--dangerously-bypass-approvals-and-sandbox"],
}
SHELLS = {"claude": "Bash", "gemini": "run_shell_command", "codex": "exec_command"}


def cli_entry(line: CommandLine) -> dict[str, Any]:
    return {
        "id": f"cli-{line.name}",
        "name": NAMES[line.name],
        "backend": "cli",
        "format": line.name,
        "command": [line.program, *OPTIONS[line.name]],
        "model": "gemini-2.5-flash" if line.name == "gemini" else "",
        "env": {**line.env, "CLAUDE_CODE_MAX_RETRIES": "0"},
    }


@pytest.fixture(params=NAMES)
def line(
    request: pytest.FixtureRequest,
    suite_installed: WebUI,
    command_line: Callable[[str], CommandLine],
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
) -> CommandLine:
    """Each of the programs in turn, as the only agent there is."""
    line = command_line(request.param)
    set_agents(agents_valve(cli_entry(line)))
    with suite_installed.client() as client:
        client.get("/api/models", params={"refresh": True}).raise_for_status()
    return line


async def test_a_conversation_goes_on_in_the_programs_session(
    chats: ChatSocket, line: CommandLine, scripted_upstream: ScriptedUpstream
):
    first = await chats.send(f"agents.cli-{line.name}", "My word is plum.")
    answer = await first.answer()
    assert answer["content"] == HELLO
    seen("cli", NAMES[line.name], "text")
    scripted_upstream.add(
        fixture("plum", {"content": "This was sent again."}),
        fixture("Which word", {"content": "Plum, of course."}),
    )
    second = await chats.send(f"agents.cli-{line.name}", "Which word?", after=first)
    again = await second.answer()
    assert again["content"] == "Plum, of course."
    assert sessions(again) == sessions(answer) != []
    seen("cli", NAMES[line.name], "sessions")
    # Another answer to the first one goes its own way.
    other = await chats.send(f"agents.cli-{line.name}", "Say it.", after=first)
    forked = await other.answer()
    assert forked["content"] == "This was sent again."
    assert sessions(forked) != sessions(answer)
    seen("cli", NAMES[line.name], "forks")


async def test_commands_and_files(
    suite_installed: WebUI,
    chats: ChatSocket,
    line: CommandLine,
    scripted_upstream: ScriptedUpstream,
):
    command = "cat notes.txt > copy.txt; cat copy.txt"
    key = "cmd" if line.name == "codex" else "command"
    scripted_upstream.add(
        after_tool("COPY", TOOL_ANSWER),
        tool("COPY", SHELLS[line.name], **{key: command, "description": "copy"}),
    )
    with suite_installed.client() as client:
        file = {"file": ("notes.txt", b"The notes say plum.")}
        sent = client.post("/api/v1/files/", params={"process": False}, files=file)
        notes = {"type": "file", "id": sent.raise_for_status().json()["id"]}
    turn = await chats.send(f"agents.cli-{line.name}", "COPY it", files=[notes])
    answer = await turn.answer()
    [(_, output, status)] = cards(answer)
    assert output.strip() == "The notes say plum."
    assert status == "completed"
    seen("cli", NAMES[line.name], "tool cards")
    seen("cli", NAMES[line.name], "files in")
    assert answer["content"].endswith(TOOL_ANSWER)
    assert [file["name"] for file in answer["files"]] == ["copy.txt"]
    seen("cli", NAMES[line.name], "files out")


# Gemini's JSON lines tell no thoughts.
@pytest.mark.parametrize("line", ["claude", "codex"], indirect=True)
async def test_thoughts_stand_apart(chats: ChatSocket, line: CommandLine):
    turn = await chats.send(f"agents.cli-{line.name}", "THINK")
    answer = await turn.answer()
    assert thoughts(answer).strip() == THOUGHT
    assert answer["content"] == AFTER_THOUGHT
    seen("cli", NAMES[line.name], "thoughts")


async def test_an_expired_login_says_so(chats: ChatSocket, line: CommandLine):
    turn = await chats.send(f"agents.cli-{line.name}", "ERR401")
    said = error(await turn.answer())
    assert f"{NAMES[line.name]} is no longer logged in." in said


async def test_stop_ends_the_program(chats: ChatSocket, line: CommandLine):
    model = f"agents.cli-{line.name}"
    turn = await chats.send(model, f"SLEEP_{line.name.upper()}")
    await eventually(lambda: running(line, "sleep 7777"), "the command", 90)
    await turn.stop()
    await turn.answer()
    await eventually(lambda: not running(line, "sleep 7777"), "the command's end")
    option = OPTIONS[line.name][-1]
    await eventually(lambda: not running(line, option), "the program's end")
    seen("cli", NAMES[line.name], "cancel")
