"""What is deleted in Open WebUI is forgotten; what was there before is indexed."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import uuid4

from shared.host.saved_chats import (
    chat_owners,
    chats_from,
    count_chats,
    current_branch,
    message_authors,
)
from shared.host.valves import function_is_active, user_named
from shared.memory.base import MemoryStore
from shared.memory.exchanges import branch_exchanges, own_turns
from shared.memory.looking_up import MEMORY_FILTER_ID, memory_options, personal_options
from shared.memory.opening import (
    in_background,
    open_memory,
    request_indexing,
    start_once,
)
from shared.memory.options import MemoryOptions

BACKFILL_STATE = "backfill"
PAGE = 50
# One replica at a time reads old chats. Who has not reported for this long is gone, and
# another one, or the same after a restart, goes on. The others ask so often.
LEASE_SECONDS = 20
LEASE_POLL_SECONDS = 2
# What a chat raises that is not of the usual shape, as imported ones may be. It must
# not keep those after it from being read; a database that fails may.
UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)
# After each chat the backfill rests as long as that took, at least this many seconds.
SHORTEST_REST = 0.02

# Events after which the memory may lag behind: the first to come after a start, and
# those that change which model makes vectors.
WAKING_EVENTS = frozenset(
    {
        "system.startup.completed",
        "function.created",
        "function.enabled",
        "function.updated",
        "function.valves_updated",
        "config.updated",
    }
)

housekeeping_log = logging.getLogger("aqueduct.memory.housekeeping")


async def keep_house(name: str, event: Mapping[str, Any]) -> None:
    """Do what an event of Open WebUI asks for (its `event`, `subject` and `data`).

    Each replica that publishes an event comes here once; forgetting twice is harmless.
    """
    subject = str((event.get("subject") or {}).get("id") or "")
    data = event.get("data") or {}
    if name == "message.deleted":
        if chat_id := data.get("chat_id"):
            await (await open_memory()).forget_message(str(chat_id), subject)
    elif name == "chat.deleted":
        await (await open_memory()).forget_chats([subject])
    elif name == "chat.deleted_all":
        await (await open_memory()).forget_all(subject)
    elif name == "user.deleted":
        await (await open_memory()).forget_user(subject)
    elif name == "folder.deleted":
        # The event names no chats, so all are looked at.
        await forget_what_is_gone(await open_memory())
    elif name == "message.updated":
        if chat_id := data.get("chat_id"):
            await store_again(str(chat_id))
    elif name == "chat.updated":
        # The interface saves an edited message as the whole chat.
        await store_again(subject)
    elif name == "chat.imported":
        store = await open_memory()
        in_background("import", store_imported(store, data.get("chat_ids") or ()))
    elif name in WAKING_EVENTS:
        await wake(await open_memory(), name)


async def wake(store: MemoryStore, name: str) -> None:
    """Catch up in the background: deletions, missing vectors, old chats."""
    if not await function_is_active(MEMORY_FILTER_ID):
        return
    if name in ("system.startup.completed", "function.enabled"):
        # Deletions went unseen while the server, or this function, was off.
        start_once("reconciling", forget_what_is_gone(store))
    request_indexing(store)
    if (await memory_options()).backfill:
        start_once("backfill", backfill(store))


async def store_imported(store: MemoryStore, chat_ids: Sequence[str]) -> None:
    """Store chats that somebody brought along, as slowly as those from before."""
    options = await memory_options()
    if not (options.backfill and await function_is_active(MEMORY_FILTER_ID)):
        return
    for chat_id, owner in (await chat_owners(list(chat_ids))).items():
        await store_chat(store, chat_id, owner.user_id, options)
        await asyncio.sleep(SHORTEST_REST)
    request_indexing(store)


async def forget_what_is_gone(store: MemoryStore) -> None:
    """Forget every chat that Open WebUI no longer has."""
    after = ""
    while page := await store.chat_ids(after):
        owners = await chat_owners(page)
        if gone := [chat_id for chat_id in page if chat_id not in owners]:
            await store.forget_chats(gone)
        after = page[-1]


async def store_again(chat_id: str) -> None:
    """Take in edits to what is stored of a chat.

    Other exchanges are left to the next answer: they may be of another branch.
    """
    owner = (await chat_owners([chat_id])).get(chat_id)
    if owner is None:
        return
    store = await open_memory()
    stored = await store.listing(owner.user_id, chat_id, limit=1_000_000)
    known = {one.exchange.question_id for one in stored}
    options = await memory_options()
    if known and await store_chat(store, chat_id, owner.user_id, options, known):
        request_indexing(store)


async def store_chat(
    store: MemoryStore,
    chat_id: str,
    user_id: str,
    options: MemoryOptions,
    only: Collection[str] | None = None,
) -> int:
    """Store the branch of a chat that its owner sees; gives how much was new.

    `only` are ids of the questions that are meant, where not all are.
    """
    if not (await personal_options(user_id)).remember:
        return 0
    if await store.is_excluded(user_id, chat_id):
        return 0
    name, user = await user_named(user_id)
    if user is None:
        return 0
    branch = own_turns(
        await current_branch(chat_id), await message_authors(chat_id), user_id
    )
    exchanges = branch_exchanges(
        branch, chat_id, speaker=name, max_chars=options.max_chars
    )
    return await store.save(
        user_id, [one for one in exchanges if only is None or one.question_id in only]
    )


async def backfill(store: MemoryStore) -> None:
    """Store the chats from before, in the order of their ids, once and for all.

    `state("backfill")` holds how far it has come, so that a restart goes on from there.
    """
    holder = uuid4().hex
    while not (await backfill_state(store)).get("finished"):
        if await store.take_lease(BACKFILL_STATE, holder, LEASE_SECONDS):
            await go_on_with_backfill(store, holder)
        else:
            await asyncio.sleep(LEASE_POLL_SECONDS)


async def backfill_state(store: MemoryStore) -> dict[str, Any]:
    return dict(await store.state(BACKFILL_STATE) or {"after": "", "done": 0})


async def go_on_with_backfill(store: MemoryStore, holder: str) -> None:
    """Store one chat after the other for as long as nobody else has the lease."""
    state = await backfill_state(store)
    options = await memory_options()
    state["total"] = await count_chats()
    while page := await chats_from(state["after"], PAGE):
        for chat_id, user_id in page:
            started = time.monotonic()
            if not await store.take_lease(BACKFILL_STATE, holder, LEASE_SECONDS):
                return
            try:
                await store_chat(store, chat_id, user_id, options)
            except UNREADABLE:
                housekeeping_log.exception("Passed over: chat %s", chat_id)
            state |= {"after": chat_id, "done": state["done"] + 1}
            await store.set_state(BACKFILL_STATE, state)
            await asyncio.sleep(max(time.monotonic() - started, SHORTEST_REST))
        request_indexing(store)
    await store.set_state(BACKFILL_STATE, state | {"finished": True})
    housekeeping_log.info("Chats from before: all %d are stored", state["done"])
