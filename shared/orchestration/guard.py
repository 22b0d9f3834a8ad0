"""What keeps models that ask models from going round in circles, or on for ever.

Everything goes by the answer to a person's message at the top, as the database knows
it: so it holds for models below models, and on every worker of the server.
"""

import time
from collections.abc import Collection
from dataclasses import replace
from uuid import uuid4

from shared.errors import AqueductError
from shared.host.errands import Errand, asked_for
from shared.host.own_chats import own_chat
from shared.orchestration.caller import Caller


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
    asked = await asked_for(caller.chat_id, caller.message_id)
    errand, limit = asked.errand, caller.limits.max_seconds
    # An answer that began when the errand's time was over is a person's: the question
    # of a model, which they let answer anew.
    if errand is None or asked.answered_at - errand.started > limit:
        root, started = asked.answer_id, asked.answered_at
        if asked.begun - started > limit:
            # Woken when the time of what a person asked was over: a request of its own.
            root, started = caller.message_id, asked.begun
        errand = Errand(root or uuid4().hex, started or int(time.time()), 0, (), (), "")
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
