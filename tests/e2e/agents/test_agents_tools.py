"""Who runs the tools of a chat, and what becomes of calls that nobody can run."""

from __future__ import annotations

import asyncio
import json

import pytest

from devkit.chat_socket import ChatSocket
from devkit.demo_agent import DemoAgent
from tests.e2e.agents.answers import cards, error, eventually, items, outcome, thoughts
from tests.e2e.agents.scene import MODES, POLICIES, TOOL_ID

SUNNY = "It is 21 degrees and sunny in Paris."
RUNNING_MODES = ("native", "execute", "passthrough")

# The calls that Open WebUI is left to refuse, and the ones that we refuse ourselves.
HOST_REFUSES = [
    (mode, policy)
    for mode in RUNNING_MODES
    for policy in POLICIES
    if policy == "passthrough" or (mode, policy) == ("passthrough", "error")
]
WE_REFUSE = [("native", "error"), ("execute", "error")]
HIDDEN = [
    (mode, policy)
    for mode in MODES
    for policy in POLICIES
    if mode == "suppress" or policy == "ignore"
]


@pytest.mark.parametrize("mode", RUNNING_MODES)
async def test_a_tool_of_the_chat_runs_and_has_a_card(
    chats: ChatSocket, demo: DemoAgent, mode: str
):
    turn = await chats.send(
        f"agents.{mode}-error", "use get_weather in Paris", tool_ids=[TOOL_ID]
    )
    answer = await turn.answer()
    assert cards(answer) == [("get_weather", SUNNY, "completed")]
    assert answer["content"].endswith(f"> {SUNNY}")
    assert len(demo.requests()) == 2


@pytest.mark.parametrize("mode", RUNNING_MODES)
async def test_missing_arguments_go_back_to_the_agent(
    chats: ChatSocket, demo: DemoAgent, mode: str
):
    turn = await chats.send(
        f"agents.{mode}-error",
        "use get_weather without arguments in Paris",
        tool_ids=[TOOL_ID],
    )
    answer = await turn.answer()
    [(_, refused, how), (_, found, _)] = cards(answer)
    assert (how, found) == ("failed", SUNNY)
    assert "city" in json.loads(refused)["error" if mode != "execute" else "missing"]
    if mode == "execute":
        help_ = json.loads(refused)
        assert help_["example"] == {"city": "text"}
        assert help_["schema"]["required"] == ["city"]


async def test_suppressed_tools_are_not_offered(chats: ChatSocket, demo: DemoAgent):
    turn = await chats.send(
        "agents.suppress-error", "use get_weather in Paris", tool_ids=[TOOL_ID]
    )
    answer = await turn.answer()
    assert "No tools were offered" in answer["content"]
    assert "tools" not in demo.requests()[0]["body"]
    assert items(answer, "function_call") == []


@pytest.mark.parametrize(("mode", "policy"), WE_REFUSE)
async def test_the_agent_is_told_that_there_is_no_such_tool(
    chats: ChatSocket, demo: DemoAgent, mode: str, policy: str
):
    turn = await chats.send(
        f"agents.{mode}-{policy}", "use the unknown tool frobnicate", tool_ids=[TOOL_ID]
    )
    answer = await turn.answer()
    [(name, result, how)] = cards(answer)
    assert (name, how) == ("frobnicate", "failed")
    assert json.loads(result)["error"] == "There is no tool `frobnicate`."
    assert "get_weather" in json.loads(result)["tools"]
    assert "**frobnicate** answered" in answer["content"]
    assert len(demo.requests()) == 2


@pytest.mark.parametrize(("mode", "policy"), HOST_REFUSES)
async def test_open_webui_is_left_to_refuse_a_tool(
    chats: ChatSocket, demo: DemoAgent, mode: str, policy: str
):
    turn = await chats.send(
        f"agents.{mode}-{policy}", "use the unknown tool frobnicate", tool_ids=[TOOL_ID]
    )
    waiting = asyncio.create_task(turn.answer())
    await eventually(lambda: waiting.done() or len(demo.requests()) > 2)
    if not waiting.done():
        await turn.stop()
    answer = await waiting
    assert (
        len(demo.requests()) == 2
    ), "the agent never learns that there is no such tool"
    [(name, result, how)] = cards(answer)
    assert (name, how) == ("frobnicate", "failed")
    assert "not found" in result


@pytest.mark.parametrize(("mode", "policy"), HIDDEN)
async def test_a_call_that_is_ignored_leaves_a_sentence_instead_of_a_card(
    chats: ChatSocket, demo: DemoAgent, mode: str, policy: str
):
    agent = f"{mode}-{policy}"
    turn = await chats.send(
        f"agents.{agent}", "use the unknown tool frobnicate", tool_ids=[TOOL_ID]
    )
    answer = await turn.answer()
    assert error(answer) == (
        f"{agent} wanted to use “frobnicate”, which it may not use here."
    )
    assert "frobnicate" in thoughts(answer)
    assert items(answer, "function_call") == []
    assert len(demo.requests()) == 1


async def test_a_leaked_call_runs_like_any_other(chats: ChatSocket, demo: DemoAgent):
    turn = await chats.send(
        "agents.leaking", "use get_weather in Paris as hermes", tool_ids=[TOOL_ID]
    )
    answer = await turn.answer()
    assert cards(answer) == [("get_weather", SUNNY, "completed")]
    assert "<tool_call>" not in answer["content"]
    assert answer["content"].endswith(f"> {SUNNY}")


@pytest.mark.parametrize("agent", ["demo", "responses"])
async def test_what_the_agent_ran_itself_is_not_sent_back_to_it(
    chats: ChatSocket, demo: DemoAgent, agent: str
):
    first = await chats.send(f"agents.{agent}", "What is 17 × (23 + 4)?")
    assert cards(await first.answer()) == [("calculator", "459", "completed")]
    second = await chats.send(
        f"agents.{agent}", "What did I say first?", after=first, tool_ids=[TOOL_ID]
    )
    assert "17 × (23 + 4)" in (await second.answer())["content"]
    assert await outcome(demo, 1) == "finished"
    body = json.dumps(demo.requests()[1]["body"], ensure_ascii=False)
    assert "459" in body
    assert '"calculator"' not in body
