"""Codex over ACP at work: commands, edits, permissions and Stop.

Its modes with a sandbox need bubblewrap, which runs in few containers: commands are
tried in the mode without one, edits in the mode that asks for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import cards, eventually, items
from tests.e2e.backends.acp_agents import acp_entry, agents_valve, running
from tests.e2e.backends.programs import CommandLine, ScriptedUpstream
from tests.e2e.backends.script import HELLO, TOOL_ANSWER, after_tool, tool
from tests.e2e.backends.seen import seen
from tests.e2e.continue_with.presses import Tab, answering, cancel
from tests.webui import WebUI

MODEL = "agents.acp-codex"
PROGRAM = "Codex"
PATCH = """apply_patch <<'END'
*** Begin Patch
*** Add File: note.txt
+plum
*** End Patch
END
"""
Configure = Callable[..., None]


@pytest.fixture
def line(command_line: Callable[[str], CommandLine]) -> CommandLine:
    return command_line("codex")


@pytest.fixture
def configure(
    line: CommandLine,
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
    suite_installed: WebUI,
) -> Configure:
    """`configure(…)`: Codex as the only agent, with these keys of its entry."""

    def write(**more: Any) -> None:
        scripted_upstream.add(
            after_tool("EDIT", TOOL_ANSWER),
            tool("EDIT", "exec_command", cmd=PATCH),
            after_tool("COPY", TOOL_ANSWER),
            tool("COPY", "exec_command", cmd="cp notes.txt copy.txt; cat copy.txt"),
        )
        set_agents(agents_valve(acp_entry(line, **more)))
        with suite_installed.client() as client:
            client.get("/api/models", params={"refresh": True}).raise_for_status()

    return write


async def test_a_command_has_its_card_and_files_go_in_and_come_out(
    chats: ChatSocket, configure: Configure, suite_installed: WebUI
):
    configure(mode="full-access")
    with suite_installed.client() as client:
        file = {"file": ("notes.txt", b"The notes say plum.")}
        sent = client.post("/api/v1/files/", params={"process": False}, files=file)
        notes = {"type": "file", "id": sent.raise_for_status().json()["id"]}
    answer = await (await chats.send(MODEL, "COPY it", files=[notes])).answer()
    assert cards(answer) == [("execute", "The notes say plum.", "completed")]
    assert "cp notes.txt" in items(answer, "function_call")[0]["arguments"]
    seen("acp", PROGRAM, "tool cards")
    seen("acp", PROGRAM, "files in")
    assert answer["content"].endswith(TOOL_ANSWER)
    assert [file["name"] for file in answer["files"]] == ["copy.txt"]
    seen("acp", PROGRAM, "files out")


async def test_an_edit_waits_for_permission(tab: Tab, configure: Configure):
    configure(mode="read-only", approvals={})
    tab.fill = answering(allow="once")
    answer = await (await tab.send(MODEL, "EDIT")).answer()
    [form] = tab.forms
    assert "note.txt" in form["message"]
    assert "+plum" in form["message"]
    [(name, shown, status)] = cards(answer)
    assert (name, status) == ("edit", "completed")
    assert "+plum" in shown
    assert [file["name"] for file in answer["files"]] == ["note.txt"]
    seen("acp", PROGRAM, "approvals")


async def test_what_is_not_allowed_is_not_done(tab: Tab, configure: Configure):
    configure(mode="read-only", approvals={})
    tab.fill = cancel
    turn = await tab.send(MODEL, "EDIT")
    answer = await turn.answer()
    assert len(tab.forms) == 1
    assert not answer.get("files")
    again = await (await tab.send(MODEL, "hello", after=turn)).answer()
    assert again["content"].endswith(HELLO)


async def test_stop_ends_the_command(
    chats: ChatSocket, configure: Configure, line: CommandLine
):
    configure(mode="full-access")
    turn = await chats.send(MODEL, "SLEEP_CODEX")
    await eventually(lambda: running(line, "sleep 7777"), "the command", 90)
    await turn.stop()
    await turn.answer()
    await eventually(lambda: not running(line, "sleep 7777"), "the command's end")
    again = await chats.send(MODEL, "hello", after=turn)
    assert (await again.answer())["content"].endswith(HELLO)
    seen("acp", PROGRAM, "cancel")
