"""The memory in a real PostgreSQL: all that stores do, and its vectors' loss."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from shared.host.vectors import VectorStoreError
from shared.memory.postgres_schema import (
    POSTGRES_MIGRATIONS,
    MemorySqlError,
    migrate_postgres,
    run_sql,
)
from shared.memory.postgres_store import PostgresStore
from shared.memory.sqlite_file import NewerSchemaError
from tests.postgres import PostgresServer
from tests.unit.memory.conftest import BagOfWords
from tests.unit.memory.exchanges import BIKE, CAT, said
from tests.unit.memory.store_cases import StoreCases, cosines, find

pytestmark = pytest.mark.contract


class VectorsInMemory:
    """A vector store as Open WebUI's are: it compares directions."""

    def __init__(self) -> None:
        self.collections: dict[str, dict[str, Any]] = {}
        self.there = True
        self.broken = False

    def available(self) -> bool:
        return self.there

    async def put(self, collection: str, items: Sequence[dict[str, Any]]) -> None:
        kept = self.collections.setdefault(collection, {})
        kept.update({item["id"]: np.array(item["vector"]) for item in items})

    async def nearest(
        self, collection: str, vector: Sequence[float], limit: int
    ) -> dict[str, float] | None:
        self._fail_if_broken()
        kept = self.collections.get(collection)
        if kept is None:
            return None
        query = np.array(vector)
        found = {
            key: float(one @ query / np.linalg.norm(one) / np.linalg.norm(query))
            for key, one in kept.items()
        }
        best = sorted(found, key=lambda key: -found[key])[:limit]
        return {key: found[key] for key in best}

    async def drop(self, collection: str, ids: Sequence[str]) -> None:
        self._fail_if_broken()
        for one in ids:
            self.collections.get(collection, {}).pop(one, None)

    async def remove(self, collection: str) -> None:
        self._fail_if_broken()
        self.collections.pop(collection, None)

    def _fail_if_broken(self) -> None:
        if self.broken:
            raise VectorStoreError("no connection")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def sessions(server: PostgresServer) -> AsyncIterator[Any]:
    url = server.url.replace("postgresql:", "postgresql+psycopg:")
    engine = create_async_engine(url)
    open_session = partial(AsyncSession, engine)
    async with open_session() as session:
        await run_sql(session, "DROP SCHEMA IF EXISTS aqueduct_memory CASCADE")
        await session.commit()
    await migrate_postgres(open_session)
    yield open_session
    await engine.dispose()


@pytest.fixture
def vectors() -> VectorsInMemory:
    return VectorsInMemory()


@pytest.fixture
def store(sessions: Any, vectors: VectorsInMemory) -> PostgresStore:
    return PostgresStore(sessions, vectors)


@pytest.fixture
def model() -> BagOfWords:
    return BagOfWords()


class TestPostgresStore(StoreCases):
    pass


async def test_lost_vectors_are_made_again(store, vectors, model):
    await store.save("ada", [CAT, BIKE])
    await model.index(store)
    vectors.collections.clear()
    assert await find(store, model, "ada", "flat tyres", limit=1) == [BIKE]
    assert await model.index(store) == 2
    assert not np.isnan(await cosines(store, model, "tyre")).any()


async def test_a_broken_vector_store_costs_no_recall_and_no_deletion(
    store, vectors, model
):
    await store.save("ada", [CAT, BIKE])
    await model.index(store)
    vectors.broken = True
    assert await find(store, model, "ada", "flat tyres", limit=1) == [BIKE]
    assert await store.forget_user("ada") == 2
    assert await store.count("ada") == 0
    vectors.broken = False
    # Nothing was lost, so nothing is made again.
    await store.save("ada", [CAT])
    await model.index(store)
    vectors.broken = True
    await find(store, model, "ada", "cat", limit=1)
    assert await store.pending(model.embedder, 5) == []


async def test_a_store_that_finds_nothing_near_has_lost_nothing(store, vectors, model):
    await store.save("ada", [CAT])
    await model.index(store)
    for kept in vectors.collections.values():
        kept.clear()
    assert await find(store, model, "ada", "my cat", limit=1) == [CAT]
    assert await store.pending(model.embedder, 5) == []


async def test_vectors_go_with_their_exchange(store, vectors, model):
    await store.save("ada", [CAT, BIKE])
    await model.index(store)
    await store.forget_chats(["cats"])
    assert [len(kept) for kept in vectors.collections.values()] == [1]


async def test_a_collection_holds_one_user_and_no_text(store, vectors, model):
    await store.save("ada", [CAT])
    await store.save("bob", [BIKE])
    await model.index(store)
    names = sorted(vectors.collections)
    assert len(names) == 2
    assert all(name.startswith("user-memory-aq-") for name in names)
    assert {name.rpartition("-")[2] for name in names} == {"ada", "bob"}


async def test_collections_of_an_earlier_model_go_when_the_new_one_is_done(
    store, vectors, model
):
    await store.save("ada", [CAT])
    await store.save("bob", [BIKE])
    await model.index(store)
    earlier = set(vectors.collections)
    other = BagOfWords("another", 32)
    await other.index(store)
    assert len(vectors.collections) == 4
    vectors.broken = True
    await store.drop_other_vectors(other.embedder)
    vectors.broken = False
    assert len(vectors.collections) == 4
    await store.drop_other_vectors(other.embedder)
    assert len(vectors.collections) == 2
    assert not earlier & set(vectors.collections)
    assert not np.isnan(await cosines(store, other, "cat")).any()
    # Back to the first model: what it made is gone, and is made anew.
    assert await model.index(store) == 2


async def test_what_the_new_model_rejects_has_no_vector_any_more(store, vectors, model):
    await store.save("ada", [CAT, BIKE])
    await model.index(store)
    cat, bike = await store.listing("ada")
    other = BagOfWords("another", 32)
    made = [("ada", cat.id, CAT.digest, np.array(other.vector(CAT.question)))]
    await store.set_vectors(other.embedder, made)
    await store.drop_other_vectors(other.embedder)
    [pending] = await store.pending(model.embedder, 1)
    assert pending == ("ada", bike)
    assert np.isnan(await cosines(store, model, "tyre")).all()


async def test_a_person_who_is_gone_leaves_no_collection(store, vectors, model):
    await store.save("ada", [CAT])
    await model.index(store)
    await BagOfWords("another", 32).index(store)
    assert len(vectors.collections) == 2
    await store.forget_user("ada")
    assert vectors.collections == {}


async def test_of_two_replicas_one_gets_the_lease(server, store):
    """The other waits for the first one's write, and is told no."""
    url = server.url.replace("postgresql:", "postgresql+psycopg:")
    engine = create_async_engine(url)
    other = PostgresStore(partial(AsyncSession, engine), VectorsInMemory())
    for number in range(20):
        name = f"lease {number}"
        taken = await asyncio.gather(
            store.take_lease(name, "one", 60), other.take_lease(name, "other", 60)
        )
        assert sorted(taken) == [False, True]
    await engine.dispose()


async def test_tables_of_the_second_version_are_taken_over(server, vectors, model):
    """What had been left out stays out, and the vectors' collections are known."""
    url = server.url.replace("postgresql:", "postgresql+psycopg:")
    engine = create_async_engine(url)
    open_session = partial(AsyncSession, engine)
    async with open_session() as session:
        await run_sql(session, "DROP SCHEMA IF EXISTS aqueduct_memory CASCADE")
        await run_sql(session, "CREATE SCHEMA aqueduct_memory")
        await run_sql(session, "CREATE TABLE aqueduct_memory.version (version int)")
        await run_sql(session, "INSERT INTO aqueduct_memory.version VALUES (2)")
        for statement in ";\n".join(POSTGRES_MIGRATIONS[:2]).split(";\n"):
            await run_sql(session, statement)
        await run_sql(
            session,
            "INSERT INTO aqueduct_memory.forgotten VALUES ('ada', 'chat', :q)",
            q=BIKE.question_id,
        )
        await session.commit()
    await migrate_postgres(open_session)
    store = PostgresStore(open_session, vectors)
    assert await store.save("ada", [CAT, BIKE]) == 1
    assert [one.exchange for one in await store.listing("ada")] == [CAT]
    await engine.dispose()


async def test_without_a_vector_store_words_still_find(store, vectors, model):
    vectors.there = False
    await store.save("ada", [CAT, BIKE])
    assert await store.pending(model.embedder, 5) == []
    assert await find(store, model, "ada", "flat tyres", limit=1) == [BIKE]


async def test_migrating_twice_changes_nothing(store, sessions):
    await store.save("ada", [CAT])
    await migrate_postgres(sessions)
    assert await store.count("ada") == 1


async def test_an_error_does_not_repeat_what_somebody_said(store, sessions):
    async with sessions() as session:
        await run_sql(session, "ALTER TABLE aqueduct_memory.exchange DROP COLUMN model")
        await session.commit()
    with pytest.raises(MemorySqlError) as caught:
        await store.save("ada", [CAT])
    text = "".join(traceback.format_exception(caught.value))
    assert "UndefinedColumn" in text
    assert "Ophelia" not in text


async def test_tables_of_a_newer_version_are_left_alone(sessions):
    async with sessions() as session:
        await run_sql(session, "UPDATE aqueduct_memory.version SET version = 99")
        await session.commit()
    with pytest.raises(NewerSchemaError):
        await migrate_postgres(sessions)


async def test_looking_up_a_word_reads_its_owners_rows_only(store, sessions):
    for person in range(30):
        many = [said(f"Number {n}", number=n) for n in range(40)]
        await store.save(f"person-{person}", many)
    found = await store.candidates("person-7", ["number"])
    assert len(found.matches[0].anywhere) == 40
    async with sessions() as session:
        await run_sql(session, "ANALYZE aqueduct_memory.exchange")
        await run_sql(session, "SET enable_seqscan = off")
        key = await run_sql(
            session, "SELECT key FROM aqueduct_memory.owner WHERE user_id = 'person-7'"
        )
        plan = await run_sql(
            session,
            "EXPLAIN ANALYZE SELECT id FROM aqueduct_memory.exchange "
            f"WHERE words @@ '''{key[0][0]}:number'''::tsquery",
        )
    text = "\n".join(row[0] for row in plan)
    assert "exchange_words" in text
    assert "rows=40" in text
