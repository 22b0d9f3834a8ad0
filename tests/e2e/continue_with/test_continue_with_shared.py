"""The buttons in a chat that its owner shares for others to go on in.

Open WebUI runs actions for the owner of a chat only, and for admins who may see all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from httpx import HTTPStatusError

from devkit.chat_socket import Turn
from devkit.webui import Account
from tests.e2e.continue_with.presses import Tab, answering, open_tab
from tests.webui import WebUI


@pytest.fixture(scope="module")
def writer(place: WebUI) -> Account:
    """A user with whom others share their chats."""
    return place.create_user("Writer")


@pytest_asyncio.fixture(loop_scope="session")
async def guest(place: WebUI) -> AsyncIterator[Tab]:
    """A tab of an admin, with whom others share their chats too."""
    async with open_tab(place.url, place.admin_token) as tab:
        yield tab


@pytest_asyncio.fixture(loop_scope="session")
async def shared(tab: Tab, place: WebUI, user: Account, writer: Account) -> Turn:
    """A question and its answer, in a chat of the user that others may go on in."""
    turn = await tab.send("agents.demo", "What is 6 * 7?")
    await turn.answer()
    with place.client() as admin:
        admin_id = admin.get("/api/v1/auths/").raise_for_status().json()["id"]
    grants = [
        {"principal_type": "user", "principal_id": person, "permission": "read"}
        for person in (writer.id, admin_id)
    ]
    with place.client(user) as owner:
        path = f"/api/v1/chats/{turn.chat_id}/share"
        owner.post(path, json={"share_mode": "continue"}).raise_for_status()
        path = f"/api/v1/chats/shared/{turn.chat_id}/access/update"
        form = {"access_grants": grants, "share_mode": "continue"}
        owner.post(path, json=form).raise_for_status()
    return turn


async def test_a_user_who_may_go_on_in_a_chat_is_given_no_actions(
    tab, place, writer, shared
):
    async with open_tab(place.url, writer.token) as other:
        turn = await other.send("agents.third", "What is 2 + 2?", after=shared)
        await turn.answer()
        with pytest.raises(HTTPStatusError, match="404"):
            await other.press("continue", turn)
    # The owner cannot give another one's question columns.
    await tab.press("compare", turn)
    assert "Somebody else asked this question" in await tab.notice()
    assert len(await tab.messages(shared.chat_id)) == 4


async def test_who_may_go_on_in_a_chat_may_continue_it_with_a_model(tab, guest, shared):
    guest.fill = answering(model="agents.third", text="What is 2 + 3?")
    await guest.press("continue", shared)
    messages = await tab.settled(shared.chat_id, 4)
    [said] = [m for m in messages.values() if m["parentId"] == shared.answer_id]
    assert said["content"].endswith("What is 2 + 3?")
    [answer] = [m for m in messages.values() if m["parentId"] == said["id"]]
    assert "5" in answer["content"]
    assert (await tab.chat(shared.chat_id))["chat"]["models"] == ["agents.demo"]


async def test_a_question_of_somebody_else_gets_an_opinion_but_no_columns(
    tab, guest, shared
):
    guest.fill = answering(model_1="agents.third", model_2="agents.leaky")
    await guest.press("compare", shared)
    assert "Somebody else asked this question" in await guest.notice()
    assert not guest.forms
    assert len(await tab.messages(shared.chat_id)) == 2
    guest.fill = answering(model="agents.third")
    await guest.press("opinion", shared)
    messages = await tab.settled(shared.chat_id, 3)
    question = messages[messages[shared.answer_id]["parentId"]]
    assert question["models"] == ["agents.demo"]
    [_, opinion] = question["childrenIds"]
    assert "42" in messages[opinion]["content"]


@pytest.mark.parametrize("button", ["continue", "opinion", "talk", "new_chat"])
async def test_who_loses_the_right_while_choosing_changes_nothing(
    tab, guest, place, user, shared, button
):
    chosen = answering(model="agents.third", seed="as_is", turns=2)
    before = await tab.messages(shared.chat_id)

    async def fill(schema):
        with place.client(user) as owner:
            path = f"/api/v1/chats/{shared.chat_id}/share"
            owner.delete(path).raise_for_status()
        return await chosen(schema)

    guest.fill = fill
    await guest.press(button, shared)
    assert "but not write to it" in await guest.notice()
    assert await tab.messages(shared.chat_id) == before
    assert await guest.tasks(shared.chat_id) == []
    assert not [script for script in guest.scripts if "/c/" in script]
