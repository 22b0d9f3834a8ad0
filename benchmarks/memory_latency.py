"""How long a recall takes as the memory grows, and what it takes on disk.

    python -m benchmarks.memory_latency [--sizes 1000,10000,100000] [--folder DIR]

Each user has 1,000 exchanges of words drawn with Zipf's frequencies; sizes are
exchanges of all users together. The words are those that the model knows whole, so that
a question of ten words has the 13 tokens that a question of LoCoMo has. A recall is the
whole way: the question's vector (MiniLM on the CPU), meanwhile reading the user's
exchanges, then scoring, and reading the texts of the best. Prints JSON, times in
milliseconds; "cpu" is the processor's time, which a busy machine changes little.
"""

import asyncio
import json
import sqlite3
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.minilm import MiniLM
from shared.memory.base import Embedder, Floats
from shared.memory.exchanges import Exchange
from shared.memory.recall import Scope, recall
from shared.memory.sqlite_file import SqliteFile, sqlite_transaction
from shared.memory.sqlite_rows import save_rows
from shared.memory.sqlite_store import SqliteStore, write_vectors
from shared.memory.vectors import unit_vector

EACH = 1_000
CHAT_LENGTH = 20
QUESTIONS = 200
WARM_UP = 20
START = 1_700_000_000


class Talk:
    """Made-up exchanges: 20 words asked, 80 answered, the same at every run."""

    def __init__(self, words: Sequence[str]) -> None:
        self._random = np.random.default_rng(7)
        self._words = self._random.permutation(np.array(words)).tolist()

    def text(self, count: int) -> str:
        places = self._random.zipf(1.2, count) % len(self._words)
        return " ".join(self._words[place] for place in places)

    def exchange(self, person: int, number: int) -> Exchange:
        return Exchange(
            chat_id=f"{person}-{number // CHAT_LENGTH}",
            question_id=f"{person}-{number}",
            answer_id="",
            question=self.text(20),
            answer=self.text(80),
            asked_at=START + number * 60,
        )

    def vectors(self, count: int) -> Floats:
        made = self._random.standard_normal((count, MiniLM.embedder.dimension))
        lengths = np.linalg.norm(made, axis=1, keepdims=True)
        scaled: Floats = (made / lengths).astype(np.float32)
        return scaled


def fill(path: Path, talk: Talk, people: range) -> float:
    """Add these people's exchanges; gives milliseconds an exchange."""
    started = time.perf_counter()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for person in people:
            with sqlite_transaction(connection):
                add_person(connection, talk, person)
    return (time.perf_counter() - started) * 1000 / (len(people) * EACH)


def add_person(connection: sqlite3.Connection, talk: Talk, person: int) -> None:
    name = f"person-{person}"
    exchanges = [talk.exchange(person, number) for number in range(EACH)]
    save_rows(connection, name, exchanges)
    rows = connection.execute(
        "SELECT feature.id, digest FROM feature JOIN exchange USING (id) "
        "WHERE feature.id > (SELECT max(key) << 24 FROM owner)"
    ).fetchall()
    made = talk.vectors(len(rows))
    write_vectors(
        connection,
        MiniLM.embedder,
        [(name, row[0], row[1], one) for row, one in zip(rows, made, strict=True)],
    )


async def measure(store: SqliteStore, model: MiniLM, talk: Talk, people: int) -> Any:
    """Quantiles of a whole recall, and the median of what it adds to the embedding."""
    embedding: list[float] = []

    async def embed(question: str) -> tuple[Embedder, Floats]:
        started = time.perf_counter()
        [vector] = await model.encode([question])
        embedding.append((time.perf_counter() - started) * 1000)
        return model.embedder, unit_vector(vector)

    whole: list[float] = []
    cpu: list[float] = []
    chooser = np.random.default_rng(3)
    for _ in range(WARM_UP + QUESTIONS):
        person = f"person-{chooser.integers(people)}"
        question = f"what did i say about {talk.text(6)}"
        started, worked = time.perf_counter(), time.process_time()
        await recall(store, embed, person, question, Scope(), limit=6, gated=False)
        whole.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - worked) * 1000)
    whole, embedding, cpu = whole[WARM_UP:], embedding[WARM_UP:], cpu[WARM_UP:]
    rest = [one - other for one, other in zip(whole, embedding, strict=True)]
    cuts = statistics.quantiles(whole, n=100)
    return {
        "p50": round(cuts[49], 2),
        "p95": round(cuts[94], 2),
        "p99": round(cuts[98], 2),
        "p50 embedding": round(statistics.median(embedding), 2),
        "p50 beyond embedding": round(statistics.median(rest), 2),
        "p50 cpu": round(statistics.median(cpu), 2),
    }


async def curve(sizes: list[int], folder: Path) -> dict[str, Any]:
    path, model = folder / "memory.db", MiniLM()
    talk = Talk(model.words())
    SqliteFile(path, {}).close()
    result: dict[str, Any] = {}
    people = 0
    for size in sizes:
        wanted = max(size // EACH, 1)
        insert = fill(path, talk, range(people, wanted))
        people = wanted
        file = SqliteFile(path, {})
        figures = await measure(SqliteStore(file), model, talk, people)
        file.close()
        result[str(people * EACH)] = figures | {
            "insert": round(insert, 2),
            "bytes an exchange": path.stat().st_size // (people * EACH),
        }
    return result


def main(
    sizes: Annotated[
        str, typer.Option(help="Exchanges, growing, divided by commas.")
    ] = "1000,10000,100000",
    folder: Annotated[
        Path | None, typer.Option(help="Where to make the file; a temporary folder.")
    ] = None,
) -> None:
    """Print the growth curve as JSON."""
    wanted = sorted(int(size) for size in sizes.split(","))
    with TemporaryDirectory(dir=folder) as temporary:
        print(json.dumps(asyncio.run(curve(wanted, Path(temporary))), indent=2))


if __name__ == "__main__":
    typer.run(main)
