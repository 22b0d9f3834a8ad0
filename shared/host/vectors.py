"""The vector store that an admin has configured: Chroma, pgvector, Qdrant, Milvus…"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Open WebUI brings a cosine from -1..1 to 0..1, but not in these of its clients.
RAW_COSINE_CLIENTS = frozenset({"milvus_multitenancy", "mariadb_vector", "valkey"})


class VectorStoreError(Exception):
    """The vector store failed, or there is none."""


class HostVectors:
    """Open WebUI's own client for it. Ids have to be UUIDs: Qdrant takes no others.

    Each method raises VectorStoreError.
    """

    def available(self) -> bool:
        return vector_client() is not None

    async def put(self, collection: str, items: Sequence[dict[str, Any]]) -> None:
        """Insert or replace items (id, text, vector, metadata)."""
        with vector_errors():
            # For Milvus, whose client inserts a second item of the same id.
            await self.drop(collection, [item["id"] for item in items])
            await vector_client().upsert(collection, list(items))

    async def nearest(
        self, collection: str, vector: Sequence[float], limit: int
    ) -> dict[str, float] | None:
        """Ids and cosines of the nearest; None where the collection is gone."""
        with vector_errors():
            client = vector_client()
            if client is None:
                return {}
            if not await client.has_collection(collection):
                return None
            found = await client.search(collection, [list(vector)], limit=limit)
            if found is None or not found.ids:
                return {}
            raw = type(client.sync).__module__.rpartition(".")[2] in RAW_COSINE_CLIENTS
        return {
            item: score if raw else 2 * score - 1
            for item, score in zip(found.ids[0], found.distances[0], strict=True)
        }

    async def drop(self, collection: str, ids: Sequence[str]) -> None:
        """Delete these items, as far as they are there."""
        with vector_errors():
            client = vector_client()
            if client is not None and await client.has_collection(collection):
                await client.delete(collection, ids=list(ids))

    async def remove(self, collection: str) -> None:
        """Delete a collection, if it is there."""
        with vector_errors():
            client = vector_client()
            if client is not None and await client.has_collection(collection):
                await client.delete_collection(collection)


@contextmanager
def vector_errors() -> Iterator[None]:
    """Turns whatever a client's library raises into VectorStoreError."""
    try:
        yield
    except VectorStoreError:
        raise
    except Exception as error:
        raise VectorStoreError(f"{type(error).__name__}: {error}") from error


def vector_client() -> Any:
    """Open WebUI's client; None where there is none."""
    from open_webui.retrieval.vector.async_client import ASYNC_VECTOR_DB_CLIENT

    return ASYNC_VECTOR_DB_CLIENT
