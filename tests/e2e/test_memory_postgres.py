"""The memory of an Open WebUI that runs on PostgreSQL, with vectors in Chroma.

Its own server, so that its chats from before, its embedding model and its vector store
can be changed.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from devkit.demo_config import agents_yaml, demo_agents
from devkit.server import OpenWebUI
from devkit.webui import sign_in
from tests.e2e.memory_scene import MODEL, all_told, citations, eventually, patient, told
from tests.e2e.test_memory_recall import ASKED, TOLD, asked
from tests.postgres import PostgresServer
from tests.webui import WebUI

BEFORE = "In my garden stands a mulberry tree from 1911."
EMBEDDED = (
    "SELECT count(*) FROM aqueduct_memory.exchange "
    "WHERE chat_id = %s AND embedder LIKE %s"
)


class PostgresWebUI(WebUI):
    """The server with a look into its database."""

    database = ""
    old_chat = ""

    def query(self, sql: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql, values).fetchall()

    def execute(self, sql: str) -> None:
        with psycopg.connect(self.database) as connection:
            connection.execute(sql)

    def vectors(self, chat_id: str, model: str = "%") -> int:
        return int(self.query(EMBEDDED, chat_id, model)[0][0])

    def stored(self, chat_id: str) -> int:
        sql = "SELECT count(*) FROM aqueduct_memory.exchange WHERE chat_id = %s"
        return int(self.query(sql, chat_id)[0][0])

    def has_tables(self) -> bool:
        sql = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s"
        return bool(self.query(sql, "aqueduct_memory"))


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory, postgres, demo_agent) -> Iterator[PostgresWebUI]:
    email, password = "admin@example.org", "correct horse"
    server = OpenWebUI(
        tmp_path_factory.mktemp("openwebui-postgres"),
        secret_key="of no use outside the tests",
        env={
            # Psycopg 3, which Open WebUI brings along, for its synchronous part too.
            "DATABASE_URL": postgres.url.replace(":", "+psycopg:", 1),
            # Its own five connections are too few for fifty chats at once.
            "DATABASE_POOL_SIZE": "100",
            "WEBUI_ADMIN_EMAIL": email,
            "WEBUI_ADMIN_PASSWORD": password,
        },
    )
    with server:
        place = PostgresWebUI(server, sign_in(server.url, email, password), demo_agent)
        place.database = postgres.url
        place.old_chat = chat_from_before(place)
        place.install()
        patient(place)
        place.set_agents(agents_yaml(demo_agents(demo_agent.url)))
        yield place


def chat_from_before(place: WebUI) -> str:
    """A chat that the admin had before there was a memory."""
    question = {
        "id": "q1",
        "parentId": None,
        "childrenIds": ["a1"],
        "role": "user",
        "content": BEFORE,
        "timestamp": 1_700_000_000,
    }
    answer = {
        "id": "a1",
        "parentId": "q1",
        "childrenIds": [],
        "role": "assistant",
        "content": "What a tree!",
        "model": MODEL,
        "done": True,
        "timestamp": 1_700_000_001,
    }
    history = {"messages": {"q1": question, "a1": answer}, "currentId": "a1"}
    chat = {"title": "The garden", "models": [MODEL], "history": history}
    with place.client() as admin:
        response = admin.post("/api/v1/chats/new", json={"chat": chat})
        response.raise_for_status()
        return str(response.json()["id"])


async def remembered(place: PostgresWebUI, account: Any, text: str = TOLD) -> Any:
    async with place.chats(account) as chats:
        turn = await chats.send(MODEL, text)
        await turn.answer()
    await eventually(lambda: place.has_tables() and place.vectors(turn.chat_id))
    return turn


@pytest.fixture
def ada(place):
    return place.create_user("Ada")


async def test_chats_from_before_are_indexed_by_themselves(place):
    await eventually(lambda: place.has_tables() and place.vectors(place.old_chat))
    _, answer = await asked(place, place.admin, "How old is my mulberry tree?")
    assert "1911" in told(place)
    [source] = citations(answer)
    assert "The garden" in source["source"]["name"]
    [state] = place.query(
        "SELECT value FROM aqueduct_memory.state WHERE name = 'backfill'"
    )
    assert '"finished": true' in state[0]


async def test_an_exchange_of_another_chat_is_told_and_cited(place, ada):
    first = await remembered(place, ada)
    _, answer = await asked(place, ada)
    assert "Ophelia" in told(place)
    [source] = citations(answer)
    assert f"/c/{first.chat_id}#" in source["source"]["url"]


async def test_nobody_recalls_what_another_person_said(place, ada):
    await remembered(place, ada)
    await asked(place, place.create_user("Bob"))
    assert told(place) == ASKED


async def test_a_deleted_chat_is_unfindable_at_once(place, ada):
    first = await remembered(place, ada)
    with place.client(ada) as client:
        assert client.delete(f"/api/v1/chats/{first.chat_id}").is_success
    await asked(place, ada)
    assert told(place) == ASKED
    await eventually(lambda: not place.stored(first.chat_id))


async def test_a_reset_vector_store_costs_no_recall(place, ada):
    first = await remembered(place, ada)
    with place.client() as admin:
        assert admin.post("/api/v1/retrieval/reset/db").is_success
    await asked(place, ada)
    assert "Ophelia" in told(place)
    # Noticed by that recall, mended by the exchange after it.
    await eventually(lambda: place.vectors(first.chat_id))
    await asked(place, ada)
    assert "Ophelia" in told(place)


async def test_another_embedding_model_makes_the_vectors_anew(place, ada):
    first = await remembered(place, ada)
    # The same model by another name: as far as anybody can tell, another one.
    earlier = collections(place)
    assert earlier
    link = place.server.data / "another-model"
    link.symlink_to(place.server.data / "all-MiniLM-L6-v2")
    set_embedding_model(place, link.name)
    await asked(place, ada)
    assert "Ophelia" in told(place)
    await eventually(lambda: place.vectors(first.chat_id, "%another-model%"))
    await asked(place, ada)
    assert "Ophelia" in told(place)
    # Nothing of the earlier model is left in the vector store.
    await eventually(lambda: not earlier & collections(place))
    assert collections(place)


def set_embedding_model(place, name):
    with place.client() as admin:
        form = {"RAG_EMBEDDING_ENGINE": "", "RAG_EMBEDDING_MODEL": name}
        response = admin.post("/api/v1/retrieval/embedding/update", json=form)
        assert response.is_success, response.text


async def test_without_an_embedding_model_words_find_it(place, ada):
    with place.client() as admin:
        response = admin.get("/api/v1/retrieval/embedding").raise_for_status()
    before = response.json()["RAG_EMBEDDING_MODEL"]
    set_embedding_model(place, "")
    try:
        async with place.chats(ada) as chats:
            first = await chats.send(MODEL, TOLD)
            await first.answer()
        await eventually(lambda: place.stored(first.chat_id))
        await asked(place, ada)
        assert "Ophelia" in told(place)
        assert not place.vectors(first.chat_id)
    finally:
        set_embedding_model(place, before)
    # With a model the vectors follow.
    await asked(place, ada)
    await eventually(lambda: place.vectors(first.chat_id))


def collections(place):
    """Names of the memory's collections in Chroma."""
    path = place.server.data / "vector_db" / "chroma.sqlite3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT name FROM collections WHERE name LIKE 'user-memory-aq-%'"
        )
        return {name for (name,) in rows}


async def test_fifty_chats_at_once(place):
    """Each person is told of their own cat, and everything is stored."""
    people = [place.create_user(f"Person {n}") for n in range(10)]
    for number, person in enumerate(people):
        await remembered(place, person, f"My cat is called Whiskers{number}.")
    place.demo.reset()

    async def ask(number):
        async with place.chats(people[number % 10]) as chats:
            turn = await chats.send(MODEL, f"What is my cat called? ({number})")
            await turn.answer()
            return turn.chat_id

    chat_ids = await asyncio.gather(*(ask(number) for number in range(50)))
    numbers = set()
    for text in all_told(place):
        if "cat called? (" not in text:
            continue
        number = int(text.rpartition("(")[2].partition(")")[0])
        numbers.add(number)
        assert set(re.findall(r"Whiskers(\d)", text)) == {str(number % 10)}
    assert numbers == set(range(50))
    for chat_id in chat_ids:
        await eventually(lambda chat_id=chat_id: place.stored(chat_id))


async def test_a_broken_memory_breaks_no_chat(place, ada):
    """Here it is not there at all; what was lost is made good by the next answer."""
    rename = "ALTER SCHEMA {} RENAME TO {}".format
    await remembered(place, ada)
    place.execute(rename("aqueduct_memory", "elsewhere"))
    try:
        async with place.chats(ada) as chats:
            turn = await chats.send(MODEL, "I bought a red kite today.")
            assert (await turn.answer())["done"] is True
            log = place.log_path
            await eventually(
                lambda: "storing an exchange failed" in log.read_text(errors="replace")
            )
            place.execute(rename("elsewhere", "aqueduct_memory"))
            await (await chats.send(MODEL, "It flies well.", after=turn)).answer()
    finally:
        if not place.has_tables():
            place.execute(rename("elsewhere", "aqueduct_memory"))
    await eventually(lambda: place.stored(turn.chat_id) == 2)
