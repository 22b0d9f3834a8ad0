"""A store in a temporary file, and an embedding that needs no model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.memory.base import Embedder
from shared.memory.exchanges import stable_key
from shared.memory.sqlite_file import SqliteFile
from shared.memory.sqlite_store import SqliteStore
from shared.memory.terms import words
from shared.memory.vectors import exchange_vectors, unit_vector

DIMENSION = 64


class BagOfWords:
    """Vectors whose cosine is the share of words in common."""

    def __init__(self, name: str = "bag-of-words", dimension: int = DIMENSION) -> None:
        self.embedder = Embedder(name, dimension)

    async def encode(self, texts: Any) -> list[list[float]]:
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> list[float]:
        vector = np.zeros(self.embedder.dimension)
        for word in words(text):
            vector[stable_key(word) % self.embedder.dimension] += 1
        return [float(value) for value in vector]

    async def question(self, text: str) -> Any:
        return self.embedder, unit_vector(self.vector(text))

    async def index(self, store: Any) -> int:
        """Give every exchange its vector; gives how many were waiting."""
        done = 0
        while waiting := await store.pending(self.embedder, 10):
            made = await exchange_vectors(
                self.encode, [stored.exchange for _, stored in waiting]
            )
            done += await store.set_vectors(
                self.embedder,
                [
                    (user_id, stored.id, stored.exchange.digest, vector)
                    for (user_id, stored), vector in zip(waiting, made, strict=True)
                ],
            )
        return done


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Iterator[SqliteFile]:
    file = SqliteFile(tmp_path / "memory.db", {})
    yield file
    file.close()


@pytest.fixture
def store(sqlite_file: SqliteFile) -> SqliteStore:
    return SqliteStore(sqlite_file)


@pytest.fixture
def model() -> BagOfWords:
    return BagOfWords()
