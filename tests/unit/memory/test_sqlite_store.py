"""The SQLite store: all that stores do, and what only a file can suffer."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from contextlib import closing

import numpy as np
import pytest

from shared.memory.base import Embedder
from shared.memory.sqlite_file import SQLITE_MIGRATIONS, NewerSchemaError, SqliteFile
from shared.memory.sqlite_rows import insert_row, next_exchange_id
from shared.memory.sqlite_store import ROWS_AT_ONCE, SqliteStore, packed_cosines
from shared.memory.vectors import pack_vector, unit_vector
from tests.unit.memory.exchanges import BIKE, CAT, SOUP, said
from tests.unit.memory.store_cases import StoreCases, cosines, find


class TestSqliteStore(StoreCases):
    pass


def dumped(path):
    """Everything the file's tables hold, as one text, without the index."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'word%'"
        ).fetchall()
        rows = [
            connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables
        ]
        return repr(rows)


async def test_a_reopened_file_holds_everything(tmp_path):
    for expected in (1, 0):
        file = SqliteFile(tmp_path / "memory.db", {})
        assert await SqliteStore(file).save("ada", [CAT]) == expected
        file.close()


async def test_a_deleted_text_is_nowhere_in_the_tables(store, sqlite_file):
    await store.save("ada", [CAT, BIKE])
    await store.forget_chats(["cats"])
    text = dumped(sqlite_file.path)
    assert "Ophelia" not in text
    assert "bicycle" in text


@pytest.mark.parametrize("more", [0, 5])
async def test_more_rows_than_are_read_at_a_time(store, more):
    """Those of another model stand among them, and exchanges without one."""
    count = 4 * ROWS_AT_ONCE + more
    await store.save("ada", [said(f"Say {n}", number=n) for n in range(count)])
    ids = [one.id for one in await store.listing("ada", limit=count)]
    digests = [said(f"Say {n}", number=n).digest for n in range(count)]
    made = {
        Embedder("old", 3): range(1, count, 3),
        Embedder("new", 2): range(2, count, 3),
    }
    for embedder, places in made.items():
        vectors = [
            unit_vector([place, *[1] * (embedder.dimension - 1)]) for place in places
        ]
        rows = [
            ("ada", ids[place], digests[place], vector)
            for place, vector in zip(places, vectors, strict=True)
        ]
        assert await store.set_vectors(embedder, rows) == len(places)
    found = await store.candidates("ada", [])
    assert found.ids.tolist() == ids
    for embedder, places in made.items():
        along = unit_vector([0] * (embedder.dimension - 1) + [1])
        dense = await found.compare(embedder, along)
        assert np.flatnonzero(~np.isnan(dense)).tolist() == list(places)
        expected = 1 / np.sqrt(np.array(places) ** 2 + embedder.dimension - 1)
        assert np.abs(dense[places] - expected).max() < 0.01


def test_comparing_unpacks_a_piece_at_a_time():
    """All at once as floats would be four times the packed vectors."""
    size, pieces = 384, 10
    packed = [pack_vector(np.ones(size, np.float32)) * ROWS_AT_ONCE] * pieces
    tracemalloc.start()
    cosines = packed_cosines(packed, unit_vector(np.ones(size)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert cosines.shape == (pieces * ROWS_AT_ONCE,)
    assert np.allclose(cosines, np.sqrt(size))
    assert peak < 3 * 4 * size * ROWS_AT_ONCE


async def test_writers_and_readers_at_once(store):
    async def talk(person):
        for number in range(5):
            await store.save(person, [said(f"Number {number}", number=number)])
            await store.candidates(person, ["number"])

    await asyncio.gather(*(talk(f"person-{n}") for n in range(20)))
    counts = [await store.count(f"person-{n}") for n in range(20)]
    assert counts == [5] * 20


async def test_another_process_that_writes_does_not_keep_us_from_reading(
    store, sqlite_file
):
    await store.save("ada", [CAT])
    with closing(sqlite3.connect(sqlite_file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [
            asyncio.create_task(store.save("ada", [said("More", number=number)]))
            for number in range(8)
        ]
        async with asyncio.timeout(2):
            assert await store.count("ada") == 1
        other.execute("ROLLBACK")
    assert await asyncio.gather(*waiting) == [1] * 8


async def test_of_two_processes_one_gets_the_lease(store, sqlite_file):
    file = SqliteFile(sqlite_file.path, {})
    other = SqliteStore(file)
    for number in range(20):
        name = f"lease {number}"
        taken = await asyncio.gather(
            store.take_lease(name, "one", 60), other.take_lease(name, "other", 60)
        )
        assert sorted(taken) == [False, True]
    file.close()


async def test_a_full_disk_loses_only_what_did_not_fit(store, sqlite_file, model):
    """SQLite is told how many pages there are, which is how it sees a full disk."""
    await store.save("ada", [CAT, BIKE])

    def leave_no_room(connection):
        [[pages]] = connection.execute("PRAGMA page_count").fetchall()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await sqlite_file.in_writer(leave_no_room)
    long = said("A long story.", "so it goes on " * 5_000, chat="story")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await store.save("ada", [long])
    assert await store.count("ada") == 2
    assert await find(store, model, "ada", "flat tyres", limit=1) == [BIKE]
    # There is room again: the limit was that of a connection, which is closed now.
    assert await store.save("ada", [long]) == 1
    assert await find(store, model, "ada", "long story", limit=1) == [long]


async def test_a_write_that_fails_half_way_leaves_nothing(store, sqlite_file):
    with closing(sqlite3.connect(sqlite_file.path)) as other:
        other.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON feature "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
        other.commit()
    with pytest.raises(sqlite3.IntegrityError):
        await store.save("ada", [CAT])
    with closing(sqlite3.connect(sqlite_file.path)) as other:
        other.execute("DROP TRIGGER full_disk")
        other.commit()
    assert await store.count("ada") == 0
    assert await store.save("ada", [CAT]) == 1


async def test_a_file_of_the_first_version_is_taken_over(tmp_path, model):
    """Its texts stay; its vectors, which were kept otherwise, are made anew.

    What had been left out stays out.
    """
    path = tmp_path / "memory.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(SQLITE_MIGRATIONS[0])
        connection.execute("PRAGMA user_version = 1")
        for exchange in (CAT, BIKE):
            insert_row(connection, next_exchange_id(connection, "ada"), exchange)
        left_out = ("ada", SOUP.chat_id, SOUP.question_id)
        connection.execute("INSERT INTO forgotten VALUES (?, ?, ?)", left_out)
        half_floats = b"\0" * 2 * model.embedder.dimension
        connection.execute(
            "UPDATE feature SET embedder = 1, vector = ?", (half_floats,)
        )
    file = SqliteFile(path, {})
    store = SqliteStore(file)
    assert await find(store, model, "ada", "flat tyres", limit=1) == [BIKE]
    assert await model.index(store) == 2
    assert not np.isnan(await cosines(store, model, "tyre")).any()
    assert await store.save("ada", [CAT, BIKE, SOUP]) == 0
    file.close()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "memory.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerSchemaError):
        SqliteFile(path, {})
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)
