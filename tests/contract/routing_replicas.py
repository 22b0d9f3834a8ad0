"""Replicas that share one real Redis, and what tests wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import TypeVar

import redis.asyncio

from shared.routing.redis_queue import RedisStore
from shared.routing.redis_wire import RedisWire
from shared.routing.settings import PoolSpec, UpstreamSlots
from shared.routing.store import QueuePlace
from shared.routing.tickets import Ticket
from tests.redis import RedisServer

PATIENCE = 20.0
LEASE = 0.6
ROOT = "tests:aqueduct:{routing}:"
SPEC = PoolSpec("pool", (UpstreamSlots("a"), UpstreamSlots("b")))
NUMBERS = count(1)
Found = TypeVar("Found")


@asynccontextmanager
async def connected(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(server.url, decode_responses=True) as client:
        yield client


class Replicas:
    """Stores that share one Redis, as several servers do."""

    def __init__(self, client: redis.asyncio.Redis, lease: float = LEASE) -> None:
        wire = RedisWire(client, ROOT)
        self.stores = [RedisStore(wire, LEASE / 3, lease) for _ in range(2)]

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


def ticket(user: str = "ada", **more: object) -> Ticket:
    return Ticket(f"t{next(NUMBERS)}", user, "model", **more)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def found(ask: Callable[[], Awaitable[Found | None]]) -> Found:
    """Ask until there is an answer that counts as true."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if answer := await ask():
                return answer
            await asyncio.sleep(0.01)


async def settled(place: QueuePlace) -> None:
    async with asyncio.timeout(PATIENCE):
        await place.settled


async def until_shared(store: RedisStore, running: int) -> None:
    """Wait until Redis knows of so many requests that run."""

    async def known() -> bool:
        return sum((await store.view(SPEC)).running.values()) == running

    await found(known)
