"""The memory in Open WebUI's PostgreSQL, with vectors in Open WebUI's vector store."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol
from uuid import UUID

import numpy as np

from shared.host.vectors import VectorStoreError
from shared.memory.base import Candidates, Embedder, Floats, Matches
from shared.memory.exchanges import (
    Exchange,
    StoredExchange,
    question_key,
    stable_key,
)
from shared.memory.postgres_schema import (
    FEATURE_SQL,
    MATCH_SQL,
    POSTGRES_COLUMNS,
    SAVE_SQL,
    SKIP_SQL,
    run_sql,
)
from shared.memory.wording import index_texts

# As many hits as a recall can use; what lies beyond is taken for no better than these.
NEAREST = 300

Sessions = Callable[[], AbstractAsyncContextManager[Any]]

postgres_log = logging.getLogger("aqueduct.memory.postgres")


def collection_name(user_id: str, embedder: Embedder) -> str:
    """A collection for each user and model.

    Open WebUI's multi-tenant stores route by the beginning `user-memory-`; exactly
    `user-memory-{user_id}` is its own.
    """
    label = embedder_label(embedder).encode()
    model = blake2b(label, digest_size=4).hexdigest()
    return f"user-memory-aq-{model}-{user_id}"


def embedder_label(embedder: Embedder) -> str:
    return f"{embedder.name}:{embedder.dimension}"


def point_id(row_id: int) -> str:
    """The id of a row's vector: a UUID, as vector stores want it."""
    return str(UUID(int=row_id))


class VectorStore(Protocol):
    """Where vectors are kept, by collection: `HostVectors` says what is what."""

    def available(self) -> bool: ...

    async def put(self, collection: str, items: Sequence[dict[str, Any]]) -> None: ...

    async def nearest(
        self, collection: str, vector: Sequence[float], limit: int
    ) -> dict[str, float] | None: ...

    async def drop(self, collection: str, ids: Sequence[str]) -> None: ...


class PostgresStore:
    """See `MemoryStore`. Raises MemorySqlError; `set_vectors` may also raise
    VectorStoreError, the others do without vectors then.

    `sessions()` opens a SQLAlchemy AsyncSession.
    """

    def __init__(self, sessions: Sessions, vectors: VectorStore) -> None:
        self._sessions = sessions
        self._vectors = vectors

    async def _execute(self, sql: str, **values: Any) -> list[Any]:
        """One statement in a transaction of its own."""
        async with self._sessions() as session:
            rows = await run_sql(session, sql, **values)
            await session.commit()
        return rows

    async def save(self, user_id: str, exchanges: Sequence[Exchange]) -> int:
        saved = 0
        async with self._sessions() as session:
            prefix = await owner_prefix(session, user_id, make=True)
            for exchange in exchanges:
                values = exchange_values(exchange) | {"prefix": prefix}
                saved += len(
                    await run_sql(session, SAVE_SQL, user_id=user_id, **values)
                )
            await session.commit()
        return saved

    async def candidates(self, user_id: str, terms: Sequence[str]) -> Candidates:
        async with self._sessions() as session:
            prefix = await owner_prefix(session, user_id)
            rows = await run_sql(session, FEATURE_SQL, user_id=user_id)
            hits = await run_sql(
                session, MATCH_SQL, user_id=user_id, prefix=prefix, terms=list(terms)
            )
        columns = np.array([row[:6] for row in rows], np.int64).reshape(-1, 6).T
        matches = matches_of(columns[0], hits, len(terms))
        compare = partial(self._cosines, user_id, rows)
        ids, chats, questions, asked_at, lengths, asked = columns
        return Candidates(
            ids, chats, questions, asked_at, lengths, asked, matches, compare
        )

    async def _cosines(
        self,
        user_id: str,
        rows: Sequence[Sequence[Any]],
        embedder: Embedder,
        vector: Floats,
    ) -> Floats:
        dense = np.full(len(rows), np.nan, np.float32)
        label = embedder_label(embedder)
        if not any(row[6] == label for row in rows):
            return dense
        collection = collection_name(user_id, embedder)
        try:
            near = await self._vectors.nearest(collection, vector.tolist(), NEAREST)
        except VectorStoreError as error:
            postgres_log.warning("Recall by words alone, no vectors: %s", error)
            return dense
        if near is None:
            await self._vectors_were_lost(user_id)
        if not near:
            return dense
        farthest = min(near.values())
        for place, row in enumerate(rows):
            if row[6] == label:
                # The store compares directions only; ours are means of two.
                dense[place] = near.get(point_id(row[0]), farthest) * row[7]
        return dense

    async def _vectors_were_lost(self, user_id: str) -> None:
        """Somebody has reset the vector store: have them made again."""
        postgres_log.warning("No vectors of %s are left; they will be rebuilt", user_id)
        await self._execute(
            "UPDATE aqueduct_memory.exchange SET embedder = NULL WHERE user_id = :u",
            u=user_id,
        )

    async def fetch(self, user_id: str, ids: Sequence[int]) -> list[StoredExchange]:
        rows = await self._execute(
            f"SELECT {POSTGRES_COLUMNS} FROM aqueduct_memory.exchange "
            "WHERE user_id = :u AND id = ANY(CAST(:ids AS bigint[])) "
            "ORDER BY asked_at, id",
            u=user_id,
            ids=list(ids),
        )
        return [stored_row(row) for row in rows]

    async def listing(
        self,
        user_id: str,
        chat_id: str | None = None,
        limit: int = 1000,
        after: int = 0,
    ) -> list[StoredExchange]:
        rows = await self._execute(
            f"SELECT {POSTGRES_COLUMNS} FROM aqueduct_memory.exchange "
            "WHERE user_id = :u AND id > :after AND "
            "(CAST(:chat AS text) IS NULL OR chat_id = :chat) ORDER BY id LIMIT :n",
            u=user_id,
            after=after,
            chat=chat_id,
            n=limit,
        )
        return [stored_row(row) for row in rows]

    async def forget(self, user_id: str, ids: Sequence[int]) -> int:
        where = "user_id = :u AND id = ANY(CAST(:ids AS bigint[]))"
        values = {"u": user_id, "ids": list(ids)}
        await self._execute(
            "INSERT INTO aqueduct_memory.forgotten (user_id, chat_id, question_id) "
            "SELECT user_id, chat_id, question_id FROM aqueduct_memory.exchange "
            f"WHERE {where} ON CONFLICT DO NOTHING",
            **values,
        )
        return await self._delete(where, **values)

    async def skip(self, user_id: str, chat_id: str, question_id: str) -> None:
        await self._execute(SKIP_SQL, u=user_id, c=chat_id, q=question_id)

    async def keep_only(
        self, user_id: str, chat_id: str, question_ids: Sequence[str]
    ) -> int:
        return await self._delete(
            "user_id = :u AND chat_id = :c "
            "AND question_id <> ALL(CAST(:kept AS text[]))",
            u=user_id,
            c=chat_id,
            kept=list(question_ids),
        )

    async def forget_message(self, chat_id: str, message_id: str) -> int:
        return await self._delete(
            "chat_id = :c AND (question_id = :m OR answer_id = :m)",
            c=chat_id,
            m=message_id,
        )

    async def forget_chats(self, chat_ids: Sequence[str]) -> int:
        chats = list(chat_ids)
        for table in ("excluded", "forgotten"):
            await self._execute(
                f"DELETE FROM aqueduct_memory.{table} WHERE chat_id = ANY(:c)", c=chats
            )
        return await self._delete("chat_id = ANY(:c)", c=chats)

    async def forget_user(self, user_id: str) -> int:
        deleted = await self._delete("user_id = :u", u=user_id)
        for table in ("excluded", "forgotten", "owner"):
            await self._execute(
                f"DELETE FROM aqueduct_memory.{table} WHERE user_id = :u", u=user_id
            )
        return deleted

    async def _delete(self, where: str, **values: Any) -> int:
        """Delete rows and their vectors; `where` is a condition of ours."""
        rows = await self._execute(
            f"DELETE FROM aqueduct_memory.exchange WHERE {where} "
            "RETURNING id, user_id, embedder",
            **values,
        )
        gone: dict[str, list[str]] = defaultdict(list)
        for row_id, user_id, label in rows:
            if label:
                name, _, dimension = label.rpartition(":")
                embedder = Embedder(name, int(dimension))
                gone[collection_name(user_id, embedder)].append(point_id(row_id))
        for collection, ids in gone.items():
            try:
                await self._vectors.drop(collection, ids)
            except VectorStoreError as error:
                # They hold no text, and nothing leads from them to one any more.
                postgres_log.warning("Vectors without an exchange stay: %s", error)
        return len(rows)

    async def chat_ids(self, after: str = "", limit: int = 500) -> list[str]:
        rows = await self._execute(
            "SELECT DISTINCT chat_id FROM aqueduct_memory.exchange "
            "WHERE chat_id > :after ORDER BY chat_id LIMIT :n",
            after=after,
            n=limit,
        )
        return [row[0] for row in rows]

    async def pending(
        self, embedder: Embedder, limit: int
    ) -> list[tuple[str, StoredExchange]]:
        if not self._vectors.available():
            return []
        rows = await self._execute(
            f"SELECT {POSTGRES_COLUMNS}, user_id FROM aqueduct_memory.exchange "
            "WHERE embedder IS DISTINCT FROM :e "
            "ORDER BY embedder IS NOT NULL, asked_at DESC LIMIT :n",
            e=embedder_label(embedder),
            n=limit,
        )
        return [(row[-1], stored_row(row[:-1])) for row in rows]

    async def set_vectors(
        self, embedder: Embedder, vectors: Sequence[tuple[str, int, int, Floats]]
    ) -> int:
        by_user: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for user_id, row_id, _, vector in vectors:
            by_user[user_id].append(
                {
                    "id": point_id(row_id),
                    "text": "",  # texts stay in SQL, where they can be deleted
                    "vector": vector.tolist(),
                    "metadata": {"exchange": row_id},
                }
            )
        for user_id, items in by_user.items():
            await self._vectors.put(collection_name(user_id, embedder), items)
        kept = 0
        async with self._sessions() as session:
            for _, row_id, digest, vector in vectors:
                rows = await run_sql(
                    session,
                    "UPDATE aqueduct_memory.exchange SET embedder = :e, scale = :s "
                    "WHERE id = :id AND digest = :digest RETURNING id",
                    e=embedder_label(embedder),
                    s=float(np.linalg.norm(vector)),
                    id=row_id,
                    digest=digest,
                )
                kept += len(rows)
            await session.commit()
        return kept

    async def exclude(self, user_id: str, chat_id: str, excluded: bool) -> None:
        sql = (
            "INSERT INTO aqueduct_memory.excluded VALUES (:u, :c) ON CONFLICT DO NOTHING"
            if excluded
            else "DELETE FROM aqueduct_memory.excluded WHERE user_id=:u AND chat_id=:c"
        )
        await self._execute(sql, u=user_id, c=chat_id)

    async def is_excluded(self, user_id: str, chat_id: str) -> bool:
        return bool(
            await self._execute(
                "SELECT 1 FROM aqueduct_memory.excluded "
                "WHERE user_id = :u AND chat_id = :c",
                u=user_id,
                c=chat_id,
            )
        )

    async def count(self, user_id: str) -> int:
        rows = await self._execute(
            "SELECT count(*) FROM aqueduct_memory.exchange WHERE user_id = :u",
            u=user_id,
        )
        return int(rows[0][0])

    async def state(self, key: str) -> Any:
        rows = await self._execute(
            "SELECT value FROM aqueduct_memory.state WHERE name = :k", k=key
        )
        return json.loads(rows[0][0]) if rows else None

    async def set_state(self, key: str, value: Any) -> None:
        await self._execute(
            "INSERT INTO aqueduct_memory.state VALUES (:k, :v) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            k=key,
            v=json.dumps(value),
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


def matches_of(ids: Any, hits: Sequence[Sequence[Any]], count: int) -> list[Matches]:
    """The rows (term, id, in the question?) as one entry a term."""
    asked: list[list[int]] = [[] for _ in range(count)]
    anywhere: list[list[int]] = [[] for _ in range(count)]
    for place, row_id, in_question in hits:
        anywhere[place].append(row_id)
        if in_question:
            asked[place].append(row_id)
    return [
        Matches(np.searchsorted(ids, sorted(one)), np.searchsorted(ids, sorted(other)))
        for one, other in zip(asked, anywhere, strict=True)
    ]
