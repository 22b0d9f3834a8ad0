"""What every store of the memory can do, and what a recall reads from it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.memory.exchanges import Exchange, StoredExchange

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Matches:
    """Where one word of the query stands, as positions in `Candidates.ids`."""

    in_question: Numbers
    anywhere: Numbers


@dataclass(frozen=True, slots=True)
class Embedder:
    """Which model made a vector: vectors of another model are never compared."""

    name: str
    dimension: int


# From the query's vector, at length 1, to each candidate's cosine with it; NaN where
# there is no vector of that model.
Compare = Callable[[Embedder, Floats], Awaitable[Floats]]


@dataclass(frozen=True, slots=True)
class Candidates:
    """All that one user has stored, as columns of one length.

    `chats` and `questions` are keys (`stable_key` of the chat's id, `question_key`
    of the question), `asked_at` seconds since 1970, `lengths` words of an exchange,
    `question_lengths` words of its question. `matches` has an entry for each word of
    the query. `compare` is for when the query's vector is there: reading need not
    wait for it.
    """

    ids: Numbers
    chats: Numbers
    questions: Numbers
    asked_at: Numbers
    lengths: Numbers
    question_lengths: Numbers
    matches: Sequence[Matches]
    compare: Compare


# Computing with the numbers of more candidates than this would hold up the event loop.
MOST_AT_ONCE = 5_000


async def off_the_loop(count: int, work: Callable[..., Any], *args: Any) -> Any:
    """What `work` gives; in a thread where it has many candidates to look at."""
    if count > MOST_AT_ONCE:
        return await asyncio.to_thread(work, *args)
    return work(*args)


class MemoryStore(Protocol):
    """A store keeps every user's exchanges apart: each call names the user."""

    async def save(self, user_id: str, exchanges: Sequence[Exchange]) -> int:
        """Store what is new or changed; gives how many that were."""
        ...

    async def candidates(self, user_id: str, terms: Sequence[str]) -> Candidates:
        """All of a user's exchanges, and where the words `terms` stand in them."""
        ...

    async def fetch(self, user_id: str, ids: Sequence[int]) -> list[StoredExchange]:
        """These exchanges, oldest first, without those that are not this user's."""
        ...

    async def listing(
        self,
        user_id: str,
        chat_id: str | None = None,
        limit: int = 1000,
        after: int = 0,
    ) -> list[StoredExchange]:
        """What is stored of a chat, or of all, by id and from above `after`."""
        ...

    async def forget(self, user_id: str, ids: Sequence[int]) -> int:
        """Forget these for good, in copies of their chats too: see `skip`."""
        ...

    async def skip(self, user_id: str, question_ids: Sequence[str]) -> None:
        """Have `save` never take these questions in; what is stored of them stays.

        It holds for every chat, also for those to come: the copy of a chat, and one
        that is exported and imported, keeps the ids of its messages.
        """
        ...

    async def keep_only(
        self, user_id: str, chat_id: str, question_ids: Sequence[str]
    ) -> int:
        """Drop what is stored of a chat but does not answer one of these questions.

        It may be saved again, unlike what is forgotten.
        """
        ...

    async def forget_message(self, chat_id: str, message_id: str) -> int: ...

    async def forget_chats(self, chat_ids: Sequence[str]) -> int: ...

    async def forget_all(self, user_id: str) -> int:
        """Forget all of a user's exchanges; what is to stay out still stays out."""
        ...

    async def forget_user(self, user_id: str) -> int:
        """Forget all there is about a user, who is gone."""
        ...

    async def chat_ids(self, after: str = "", limit: int = 500) -> list[str]:
        """Ids of chats with something stored, in order, from above `after`."""
        ...

    async def pending(
        self, embedder: Embedder, limit: int
    ) -> list[tuple[str, StoredExchange]]:
        """User and exchange of what has no vector of this model, newest first.

        None where there is no place for vectors.
        """
        ...

    async def set_vectors(
        self, embedder: Embedder, vectors: Sequence[tuple[str, int, int, Floats]]
    ) -> int:
        """Keep vectors: user, id, the exchange's digest when it was read, vector.

        Gives how many were kept: not one that has changed since then.
        """
        ...

    async def drop_other_vectors(self, embedder: Embedder) -> None:
        """Let go of what earlier models made: all has a vector of this one."""
        ...

    async def exclude(self, user_id: str, chat_id: str, excluded: bool) -> None: ...

    async def is_excluded(self, user_id: str, chat_id: str) -> bool: ...

    async def count(self, user_id: str) -> int: ...

    async def state(self, key: str) -> Any:
        """A JSON value kept under a name; None where there is none."""
        ...

    async def set_state(self, key: str, value: Any) -> None: ...

    async def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Hold `name` alone for so long, or go on holding it; False if another does.

        One conditional write, so that of two who ask at once one gets it.
        """
        ...
