"""Models that Open WebUI itself lets work: as sub-agents, and woken by their results."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.orchestrator.calls import chat, results, work
from tests.e2e.orchestrator.upstream import Call, Script


def delegate(task: str, *, background: bool = False) -> Call:
    given = {"task": task, "context": "", "background": background}
    return "delegate_task", given


@pytest.fixture
def sub_agents(stage) -> Iterator[None]:
    """Models may send sub-agents into the background."""
    path = "/api/v1/configs/subagents"
    with stage.client() as admin:
        before = admin.get(path).raise_for_status().json()
        changed = {"ENABLE_SUBAGENTS": True, "SUBAGENTS_BACKGROUND_ENABLED": True}
        admin.post(path, json=before | changed).raise_for_status()
        yield
        admin.post(path, json=before).raise_for_status()


async def test_a_sub_agent_asks_nobody(tab, upstream, sub_agents):
    upstream.scripts["inside"] = Script([[chat("hello")]])
    [[told]] = await work(tab, upstream, [delegate("inside")])
    assert "only in a stored chat" in told["error"]
    assert upstream.heard("luna") == []


async def test_who_is_woken_below_is_as_deep_as_before(
    tab, upstream, sub_agents, set_valves
):
    set_valves(MAX_DEPTH=1)
    upstream.scripts["below"] = Script([[delegate("side", background=True)]])
    upstream.scripts["Deep says: side"] = Script([[chat("deep down")]])
    [asked] = await work(tab, upstream, [chat("below", model="deputy")])
    messages = await tab.settled(asked["chat_id"], 4)
    [told] = results(list(messages.values())[-1])
    assert "1 deep" in told["error"]
    assert upstream.heard("luna") == []


async def test_who_is_woken_is_within_the_limits_of_before(
    tab, upstream, sub_agents, set_valves
):
    set_valves(MAX_TURNS=1)
    upstream.replies["conductor", "side"] = "woken"
    upstream.scripts["go"] = Script([[chat("one"), delegate("side", background=True)]])
    upstream.scripts["woken"] = Script([[chat("two")]])
    turn = await tab.say("go")
    messages = await tab.settled(turn.chat_id, 4)
    [told] = results(list(messages.values())[-1])
    assert "1 turns are the limit" in told["error"]
    assert json.dumps(upstream.heard("luna")).count("two") == 0
