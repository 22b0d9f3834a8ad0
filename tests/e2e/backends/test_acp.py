"""Coding agents over ACP: the real programs, with a scripted model behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import cards, error, eventually, items, thoughts
from tests.e2e.backends.acp_agents import acp_entry, agents_valve, running, sessions
from tests.e2e.backends.programs import CommandLine, ScriptedUpstream
from tests.e2e.backends.script import (
    AFTER_THOUGHT,
    HELLO,
    THOUGHT,
    TOOL_ANSWER,
    TOOL_INTRODUCTION,
    after_tool,
    fixture,
    tool,
)
from tests.e2e.backends.seen import seen
from tests.e2e.backends.usual import listed_models
from tests.webui import WebUI

PROGRAMS = {
    "gemini": "Gemini CLI",
    "claude": "Claude Code",
    "opencode": "opencode",
    "codex": "Codex",
}
# Codex's commands need a mode without a sandbox: test_codex_live.py.
TELL_OF_TOOLS = ("gemini", "claude", "opencode")
SHELLS = {"gemini": "run_shell_command", "claude": "Bash", "opencode": "bash"}


Configure = Callable[..., None]


@pytest.fixture
def configure(suite_installed: WebUI, set_agents: Callable[[str], None]) -> Configure:
    """`configure(entry, …)`: these agents, and Open WebUI's list with them."""

    def write(*entries: dict[str, Any]) -> None:
        set_agents(agents_valve(*entries))
        with suite_installed.client() as client:
            client.get("/api/models", params={"refresh": True}).raise_for_status()

    return write


@pytest.fixture(params=PROGRAMS)
def line(
    request: pytest.FixtureRequest,
    command_line: Callable[[str], CommandLine],
    scripted_upstream: ScriptedUpstream,
    configure: Configure,
) -> CommandLine:
    """Each of the programs in turn, as the only agent there is."""
    line = command_line(request.param)
    configure(acp_entry(line))
    return line


def uploaded(webui: WebUI, name: str, data: bytes) -> dict[str, Any]:
    """A file of the admin, as a message names it."""
    with webui.client() as client:
        answer = client.post(
            "/api/v1/files/", params={"process": False}, files={"file": (name, data)}
        )
        file = answer.raise_for_status().json()
    return {"type": "file", "id": file["id"], "name": name, "file": file}


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("line", names, indirect=True)


async def test_a_conversation_goes_on_in_the_agents_session(
    chats: ChatSocket, line: CommandLine, scripted_upstream: ScriptedUpstream
):
    model = f"agents.acp-{line.name}"
    first = await chats.send(model, "My word is plum.")
    answer = await first.answer()
    assert answer["content"].endswith(HELLO)
    seen("acp", PROGRAMS[line.name], "text")

    # The agent tells its model of the first turn by itself: it is not sent again.
    scripted_upstream.add(
        fixture("plum", {"content": "This was sent again."}),
        fixture("Which word", {"content": "Plum, of course."}),
    )
    second = await chats.send(model, "Which word was it?", after=first)
    again = await second.answer()
    assert again["content"].endswith("Plum, of course.")
    assert sessions(again) == sessions(answer) != []
    seen("acp", PROGRAMS[line.name], "sessions")

    # Another answer to the first question's is a session with that branch alone.
    scripted_upstream.add(
        fixture("Which word", {"content": "This belongs to the other branch."}),
        fixture("User: My word is plum.", {"content": "Plum and quince."}),
    )
    other = await chats.send(model, "The second is quince.", after=first)
    forked = await other.answer()
    assert forked["content"].endswith("Plum and quince.")
    assert sessions(forked) != sessions(answer)
    seen("acp", PROGRAMS[line.name], "forks")


@only(*TELL_OF_TOOLS)
async def test_a_command_of_the_agent_has_its_card(
    chats: ChatSocket, line: CommandLine
):
    turn = await chats.send(f"agents.acp-{line.name}", f"TOOL_{line.name.upper()}")
    answer = await turn.answer()
    [(_, output, status)] = cards(answer)
    assert status == "completed"
    call = items(answer, "function_call")[0]
    assert "echo scripted-tool-21" in call["arguments"]
    if line.name != "gemini":  # which tells what it runs, and not what came of it
        assert output.strip() == "scripted-tool-21"
    assert [i["content"][0]["text"] for i in items(answer, "message")] == [
        TOOL_INTRODUCTION,
        TOOL_ANSWER,
    ]
    seen("acp", PROGRAMS[line.name], "tool cards")


@only(*TELL_OF_TOOLS)
async def test_files_go_in_and_come_out(
    suite_installed: WebUI,
    chats: ChatSocket,
    line: CommandLine,
    scripted_upstream: ScriptedUpstream,
):
    command = "cat notes.txt > copy.txt; cat copy.txt"
    scripted_upstream.add(
        after_tool("COPY", TOOL_ANSWER),
        tool("COPY", SHELLS[line.name], command=command, description="copy"),
    )
    notes = uploaded(suite_installed, "notes.txt", b"The notes say plum.")
    turn = await chats.send(f"agents.acp-{line.name}", "COPY it", files=[notes])
    answer = await turn.answer()
    assert answer["content"].endswith(TOOL_ANSWER)
    seen("acp", PROGRAMS[line.name], "files in")
    [made] = answer["files"]
    assert made["name"] == "copy.txt"
    with suite_installed.client() as client:
        content = client.get(f"/api/v1/files/{made['id']}/content")
    assert content.raise_for_status().content == b"The notes say plum."
    seen("acp", PROGRAMS[line.name], "files out")


@only("claude", "codex")
async def test_thoughts_stand_apart(chats: ChatSocket, line: CommandLine):
    turn = await chats.send(f"agents.acp-{line.name}", "THINK")
    answer = await turn.answer()
    assert thoughts(answer).strip() == THOUGHT
    assert answer["content"].endswith(AFTER_THOUGHT)
    seen("acp", PROGRAMS[line.name], "thoughts")


@only("opencode")
async def test_tokens_are_counted(chats: ChatSocket, line: CommandLine):
    turn = await chats.send(f"agents.acp-{line.name}", "hello")
    usage = (await turn.answer())["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0
    seen("acp", PROGRAMS[line.name], "usage")


async def test_an_expired_login_says_so(
    chats: ChatSocket, line: CommandLine, configure: Configure
):
    # Claude Code tries ten times else.
    once = {**line.env, "CLAUDE_CODE_MAX_RETRIES": "0"}
    configure(acp_entry(line, env=once))
    turn = await chats.send(f"agents.acp-{line.name}", "ERR401")
    said = error(await turn.answer())
    assert f"{line.name.title()} is no longer logged in." in said


@only(*TELL_OF_TOOLS)
async def test_stop_ends_the_agents_command(chats: ChatSocket, line: CommandLine):
    model = f"agents.acp-{line.name}"
    turn = await chats.send(model, f"SLEEP_{line.name.upper()}")
    await eventually(lambda: running(line, "sleep 7777"), "the command", 90)
    await turn.stop()
    await turn.answer()
    await eventually(lambda: not running(line, "sleep 7777"), "the command's end")
    # The agent is still there for the next turn.
    again = await chats.send(model, "hello", after=turn)
    assert (await again.answer())["content"].endswith(HELLO)
    seen("acp", PROGRAMS[line.name], "cancel")


async def test_the_agents_models_are_listed(
    suite_installed: WebUI, line: CommandLine, configure: Configure
):
    configure(acp_entry(line, discover=True))

    def listed() -> list[str]:
        models = listed_models(suite_installed).items()
        return [
            name for id_, name in models if id_.startswith(f"agents.acp-{line.name}.")
        ]

    names = await eventually(listed, "the agent's models", 90)
    assert all(name.startswith(f"{line.name.title()}: ") for name in names)
    seen("acp", PROGRAMS[line.name], "discovery")


@only("gemini")
async def test_a_chosen_model_is_the_one_that_answers(
    chats: ChatSocket,
    line: CommandLine,
    configure: Configure,
    scripted_upstream: ScriptedUpstream,
):
    configure(acp_entry(line, model="gemini-2.5-pro"))
    turn = await chats.send("agents.acp-gemini", "hello")
    assert (await turn.answer())["content"] == HELLO
    assert "gemini-2.5-pro" in scripted_upstream.journal()[-1]["path"]
