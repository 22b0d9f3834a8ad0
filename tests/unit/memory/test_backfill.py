"""Chats from before: one replica reads them, and another takes over from it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from shared.memory import housekeeping
from shared.memory.housekeeping import BACKFILL_STATE, backfill
from shared.memory.options import MemoryOptions
from shared.memory.sqlite_file import SqliteFile
from shared.memory.sqlite_store import SqliteStore

CHATS = [(f"chat-{number:02}", "ada") for number in range(30)]


@pytest.fixture
def read(monkeypatch):
    """Which chats were read, how often; `broken` are those that cannot be."""
    read: Counter[str] = Counter()

    async def chats_from(after, limit):
        return [chat for chat in CHATS if chat[0] > after][:limit]

    async def count_chats():
        return len(CHATS)

    async def memory_options():
        return MemoryOptions()

    async def store_chat(store, chat_id, user_id, options):
        read[chat_id] += 1
        await asyncio.sleep(0)
        if chat_id == "chat-07":
            raise KeyError("role")

    monkeypatch.setattr(housekeeping, "chats_from", chats_from)
    monkeypatch.setattr(housekeeping, "count_chats", count_chats)
    monkeypatch.setattr(housekeeping, "memory_options", memory_options)
    monkeypatch.setattr(housekeeping, "store_chat", store_chat)
    monkeypatch.setattr(housekeeping, "request_indexing", lambda store: None)
    monkeypatch.setattr(housekeeping, "SHORTEST_REST", 0)
    monkeypatch.setattr(housekeeping, "LEASE_POLL_SECONDS", 0.01)
    return read


async def test_of_two_replicas_one_reads_the_chats_and_both_end(
    read, store, sqlite_file
):
    file = SqliteFile(sqlite_file.path, {})
    await asyncio.gather(backfill(store), backfill(SqliteStore(file)))
    file.close()
    assert read == Counter(chat_id for chat_id, _ in CHATS)
    state = await store.state(BACKFILL_STATE)
    assert (state["done"], state["finished"]) == (len(CHATS), True)


async def test_who_takes_over_goes_on_where_the_other_stopped(read, store):
    await store.set_state(BACKFILL_STATE, {"after": "chat-19", "done": 20})
    await store.take_lease(BACKFILL_STATE, "the other", 0)
    await backfill(store)
    assert sorted(read) == [chat_id for chat_id, _ in CHATS[20:]]
    assert (await store.state(BACKFILL_STATE))["done"] == len(CHATS)


async def test_who_lost_the_lease_stops(read, store, monkeypatch):
    """As after a long halt: another replica has taken over meanwhile."""
    held = store.take_lease
    asked = Counter()

    async def lost_after_ten(name, holder, seconds):
        asked["times"] += 1
        if asked["times"] == 11:
            await store.set_state(BACKFILL_STATE, {"done": 30, "finished": True})
            return False
        return await held(name, holder, seconds)

    monkeypatch.setattr(store, "take_lease", lost_after_ten)
    await backfill(store)
    assert sorted(read) == [chat_id for chat_id, _ in CHATS[:9]]
    assert (await store.state(BACKFILL_STATE))["done"] == 30
