"""The memory where Open WebUI runs as several processes on one PostgreSQL."""

from __future__ import annotations

import json

import psycopg
import pytest
import pytest_asyncio

from devkit.chat_socket import ChatSocket
from devkit.webui import create_user, set_valves, sign_in
from tests.e2e.memory_scene import FILTER, LONG_WAIT_MS, MODEL, eventually
from tests.e2e.workers.servers import ADMIN

# Words suffice to find it: each worker has a vector store of its own here.
TOLD = "My cat Ophelia is afraid of the vacuum cleaner in the kitchen."
ASKED = "Is my cat afraid of the vacuum cleaner in the kitchen?"
OLD_CHATS = 40


@pytest.fixture(scope="module")
def admin(workers):
    return sign_in(workers.one, *ADMIN)


@pytest.fixture(scope="module")
def ada(workers, admin):
    with admin.client(workers.one) as client:
        email = "ada.of.workers@example.org"
        return create_user(client, "Ada", email=email, password="correct horse")


@pytest_asyncio.fixture(autouse=True, scope="module", loop_scope="session")
async def memory(workers, admin, ada):
    """Switched on, and then both workers wake up to find chats from before."""
    path = f"/api/v1/functions/id/{FILTER}/toggle"
    with admin.client(workers.one) as one, admin.client(workers.other) as other:
        one.post(path).raise_for_status()
        await eventually(lambda: there(workers))
        with ada.client(workers.one) as client:
            for _ in range(OLD_CHATS):
                form = {"chat": old_chat()}
                client.post("/api/v1/chats/new", json=form).raise_for_status()
        query(workers, "DELETE FROM aqueduct_memory.state RETURNING name")
        set_valves(one, FILTER, max_wait_ms=LONG_WAIT_MS)
        set_valves(other, FILTER, max_wait_ms=LONG_WAIT_MS)
        yield
        one.post(path).raise_for_status()


def old_chat():
    question = {"id": "q", "role": "user", "content": "I like rain.", "timestamp": 1}
    answer = {"id": "a", "role": "assistant", "content": "Me too.", "done": True}
    links = ({"parentId": None, "childrenIds": ["a"]}, {"parentId": "q"})
    messages = {"q": question | links[0], "a": answer | links[1]}
    history = {"messages": messages, "currentId": "a"}
    return {"title": "Weather", "models": [MODEL], "history": history}


def there(workers):
    """Whether the memory has its tables, and has looked for old chats."""
    sql = (
        "SELECT 1 FROM information_schema.tables "
        "WHERE table_schema = 'aqueduct_memory' AND table_name = 'state'"
    )
    done = "SELECT 1 FROM aqueduct_memory.state WHERE value::json->>'finished' = 'true'"
    return query(workers, sql) and query(workers, done)


def query(workers, sql, *values):
    with psycopg.connect(workers.database) as connection:
        return connection.execute(sql, values).fetchall()


async def said(server, account, text):
    """The id of a new chat in which this was said."""
    async with ChatSocket.connect(server, account.token) as chats:
        turn = await chats.send(MODEL, text)
        await turn.answer()
    return turn.chat_id


async def test_old_chats_are_read_once_by_one_worker(workers):
    sql = "SELECT value FROM aqueduct_memory.state WHERE name = 'backfill'"

    def finished():
        rows = query(workers, sql)
        state = json.loads(rows[0][0]) if rows else {}
        return state if state.get("finished") else None

    state = await eventually(finished)
    # Two at it would have counted each chat twice.
    assert OLD_CHATS <= state["done"] <= state["total"]


async def test_a_model_that_another_worker_has_loaded_makes_no_vectors_here(
    workers, admin, ada
):
    """Open WebUI tells the other one its name only: its own model is still the old."""
    sql = "SELECT embedder FROM aqueduct_memory.exchange WHERE chat_id = %s"
    path = "/api/v1/retrieval/embedding"
    with admin.client(workers.one) as one:
        before = one.get(path).raise_for_status().json()["RAG_EMBEDDING_MODEL"]
        form = {"RAG_EMBEDDING_ENGINE": "", "RAG_EMBEDDING_MODEL": ""}
        first = await said(workers.other, ada, "I planted a quince tree.")
        await eventually(lambda: query(workers, f"{sql} AND embedder <> ''", first))
        one.post(f"{path}/update", json=form).raise_for_status()
        try:
            second = await said(workers.other, ada, "It grows behind the shed.")
            line = "Another replica has loaded a new embedding model"
            await eventually(lambda: line in workers.other_log.read_text())
            assert query(workers, sql, second) in ([], [(None,)])
        finally:
            form["RAG_EMBEDDING_MODEL"] = before
            one.post(f"{path}/update", json=form).raise_for_status()
    # The old name again: what it says is loaded here.
    await said(workers.other, ada, "It bears fruit.")
    await eventually(lambda: query(workers, f"{sql} AND embedder <> ''", second))


def told(demo):
    """All that models were sent, one text a request."""
    return [str(request["body"]) for request in demo.requests()]


async def test_one_worker_tells_and_forgets_what_the_other_stored(
    workers, ada, demo_agent
):
    sql = "SELECT 1 FROM aqueduct_memory.exchange WHERE chat_id = %s"
    first = await said(workers.one, ada, TOLD)
    await eventually(lambda: query(workers, sql, first))
    demo_agent.reset()
    await said(workers.other, ada, ASKED)
    assert any("Ophelia" in text for text in told(demo_agent))
    with ada.client(workers.other) as client:
        client.delete(f"/api/v1/chats/{first}").raise_for_status()
    demo_agent.reset()
    await said(workers.one, ada, ASKED)
    assert not any("Ophelia" in text for text in told(demo_agent))
    await eventually(lambda: not query(workers, sql, first))
