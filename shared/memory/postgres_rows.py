"""Rows of the memory's PostgreSQL tables: what is written, and what a recall reads.

A recall reads all of a user's exchanges. PostgreSQL packs them into one value, which
costs the event loop next to nothing, however many they are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.memory.base import Candidates, Compare, Matches, Numbers
from shared.memory.exchanges import (
    Exchange,
    StoredExchange,
    question_key,
    stable_key,
)
from shared.memory.postgres_schema import run_sql
from shared.memory.wording import index_texts

# What FEATURE_SQL packs of each exchange, in network byte order.
FEATURE_ROW = np.dtype(
    [
        ("id", ">i8"),
        ("chat", ">i8"),
        ("question", ">i8"),
        ("asked_at", ">i8"),
        ("length", ">i8"),
        ("question_length", ">i8"),
        ("collection", ">i8"),
        ("scale", ">f8"),
    ]
)


async def owner_prefix(session: Any, user_id: str, *, make: bool = False) -> str:
    """What stands before each stem of this user; "none:" for who has nothing."""
    if make:
        await run_sql(
            session,
            "INSERT INTO aqueduct_memory.owner (user_id) VALUES (:u) "
            "ON CONFLICT DO NOTHING",
            u=user_id,
        )
    rows = await run_sql(
        session, "SELECT key FROM aqueduct_memory.owner WHERE user_id = :u", u=user_id
    )
    return f"{rows[0][0]}:" if rows else "none:"


def exchange_values(exchange: Exchange) -> dict[str, Any]:
    asked, answered = index_texts(exchange)
    question_length = asked.count(" ") + 1
    return {
        "chat_id": exchange.chat_id,
        "question_id": exchange.question_id,
        "answer_id": exchange.answer_id,
        "question": exchange.question,
        "answer": exchange.answer,
        "asked_at": exchange.asked_at,
        "speaker": exchange.speaker,
        "model": exchange.model,
        "chat": stable_key(exchange.chat_id),
        "question_key": question_key(exchange.question),
        "digest": exchange.digest,
        "length": question_length + answered.count(" ") + bool(answered),
        "question_length": question_length,
        "asked": asked,
        "answered": answered,
    }


def stored_row(row: Sequence[Any]) -> StoredExchange:
    return StoredExchange(int(row[0]), Exchange(*row[1:]))


def unpack_candidates(
    rows: NDArray[np.void],
    hits: Sequence[Sequence[Any]],
    terms: int,
    compare: Compare,
) -> Candidates:
    """FEATURE_ROWs and what MATCH_SQL gave, as columns."""
    ids, chats, questions, asked_at, lengths, question_lengths = (
        rows[name].astype(np.int64)
        for name in ("id", "chat", "question", "asked_at", "length", "question_length")
    )
    nowhere = np.zeros(0, np.int64)
    matches = [Matches(nowhere, nowhere)] * terms
    for term, anywhere, asked in hits:
        matches[term] = Matches(places_of(asked, ids), places_of(anywhere, ids))
    return Candidates(
        ids, chats, questions, asked_at, lengths, question_lengths, matches, compare
    )


def places_of(packed: bytes | None, ids: Numbers) -> Numbers:
    """Where the packed ids stand in `ids`, without what was stored since those were read."""
    return np.flatnonzero(np.isin(ids, np.frombuffer(packed or b"", ">i8")))
