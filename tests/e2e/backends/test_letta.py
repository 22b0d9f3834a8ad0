"""A Letta agent, with a scripted model behind it.

Its server is large, so that it is installed on request only: see
requirements/programs/letta.txt.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from shared.backends import letta as letta_backend
from shared.backends.http import Endpoint, new_http_client
from shared.backends.letta import LettaBackend
from tests.e2e.agents.answers import cards, error, eventually, thoughts
from tests.e2e.agents.scene import TOOL_ID, create_tool
from tests.e2e.backends.letta_server import LettaServer, letta, make_agent
from tests.e2e.backends.programs import ScriptedUpstream
from tests.e2e.backends.script import AFTER_THOUGHT, HELLO, THOUGHT, TOOL_ANSWER
from tests.e2e.backends.seen import seen
from tests.e2e.backends.usual import (
    PICTURE,
    allowed_and_declined,
    check_asks_before_deleting,
    check_branches,
    listed_models,
    show_picture,
    stop_slow_answer,
)
from tests.e2e.continue_with.presses import Fill, Tab
from tests.webui import WebUI

MODEL = "agents.keeper"
PROGRAM = "Letta"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: ScriptedUpstream
) -> Any:
    with letta(tmp_path_factory.mktemp("letta"), upstream_server) as server:
        yield server


@pytest.fixture(autouse=True)
def entry(
    server: LettaServer,
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
) -> dict[str, Any]:
    """The agent, as the only one there is."""
    entry = {
        "id": "keeper",
        "name": "Keeper",
        "backend": "letta",
        "url": server.url,
        "model": server.agent_id,
    }
    set_agents(json.dumps([entry]))
    return entry


def conversations(answer: dict[str, Any]) -> list[str]:
    """The conversation that an answer has kept."""
    found = (item.get("data") or {} for item in answer.get("output") or ())
    return [d["conversation_id"] for d in found if "conversation_id" in d]


async def test_text_and_tokens(tab: Tab):
    answer = await (await tab.send(MODEL, "Good morning")).answer()
    assert answer["content"] == HELLO
    assert answer["usage"]["completion_tokens"] > 0
    seen("letta", PROGRAM, "text")
    seen("letta", PROGRAM, "usage")


async def test_thoughts_stand_apart(tab: Tab):
    answer = await (await tab.send(MODEL, "THINK")).answer()
    assert thoughts(answer) == THOUGHT
    assert answer["content"] == AFTER_THOUGHT
    seen("letta", PROGRAM, "thoughts")


async def test_the_agents_own_tool_has_its_card(tab: Tab):
    answer = await (await tab.send(MODEL, "TOOL_LETTA")).answer()
    [(name, output, status)] = cards(answer)
    assert (name, status) == ("conversation_search", "completed")
    assert "No results found" in output
    assert answer["content"].endswith(TOOL_ANSWER)
    seen("letta", PROGRAM, "tool cards")


async def test_open_webuis_tools_are_run(tab: Tab, suite_installed: WebUI):
    with suite_installed.client() as admin:
        create_tool(admin)
    turn = await tab.send(MODEL, "TOOL_WEATHER", tool_ids=[TOOL_ID])
    answer = await turn.answer()
    result = "It is 21 degrees and sunny in Bern."
    assert cards(answer) == [("get_weather", result, "completed")]
    assert answer["content"].endswith(TOOL_ANSWER)


@allowed_and_declined
async def test_the_agent_asks_before_it_deletes(tab: Tab, fill: Fill, result: str):
    await check_asks_before_deleting(tab, MODEL, ("letta", PROGRAM), fill, result)


async def test_a_chat_is_a_conversation_and_a_fork_another(
    tab: Tab, scripted_upstream: ScriptedUpstream
):
    asked = scripted_upstream.asked_last
    turns = await check_branches(tab, MODEL, ("letta", PROGRAM), asked)
    begun, kept, forked = [conversations(await turn.stored()) for turn in turns]
    assert kept == begun != []
    assert forked != kept


async def test_a_picture_reaches_the_model(
    tab: Tab, scripted_upstream: ScriptedUpstream
):
    assert (await show_picture(tab, MODEL))["content"] == HELLO
    assert PICTURE in scripted_upstream.asked_last()
    seen("letta", PROGRAM, "files in")


async def test_an_error_is_told(tab: Tab):
    answer = await (await tab.send(MODEL, "ERR401")).answer()
    assert error(answer).startswith("Keeper reported an error.")
    assert "Invalid API key (scripted)" in error(answer)


async def test_stop_cancels_the_run(tab: Tab, server: LettaServer):
    turn, _ = await stop_slow_answer(tab, MODEL)
    await eventually(lambda: server.runs()[0] == "cancelled", "the end of the run")
    again = await tab.send(MODEL, "hello", after=turn)
    assert (await again.answer())["content"] == HELLO
    seen("letta", PROGRAM, "cancel")


async def test_the_agents_are_listed(
    suite_installed: WebUI,
    server: LettaServer,
    entry: dict[str, Any],
    set_agents: Callable[[str], None],
):
    set_agents(json.dumps([entry | {"discover": True}]))

    await eventually(
        lambda: "Keeper: Keeper" in listed_models(suite_installed).values(), "the agent"
    )
    seen("letta", PROGRAM, "discovery")


async def test_the_list_is_read_page_by_page(
    server: LettaServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(letta_backend, "ENTRIES_A_PAGE", 2)
    agents = {server.agent_id, *(make_agent(server.url) for _ in range(4))}
    async with new_http_client() as client:
        backend = LettaBackend(client, Endpoint("Keeper", server.url), "")
        found = [model.id for model in await backend.discover()]
    assert sorted(found) == sorted(agents)
