"""Recall and forgetting in a real server, over its socket."""

from __future__ import annotations

import pytest

from tests.e2e.memory_scene import (
    MODEL,
    citations,
    embedded,
    eventually,
    memory_on,
    stored,
    told,
)

TOLD = "My cat is called Ophelia and she is afraid of the vacuum cleaner."
ASKED = "What is the name of my cat?"


async def remembered(server, account, text=TOLD):
    """Say something in a new chat; gives the turn once it is stored and embedded."""
    async with server.chats(account) as chats:
        turn = await chats.send(MODEL, text)
        await turn.answer()
    await eventually(lambda: embedded(server, turn.chat_id), "storing")
    return turn


async def asked(server, account, text=ASKED, **more):
    """Ask in a new chat; gives the answer as stored."""
    server.demo.reset()
    async with server.chats(account) as chats:
        turn = await chats.send(MODEL, text, **more)
        return turn, await turn.answer()


@pytest.fixture(autouse=True, scope="module")
def memory(suite_installed):
    with memory_on(suite_installed):
        yield


@pytest.fixture
def ada(suite_installed):
    return suite_installed.create_user("Ada")


@pytest.fixture
def bob(suite_installed):
    return suite_installed.create_user("Bob")


async def test_an_exchange_of_another_chat_is_told_and_cited(suite_installed, ada):
    first = await remembered(suite_installed, ada)
    turn, answer = await asked(suite_installed, ada)
    text = told(suite_installed)
    assert "Ophelia" in text
    assert text.endswith(ASKED)
    assert "Recalled 1 earlier exchange" in str(answer["statusHistory"])
    [source] = citations(answer)
    assert f"/c/{first.chat_id}#" in source["source"]["url"]
    # The notes are nowhere in what is stored of the second chat.
    await eventually(lambda: stored(suite_installed, turn.chat_id))
    assert stored(suite_installed, turn.chat_id)[0][0] == ASKED


async def test_nobody_recalls_what_another_person_said(suite_installed, ada, bob):
    await remembered(suite_installed, ada)
    _, answer = await asked(suite_installed, bob)
    assert told(suite_installed) == ASKED
    assert not citations(answer)


async def test_a_question_about_something_else_recalls_nothing(suite_installed, ada):
    await remembered(suite_installed, ada)
    await asked(suite_installed, ada, "How do I change a bicycle tyre?")
    assert told(suite_installed) == "How do I change a bicycle tyre?"


async def test_a_deleted_chat_is_unfindable_at_once(suite_installed, ada):
    first = await remembered(suite_installed, ada)
    with suite_installed.client(ada) as client:
        assert client.delete(f"/api/v1/chats/{first.chat_id}").is_success
    await asked(suite_installed, ada)
    assert told(suite_installed) == ASKED
    await eventually(lambda: not stored(suite_installed, first.chat_id))


async def test_a_deleted_message_is_forgotten(suite_installed, ada):
    first = await remembered(suite_installed, ada)
    with suite_installed.client(ada) as client:
        path = f"/api/v1/chats/{first.chat_id}/messages/{first.answer_id}"
        assert client.delete(path).is_success
    await eventually(lambda: not stored(suite_installed, first.chat_id))


async def test_deleting_all_chats_forgets_all(suite_installed, ada):
    first = await remembered(suite_installed, ada)
    with suite_installed.client(ada) as client:
        assert client.delete("/api/v1/chats/").is_success
    await eventually(lambda: not stored(suite_installed, first.chat_id))


async def test_deleting_a_folder_forgets_its_chats(suite_installed, ada):
    first = await remembered(suite_installed, ada)
    with suite_installed.client(ada) as client:
        folder = client.post("/api/v1/folders/", json={"name": "Pets"}).json()
        path = f"/api/v1/chats/{first.chat_id}/folder"
        assert client.post(path, json={"folder_id": folder["id"]}).is_success
        path = f"/api/v1/folders/{folder['id']}?delete_contents=true"
        assert client.delete(path).is_success
    await eventually(lambda: not stored(suite_installed, first.chat_id))


async def test_a_deleted_person_is_forgotten(suite_installed, ada):
    first = await remembered(suite_installed, ada)
    with suite_installed.client() as admin:
        assert admin.delete(f"/api/v1/users/{ada.id}").is_success
    await eventually(lambda: not stored(suite_installed, first.chat_id))


async def test_an_edited_answer_is_stored_anew(suite_installed, ada):
    first = await remembered(suite_installed, ada)
    with suite_installed.client(ada) as client:
        path = f"/api/v1/chats/{first.chat_id}/messages/{first.answer_id}"
        changed = {"content": "Ophelia it is, and she likes fish."}
        assert client.post(path, json=changed).is_success
    await eventually(
        lambda: "likes fish" in str(stored(suite_installed, first.chat_id))
    )
    assert len(stored(suite_installed, first.chat_id)) == 1


async def test_an_edit_that_is_only_saved_is_stored_anew(suite_installed, ada):
    """The interface then sends the whole chat."""
    first = await remembered(suite_installed, ada)
    with suite_installed.client(ada) as client:
        path = f"/api/v1/chats/{first.chat_id}"
        history = client.get(path).json()["chat"]["history"]
        [question] = [m for m in history["messages"].values() if m["role"] == "user"]
        question["content"] = "My cat is called Hamlet."
        form = {"chat": {"history": history}}
        client.post(path, json=form).raise_for_status()
    await eventually(
        lambda: (
            [row[0] for row in stored(suite_installed, first.chat_id)]
            == ["My cat is called Hamlet."]
        )
    )


async def test_a_question_worded_anew_replaces_the_old_one(suite_installed, ada):
    first = await remembered(suite_installed, ada)
    async with suite_installed.chats(ada) as chats:
        anew = "My cat is called Hamlet."
        turn = await chats.send(MODEL, anew, chat_id=first.chat_id)
        await turn.answer()
    await eventually(
        lambda: [row[0] for row in stored(suite_installed, first.chat_id)] == [anew]
    )


async def test_while_paused_nothing_is_stored_or_recalled(suite_installed, ada):
    await remembered(suite_installed, ada)
    paused, _ = await asked(suite_installed, ada, filter_ids=["memory_pause"])
    assert told(suite_installed) == ASKED
    later = await remembered(suite_installed, ada, "I moved to Lisbon in March.")
    assert stored(suite_installed, later.chat_id)
    assert not stored(suite_installed, paused.chat_id)


async def test_a_paused_turn_stays_out_when_the_chat_goes_on(suite_installed, ada):
    server = suite_installed
    async with server.chats(ada) as chats:
        paused = await chats.send(MODEL, TOLD, filter_ids=["memory_pause"])
        await paused.answer()
        later = await chats.send(MODEL, "I like rain.", after=paused)
        await later.answer()
    await eventually(lambda: stored(server, later.chat_id))
    assert [row[0] for row in stored(server, later.chat_id)] == ["I like rain."]
