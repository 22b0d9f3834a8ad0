"""What the memory asks of a vector store, asked of Open WebUI's client for it.

    python -m tests.contract.vector_store_calls

in an environment that chooses the store (VECTOR_DB and its settings). Prints what each
call gave as JSON, for the test that starts it. Qdrant is no server here: its client's
own store in memory, which is as strict about ids and filters.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from typing import Any

import numpy as np

from shared.host.vectors import HostVectors
from shared.memory.base import Embedder
from shared.memory.postgres_vectors import collection_name, point_id

MODEL = Embedder("a-model", 384)
ADA = collection_name("5d8e1d90-4a07-4b55-9c3f-0e9a3c1f7b11", MODEL)
BOB = collection_name("9b1f7b11-4a07-4b55-9c3f-0e9a3c1f5d8e", MODEL)
PATIENCE = 30.0


def along(cosine: float) -> list[float]:
    """A vector with this cosine to `along(1)`, half as long as a unit vector."""
    vector = np.zeros(MODEL.dimension)
    vector[:2] = cosine / 2, np.sqrt(1 - cosine**2) / 2
    return [float(number) for number in vector]


def item(row_id: int, cosine: float) -> dict[str, Any]:
    return {
        "id": point_id(row_id),
        "text": "",
        "vector": along(cosine),
        "metadata": {"exchange": row_id},
    }


async def nearest(collection: str) -> dict[int, float] | None:
    """Cosines by row, or None."""
    found = await HostVectors().nearest(collection, along(1), 300)
    if found is None:
        return None
    names = {point_id(row_id): row_id for row_id in range(1, 10)}
    return {names[key]: round(cosine, 2) for key, cosine in found.items()}


async def settled(collection: str, expected: dict[int, float] | None) -> Any:
    """What is found, once it is as expected: some stores show a change late."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        found = await nearest(collection)
        if (found or {}) == (expected or {}):
            return found
        if asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.1)


def without_a_server() -> None:
    """Let Qdrant's client, whatever server it is told of, be its own store."""
    library: Any = importlib.import_module("qdrant_client")
    local = library.QdrantClient(location=":memory:")
    library.QdrantClient = lambda **settings: local


async def calls() -> dict[str, Any]:
    if os.environ.get("VECTOR_DB") == "qdrant":
        without_a_server()
    from open_webui.retrieval.vector.async_client import ASYNC_VECTOR_DB_CLIENT

    store = HostVectors()
    seen: dict[str, Any] = {"client": type(ASYNC_VECTOR_DB_CLIENT.sync).__module__}
    seen["at first"] = await nearest(ADA)
    await store.drop(ADA, [point_id(1)])
    await store.put(ADA, [item(1, 1.0), item(2, 0.5), item(3, -0.5)])
    await store.put(BOB, [item(4, 0.9)])
    seen["put"] = await settled(ADA, {1: 1.0, 2: 0.5, 3: -0.5})
    seen["of another"] = await settled(BOB, {4: 0.9})
    await store.put(ADA, [item(1, 0.25)])
    seen["replaced"] = await settled(ADA, {1: 0.25, 2: 0.5, 3: -0.5})
    await store.drop(ADA, [point_id(2), point_id(9)])
    seen["dropped"] = await settled(ADA, {1: 0.25, 3: -0.5})
    await store.remove(BOB)
    await store.remove(BOB)
    seen["removed"] = await settled(BOB, None)
    seen["beside it"] = await settled(ADA, {1: 0.25, 3: -0.5})
    # What POST /api/v1/retrieval/reset/db does.
    ASYNC_VECTOR_DB_CLIENT.sync.reset()
    seen["reset"] = await settled(ADA, None)
    await store.put(ADA, [item(5, 0.75)])
    seen["put again"] = await settled(ADA, {5: 0.75})
    return seen


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(asyncio.run(calls())) + "\n")
