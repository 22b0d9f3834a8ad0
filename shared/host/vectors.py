"""The vector store that an admin has configured: Chroma, pgvector, Qdrant, Milvus…"""

from collections.abc import Sequence
from typing import Any


class HostVectors:
    """Open WebUI's own client for it; there is none on the slim image."""

    def available(self) -> bool:
        return vector_client() is not None

    async def put(self, collection: str, items: Sequence[dict[str, Any]]) -> None:
        """Insert or replace items (id, text, vector, metadata)."""
        await vector_client().upsert(collection, list(items))

    async def nearest(
        self, collection: str, vector: Sequence[float], limit: int
    ) -> dict[str, float] | None:
        """Ids and cosines of the nearest; None where nothing of the collection is left."""
        client = vector_client()
        if client is None or not await client.has_collection(collection):
            return None
        found = await client.search(collection, [list(vector)], limit=limit)
        if found is None or not found.ids or not found.ids[0]:
            return None
        # Open WebUI brings every store's cosine from -1..1 to 0..1.
        return {
            item: 2 * score - 1
            for item, score in zip(found.ids[0], found.distances[0], strict=True)
        }

    async def drop(self, collection: str, ids: Sequence[str]) -> None:
        """Delete these items."""
        client = vector_client()
        if client is not None and await client.has_collection(collection):
            await client.delete(collection, ids=list(ids))


def vector_client() -> Any:
    """Open WebUI's client; None where there is none."""
    from open_webui.retrieval.vector.async_client import ASYNC_VECTOR_DB_CLIENT

    return ASYNC_VECTOR_DB_CLIENT
