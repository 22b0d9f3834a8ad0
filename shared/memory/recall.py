"""Asking the memory: from a question to the exchanges worth telling."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.memory.base import (
    Candidates,
    Embedder,
    Floats,
    MemoryStore,
    Numbers,
    off_the_loop,
)
from shared.memory.exchanges import StoredExchange, question_key, stable_key
from shared.memory.recipe import Ranking, rank
from shared.memory.terms import query_terms

# A question is embedded and searched by its head: a pasted document is no question.
MAX_QUESTION_CHARS = 2_000

EmbedQuestion = Callable[[str], Coroutine[Any, Any, tuple[Embedder, Floats] | None]]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: in all chats of a user, or in `only_chat`.

    `shown` are keys of the questions in `chat_id` that the model sees anyway.
    """

    chat_id: str = ""
    only_chat: bool = False
    shown: Collection[int] = field(default=())


@dataclass(frozen=True, slots=True)
class Recalled:
    """An exchange that was found; `strength` is 1 where the gate stands."""

    stored: StoredExchange
    strength: float


async def recall(
    store: MemoryStore,
    embed: EmbedQuestion,
    user_id: str,
    question: str,
    scope: Scope,
    *,
    limit: int = 8,
    gated: bool = True,
) -> list[Recalled]:
    """The exchanges that matter to a question, best first; often none.

    `gated=False` gives the best in any case, for who asked to see something.
    """
    question = question[:MAX_QUESTION_CHARS]
    terms = query_terms(question)
    if not terms:
        return []
    found, dense = await read_and_compare(
        store.candidates(user_id, terms), embed(question)
    )
    allowed = in_scope(found, scope, question)
    ranking: Ranking = await off_the_loop(len(found.ids), rank, found, dense)
    choose = ranking.relevant if gated else ranking.best
    best = first_of_each(found, choose(allowed, 2 * limit))[:limit]
    strengths = {int(found.ids[i]): float(ranking.strengths[i]) for i in best}
    stored = await store.fetch(user_id, list(strengths))
    hits = [Recalled(one, strengths[one.id]) for one in stored]
    place = {row_id: number for number, row_id in enumerate(strengths)}
    return sorted(hits, key=lambda hit: place[hit.stored.id])


async def read_and_compare(
    reading: Coroutine[Any, Any, Candidates],
    embedding: Coroutine[Any, Any, tuple[Embedder, Floats] | None],
) -> tuple[Candidates, Floats]:
    """Candidates with their cosines: the store is read while the model computes."""
    async with asyncio.TaskGroup() as tasks:
        read, made = tasks.create_task(reading), tasks.create_task(embedding)
    found = read.result()
    if query := made.result():
        return found, await found.compare(*query)
    return found, np.full(len(found.ids), np.nan, np.float32)


def in_scope(found: Candidates, scope: Scope, question: str) -> NDArray[np.bool_]:
    """Which candidates may be told.

    What the model sees anyway is left out, in other chats too: those are copies of
    this one. Only the present question itself may well have been asked elsewhere.
    """
    here = found.chats == stable_key(scope.chat_id)
    shown = np.isin(found.questions, list(scope.shown))
    asked_now = found.questions == question_key(question)
    allowed = ~shown | (asked_now & ~here)
    return allowed & here if scope.only_chat else allowed


def first_of_each(found: Candidates, best: Numbers) -> list[int]:
    """Without what stands in the memory twice, as in a chat and its copy."""
    kinds: dict[tuple[int, int], int] = {}
    for place in best.tolist():
        kinds.setdefault((found.questions[place], found.lengths[place]), place)
    return list(kinds.values())
