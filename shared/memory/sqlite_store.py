"""The memory in a SQLite file: texts, a full-text index, vectors."""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import astuple
from functools import partial
from typing import Any

import numpy as np
import orjson

from shared.memory.base import (
    Candidates,
    Embedder,
    Floats,
    Matches,
    Numbers,
    off_the_loop,
)
from shared.memory.exchanges import Exchange, StoredExchange
from shared.memory.sqlite_file import OWNER_SHIFT, SqliteFile
from shared.memory.sqlite_rows import (
    EXCHANGE_COLUMNS,
    delete_where,
    drop_others,
    forget_chat_rows,
    forget_owned,
    forget_rows,
    leave_out,
    owner_range,
    save_rows,
    select,
    stored_exchange,
    take_lease_row,
)
from shared.memory.vectors import pack_vector, unpack_vectors

# For each model: the positions of the candidates that it made a vector for, and these
# vectors, packed, ROWS_AT_ONCE of them in each piece.
VectorsOf = dict[Embedder, tuple[Numbers, list[bytes]]]

# Rows read, and vectors unpacked, at a time: as floats all vectors of a user who has
# stored a great deal would take hundreds of megabytes, and one long call into a library
# holds up all other threads.
ROWS_AT_ONCE = 5_000


class SqliteStore:
    """See `MemoryStore`. Errors are those of `sqlite3`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def save(self, user_id: str, exchanges: Sequence[Exchange]) -> int:
        return int(await self._file.in_writer(save_rows, user_id, exchanges))

    async def candidates(self, user_id: str, terms: Sequence[str]) -> Candidates:
        found: Candidates = await self._file.in_reader(read_candidates, user_id, terms)
        return found

    async def fetch(self, user_id: str, ids: Sequence[int]) -> list[StoredExchange]:
        found: list[StoredExchange] = await self._file.in_reader(
            read_exchanges, user_id, ids
        )
        return sorted(found, key=lambda stored: (stored.exchange.asked_at, stored.id))

    async def listing(
        self,
        user_id: str,
        chat_id: str | None = None,
        limit: int = 1000,
        after: int = 0,
    ) -> list[StoredExchange]:
        found: list[StoredExchange] = await self._file.in_reader(
            read_listing, user_id, chat_id, limit, after
        )
        return found

    async def forget(self, user_id: str, ids: Sequence[int]) -> int:
        return int(await self._file.in_writer(forget_rows, user_id, ids))

    async def skip(self, user_id: str, question_ids: Sequence[str]) -> None:
        await self._file.in_writer(leave_out, user_id, question_ids)

    async def keep_only(
        self, user_id: str, chat_id: str, question_ids: Sequence[str]
    ) -> int:
        return int(
            await self._file.in_writer(drop_others, user_id, chat_id, question_ids)
        )

    async def forget_message(self, chat_id: str, message_id: str) -> int:
        where = "chat_id = ? AND (question_id = ? OR answer_id = ?)"
        return int(
            await self._file.in_writer(
                delete_where, where, (chat_id, message_id, message_id)
            )
        )

    async def forget_chats(self, chat_ids: Sequence[str]) -> int:
        return int(await self._file.in_writer(forget_chat_rows, chat_ids))

    async def forget_all(self, user_id: str) -> int:
        return int(await self._file.in_writer(forget_owned, user_id, ["excluded"]))

    async def forget_user(self, user_id: str) -> int:
        tables = ("excluded", "left_out", "owner")
        return int(await self._file.in_writer(forget_owned, user_id, tables))

    async def chat_ids(self, after: str = "", limit: int = 500) -> list[str]:
        sql = (
            "SELECT DISTINCT chat_id FROM exchange WHERE chat_id > ? "
            "ORDER BY chat_id LIMIT ?"
        )
        return [
            row[0] for row in await self._file.in_reader(select, sql, (after, limit))
        ]

    async def pending(
        self, embedder: Embedder, limit: int
    ) -> list[tuple[str, StoredExchange]]:
        found: list[tuple[str, StoredExchange]] = await self._file.in_reader(
            read_pending, embedder, limit
        )
        return found

    async def set_vectors(
        self, embedder: Embedder, vectors: Sequence[tuple[str, int, int, Floats]]
    ) -> int:
        return int(await self._file.in_writer(write_vectors, embedder, vectors))

    async def drop_other_vectors(self, embedder: Embedder) -> None:
        """Nothing to do: a vector takes the place of the one before it."""

    async def exclude(self, user_id: str, chat_id: str, excluded: bool) -> None:
        sql = (
            "INSERT OR IGNORE INTO excluded (user_id, chat_id) VALUES (?, ?)"
            if excluded
            else "DELETE FROM excluded WHERE user_id = ? AND chat_id = ?"
        )
        await self._file.in_writer(select, sql, (user_id, chat_id))

    async def is_excluded(self, user_id: str, chat_id: str) -> bool:
        sql = "SELECT 1 FROM excluded WHERE user_id = ? AND chat_id = ?"
        return bool(await self._file.in_reader(select, sql, (user_id, chat_id)))

    async def count(self, user_id: str) -> int:
        return int(await self._file.in_reader(count_rows, user_id))

    async def state(self, key: str) -> Any:
        rows = await self._file.in_reader(
            select, "SELECT value FROM state WHERE name = ?", (key,)
        )
        return json.loads(rows[0][0]) if rows else None

    async def set_state(self, key: str, value: Any) -> None:
        sql = "INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)"
        await self._file.in_writer(select, sql, (key, json.dumps(value)))

    async def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        now = time.time()
        return bool(
            await self._file.in_writer(take_lease_row, name, holder, now, now + seconds)
        )


def read_candidates(
    connection: sqlite3.Connection, user_id: str, terms: Sequence[str]
) -> Candidates:
    span = owner_range(connection, user_id)
    columns = read_features(connection, span)
    ids = columns[0]
    matches = []
    for term in terms:
        asked = matching(connection, f'question : "{term}"', span)
        matches.append(
            Matches(
                np.searchsorted(ids, asked),
                np.searchsorted(ids, matching(connection, f'"{term}"', span)),
            )
        )
    return Candidates(
        ids=ids,
        chats=columns[1],
        questions=columns[2],
        asked_at=columns[3],
        lengths=columns[4],
        question_lengths=columns[5],
        matches=matches,
        compare=partial(
            sqlite_cosines, read_vectors(connection, ids, columns[6]), len(ids)
        ),
    )


# What follows asks for much at once in a single row: for each row that is fetched a
# thread needs the interpreter's lock anew, while the embedding model is at work.


def read_features(connection: sqlite3.Connection, span: tuple[int, int]) -> Numbers:
    """Numbers of a user's exchanges, a row for each column, by id.

    id, chat, question, asked_at, length, question_length, key of the embedder or 0.
    """
    sql = (
        "SELECT json_group_array(json_array(id, chat, question, asked_at, length, "
        "question_length, ifnull(embedder, 0))) FROM "
        "(SELECT * FROM feature WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?)"
    )
    first, last = span
    pages: list[Numbers] = []
    while not pages or len(pages[-1]) == ROWS_AT_ONCE:
        [[text]] = select(connection, sql, (first, last, ROWS_AT_ONCE))
        pages.append(np.array(orjson.loads(text), np.int64).reshape(-1, 7))
        first = int(pages[-1][-1, 0]) + 1 if pages[-1].size else last
    return np.concatenate(pages).T


def matching(
    connection: sqlite3.Connection, match: str, span: tuple[int, int]
) -> list[int]:
    sql = (
        "SELECT json_group_array(rowid) FROM word WHERE word MATCH ? "
        "AND rowid BETWEEN ? AND ?"
    )
    found: list[int] = orjson.loads(select(connection, sql, (match, *span))[0][0])
    return found


def read_vectors(
    connection: sqlite3.Connection, ids: Numbers, made_by: Numbers
) -> VectorsOf:
    """Packed vectors; `made_by` are keys of embedders."""
    found: VectorsOf = {}
    for key, *model in select(connection, "SELECT key, name, dimension FROM embedder"):
        places = np.flatnonzero(made_by == key)
        if places.size:
            packed = read_packed(connection, key, ids[places])
            found[Embedder(*model)] = places, packed
    return found


def read_packed(connection: sqlite3.Connection, key: int, ids: Numbers) -> list[bytes]:
    """The packed vectors of these exchanges, one behind the other in each piece.

    `ids` are all that this embedder has made vectors for in the range of a user.
    """
    # The plus keeps SQLite from walking the index of an embedder, over all users.
    sql = (
        "SELECT group_concat(hex(vector), '') FROM (SELECT vector FROM feature "
        "WHERE id BETWEEN ? AND ? AND +embedder = ? ORDER BY id)"
    )
    pages = (
        ids[first : first + ROWS_AT_ONCE] for first in range(0, len(ids), ROWS_AT_ONCE)
    )
    return [
        bytes.fromhex(select(connection, sql, (int(page[0]), int(page[-1]), key))[0][0])
        for page in pages
    ]


async def sqlite_cosines(
    vectors: VectorsOf, count: int, embedder: Embedder, vector: Floats
) -> Floats:
    dense = np.full(count, np.nan, np.float32)
    if embedder in vectors:
        places, packed = vectors[embedder]
        dense[places] = await off_the_loop(count, packed_cosines, packed, vector)
    return dense


def packed_cosines(packed: Sequence[bytes], vector: Floats) -> Floats:
    """Cosines of the packed vectors with this one, which has length 1."""
    size = len(pack_vector(vector))
    cosines = []
    for piece in packed:
        numbers, scales = unpack_vectors(piece, len(piece) // size)
        cosines.append(scales * (numbers @ vector))
    return np.concatenate(cosines)


def embedder_key(connection: sqlite3.Connection, embedder: Embedder) -> int | None:
    sql = "SELECT key FROM embedder WHERE name = ? AND dimension = ?"
    rows = select(connection, sql, astuple(embedder))
    return rows[0][0] if rows else None


def read_exchanges(
    connection: sqlite3.Connection, user_id: str, ids: Sequence[int]
) -> list[StoredExchange]:
    first, last = owner_range(connection, user_id)
    sql = f"SELECT {EXCHANGE_COLUMNS} FROM exchange WHERE id = ?"
    found = (
        select(connection, sql, (row_id,)) for row_id in ids if first <= row_id <= last
    )
    return [stored_exchange(row) for rows in found for row in rows]


def read_listing(
    connection: sqlite3.Connection,
    user_id: str,
    chat_id: str | None,
    limit: int,
    after: int,
) -> list[StoredExchange]:
    first, last = owner_range(connection, user_id)
    sql = (
        f"SELECT {EXCHANGE_COLUMNS} FROM exchange WHERE id BETWEEN ? AND ? "
        "AND (? IS NULL OR chat_id = ?) ORDER BY id LIMIT ?"
    )
    values = (max(first, after + 1), last, chat_id, chat_id, limit)
    return [stored_exchange(row) for row in select(connection, sql, values)]


def read_pending(
    connection: sqlite3.Connection, embedder: Embedder, limit: int
) -> list[tuple[str, StoredExchange]]:
    # Three ranges of the index on `embedder`, for "is distinct" reads all of it. What
    # has no vector at all comes first, the newest of it first.
    key = embedder_key(connection, embedder) or 0
    sql = (
        f"SELECT {EXCHANGE_COLUMNS}, user_id FROM (%s) AS waiting "
        "JOIN exchange USING (id) JOIN owner ON owner.key = exchange.id >> "
        f"{OWNER_SHIFT} ORDER BY exchange.asked_at DESC"
    )
    found: list[Any] = []
    for condition in ("IS NULL", f"> {key}", f"< {key}"):
        inner = (
            f"SELECT id FROM feature WHERE embedder {condition} "
            "ORDER BY embedder, asked_at DESC LIMIT ?"
        )
        if len(found) < limit:
            found += select(connection, sql % inner, (limit - len(found),))
    return [(row[-1], stored_exchange(row[:-1])) for row in found]


def write_vectors(
    connection: sqlite3.Connection,
    embedder: Embedder,
    vectors: Sequence[tuple[str, int, int, Floats]],
) -> int:
    connection.execute(
        "INSERT OR IGNORE INTO embedder (name, dimension) VALUES (?, ?)",
        astuple(embedder),
    )
    key = embedder_key(connection, embedder)
    done = connection.executemany(
        "UPDATE feature SET embedder = ?, vector = ? WHERE id = ? AND digest = ?",
        [
            (key, pack_vector(vector), row_id, digest)
            for _, row_id, digest, vector in vectors
        ],
    )
    return done.rowcount


def count_rows(connection: sqlite3.Connection, user_id: str) -> int:
    span = owner_range(connection, user_id)
    sql = "SELECT count(*) FROM feature WHERE id BETWEEN ? AND ?"
    return int(select(connection, sql, span)[0][0])
