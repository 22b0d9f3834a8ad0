"""What is to stay out of the memory stays out of copies of its chat as well."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.e2e.memory_scene import MODEL, eventually, memory_on, stored
from tests.e2e.test_memory_recall import TOLD

RAIN = "I like to ride through rain."
WIND = "And I do not mind the wind."


@pytest.fixture(autouse=True, scope="module")
def memory(suite_installed):
    with memory_on(suite_installed):
        yield


@pytest.fixture
def ada(suite_installed):
    return suite_installed.create_user("Ada")


@pytest.fixture
async def half_paused(suite_installed, ada):
    """The last turn of a chat whose first one was paused."""
    async with suite_installed.chats(ada) as chats:
        paused = await chats.send(MODEL, TOLD, filter_ids=["memory_pause"])
        await paused.answer()
        later = await chats.send(MODEL, RAIN, after=paused)
        await later.answer()
    await eventually(lambda: questions(suite_installed, later.chat_id))
    assert questions(suite_installed, later.chat_id) == [RAIN]
    return later


def questions(server, chat_id):
    return [row[0] for row in stored(server, chat_id)]


async def goes_on(server, account, turn, chat_id):
    """Say something more in a copy of the turn's chat."""
    async with server.chats(account) as chats:
        more = await chats.send(MODEL, WIND, after=replace(turn, chat_id=chat_id))
        await more.answer()


@pytest.mark.parametrize("how", ["clone", "fork"])
async def test_a_paused_turn_stays_out_of_a_copy(
    suite_installed, ada, half_paused, how
):
    server, here = suite_installed, half_paused.chat_id
    with server.client(ada) as client:
        response = client.post(f"/api/v1/chats/{here}/{how}", json={})
        copy = response.raise_for_status().json()["id"]
        # Not even when the chat it was said in is gone.
        client.delete(f"/api/v1/chats/{here}").raise_for_status()
    await goes_on(server, ada, half_paused, copy)
    await eventually(lambda: questions(server, copy))
    assert questions(server, copy) == [RAIN, WIND]


@pytest.mark.parametrize("what", ["that chat", "all chats"])
async def test_a_paused_turn_stays_out_when_its_chat_is_brought_back(
    suite_installed, ada, half_paused, what
):
    server, here = suite_installed, half_paused.chat_id
    with server.client(ada) as client:
        exported = client.get(f"/api/v1/chats/{here}").raise_for_status().json()
        gone = here if what == "that chat" else ""
        client.delete(f"/api/v1/chats/{gone}").raise_for_status()
        await eventually(lambda: not questions(server, here))
        form = {"chats": [{"chat": exported["chat"]}]}
        response = client.post("/api/v1/chats/import", json=form)
        [copy] = response.raise_for_status().json()
    await eventually(lambda: questions(server, copy["id"]))
    assert questions(server, copy["id"]) == [RAIN]
