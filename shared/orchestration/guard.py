"""What keeps models that ask models from going round in circles, or on for ever.

Everything is counted in the database, by the answer to a person's message at the top:
so it holds for models below models, and on every worker of the server.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from uuid import uuid4

from shared.errors import AqueductError
from shared.host.errands import Errand, ErrandTurn, errand_of, errand_turns
from shared.host.own_chats import own_chat
from shared.host.turns import unbroken
from shared.orchestration.caller import Caller

POLL_SECONDS = 0.5


async def require_own_chat(caller: Caller) -> None:
    """AqueductError unless the caller answers in a stored chat of its user's own.

    Elsewhere others would read what stands in the user's chats, what is not to be
    stored would be, and the limits of a request, which lie there, would not hold.
    """
    if await own_chat(caller.person, caller.chat_id) is None:
        raise AqueductError("not_own_chat")


async def present_errand(caller: Caller) -> Errand:
    """For whom the caller is answering: depth 0 where that is a person."""
    await require_own_chat(caller)
    errand, begun = await errand_of(caller.chat_id, caller.message_id)
    # An answer that began when the errand's time was over is a person's: the question
    # of a model, which they let answer anew.
    if errand is None or begun - errand.started > caller.limits.max_seconds:
        root = caller.message_id or uuid4().hex
        errand = Errand(root, begun or int(time.time()), 0, (), (), "")
    models = dict.fromkeys([*errand.models, caller.model_id])
    return replace(errand, models=tuple(models))


def next_errand(caller: Caller, present: Errand, model_ids: Collection[str]) -> Errand:
    """The errand of models that the caller asks; AqueductError where it may not."""
    if set(model_ids) & set(present.models):
        raise AqueductError("own_model")
    limit = caller.limits.max_depth
    if present.depth >= limit:
        raise AqueductError("too_deep", limit=limit)
    return replace(
        present,
        depth=present.depth + 1,
        models=(*present.models, *model_ids),
        chats=waiting_chats(caller, present),
        message_id=caller.message_id,
    )


def waiting_chats(caller: Caller, present: Errand) -> tuple[str, ...]:
    """The chats in which somebody waits for what the caller does now, its own last."""
    return (*present.chats, caller.chat_id)


def seconds_left(caller: Caller, errand: Errand) -> float:
    """What is left of the request's time; below zero when it is over."""
    return errand.started + caller.limits.max_seconds - time.time()


async def await_admission(
    caller: Caller, errand: Errand, name: str, *, turns: int, new_chat: bool
) -> None:
    """Return when the turns may begin: within the limits, and not too many at once.

    AqueductError where a limit of the request is reached.
    """
    told = False
    while True:
        if seconds_left(caller, errand) <= 0:
            raise AqueductError("time_over")
        before = await unbroken(errand_turns(caller.request, caller.person.id, errand))
        check_limits(caller, before, turns, new_chat)
        running = [
            turn
            for turn in before
            if turn.task_id and turn.asked_by == errand.message_id
        ]
        if len(running) < caller.limits.max_parallel:
            return
        if not told:
            told = True
            await caller.status(
                "waiting_for_place", False, number=len(running), model=name
            )
        await asyncio.sleep(POLL_SECONDS)


def check_limits(
    caller: Caller, before: Sequence[ErrandTurn], turns: int, new_chat: bool
) -> None:
    """AqueductError where these turns would go beyond what one request may cost."""
    limits = caller.limits
    chats = len({turn.chat_id for turn in before}) + new_chat
    if chats > limits.max_chats and new_chat:
        raise AqueductError("too_many_chats", limit=limits.max_chats)
    if len(before) + turns > limits.max_turns:
        raise AqueductError("too_many_turns", limit=limits.max_turns)
    if sum(turn.tokens for turn in before) >= limits.max_tokens:
        raise AqueductError("too_many_tokens", limit=limits.max_tokens)
