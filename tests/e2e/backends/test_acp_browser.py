"""A coding agent asks for permission in a chat, and people answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.async_api import Locator, expect

from tests.e2e.agents.answers import eventually
from tests.e2e.backends.acp_agents import acp_entry, agents_valve, running
from tests.e2e.backends.programs import CommandLine, ScriptedUpstream
from tests.e2e.backends.script import after_tool, tool
from tests.e2e.backends.seen import seen
from tests.e2e.chat_page import ANSWER_TIMEOUT, ChatPage
from tests.e2e.conftest import PageFor
from tests.webui import WebUI

SHELLS = {"claude": "Bash", "opencode": "bash", "gemini": "run_shell_command"}
NAMES = {"claude": "Claude Code", "opencode": "opencode", "gemini": "Gemini CLI"}


@pytest.fixture(params=SHELLS)
def line(
    request: pytest.FixtureRequest,
    suite_installed: WebUI,
    command_line: Callable[[str], CommandLine],
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
) -> CommandLine:
    """An agent that has to ask before it writes a file by a command."""
    line = command_line(request.param)
    scripted_upstream.add(
        after_tool("Write a note", "As to the note: that was all."),
        tool(
            "Write a note",
            SHELLS[line.name],
            command="echo plum > note.txt",
            description="Write a note",
        ),
    )
    entry = acp_entry(line, name=NAMES[line.name])
    del entry["approvals"]
    set_agents(agents_valve(entry))
    with suite_installed.client() as client:
        client.get("/api/models", params={"refresh": True}).raise_for_status()
    return line


def dialog(tab: ChatPage) -> Locator:
    return tab.page.get_by_role("dialog").filter(has_text="asks for permission")


async def answer_dialog(tab: ChatPage, choice: str) -> None:
    """Allow it as `choice` says."""
    asked = dialog(tab)
    await asked.get_by_role("combobox").select_option(label=choice)
    await asked.get_by_role("button", name="Submit").click()
    await expect(asked).to_be_hidden()


async def test_a_command_waits_for_permission(
    page_for: PageFor, line: CommandLine, screenshot
):
    name = NAMES[line.name]
    tab = await page_for()
    await tab.open(f"agents.acp-{line.name}")

    await tab.send("Write a note that says plum")
    asked = dialog(tab)
    await expect(asked).to_be_visible(timeout=ANSWER_TIMEOUT)
    await expect(asked).to_contain_text(f"{name} asks for permission")
    await expect(asked).to_contain_text("echo plum > note.txt")
    if line.name == "claude":
        await screenshot(tab, "agent-acp-permission", dark=True)
    await asked.get_by_role("button", name="Decline").click()
    await tab.finished()
    note = tab.answer().get_by_text("note.txt", exact=True)
    await expect(note).to_have_count(0)

    await tab.send("Write a note, please")
    await answer_dialog(tab, "Once")
    assert "that was all" in await tab.finished()
    await expect(note).to_be_visible()
    if line.name == "claude":
        await tab.answer().get_by_text("View Result from Bash").click()
        await screenshot(tab, "agent-acp-answer")
    seen("acp", name, "approvals")

    # Once was once: now it asks again, and then no more in this chat.
    await tab.send("Write a note again")
    await answer_dialog(tab, "Always in this chat")
    assert "that was all" in await tab.finished()
    assert "that was all" in await tab.ask("Write a note, the last one")


async def test_stop_while_the_agent_asks(page_for: PageFor, line: CommandLine):
    tab = await page_for()
    await tab.open(f"agents.acp-{line.name}")
    await tab.send("Write a note that says plum")
    await expect(dialog(tab)).to_be_visible(timeout=ANSWER_TIMEOUT)
    await tab.page.keyboard.press("Escape")
    await tab.finished()
    await eventually(lambda: not running(line, "note.txt"), "the end of the command")
    await expect(tab.answer().locator(".shimmer")).to_have_count(0)


@pytest.mark.parametrize("line", ["claude"], indirect=True)
async def test_the_end_of_a_long_command_can_be_read(
    page_for: PageFor, line: CommandLine, scripted_upstream: ScriptedUpstream
):
    command = f"echo {'plum ' * 3000}> note.txt; rm -rf notes"
    scripted_upstream.add(
        after_tool("Write much", "That was all."),
        tool("Write much", SHELLS[line.name], command=command, description="Write"),
    )
    tab = await page_for()
    await tab.open(f"agents.acp-{line.name}")
    await tab.send("Write much")
    asked = dialog(tab)
    await expect(asked).to_contain_text("; rm -rf notes", timeout=ANSWER_TIMEOUT)
    await expect(asked).to_contain_text("characters are left out here")
    # The buttons stand below it, so that nobody presses one without passing the end.
    decline = asked.get_by_role("button", name="Decline")
    await expect(decline).not_to_be_in_viewport()
    await asked.hover(position={"x": 50, "y": 400})
    await tab.page.mouse.wheel(0, 5_000)
    await expect(decline).to_be_in_viewport()
    await decline.click()
    await tab.finished()
