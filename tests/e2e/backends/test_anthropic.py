"""Anthropic's Messages API, as a scripted model speaks it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import cards, error, eventually, items, thoughts
from tests.e2e.agents.scene import TOOL_ID, create_tool
from tests.e2e.backends.programs import ScriptedUpstream
from tests.e2e.backends.script import (
    AFTER_THOUGHT,
    HELLO,
    THOUGHT,
    TOOL_ANSWER,
    TOOL_INTRODUCTION,
    fixture,
    tool,
)
from tests.e2e.backends.seen import seen
from tests.e2e.backends.usual import (
    PICTURE,
    check_branches,
    listed_models,
    show_picture,
    stop_slow_answer,
)
from tests.e2e.backends.wire import Wire, listening_to
from tests.webui import WebUI

MODEL = "agents.claude"
PROGRAM = "Messages API"
KEY = "sk-ant-very-secret-0123456789"


@pytest_asyncio.fixture(loop_scope="session")
async def wire(scripted_upstream: ScriptedUpstream) -> AsyncIterator[Wire]:
    async with listening_to(scripted_upstream.url) as wire:
        yield wire


@pytest.fixture(autouse=True)
def set_claude(wire: Wire, set_agents: Callable[[str], None]) -> Callable[..., None]:
    """Make a model of the API the only agent; more keys of its entry may be given."""

    def write(**more: Any) -> None:
        agent = {
            "id": "claude",
            "name": "Claude",
            "backend": "anthropic",
            "url": f"{wire.url}/v1",
            "key": KEY,
            "model": "claude-sonnet-4-5",
        }
        set_agents(json.dumps([agent | more]))

    write()
    return write


async def test_text_and_tokens(chats: ChatSocket, scripted_upstream: ScriptedUpstream):
    usage = {"input_tokens": 12, "output_tokens": 7}
    counted = {"content": HELLO, "usage": usage}
    scripted_upstream.add(fixture("COUNTED", counted))
    answer = await (await chats.send(MODEL, "COUNTED")).answer()
    assert answer["content"] == HELLO
    assert answer["usage"]["output_tokens"] == 7
    seen("anthropic", PROGRAM, "text")
    seen("anthropic", PROGRAM, "usage")


async def test_thoughts_stand_apart(chats: ChatSocket):
    answer = await (await chats.send(MODEL, "THINK")).answer()
    assert thoughts(answer) == THOUGHT
    assert answer["content"] == AFTER_THOUGHT
    seen("anthropic", PROGRAM, "thoughts")


async def test_open_webuis_tools_are_run(chats: ChatSocket, suite_installed: WebUI):
    with suite_installed.client() as admin:
        create_tool(admin)
    turn = await chats.send(MODEL, "TOOL_WEATHER", tool_ids=[TOOL_ID])
    answer = await turn.answer()
    result = "It is 21 degrees and sunny in Bern."
    assert cards(answer) == [("get_weather", result, "completed")]
    said = [item["content"][0]["text"] for item in items(answer, "message")]
    assert said == [TOOL_INTRODUCTION, TOOL_ANSWER]
    seen("anthropic", PROGRAM, "tool cards")


async def test_thinking_goes_on_between_tool_rounds(
    chats: ChatSocket,
    suite_installed: WebUI,
    scripted_upstream: ScriptedUpstream,
    wire: Wire,
    set_claude: Callable[..., None],
):
    with suite_installed.client() as admin:
        create_tool(admin)
    set_claude(params={"thinking": {"type": "enabled", "budget_tokens": 2000}})
    call = tool("PONDER", "get_weather", city="Bern")
    call["response"]["reasoning"] = THOUGHT
    call["match"]["hasToolResult"] = False
    scripted_upstream.add(call)
    turn = await chats.send(MODEL, "PONDER", tool_ids=[TOOL_ID])
    answer = await turn.answer()
    assert thoughts(answer) == THOUGHT
    assert [card[0] for card in cards(answer)] == ["get_weather"]
    # The second request keeps thinking on, for it brings the first thought back.
    second = wire.last_asked()
    assert f'"thinking":"{THOUGHT}"' in second
    assert '"budget_tokens":2000' in second
    assert "tool_result" in second


async def test_each_branch_of_a_chat_is_a_conversation_of_its_own(
    chats: ChatSocket, wire: Wire
):
    await check_branches(chats, MODEL, ("anthropic", PROGRAM), wire.last_asked)
    asked = wire.last_asked()
    assert '"cache_control"' in asked
    assert KEY in asked


async def test_a_picture_reaches_the_model(chats: ChatSocket, wire: Wire):
    assert (await show_picture(chats, MODEL))["content"] == HELLO
    assert f'"media_type":"image/png","data":"{PICTURE}"' in wire.last_asked()
    seen("anthropic", PROGRAM, "files in")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("ERR401", "Claude did not accept its key (401)."),
        ("ERR529", "Claude is overloaded. Please try again in a minute."),
        ("ERR400", "Claude refused the request (400). (Scripted bad request)"),
    ],
)
async def test_a_refusal_is_told(chats: ChatSocket, word: str, sentence: str):
    answer = await (await chats.send(MODEL, word)).answer()
    assert error(answer).startswith(sentence)
    assert KEY not in str(answer)


async def test_what_came_before_the_connection_broke_stays(chats: ChatSocket):
    answer = await (await chats.send(MODEL, "CUTOFF")).answer()
    assert answer["content"].startswith("word0 word1")
    assert error(answer).startswith("The answer of Claude broke off")


async def test_stop_ends_the_answer(chats: ChatSocket, wire: Wire):
    await stop_slow_answer(chats, MODEL)
    await eventually(lambda: wire.hung_up, "the end of the request")
    seen("anthropic", PROGRAM, "cancel")


async def test_the_models_are_listed(
    suite_installed: WebUI,
    scripted_upstream: ScriptedUpstream,
    set_claude: Callable[..., None],
):
    # Without the wire, which stands still while this test waits for an answer.
    set_claude(discover=True, url=f"{scripted_upstream.url}/v1")

    await eventually(
        lambda: f"{MODEL}.gpt-4o" in listed_models(suite_installed), "the models"
    )
    seen("anthropic", PROGRAM, "discovery")
