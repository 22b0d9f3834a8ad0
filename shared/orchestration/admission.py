"""Whether one more turn may begin, within the limits of a request.

Counted in the database. Within one process nobody else counts between the look and the
turn that follows from it, so that models at work at the same moment do not go beyond.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakValueDictionary

from shared.errors import AqueductError
from shared.host.errands import Errand, ErrandTurn, errand_turns
from shared.host.resources import shared_resource
from shared.host.turns import unbroken
from shared.orchestration.caller import Caller
from shared.orchestration.guard import seconds_left

POLL_SECONDS = 0.5

# By chat: the root and the message that asked for a talk, and how many turns it has.
PromisedTurns = dict[str, tuple[str, str, int]]


@asynccontextmanager
async def admission(
    caller: Caller, errand: Errand, name: str, *, turns: int, new_chat: bool
) -> AsyncIterator[None]:
    """Begin the first of these turns within; it waits while too many chats run.

    AqueductError where a limit of the request is reached.
    """
    locks: WeakValueDictionary[str, asyncio.Lock] = shared_resource(
        "errand_locks", WeakValueDictionary
    )
    lock = locks.setdefault(errand.root, asyncio.Lock())
    told = False
    while True:
        async with lock:
            running = await running_chats(caller, errand, turns, new_chat)
            if running < caller.limits.max_parallel:
                yield
                return
        if not told:
            told = True
            await caller.status("waiting_for_place", False, number=running, model=name)
        await asyncio.sleep(POLL_SECONDS)


async def running_chats(
    caller: Caller, errand: Errand, turns: int, new_chat: bool
) -> int:
    """How many chats run for who asks; AqueductError where a limit is reached."""
    if seconds_left(caller, errand) <= 0:
        raise AqueductError("time_over")
    before = await unbroken(errand_turns(caller.request, caller.person.id, errand))
    talks = {
        chat_id: (asked_by, count)
        for chat_id, (root, asked_by, count) in promised_turns().items()
        if root == errand.root
    }
    promised = {chat_id: count for chat_id, (_, count) in talks.items()}
    check_limits(caller, before, promised, turns, new_chat)
    asked = [(turn.chat_id, turn.asked_by) for turn in before if turn.task_id]
    asked += [(chat_id, asked_by) for chat_id, (asked_by, _) in talks.items()]
    return len({chat_id for chat_id, asker in asked if asker == errand.message_id})


def check_limits(
    caller: Caller,
    before: Sequence[ErrandTurn],
    promised: dict[str, int],
    turns: int,
    new_chat: bool,
) -> None:
    """AqueductError where these turns would go beyond what one request may cost.

    `promised` are all turns of the talks that are held, by chat.
    """
    limits = caller.limits
    # The union of two counters keeps the larger count of each.
    taken = Counter(turn.chat_id for turn in before) | Counter(promised)
    if new_chat and len(taken) >= limits.max_chats:
        raise AqueductError("too_many_chats", limit=limits.max_chats)
    if taken.total() + turns > limits.max_turns:
        raise AqueductError("too_many_turns", limit=limits.max_turns)
    if used_up(caller, before):
        raise AqueductError("too_many_tokens", limit=limits.max_tokens)


async def has_tokens(caller: Caller, errand: Errand) -> bool:
    """Whether the request has tokens left."""
    turns = await errand_turns(caller.request, caller.person.id, errand)
    return not used_up(caller, turns)


def used_up(caller: Caller, turns: Sequence[ErrandTurn]) -> bool:
    return sum(turn.tokens for turn in turns) >= caller.limits.max_tokens


def promised_turns() -> PromisedTurns:
    """Turns of talks that are going on in this process."""
    promised: PromisedTurns = shared_resource("promised_turns", dict)
    return promised


@contextmanager
def promise(errand: Errand, chat_id: str, turns: int) -> Iterator[None]:
    """Count a talk's turns from its beginning, although they come one by one."""
    promised_turns()[chat_id] = (errand.root, errand.message_id, turns)
    try:
        yield
    finally:
        promised_turns().pop(chat_id, None)
