"""A program that knows no JSON lines: what it prints is the answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import error, eventually
from tests.e2e.backends.acp_agents import agents_valve, running
from tests.e2e.backends.programs import CommandLine, ScriptedUpstream
from tests.e2e.backends.script import HELLO, TOOL_ANSWER, after_tool, fixture, tool
from tests.e2e.backends.seen import seen
from tests.webui import WebUI

MODEL = "agents.text"
# Gemini CLI prints plain text, and lines that are no answer, unless it is told else.
PROGRAM = "Gemini CLI, as any text program"


@pytest.fixture
def line(
    command_line: Callable[[str], CommandLine],
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
    suite_installed: WebUI,
) -> CommandLine:
    line = command_line("gemini")
    entry = {
        "id": "text",
        "name": "Texter",
        "backend": "cli",
        "command": [line.program, "--yolo", "-m", "gemini-2.5-flash"],
        "env": dict(line.env),
    }
    set_agents(agents_valve(entry))
    with suite_installed.client() as client:
        client.get("/api/models", params={"refresh": True}).raise_for_status()
    return line


async def test_it_is_told_the_whole_branch_each_time(
    chats: ChatSocket, line: CommandLine, scripted_upstream: ScriptedUpstream
):
    first = await chats.send(MODEL, "My word is plum.")
    assert (await first.answer())["content"].strip() == HELLO
    seen("cli", PROGRAM, "text")
    scripted_upstream.add(fixture("Which word", {"content": "Plum, of course."}))
    second = await chats.send(MODEL, "Which word was it?", after=first)
    assert (await second.answer())["content"].strip() == "Plum, of course."
    asked = str(scripted_upstream.journal()[-1]["body"])
    assert asked.count("My word is plum.") == asked.count("Which word was it?") == 1


async def test_files_go_in_and_come_out(
    chats: ChatSocket,
    line: CommandLine,
    scripted_upstream: ScriptedUpstream,
    suite_installed: WebUI,
):
    command = "cat notes.txt > copy.txt"
    scripted_upstream.add(
        after_tool("COPY", TOOL_ANSWER),
        tool("COPY", "run_shell_command", command=command, description="copy"),
    )
    with suite_installed.client() as client:
        file = {"file": ("notes.txt", b"The notes say plum.")}
        sent = client.post("/api/v1/files/", params={"process": False}, files=file)
        notes = {"type": "file", "id": sent.raise_for_status().json()["id"]}
        turn = await chats.send(MODEL, "COPY it", files=[notes])
        answer = await turn.answer()
        assert answer["content"].strip().endswith(TOOL_ANSWER)
        [made] = answer["files"]
        copy = client.get(f"/api/v1/files/{made['id']}/content").raise_for_status()
    assert (made["name"], copy.content) == ("copy.txt", b"The notes say plum.")
    seen("cli", PROGRAM, "files in")
    seen("cli", PROGRAM, "files out")


async def test_a_failure_is_told(chats: ChatSocket, line: CommandLine):
    answer = await (await chats.send(MODEL, "ERR401")).answer()
    assert error(answer).startswith("Texter ended in the middle of its work.")


async def test_stop_ends_the_program(chats: ChatSocket, line: CommandLine):
    turn = await chats.send(MODEL, "SLEEP_GEMINI")
    await eventually(lambda: running(line, "sleep 7777"), "the command", 90)
    await turn.stop()
    await turn.answer()
    await eventually(lambda: not running(line, "sleep 7777"), "the command's end")
    await eventually(lambda: not running(line, "--yolo"), "the program's end")
    seen("cli", PROGRAM, "cancel")
