"""How well the memory finds what was said: R@5, R@8, R@20, MRR, and its gate.

    python -m benchmarks.memory_recall --data FILE --format locomo|exchanges [--gate]

`locomo` is the format of the LoCoMo data set (Maharana et al., 2024): a list of
dialogues with `conversation` and `qa`; a unit is one turn. `exchanges` is a list of
{"chat": [{"user", "assistant", "date", "id"}], "questions": [{"question",
"evidence": [ids]}]}; a unit is one exchange. Every dialogue is a user of one store.

R@k is the mean over questions of the share of their evidence among the first k. With
--gate, each user is also asked questions about somebody else's chats, with the names
of that dialogue replaced by the user's own, and none of those should find anything.
"""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Protocol

import numpy as np
import typer

from benchmarks.minilm import MiniLM
from shared.memory.base import Embedder, Floats
from shared.memory.exchanges import Exchange
from shared.memory.recall import Scope, recall
from shared.memory.sqlite_file import SqliteFile
from shared.memory.sqlite_store import SqliteStore
from shared.memory.vectors import exchange_vectors, unit_vector

DEPTHS = (5, 8, 20)
FOREIGN_QUESTIONS = 200
NO_ANSWER = "5"  # LoCoMo's category of questions that the dialogue does not answer
TURN_ID = re.compile(r"D\d+:\d+")
DATE_FORMATS = (
    "%I:%M %p on %d %B, %Y",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d %B %Y",
    "%B %d, %Y",
    "%d %b %Y",
    "%b %d, %Y",
)


class Format(StrEnum):
    LOCOMO = "locomo"
    EXCHANGES = "exchanges"


@dataclass(frozen=True)
class Question:
    text: str
    evidence: frozenset[str]
    category: str


@dataclass(frozen=True)
class Person:
    """One user of the store: what they said and what is asked about it."""

    id: str
    names: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    questions: tuple[Question, ...]


def seconds_of(date: object) -> int:
    """A date as seconds since 1970; 0 for one that cannot be read."""
    if isinstance(date, int | float):
        return int(date)
    text = re.sub(r"\s*\(\w+\)\s*", " ", str(date or "")).strip()
    for form in DATE_FORMATS:
        for candidate in (text, text[:19], text[:10]):
            try:
                return int(
                    datetime.strptime(candidate, form).replace(tzinfo=UTC).timestamp()
                )
            except ValueError:
                continue
    return 0


def read_locomo(number: int, dialogue: Mapping[str, Any]) -> Person:
    talk = dialogue["conversation"]
    exchanges = []
    for key, turns in talk.items():
        if not isinstance(turns, list):
            continue
        start = seconds_of(talk.get(f"{key}_date_time"))
        for place, turn in enumerate(turns):
            exchanges.append(
                Exchange(
                    chat_id=f"{number}-{key}",
                    question_id=turn["dia_id"],
                    answer_id="",
                    question=turn["text"],
                    answer="",
                    asked_at=start + place,
                    speaker=turn["speaker"],
                )
            )
    questions = [
        Question(
            str(entry["question"]),
            frozenset(TURN_ID.findall(" ".join(entry.get("evidence", ())))),
            str(entry["category"]),
        )
        for entry in dialogue["qa"]
    ]
    names = (talk["speaker_a"], talk["speaker_b"])
    return Person(f"person-{number}", names, tuple(exchanges), tuple(questions))


def read_exchanges(number: int, record: Mapping[str, Any]) -> Person:
    exchanges = [
        Exchange(
            chat_id=f"{number}-{entry.get('chat_id', '')}",
            question_id=str(entry["id"]),
            answer_id="",
            question=str(entry["user"] or ""),
            answer=str(entry["assistant"] or ""),
            asked_at=seconds_of(entry.get("date")),
        )
        for entry in record["chat"]
    ]
    questions = [
        Question(
            str(entry["question"]),
            frozenset(map(str, entry["evidence"])),
            str(entry.get("category", "all")),
        )
        for entry in record["questions"]
    ]
    return Person(f"person-{number}", (), tuple(exchanges), tuple(questions))


class Model(Protocol):
    """What turns texts into vectors, as `MiniLM` does."""

    embedder: Embedder

    async def encode(self, texts: Sequence[str]) -> list[list[float]]: ...


class Bench:
    """A store filled with everybody's exchanges, and a model to ask it with."""

    def __init__(self, store: SqliteStore, model: Model) -> None:
        self._store = store
        self._model = model
        self._vectors: dict[str, Floats] = {}

    async def encode(self, texts: Sequence[str]) -> list[Floats]:
        """Unit vectors; a text that several people said is embedded once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        made = await self._model.encode(new) if new else []
        self._vectors |= {
            text: unit_vector(vector) for text, vector in zip(new, made, strict=True)
        }
        return [self._vectors[text] for text in texts]

    async def fill(self, people: Iterable[Person]) -> None:
        for person in people:
            await self._store.save(person.id, person.exchanges)
            stored = await self._store.listing(person.id, limit=1_000_000)
            exchanges = [one.exchange for one in stored]
            vectors = await exchange_vectors(self.encode, exchanges)
            await self._store.set_vectors(
                self._model.embedder,
                [
                    (person.id, one.id, one.exchange.digest, vector)
                    for one, vector in zip(stored, vectors, strict=True)
                ],
            )

    async def ask(
        self, person: Person, question: str, limit: int, gated: bool
    ) -> list[str]:
        hits = await recall(
            self._store,
            self._embed,
            person.id,
            question,
            Scope(),
            limit=limit,
            gated=gated,
        )
        return [hit.stored.exchange.question_id for hit in hits]

    async def _embed(self, question: str) -> tuple[Embedder, Floats]:
        [vector] = await self.encode([question])
        return self._model.embedder, vector


async def measure_recall(bench: Bench, people: Sequence[Person]) -> dict[str, Any]:
    """Recall at each depth and mean reciprocal rank, overall and by category."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for person in people:
        known = {exchange.question_id for exchange in person.exchanges}
        for question in person.questions:
            evidence = question.evidence & known
            if not evidence:
                continue
            found = await bench.ask(person, question.text, max(DEPTHS), gated=False)
            row = [len(evidence & set(found[:k])) / len(evidence) for k in DEPTHS]
            ranks = [1 / (found.index(one) + 1) for one in evidence if one in found]
            row.append(max(ranks, default=0.0))
            rows["all"].append(row)
            if question.category != "all":
                rows[f"category {question.category}"].append(row)
    names = [f"R@{k}" for k in DEPTHS] + ["MRR"]
    return {
        group: {"questions": len(values)}
        | dict(zip(names, np.mean(values, axis=0).round(4).tolist(), strict=True))
        for group, values in sorted(rows.items())
    }


def answerable(person: Person) -> list[str]:
    return [
        question.text
        for question in person.questions
        if question.evidence and question.category != NO_ANSWER
    ]


def foreign(person: Person, people: Sequence[Person]) -> list[str]:
    """An even sample of the others' questions, in this person's names."""
    texts = []
    for other in people:
        if other is person:
            continue
        for text in answerable(other):
            for name, own in zip(other.names, person.names, strict=True):
                text = re.sub(rf"\b{re.escape(name)}\b", own, text)
            texts.append(text)
    step = max(len(texts) // FOREIGN_QUESTIONS, 1)
    return texts[::step]


async def measure_gate(bench: Bench, people: Sequence[Person]) -> dict[str, Any]:
    """The share of questions, answerable and foreign, that pull anything in."""
    passed: dict[str, list[int]] = {"answerable": [], "foreign": []}
    for person in people:
        asked = {"answerable": answerable(person), "foreign": foreign(person, people)}
        for kind, texts in asked.items():
            await bench.encode(texts)  # many at once take a fraction of the time
            for text in texts:
                found = await bench.ask(person, text, 8, gated=True)
                passed[kind].append(len(found))
    return {
        kind: {
            "questions": len(counts),
            "pull anything in": round(float(np.mean(np.array(counts) > 0)), 4),
            "notes when any": round(sum(counts) / max(sum(map(bool, counts)), 1), 2),
        }
        for kind, counts in passed.items()
        if counts
    }


async def measure(
    people: Sequence[Person], with_gate: bool, model: Model
) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        file = SqliteFile(Path(folder) / "memory.db", {})
        bench = Bench(SqliteStore(file), model)
        await bench.fill(people)
        await bench.encode([q.text for person in people for q in person.questions])
        result: dict[str, Any] = {"recall": await measure_recall(bench, people)}
        if with_gate:
            result["gate"] = await measure_gate(bench, people)
        file.close()
    return result


def main(
    data: Annotated[Path, typer.Option(help="A JSON file of the format.")],
    format: Annotated[Format, typer.Option(help="What the file holds.")],
    gate: Annotated[bool, typer.Option("--gate", help="Measure the gate too.")] = False,
) -> None:
    """Print the figures as JSON."""
    read = read_locomo if format is Format.LOCOMO else read_exchanges
    people = [read(n, record) for n, record in enumerate(json.loads(data.read_text()))]
    print(json.dumps(asyncio.run(measure(people, gate, MiniLM())), indent=2))


if __name__ == "__main__":
    typer.run(main)
