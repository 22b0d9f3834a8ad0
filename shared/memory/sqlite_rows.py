"""Rows of the memory's SQLite file: written, and taken out of every table."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Any

from shared.memory.exchanges import (
    Exchange,
    StoredExchange,
    question_key,
    stable_key,
)
from shared.memory.sqlite_file import OWNER_SHIFT
from shared.memory.wording import index_texts

EXCHANGE_COLUMNS = (
    "exchange.id, chat_id, question_id, answer_id, exchange.question, answer, "
    "exchange.asked_at, speaker, model"
)


def select(
    connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()
) -> list[Any]:
    return connection.execute(sql, values).fetchall()


def owner_range(connection: sqlite3.Connection, user_id: str) -> tuple[int, int]:
    """The first and last id this user's exchanges may have; (0, -1) for none."""
    rows = select(connection, "SELECT key FROM owner WHERE user_id = ?", (user_id,))
    if not rows:
        return 0, -1
    first = rows[0][0] << OWNER_SHIFT
    return first, first | ((1 << OWNER_SHIFT) - 1)


def next_exchange_id(connection: sqlite3.Connection, user_id: str) -> int:
    """An id in this user's range that was never given before."""
    sql = "UPDATE owner SET last = last + 1 WHERE user_id = ? RETURNING key, last"
    rows = select(connection, sql, (user_id,)) or select(
        connection,
        "INSERT INTO owner (user_id, last) VALUES (?, 1) RETURNING key, last",
        (user_id,),
    )
    key, last = rows[0]
    return (int(key) << OWNER_SHIFT) | int(last)


def save_rows(
    connection: sqlite3.Connection, user_id: str, exchanges: Sequence[Exchange]
) -> int:
    saved = 0
    sql = "SELECT 1 FROM left_out WHERE user_id = ? AND question_id = ?"
    for exchange in exchanges:
        if select(connection, sql, (user_id, exchange.question_id)):
            continue
        place = (exchange.chat_id, exchange.question_id)
        span = owner_range(connection, user_id)
        known = select(
            connection,
            "SELECT exchange.id, digest FROM exchange JOIN feature USING (id) "
            "WHERE chat_id = ? AND question_id = ? AND exchange.id BETWEEN ? AND ?",
            (*place, *span),
        )
        if known:
            row_id, digest = known[0]
            if digest == exchange.digest:
                continue
            delete_where(connection, "exchange.id = ?", (row_id,))
        insert_row(connection, next_exchange_id(connection, user_id), exchange)
        saved += 1
    return saved


def insert_row(connection: sqlite3.Connection, row_id: int, exchange: Exchange) -> None:
    question, answer = index_texts(exchange)
    asked, answered = question.count(" ") + 1, answer.count(" ") + bool(answer)
    connection.execute(
        "INSERT INTO exchange (id, chat_id, question_id, answer_id, question, answer, "
        "asked_at, speaker, model) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row_id, *astuple(exchange)),
    )
    connection.execute(
        "INSERT INTO feature (id, chat, question, digest, asked_at, length, "
        "question_length) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            row_id,
            stable_key(exchange.chat_id),
            question_key(exchange.question),
            exchange.digest,
            exchange.asked_at,
            asked + answered,
            asked,
        ),
    )
    connection.execute(
        "INSERT INTO word (rowid, question, answer) VALUES (?, ?, ?)",
        (row_id, question, answer),
    )


def stored_exchange(row: Sequence[Any]) -> StoredExchange:
    return StoredExchange(int(row[0]), Exchange(*row[1:]))


def delete_where(
    connection: sqlite3.Connection, where: str, values: Sequence[Any]
) -> int:
    """Delete rows everywhere; `where` is a condition of ours on `exchange`."""
    sql = f"SELECT {EXCHANGE_COLUMNS} FROM exchange WHERE {where}"
    rows = select(connection, sql, values)
    for row in rows:
        stored = stored_exchange(row)
        # The index keeps no text, so it is told again what to take out.
        connection.execute(
            "INSERT INTO word (word, rowid, question, answer) "
            "VALUES ('delete', ?, ?, ?)",
            (stored.id, *index_texts(stored.exchange)),
        )
        connection.execute("DELETE FROM exchange WHERE id = ?", (stored.id,))
        connection.execute("DELETE FROM feature WHERE id = ?", (stored.id,))
    return len(rows)


def drop_others(
    connection: sqlite3.Connection,
    user_id: str,
    chat_id: str,
    question_ids: Sequence[str],
) -> int:
    """Delete the chat's exchanges except those that answer these questions."""
    span = owner_range(connection, user_id)
    sql = (
        "SELECT id, question_id FROM exchange WHERE chat_id = ? AND id BETWEEN ? AND ?"
    )
    kept = set(question_ids)
    return sum(
        delete_where(connection, "exchange.id = ?", (row_id,))
        for row_id, question_id in select(connection, sql, (chat_id, *span))
        if question_id not in kept
    )


def leave_out(
    connection: sqlite3.Connection, user_id: str, question_ids: Iterable[str]
) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO left_out (user_id, question_id) VALUES (?, ?)",
        [(user_id, question_id) for question_id in question_ids],
    )


def forget_rows(
    connection: sqlite3.Connection, user_id: str, ids: Sequence[int]
) -> int:
    span = owner_range(connection, user_id)
    among = "exchange.id BETWEEN ? AND ? AND %s IN (SELECT value FROM json_each(?))"
    sql = f"SELECT question_id FROM exchange WHERE {among % 'id'}"
    rows = select(connection, sql, (*span, json.dumps(list(ids))))
    questions = [question_id for (question_id,) in rows]
    leave_out(connection, user_id, questions)
    return delete_where(
        connection, among % "question_id", (*span, json.dumps(questions))
    )


def forget_chat_rows(connection: sqlite3.Connection, chat_ids: Iterable[str]) -> int:
    deleted = 0
    for chat_id in chat_ids:
        deleted += delete_where(connection, "chat_id = ?", (chat_id,))
        connection.execute("DELETE FROM excluded WHERE chat_id = ?", (chat_id,))
    return deleted


def forget_owned(
    connection: sqlite3.Connection, user_id: str, tables: Iterable[str]
) -> int:
    """Delete a user's exchanges, and what these tables hold of the user."""
    span = owner_range(connection, user_id)
    deleted = delete_where(connection, "exchange.id BETWEEN ? AND ?", span)
    for table in tables:
        connection.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))
    return deleted


def take_lease_row(
    connection: sqlite3.Connection, name: str, holder: str, now: float, until: float
) -> bool:
    sql = (
        "INSERT INTO lease (name, holder, until) VALUES (?1, ?2, ?4) "
        "ON CONFLICT (name) DO UPDATE SET holder = ?2, until = ?4 "
        "WHERE holder = ?2 OR until <= ?3 RETURNING name"
    )
    return bool(select(connection, sql, (name, holder, now, until)))
