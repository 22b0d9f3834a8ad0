"""Graphs on a LangGraph server, with a scripted model behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.agents.answers import cards, error, eventually, items
from tests.e2e.backends.programs import ScriptedUpstream
from tests.e2e.backends.script import HELLO, TOOL_ANSWER, TOOL_INTRODUCTION
from tests.e2e.backends.seen import seen
from tests.e2e.backends.usual import (
    PICTURE,
    check_branches,
    listed_models,
    show_picture,
    stop_slow_answer,
)
from tests.e2e.continue_with.presses import (
    PATIENCE,
    Fill,
    Tab,
    answering,
    cancel,
)
from tests.webui import WebUI

GRAPH = "agents.graph"
CAREFUL = "agents.careful"
PROGRAM = "LangGraph server"


@pytest.fixture(autouse=True)
def entries(
    langgraph_server: str,
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
    suite_installed: WebUI,
) -> None:
    """The two graphs, and all that the server has."""
    server = {"backend": "langgraph", "url": langgraph_server}
    agents = [
        {"id": "graph", "name": "Graph", "model": "agent", **server},
        {"id": "careful", "name": "Careful", "model": "careful", **server},
        {"id": "all", "name": "All", "discover": True, **server},
    ]
    set_agents(json.dumps(agents))
    listed_models(suite_installed)


async def test_text_and_tokens(tab: Tab):
    answer = await (await tab.send(GRAPH, "Good morning")).answer()
    assert answer["content"] == HELLO
    assert answer["usage"]["output_tokens"] > 0
    seen("langgraph", PROGRAM, "text")
    seen("langgraph", PROGRAM, "usage")


async def test_a_graphs_own_tool_has_its_card(tab: Tab):
    answer = await (await tab.send(GRAPH, "TOOL_WEATHER")).answer()
    assert cards(answer) == [("get_weather", "21 degrees in Bern", "completed")]
    said = [item["content"][0]["text"] for item in items(answer, "message")]
    assert said == [TOOL_INTRODUCTION, TOOL_ANSWER]
    seen("langgraph", PROGRAM, "tool cards")


@pytest.mark.parametrize(
    ("fill", "status", "result"),
    [
        (answering(allow="once"), "completed", "21 degrees in Bern"),
        (cancel, "failed", "The user did not allow this."),
    ],
)
async def test_a_graph_asks_before_it_uses_its_tool(
    tab: Tab, fill: Fill, status: str, result: str
):
    tab.fill = fill
    answer = await (await tab.send(CAREFUL, "TOOL_WEATHER")).answer()
    assert '"city": "Bern"' in tab.forms[0]["message"]
    [(name, output, ended)] = cards(answer)
    assert (name, ended) == ("get_weather", status)
    assert result in output
    assert answer["content"].endswith(TOOL_ANSWER)
    seen("langgraph", PROGRAM, "approvals")


async def test_a_graph_asks_a_question(tab: Tab):
    tab.fill = answering(answer="Bern")
    answer = await (await tab.send(GRAPH, "ASK_CITY")).answer()
    assert tab.forms[0]["message"] == "Which city?"
    assert answer["content"] == "You chose Bern."


async def test_a_question_may_be_answered_in_the_next_message(tab: Tab):
    asked = await tab.send(GRAPH, "ASK_CITY")
    assert (await asked.answer())["content"] == "Which city?"
    answer = await (await tab.send(GRAPH, "Rome", after=asked)).answer()
    assert answer["content"] == "You chose Rome."

    # The question is answered now: another branch is a conversation of its own.
    other = await (await tab.send(GRAPH, "Paris", after=asked)).answer()
    assert other["content"] == HELLO


async def test_each_branch_of_a_chat_has_its_own_past_in_one_thread(
    tab: Tab, scripted_upstream: ScriptedUpstream, langgraph_server: str
):
    row = ("langgraph", PROGRAM)
    asked_last = scripted_upstream.asked_last
    first, second, other = await check_branches(tab, GRAPH, row, asked_last)
    back = await tab.send(GRAPH, "The third is fig.", after=second)
    assert (await back.answer())["content"] == HELLO
    asked = asked_last()
    assert asked.count("plum") == asked.count("pear") == asked.count("fig") == 1
    assert "quince" not in asked
    threads = {
        item["data"]["thread_id"]
        for turn in (first, second, other, back)
        for item in items(await turn.stored(), "x_aqueduct:state")
    }
    assert len(threads) == 1


async def test_a_picture_reaches_the_model(
    tab: Tab, scripted_upstream: ScriptedUpstream
):
    assert (await show_picture(tab, GRAPH))["content"] == HELLO
    assert f"data:image/png;base64,{PICTURE}" in scripted_upstream.asked_last()
    seen("langgraph", PROGRAM, "files in")


async def test_an_error_is_told(tab: Tab):
    answer = await (await tab.send(GRAPH, "ERR401")).answer()
    assert error(answer).startswith("Graph reported an error.")


async def test_stop_ends_the_run_and_the_thread_goes_on(
    tab: Tab, langgraph_server: str, scripted_upstream: ScriptedUpstream
):
    turn, answer = await stop_slow_answer(tab, GRAPH)
    [state] = [item["data"] for item in items(answer, "x_aqueduct:state")]
    run = f"/threads/{state['thread_id']}/runs/{state['run_id']}"

    def status() -> str:
        found = httpx.get(langgraph_server + run, trust_env=False).json()
        return str(found["status"])

    await eventually(lambda: status() == "interrupted", "the end of the run")
    seen("langgraph", PROGRAM, "cancel")

    again = await (await tab.send(GRAPH, "And now?", after=turn)).answer()
    assert again["content"] == HELLO
    assert "SLOWLY" in scripted_upstream.asked_last()
    states = [item["data"] for item in items(again, "x_aqueduct:state")]
    assert states[-1]["thread_id"] == state["thread_id"]


async def test_stop_at_a_request_for_permission_leaves_no_open_call(
    tab: Tab, scripted_upstream: ScriptedUpstream
):
    asked, released = asyncio.Event(), asyncio.Event()

    async def wait(_: dict[str, Any]) -> None:
        asked.set()
        await released.wait()

    tab.fill = wait
    turn = await tab.send(CAREFUL, "TOOL_WEATHER")
    async with asyncio.timeout(PATIENCE):
        await asked.wait()
    await turn.stop()
    await turn.answer()
    released.set()
    again = await (await tab.send(CAREFUL, "Good morning", after=turn)).answer()
    assert again["content"] == HELLO
    messages = scripted_upstream.journal()[-1]["body"]["messages"]
    assert "tool_calls" not in str(messages)
    assert "TOOL_WEATHER" in str(messages)


async def test_the_servers_graphs_are_models(suite_installed: WebUI):
    names = listed_models(suite_installed)
    assert names["agents.all.agent"] == "All: agent"
    assert names["agents.all.careful"] == "All: careful"
    seen("langgraph", PROGRAM, "discovery")


@pytest.fixture
def many_graphs(langgraph_server: str) -> Iterator[list[str]]:
    """The ids of more assistants than the server lists at once."""
    with httpx.Client(base_url=langgraph_server, trust_env=False) as server:
        made = []
        for number in range(105):
            assistant = {"graph_id": "agent", "name": f"No. {number}"}
            answer = server.post("/assistants", json=assistant).raise_for_status()
            made.append(answer.json()["assistant_id"])
        yield made
        for assistant_id in made:
            server.delete(f"/assistants/{assistant_id}").raise_for_status()


async def test_graphs_are_listed_beyond_the_first_hundred(
    langgraph_server: str,
    many_graphs: list[str],
    suite_installed: WebUI,
    set_agents: Callable[[str], None],
):
    agent = {"id": "more", "backend": "langgraph", "url": langgraph_server}
    set_agents(json.dumps([agent | {"discover": True}]))
    expected = {f"agents.more.{assistant_id}" for assistant_id in many_graphs}
    await eventually(
        lambda: expected <= listed_models(suite_installed).keys(), "the graphs"
    )
