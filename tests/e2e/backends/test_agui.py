"""An AG-UI agent of pydantic-ai, with a scripted model behind it."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

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
from tests.e2e.backends.usual import (
    PICTURE,
    allowed_and_declined,
    check_asks_before_deleting,
    check_branches,
    show_picture,
    stop_slow_answer,
)
from tests.e2e.continue_with.presses import Fill, Tab

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


@allowed_and_declined
async def test_the_agent_asks_before_it_deletes(tab: Tab, fill: Fill, result: str):
    await check_asks_before_deleting(tab, MODEL, ("agui", PROGRAM), fill, result)


async def test_each_branch_of_a_chat_is_a_conversation_of_its_own(
    tab: Tab, scripted_upstream: ScriptedUpstream
):
    asked = scripted_upstream.asked_last
    await check_branches(tab, MODEL, ("agui", PROGRAM), asked)


async def test_a_picture_reaches_the_model(
    tab: Tab, scripted_upstream: ScriptedUpstream
):
    assert (await show_picture(tab, MODEL))["content"] == HELLO
    assert f"data:image/png;base64,{PICTURE}" in scripted_upstream.asked_last()
    seen("agui", PROGRAM, "files in")


async def test_an_error_is_told_and_what_came_stays(tab: Tab):
    answer = await (await tab.send(MODEL, "ERR500")).answer()
    assert error(answer).startswith("Helper reported an error.")
    assert "Scripted upstream failure" in error(answer)


async def test_stop_ends_the_run(tab: Tab, agui_server: str):
    await stop_slow_answer(tab, MODEL)

    def runs() -> list[str]:
        return list(httpx.get(f"{agui_server}runs", trust_env=False).json())

    await eventually(lambda: runs()[-1] == "cut off", "the end of the run")
    seen("agui", PROGRAM, "cancel")
