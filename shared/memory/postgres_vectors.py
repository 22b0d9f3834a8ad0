"""Vectors of the memory on PostgreSQL: in the vector store that the admin has set."""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from shared.host.vectors import VectorStoreError
from shared.memory.base import Embedder, Floats

# As many hits as a recall can use; what lies beyond is taken for no better than these.
NEAREST = 300

# Runs one statement in a transaction of its own, and gives its rows.
Execute = Callable[..., Awaitable[list[Any]]]

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


def labelled_embedder(label: str) -> Embedder:
    name, _, dimension = label.rpartition(":")
    return Embedder(name, int(dimension))


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

    async def remove(self, collection: str) -> None: ...


class PostgresVectors:
    """Collections of vectors; the table `collection` tells which there are."""

    def __init__(self, execute: Execute, vectors: VectorStore) -> None:
        self._execute = execute
        self._vectors = vectors

    def available(self) -> bool:
        return self._vectors.available()

    async def put(
        self, embedder: Embedder, vectors: Sequence[tuple[str, int, int, Floats]]
    ) -> None:
        """Keep what `MemoryStore.set_vectors` was given; raises VectorStoreError."""
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
            # Noted first, so that no collection is ever unknown.
            await self._execute(
                "INSERT INTO aqueduct_memory.collection (user_id, embedder) "
                "VALUES (:u, :e) ON CONFLICT DO NOTHING",
                u=user_id,
                e=embedder_label(embedder),
            )
            await self._vectors.put(collection_name(user_id, embedder), items)

    async def cosines(
        self,
        user_id: str,
        rows: NDArray[np.void],
        keys: Mapping[str, int],
        embedder: Embedder,
        vector: Floats,
    ) -> Floats:
        """Cosines of FEATURE_ROWs, NaN without a vector of this model.

        `keys` are numbers of the user's collections by their embedder's label.
        """
        dense = np.full(len(rows), np.nan, np.float32)
        places = np.flatnonzero(
            rows["collection"] == keys.get(embedder_label(embedder))
        )
        if not places.size:
            return dense
        collection = collection_name(user_id, embedder)
        try:
            near = await self._vectors.nearest(collection, vector.tolist(), NEAREST)
        except VectorStoreError as error:
            postgres_log.warning("Recall by words alone, no vectors: %s", error)
            return dense
        if near is None:
            await self._were_lost(user_id)
        if not near:
            return dense
        found = {UUID(item).int: score for item, score in near.items()}
        dense[places] = min(found.values())
        close = places[np.isin(rows["id"][places], list(found))]
        dense[close] = [found[row_id] for row_id in rows["id"][close].tolist()]
        # The store compares directions only; ours are means of two.
        dense[places] *= rows["scale"][places]
        return dense

    async def _were_lost(self, user_id: str) -> None:
        """Somebody has reset the vector store: have them made again."""
        postgres_log.warning("No vectors of %s are left; they will be rebuilt", user_id)
        await self._execute(
            "UPDATE aqueduct_memory.exchange SET embedder = NULL WHERE user_id = :u",
            u=user_id,
        )

    async def drop(self, rows: Sequence[Sequence[Any]]) -> None:
        """Drop the vectors of deleted rows (id, user, embedder's label or None)."""
        gone: dict[str, list[str]] = defaultdict(list)
        for row_id, user_id, label in rows:
            if label:
                collection = collection_name(user_id, labelled_embedder(label))
                gone[collection].append(point_id(row_id))
        for collection, ids in gone.items():
            try:
                await self._vectors.drop(collection, ids)
            except VectorStoreError as error:
                # They hold no text, and nothing leads from them to one any more.
                postgres_log.warning("Vectors without an exchange stay: %s", error)

    async def drop_user(self, user_id: str) -> None:
        """Remove a user's collections, those of earlier models too."""
        await self._remove(
            await self._execute(
                "SELECT user_id, embedder FROM aqueduct_memory.collection "
                "WHERE user_id = :u",
                u=user_id,
            )
        )

    async def drop_others(self, embedder: Embedder) -> None:
        """Remove the collections of all other models."""
        label = embedder_label(embedder)
        others = await self._execute(
            "SELECT user_id, embedder FROM aqueduct_memory.collection "
            "WHERE embedder <> :e",
            e=label,
        )
        if not others:
            return
        # Whatever the present model did not take is to be asked for by the next one.
        await self._execute(
            "UPDATE aqueduct_memory.exchange SET embedder = NULL WHERE embedder <> :e",
            e=label,
        )
        await self._remove(others)

    async def _remove(self, collections: Sequence[Sequence[str]]) -> None:
        """Remove collections (user, embedder's label), and the note of each."""
        for user_id, label in collections:
            name = collection_name(user_id, labelled_embedder(label))
            try:
                await self._vectors.remove(name)
            except VectorStoreError as error:
                # It is noted still, so that it is tried again.
                postgres_log.warning("A collection of vectors stays: %s", error)
                continue
            await self._execute(
                "DELETE FROM aqueduct_memory.collection "
                "WHERE user_id = :u AND embedder = :e",
                u=user_id,
                e=label,
            )
