"""An AG-UI agent of pydantic-ai, with a scripted model behind it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import pytest_asyncio

from tests.e2e.agents.answers import cards, error, eventually, items, thoughts
from tests.e2e.backends.programs import ScriptedUpstream
from tests.e2e.backends.script import (
    AFTER_THOUGHT,
    HELLO,
    THOUGHT,
    TOOL_ANSWER,
    TOOL_INTRODUCTION,
)
from tests.e2e.backends.seen import seen
from tests.e2e.continue_with.presses import Fill, Tab, answering, cancel, open_tab
from tests.webui import WebUI

MODEL = "agents.ui"
PROGRAM = "pydantic-ai"


@pytest.fixture(autouse=True)
def entry(
    agui_server: str,
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
) -> None:
    """The agent, as the only one there is."""
    agent = {"id": "ui", "name": "Helper", "backend": "agui", "url": agui_server}
    set_agents(json.dumps([agent]))


@pytest_asyncio.fixture(loop_scope="session")
async def tab(suite_installed: WebUI) -> AsyncIterator[Tab]:
    async with open_tab(suite_installed.url, suite_installed.admin_token) as tab:
        yield tab


async def test_text_and_tokens(tab: Tab):
    answer = await (await tab.send(MODEL, "Good morning")).answer()
    assert answer["content"] == HELLO
    assert answer["usage"]["output_tokens"] > 0
    seen("agui", PROGRAM, "text")
    seen("agui", PROGRAM, "usage")


async def test_thoughts_stand_apart(tab: Tab):
    answer = await (await tab.send(MODEL, "THINK")).answer()
    assert thoughts(answer) == THOUGHT
    assert answer["content"] == AFTER_THOUGHT
    seen("agui", PROGRAM, "thoughts")


async def test_the_agents_own_tool_has_its_card(tab: Tab):
    answer = await (await tab.send(MODEL, "TOOL_WEATHER")).answer()
    assert cards(answer) == [("get_weather", "21 degrees in Bern", "completed")]
    said = [item["content"][0]["text"] for item in items(answer, "message")]
    assert said == [TOOL_INTRODUCTION, TOOL_ANSWER]
    seen("agui", PROGRAM, "tool cards")


@pytest.mark.parametrize(
    ("fill", "result"),
    [
        (answering(allow="once"), "/notes/old.txt is gone"),
        (cancel, "The user did not allow this."),
    ],
)
async def test_the_agent_asks_before_it_deletes(tab: Tab, fill: Fill, result: str):
    tab.fill = fill
    answer = await (await tab.send(MODEL, "TOOL_DELETE")).answer()
    assert "/notes/old.txt" in tab.forms[0]["message"]
    assert [card[:2] for card in cards(answer)] == [("delete_file", result)]
    assert answer["content"].endswith(TOOL_ANSWER)
    seen("agui", PROGRAM, "approvals")


async def test_each_branch_of_a_chat_is_a_conversation_of_its_own(
    tab: Tab, scripted_upstream: ScriptedUpstream
):
    first = await tab.send(MODEL, "My word is plum.")
    await first.answer()
    second = await tab.send(MODEL, "The second is pear.", after=first)
    await second.answer()
    asked = str(scripted_upstream.journal()[-1]["body"])
    assert asked.count("plum") == asked.count("pear") == 1
    seen("agui", PROGRAM, "sessions")

    other = await tab.send(MODEL, "The second is quince.", after=first)
    await other.answer()
    asked = str(scripted_upstream.journal()[-1]["body"])
    assert asked.count("plum") == asked.count("quince") == 1
    assert "pear" not in asked
    seen("agui", PROGRAM, "forks")


async def test_a_picture_reaches_the_model(
    tab: Tab, scripted_upstream: ScriptedUpstream
):
    picture = base64.b64encode(b"not much of a picture").decode()
    question = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
    ]
    turn = await tab.send(MODEL, question)  # type: ignore[arg-type]
    assert (await turn.answer())["content"] == HELLO
    asked = str(scripted_upstream.journal()[-1]["body"])
    assert f"data:image/png;base64,{picture}" in asked
    seen("agui", PROGRAM, "files in")


async def test_an_error_is_told_and_what_came_stays(tab: Tab):
    answer = await (await tab.send(MODEL, "ERR500")).answer()
    assert error(answer).startswith("Helper reported an error.")
    assert "Scripted upstream failure" in error(answer)


async def test_stop_ends_the_run(tab: Tab, agui_server: str):
    turn = await tab.send(MODEL, "SLOWLY")
    async for event in turn.events():
        if "word1" in str(event["data"]):
            break
    await turn.stop()
    answer = await turn.answer()
    assert "word99" not in answer["content"]

    def runs() -> list[str]:
        return list(httpx.get(f"{agui_server}runs", trust_env=False).json())

    await eventually(lambda: runs()[-1] == "cut off", "the end of the run")
    seen("agui", PROGRAM, "cancel")
