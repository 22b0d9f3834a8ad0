"""What may be stored and told: switches, bars, temporary chats, the window."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from uuid import uuid4

import pytest

from devkit.webui import model_ids, set_valves
from tests.e2e.memory_scene import (
    FILTER,
    LONG_WAIT_MS,
    MODEL,
    citations,
    embedded,
    eventually,
    memory_on,
    rows,
    sent,
    stored,
    told,
)
from tests.e2e.test_memory_recall import ASKED, TOLD, asked, remembered


@pytest.fixture(autouse=True, scope="module")
def memory(suite_installed):
    with memory_on(suite_installed):
        yield


@pytest.fixture
def ada(suite_installed):
    return suite_installed.create_user("Ada")


DEFAULTS = {
    "keep_exchanges": 0,
    "barred_models": "",
    "bar_external_models": False,
    "max_wait_ms": LONG_WAIT_MS,
}


@contextmanager
def changed(server, **values):
    """Valves of the filter for a while; afterwards they are as they were."""
    with server.client() as admin:
        set_valves(admin, FILTER, **values)
        try:
            yield
        finally:
            set_valves(admin, FILTER, **DEFAULTS)


def set_own(server, account, **values):
    """What a person sets for themselves."""
    with server.client(account) as client:
        path = f"/api/v1/functions/id/{FILTER}/valves/user/update"
        assert client.post(path, json=values).is_success


async def test_a_temporary_chat_leaves_no_row(suite_installed, ada):
    before = rows(suite_installed, "SELECT count(*) FROM exchange")
    async with suite_installed.chats(ada) as chats:
        body = {"chat_id": f"temporary:{uuid4()}"}
        turn = await chats.send(MODEL, TOLD, messages=[user(TOLD)], **body)
        async for _ in turn.events():
            pass
    # What comes after it in the same queue is there, so it would be there too.
    await remembered(suite_installed, ada, "I moved to Lisbon in March.")
    sql = (
        "SELECT count(*) FROM exchange WHERE question LIKE '%Ophelia%' AND chat_id = ?"
    )
    assert rows(suite_installed, sql, turn.chat_id) == [(0,)]
    assert rows(suite_installed, "SELECT count(*) FROM exchange")[0][0] == (
        (before[0][0] if before else 0) + 1
    )


def user(text):
    return {"role": "user", "content": text}


async def test_who_does_not_want_to_be_remembered_is_not(suite_installed, ada):
    set_own(suite_installed, ada, remember=False)
    turn, _ = await asked(suite_installed, ada, TOLD)
    set_own(suite_installed, ada, remember=True)
    async with suite_installed.chats(ada) as chats:
        later = "I moved to Lisbon in March."
        await (await chats.send(MODEL, later, after=turn)).answer()
    await eventually(lambda: stored(suite_installed, turn.chat_id))
    assert [row[0] for row in stored(suite_installed, turn.chat_id)] == [later]


async def test_who_wants_no_recall_gets_none(suite_installed, ada):
    await remembered(suite_installed, ada)
    set_own(suite_installed, ada, recall=False)
    await asked(suite_installed, ada)
    assert told(suite_installed) == ASKED


async def test_other_chats_stay_out_when_a_person_says_so(suite_installed, ada):
    await remembered(suite_installed, ada)
    set_own(suite_installed, ada, other_chats=False)
    await asked(suite_installed, ada)
    assert told(suite_installed) == ASKED


async def test_a_barred_model_receives_no_notes(suite_installed, ada):
    await remembered(suite_installed, ada)
    with changed(suite_installed, barred_models="gpt-*, agents.dem*"):
        turn, _ = await asked(suite_installed, ada)
        assert told(suite_installed) == ASKED
    # Barred from hearing, not from being remembered.
    await eventually(lambda: stored(suite_installed, turn.chat_id))


async def test_a_workspace_model_is_barred_with_its_base(suite_installed, ada):
    await remembered(suite_installed, ada)
    with suite_installed.client() as admin:
        form = {
            "id": "pirate",
            "name": "Pirate",
            "base_model_id": MODEL,
            "meta": {},
            "params": {},
            "access_grants": [
                {
                    "principal_type": "user",
                    "principal_id": "*",
                    "permission": "read",
                }
            ],
        }
        assert admin.post("/api/v1/models/create", json=form).is_success
        # Open WebUI takes up new models when the list is asked for.
        assert "pirate" in model_ids(admin)
    server = suite_installed
    with changed(server, barred_models=MODEL):
        server.demo.reset()
        async with server.chats(ada) as chats:
            await (await chats.send("pirate", ASKED)).answer()
        assert told(server) == ASKED


@contextmanager
def connection_to(server, url):
    """A connection of Open WebUI's own, which counts as external."""
    with server.client() as admin:
        before = admin.get("/openai/config").raise_for_status().json()
        form = {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": [url],
            "OPENAI_API_KEYS": ["none"],
            "OPENAI_API_CONFIGS": {},
        }
        try:
            admin.post("/openai/config/update", json=form).raise_for_status()
            models = admin.get("/api/models?refresh=true").raise_for_status().json()
            yield [
                model["id"]
                for model in models["data"]
                if model.get("connection_type") == "external"
            ]
        finally:
            admin.post("/openai/config/update", json=before).raise_for_status()
            admin.get("/api/models?refresh=true").raise_for_status()


async def test_models_of_external_connections_are_barred_on_demand(suite_installed):
    server, admin = suite_installed, suite_installed.admin
    question = "What is the name of my tortoise?"
    await remembered(server, admin, "My tortoise is called Archibald, she sleeps.")

    async def what_hears(model):
        server.demo.reset()
        async with server.chats(admin) as chats:
            await (await chats.send(model, question)).answer()
        return told(server)

    with connection_to(server, f"{server.demo.url}/v1") as [model, *_]:
        assert "Archibald" in await what_hears(model)
        with changed(server, bar_external_models=True):
            assert await what_hears(model) == question
            assert "Archibald" in await what_hears(MODEL)


async def test_nothing_is_told_or_looked_up_in_a_chat_that_is_left_out(
    suite_installed,
):
    server, admin = suite_installed, suite_installed.admin
    await remembered(server, admin)
    async with server.chats(admin) as chats:
        turn = await chats.send(MODEL, "I like rain.")
        await turn.answer()
        leave_out(server, admin, turn.chat_id, True)
        server.demo.reset()
        turn = await chats.send(MODEL, ASKED, after=turn)
        assert not citations(await turn.answer())
        assert told(server) == ASKED
        text = 'use recall to find "cat called"'
        turn = await chats.send(MODEL, text, after=turn, tool_ids=["recall"])
        answer = str(await turn.answer())
    assert "may not be used in this chat" in answer
    assert "Ophelia" not in answer


async def test_a_deletion_that_the_memory_missed_is_not_told(suite_installed, ada):
    server = suite_installed
    first = await remembered(server, ada)
    server.set_active("housekeeping", False)
    try:
        with server.client(ada) as client:
            assert client.delete(f"/api/v1/chats/{first.chat_id}").is_success
        await asked(server, ada)
        assert stored(server, first.chat_id)
        assert told(server) == ASKED
    finally:
        server.set_active("housekeeping", True)
    # Switched on again, it looks for what it missed.
    await eventually(lambda: not stored(server, first.chat_id))


async def test_a_recall_that_comes_too_late_is_left_out(suite_installed, ada):
    await remembered(suite_installed, ada)
    with changed(suite_installed, max_wait_ms=0):
        await asked(suite_installed, ada)
        assert told(suite_installed) == ASKED
    assert "is left out" in log_of(suite_installed)


async def test_a_cut_history_comes_back_as_notes(suite_installed, ada):
    """Beyond the window a turn is not sent any more, and recalled when it matters."""
    server = suite_installed
    with changed(server, keep_exchanges=1):
        async with server.chats(ada) as chats:
            turn = await chats.send(MODEL, TOLD)
            await turn.answer()
            await eventually(lambda: embedded(server, turn.chat_id))
            for text in ("I like to ride through rain.", "Trains are fine as well."):
                turn = await chats.send(MODEL, text, after=turn)
                await turn.answer()
            server.demo.reset()
            turn = await chats.send(MODEL, ASKED, after=turn)
            answer = await turn.answer()
    questions = questions_sent(server)
    assert questions[0] == "Trains are fine as well."
    assert "Ophelia" in questions[1]
    assert len(questions) == 2
    assert len(citations(answer)) == 1


def questions_sent(server):
    return [text for role, text in sent(server) if role == "user"]


async def test_nothing_is_cut_in_a_turn_that_recalls_nothing(suite_installed, ada):
    """What is cut there could not come back."""
    server = suite_installed
    said = ["I like rain.", "Trains are fine.", "Boats as well."]

    async def says(text, turn):
        said.append(text)
        server.demo.reset()
        turn = await chats.send(MODEL, text, after=turn)
        await turn.answer()
        return turn

    async with server.chats(ada) as chats:
        turn = None
        for text in said:
            turn = await chats.send(MODEL, text, after=turn)
            await turn.answer()
        for name in ("recall", "remember"):
            with changed(server, keep_exchanges=1):
                set_own(server, ada, **{name: False})
                turn = await says(f"I switched {name} off.", turn)
                assert questions_sent(server) == said
                set_own(server, ada, **{name: True})
        for name, value in (("barred_models", MODEL), ("max_wait_ms", 0)):
            with changed(server, keep_exchanges=1, **{name: value}):
                turn = await says(f"Now {name} is set.", turn)
                assert questions_sent(server) == said
        with changed(server, keep_exchanges=1):
            leave_out(server, ada, turn.chat_id, True)
            turn = await says("This chat is left out.", turn)
            assert questions_sent(server) == said
            leave_out(server, ada, turn.chat_id, False)
            await says("As usual.", turn)
            assert questions_sent(server) == said[-2:]


async def test_nothing_is_cut_of_a_chat_from_before_until_it_is_stored(
    suite_installed, ada
):
    server = suite_installed
    said = ["I like rain.", "Trains are fine.", "Boats as well."]
    server.set_active(FILTER, False)
    try:
        async with server.chats(ada) as chats:
            turn = None
            for text in said:
                turn = await chats.send(MODEL, text, after=turn)
                await turn.answer()
    finally:
        server.set_active(FILTER, True)
    here = turn.chat_id
    with changed(server, keep_exchanges=1):
        async with server.chats(ada) as chats:
            for text, sent_of_it in (("And now?", 4), ("And then?", 2)):
                said.append(text)
                server.demo.reset()
                turn = await chats.send(MODEL, text, after=turn)
                await turn.answer()
                assert questions_sent(server) == said[-sent_of_it:]
                await eventually(lambda: len(stored(server, here)) >= 4)


def leave_out(server, account, chat_id, yes):
    """What the inspector's menu does: its own test is in a browser."""
    path = server.server.data / "aqueduct" / "memory.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        sql = (
            "INSERT INTO excluded (user_id, chat_id) VALUES (?, ?)"
            if yes
            else "DELETE FROM excluded WHERE user_id = ? AND chat_id = ?"
        )
        connection.execute(sql, (account.id, chat_id))


@contextmanager
def compaction_on(server):
    """Open WebUI's own compaction, with a threshold that nothing here reaches."""
    with server.client() as admin:
        before = admin.get("/api/v1/chats/config").json()
        on = {
            "ENABLE_CONTEXT_COMPACTION": True,
            "CONTEXT_COMPACTION_TOKEN_THRESHOLD": 1_000_000,
            "CONTEXT_COMPACTION_TOKEN_CAP": 1_000_000,
        }
        admin.post("/api/v1/chats/config", json=before | on).raise_for_status()
        try:
            yield
        finally:
            admin.post("/api/v1/chats/config", json=before).raise_for_status()


async def test_the_window_stands_back_for_open_webuis_own(suite_installed, ada):
    server = suite_installed
    with compaction_on(server), changed(server, keep_exchanges=1):
        async with server.chats(ada) as chats:
            turn = await chats.send(MODEL, TOLD)
            await turn.answer()
            for text in ("I like rain.", "Trains are fine."):
                server.demo.reset()
                turn = await chats.send(MODEL, text, after=turn)
                await turn.answer()
    assert questions_sent(server)[0] == TOLD
    line = "compaction is on: the history is left to that"
    assert log_of(server).count(line) == 1


async def test_what_is_still_shown_is_not_told_twice(suite_installed, ada):
    server = suite_installed
    async with server.chats(ada) as chats:
        turn = await chats.send(MODEL, TOLD)
        await turn.answer()
        await eventually(lambda: embedded(server, turn.chat_id))
        server.demo.reset()
        await (await chats.send(MODEL, ASKED, after=turn)).answer()
    assert told(server) == ASKED


async def test_images_stay_with_the_message_they_came_with(suite_installed, ada):
    await remembered(suite_installed, ada)
    server = suite_installed
    server.demo.reset()
    dot = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42"
        "mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    picture = {"type": "image", "url": dot, "content_type": "image/png"}
    message = {
        "id": str(uuid4()),
        "parentId": None,
        "childrenIds": [],
        "role": "user",
        "content": ASKED,
        "files": [picture],
        "models": [MODEL],
    }
    async with server.chats(ada) as chats:
        await (await chats.send(MODEL, ASKED, user_message=message)).answer()
    parts = server.demo.requests()[0]["body"]["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["text", "text", "image_url"]
    assert "Ophelia" in parts[0]["text"]
    assert parts[1]["text"] == ASKED


async def test_a_model_looks_something_up_with_the_tool(suite_installed):
    """The notes say that there is more, and the tool finds it."""
    server = suite_installed
    await remembered(server, server.admin, "The spare key lies under the third fern.")
    text = 'use recall to find "the spare key under the third fern"'
    _, answer = await asked(server, server.admin, text, tool_ids=["recall"])
    assert "can be looked up with the tool `recall`" in told(server)
    [call] = [one for one in answer["output"] if one["type"] == "function_call"]
    assert call["name"] == "recall"
    [result] = [
        one for one in answer["output"] if one["type"] == "function_call_output"
    ]
    assert "under the third fern" in str(result["output"])
    assert citations(answer)
    assert "Looked up" in str(answer["statusHistory"])


async def test_a_model_may_not_look_up_what_it_may_not_be_told(suite_installed):
    server, admin = suite_installed, suite_installed.admin
    await remembered(server, admin)
    text = 'use recall to find "cat called"'

    async def looked_up(**more):
        _, answer = await asked(server, admin, text, tool_ids=["recall"], **more)
        assert "Ophelia" not in str(answer)
        return str(answer)

    refused = "may not be used in this chat"
    with changed(server, barred_models=MODEL):
        assert refused in await looked_up()
    assert refused in await looked_up(filter_ids=["memory_pause"])
    set_own(server, admin, recall=False)
    try:
        assert refused in await looked_up()
    finally:
        set_own(server, admin, recall=True)


async def test_a_stopped_answer_has_its_citations_too(suite_installed, ada):
    server = suite_installed
    first = await remembered(server, ada)
    async with server.chats(ada) as chats:
        turn = await chats.send(MODEL, f"{TOLD} True? /words 900 /slow 0.05")
        await eventually(lambda: begun(turn), "the answer's first words")
        await turn.stop()
        [source] = await eventually(lambda: cited(turn), "the citation")
    assert f"/c/{first.chat_id}#" in source["source"]["url"]


async def begun(turn):
    return "water finds its way" in str(await turn.stored())


async def cited(turn):
    return citations(await turn.stored())


def share_to_go_on(server, owner, chat_id, guest):
    """Let `guest` write in a chat of `owner`."""
    with server.client(owner) as client:
        path = f"/api/v1/chats/{chat_id}/share"
        client.post(path, json={"share_mode": "continue"}).raise_for_status()
        path = f"/api/v1/chats/shared/{chat_id}/access/update"
        grant = {
            "principal_type": "user",
            "principal_id": guest.id,
            "permission": "read",
        }
        form = {"access_grants": [grant], "share_mode": "continue"}
        client.post(path, json=form).raise_for_status()


async def test_two_people_in_one_chat_keep_their_memories_apart(suite_installed, ada):
    """A guest's memory is not told in the chat, nor the guest's turns remembered."""
    server = suite_installed
    guest = server.admin
    await remembered(server, guest)
    async with server.chats(ada) as chats:
        first = await chats.send(MODEL, "I bought a red kite today.")
        await first.answer()
    share_to_go_on(server, ada, first.chat_id, guest)
    server.demo.reset()
    async with server.chats(guest) as chats:
        second = await chats.send(MODEL, ASKED, after=first)
        assert not citations(await second.answer())
        assert told(server) == ASKED
        text = 'use recall to find "cat called"'
        looked_up = await chats.send(MODEL, text, after=second, tool_ids=["recall"])
        answer = await looked_up.answer()
    assert "Ophelia" not in str(answer)
    assert not citations(answer)
    async with server.chats(ada) as chats:
        last = await chats.send(MODEL, "It flies well.", after=looked_up)
        await last.answer()
    await eventually(lambda: len(stored(server, first.chat_id)) >= 2)
    questions = [row[0] for row in stored(server, first.chat_id)]
    assert questions == ["I bought a red kite today.", "It flies well."]


async def test_a_locked_memory_breaks_no_chat(suite_installed, ada):
    server = suite_installed
    await remembered(server, ada)
    path = server.server.data / "aqueduct" / "memory.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with server.chats(ada) as chats:
            turn = await chats.send(MODEL, "I bought a red kite today.")
            assert (await turn.answer())["done"] is True
            await eventually(
                lambda: "storing an exchange failed" in log_of(server), "the log's line"
            )
            other.execute("ROLLBACK")
            assert not stored(server, turn.chat_id)
            again = await chats.send(MODEL, "It flies well.", after=turn)
            await again.answer()
    # What was lost is made good by the next answer.
    await eventually(lambda: len(stored(server, turn.chat_id)) == 2)


def log_of(server):
    return server.log_path.read_text(errors="replace")
