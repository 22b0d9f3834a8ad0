"""The buttons where Open WebUI runs as several processes on Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.e2e.continue_with.presses import Tab, answering, open_tab
from tests.e2e.continue_with.test_continue_with_api import asked, said, statuses


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(workers, demo_agent) -> AsyncIterator[tuple[Tab, Tab]]:
    """A tab at each worker; the demo agent has forgotten earlier tests."""
    demo_agent.reset()
    token = workers.user.token
    async with (
        open_tab(workers.one, token) as one,
        open_tab(workers.other, token) as other,
    ):
        yield one, other


async def test_a_double_click_through_two_workers_makes_one_turn(tabs):
    one, other = tabs
    turn = await asked(one)
    chosen = asyncio.Event()

    async def fill(schema):
        await chosen.wait()
        return {"model": "agents.third", "text": ""}

    one.fill = fill
    # A balancer sends each click elsewhere; the tab's socket stays where it is.
    await asyncio.gather(
        one.press("continue", turn), other.press("continue", turn, session_id=one.sid)
    )
    assert "This chat is busy" in await one.notice()
    chosen.set()
    assert len(await one.settled(turn.chat_id, 4)) == 4
    assert len(one.forms) == 1


async def test_a_tab_is_asked_through_the_other_worker(tabs):
    one, other = tabs
    turn = await asked(one)
    one.fill = answering(model="agents.third", text="What is 2 + 3?")
    await other.press("continue", turn, session_id=one.sid)
    messages = await one.settled(turn.chat_id, 4)
    assert "5" in list(messages.values())[-1]["content"]


async def test_stop_through_the_other_worker_ends_the_whole_talk(tabs):
    one, other = tabs
    turn = await asked(one)
    one.fill = answering(model="agents.slow", turns=6)
    await one.press("talk", turn)
    await one.until(lambda: said(one, turn, "Turn 1 of 6"))
    await other.stop(turn.chat_id)
    await one.until(lambda: said(one, turn, "Stopped at turn 1 of 6"))
    assert len(await one.settled(turn.chat_id, 4, stopped=True)) == 4


async def test_a_message_through_the_other_worker_ends_the_talk(tabs):
    one, other = tabs
    turn = await asked(one)
    one.fill = answering(model="agents.third", turns=6, goal="/slow 600")
    await one.press("talk", turn)
    await one.until(lambda: said(one, turn, "Turn 1 of 6"))
    typed = await other.send("agents.demo", "What is 2 + 2?", after=turn)
    ending = "Ended at turn 1 of 6: the chat went on elsewhere"
    await one.until(lambda: said(one, turn, ending))
    messages = await one.settled(turn.chat_id, 6, stopped=True)
    assert len(messages) == 6
    assert "4" in messages[typed.answer_id]["content"]
    assert not statuses(messages[typed.answer_id])
