"""An Orchestrator where Open WebUI runs as two processes on Redis and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from devkit.chat_socket import Turn
from devkit.webui import sign_in
from tests.e2e.orchestrator.calls import chat, results
from tests.e2e.orchestrator.conftest import Stage
from tests.e2e.orchestrator.upstream import Script
from tests.e2e.workers.servers import ADMIN

HELD = chat("wait", model="slow", background=True)


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(workers, upstream) -> AsyncIterator[tuple[Stage, Stage]]:
    """A tab at each worker; the models have forgotten earlier tests."""
    upstream.reset()
    token = workers.user.token
    async with (
        Stage.connect(workers.one, token) as one,
        Stage.connect(workers.other, token) as other,
    ):
        yield one, other
    upstream.reset()


async def begun(one: Stage, upstream) -> tuple[Turn, str]:
    """A chat in the background at the first worker, whose Orchestrator is done."""
    upstream.scripts["begin"] = Script([[HELD]])
    turn = await one.say("begin")
    [told] = results(await turn.answer())
    return turn, told["chat_id"]


async def test_a_chat_is_collected_by_the_other_worker(tabs, upstream):
    one, other = tabs
    turn, chat_id = await begun(one, upstream)
    collect = ("collect", {"chat_ids": [chat_id]})
    upstream.scripts["collect"] = Script([[collect]])
    collecting = await other.say("collect", after=turn)
    await other.until(lambda: said(collecting, "0 of 1 chats have an answer"))
    upstream.let_go.set()
    [told] = results(await collecting.answer())
    assert told["chats"][0]["answer"] == "One momentSlow says: wait"


async def test_stop_at_the_other_worker_ends_what_is_collected(tabs, upstream):
    one, other = tabs
    turn, chat_id = await begun(one, upstream)
    upstream.scripts["collect"] = Script([[("collect", {"chat_ids": [chat_id]})]])
    collecting = await other.say("collect", after=turn)
    await other.until(lambda: said(collecting, "0 of 1 chats have an answer"))
    await other.stop(turn.chat_id)
    await one.until(lambda: at_rest(one, turn.chat_id, chat_id))
    assert "says" not in str(await one.messages(chat_id))


async def test_stop_through_the_other_worker_ends_everything_below(tabs, upstream):
    one, other = tabs
    upstream.scripts["below"] = Script([[HELD, chat("wait", model="slow")]])
    upstream.scripts["go"] = Script([[chat("below", model="deputy")]])
    turn = await one.say("go")
    await one.until(lambda: at_work(upstream, 2))
    await other.stop(turn.chat_id)
    [child] = await one.child_chats(turn.chat_id)
    below = [each["id"] for each in await one.child_chats(child["id"])]
    await one.until(lambda: at_rest(one, turn.chat_id, child["id"], *below))
    assert len(below) == 2


async def test_limits_are_counted_in_postgresql_too(tabs, upstream):
    one, _ = tabs
    upstream.scripts["go"] = Script([[chat(f"{number}") for number in range(13)]])
    told = results(await (await one.say("go")).answer())
    assert [each.get("answer") for each in told[:12]] == [
        f"Luna says: {number}" for number in range(12)
    ]
    assert "12 chats are the limit" in told[12]["error"]
    upstream.scripts["find"] = Script([[("find_chats", {"title": "LUNA: 1"})]])
    [found] = results(await (await one.say("find")).answer())
    assert {each["title"] for each in found["chats"]} == {
        "Luna: 1",
        "Luna: 10",
        "Luna: 11",
    }


async def at_rest(tab: Stage, *chat_ids: str) -> bool:
    """Whether nothing runs in these chats, at any worker."""
    return not [task for chat_id in chat_ids for task in await tab.tasks(chat_id)]


async def at_work(upstream, count: int) -> bool:
    return len(upstream.heard("slow")) == count


async def said(turn: Turn, status: str) -> bool:
    stored = await turn.stored()
    return any(
        each["description"] == status for each in stored.get("statusHistory") or []
    )


async def test_tags_that_both_workers_save_at_once_are_both_kept(workers, upstream):
    upstream.reset()
    admin = sign_in(workers.one, *ADMIN)
    async with (
        Stage.connect(workers.one, admin.token) as one,
        Stage.connect(workers.other, admin.token) as other,
    ):
        agreeing = asyncio.Barrier(2)
        turns = []
        for number, tab in enumerate((one, other)):
            tab.agree_with = agreeing
            call = ("add_capability_tag", {"model": "mira", "capability": f"n{number}"})
            upstream.scripts[f"add {number}"] = Script([[call]])
            turns.append(await tab.say(f"add {number}"))
        for turn in turns:
            [told] = results(await turn.answer())
            assert told["changed"]
    with admin.client(workers.one) as client:
        found = client.get("/api/v1/models/model?id=mira").raise_for_status().json()
    tags = {tag["name"] for tag in found["meta"]["tags"]}
    assert {"cap:n0", "cap:n1", "cap:fact-checker", "rel:reviews:sol"} <= tags
