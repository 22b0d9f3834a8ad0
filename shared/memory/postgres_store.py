"""The memory in Open WebUI's PostgreSQL, with vectors in Open WebUI's vector store."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import numpy as np

from shared.memory.base import Candidates, Embedder, Floats, off_the_loop
from shared.memory.exchanges import Exchange, StoredExchange
from shared.memory.postgres_rows import (
    FEATURE_ROW,
    exchange_values,
    owner_prefix,
    stored_row,
    unpack_candidates,
)
from shared.memory.postgres_schema import (
    COLLECTION_SQL,
    FEATURE_SQL,
    LEASE_SQL,
    MATCH_SQL,
    POSTGRES_COLUMNS,
    SAVE_SQL,
    SKIP_SQL,
    run_sql,
)
from shared.memory.postgres_vectors import (
    PostgresVectors,
    VectorStore,
    embedder_label,
)

Sessions = Callable[[], AbstractAsyncContextManager[Any]]


class PostgresStore:
    """See `MemoryStore`. Raises MemorySqlError; `set_vectors` may also raise
    VectorStoreError, the others do without vectors then.

    `sessions()` opens a SQLAlchemy AsyncSession.
    """

    def __init__(self, sessions: Sessions, vectors: VectorStore) -> None:
        self._sessions = sessions
        self._vectors = PostgresVectors(self._execute, vectors)

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
            [[packed]] = await run_sql(session, FEATURE_SQL, user_id=user_id)
            collections = await run_sql(session, COLLECTION_SQL, user_id=user_id)
            hits = await run_sql(
                session, MATCH_SQL, user_id=user_id, prefix=prefix, terms=list(terms)
            )
        rows = np.frombuffer(packed or b"", FEATURE_ROW)
        keys = {label: key for key, label in collections}
        compare = partial(self._vectors.cosines, user_id, rows, keys)
        found: Candidates = await off_the_loop(
            len(rows), unpack_candidates, rows, hits, len(terms), compare
        )
        return found

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
        rows = await self._execute(
            "SELECT question_id FROM aqueduct_memory.exchange "
            "WHERE user_id = :u AND id = ANY(CAST(:ids AS bigint[]))",
            u=user_id,
            ids=list(ids),
        )
        questions = [row[0] for row in rows]
        await self.skip(user_id, questions)
        return await self._delete(
            "user_id = :u AND question_id = ANY(CAST(:questions AS text[]))",
            u=user_id,
            questions=questions,
        )

    async def skip(self, user_id: str, question_ids: Sequence[str]) -> None:
        await self._execute(SKIP_SQL, u=user_id, questions=list(question_ids))

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
        await self._execute(
            "DELETE FROM aqueduct_memory.excluded WHERE chat_id = ANY(:c)", c=chats
        )
        return await self._delete("chat_id = ANY(:c)", c=chats)

    async def forget_all(self, user_id: str) -> int:
        return await self._forget_owned(user_id, "excluded")

    async def forget_user(self, user_id: str) -> int:
        return await self._forget_owned(user_id, "excluded", "left_out", "owner")

    async def _forget_owned(self, user_id: str, *tables: str) -> int:
        """Delete a user's exchanges, vectors, and what these tables hold of the user."""
        deleted = await self._delete("user_id = :u", u=user_id)
        for table in tables:
            await self._execute(
                f"DELETE FROM aqueduct_memory.{table} WHERE user_id = :u", u=user_id
            )
        await self._vectors.drop_user(user_id)
        return deleted

    async def _delete(self, where: str, **values: Any) -> int:
        """Delete rows and their vectors; `where` is a condition of ours."""
        rows = await self._execute(
            f"DELETE FROM aqueduct_memory.exchange WHERE {where} "
            "RETURNING id, user_id, embedder",
            **values,
        )
        await self._vectors.drop(rows)
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
        await self._vectors.put(embedder, vectors)
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

    async def drop_other_vectors(self, embedder: Embedder) -> None:
        await self._vectors.drop_others(embedder)

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

    async def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        rows = await self._execute(
            LEASE_SQL, name=name, holder=holder, seconds=float(seconds)
        )
        return bool(rows)
