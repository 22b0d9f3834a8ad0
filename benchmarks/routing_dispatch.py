"""What it costs to choose an upstream and give a slot; prints JSON.

    python -m benchmarks.routing_dispatch

Microseconds a request, medians, in one pool of four upstreams, for 2,000 chats of 500
people; in this process' memory, and in a Redis on this machine.

- `alone`: a request joins, has its slot at once and gives it back.
- `crowded`: 10,000 wait. A request joins them, and a slot that is given back goes to the
  next of them: both together are what one request costs.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import statistics
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from redis.asyncio import Redis

from devkit.process import Child, free_port, port_is_free
from shared.routing.memory_queue import InProcessStore
from shared.routing.redis_queue import RedisStore
from shared.routing.redis_wire import RedisWire
from shared.routing.settings import (
    AffinitySettings,
    PoolSpec,
    QueueSettings,
    UpstreamSlots,
)
from shared.routing.store import QueuePlace, QueueStore
from shared.routing.tickets import Ticket

UPSTREAMS, SLOTS = 4, 4
PEOPLE, CHATS = 500, 2_000
GOALS_US = {"memory": 100.0, "redis": 2_000.0}  # alone; twice as much when crowded
ENDLESS = 1e6
NUMBERS = itertools.count()
POOL = PoolSpec(
    "bench",
    tuple(UpstreamSlots(f"gpu{n}", SLOTS) for n in range(UPSTREAMS)),
    QueueSettings.model_validate({"max_waiting": {"person": 1_000_000}}),
    AffinitySettings(wait=ENDLESS),
)


def new_ticket() -> Ticket:
    number = next(NUMBERS)
    chat = number * 7919 % CHATS
    person = f"person {chat % PEOPLE}"
    return Ticket(f"ticket-{number}", person, "model", affinity=f"chat {chat}")


async def alone(store: QueueStore, requests: int) -> float:
    """Microseconds of a request that meets nobody."""
    taken = []
    for _ in range(requests):
        started = time.perf_counter()
        place = await store.enter(POOL, new_ticket())
        await place.settled
        await store.leave(place, served=True)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6


async def crowded(store: QueueStore, requests: int, waiting: int) -> float:
    """Microseconds of a request that meets so many."""
    granted: asyncio.Queue[QueuePlace] = asyncio.Queue()

    async def join() -> None:
        place = await store.enter(POOL, new_ticket())
        place.settled.add_done_callback(lambda _: granted.put_nowait(place))

    slots = UPSTREAMS * SLOTS
    for _ in range(slots + waiting):
        await join()
    running = deque([await granted.get() for _ in range(slots)])
    taken = []
    for _ in range(requests):
        started = time.perf_counter()
        await join()
        await store.leave(running.popleft(), served=True)
        running.append(await granted.get())
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6


@asynccontextmanager
async def memory_store() -> AsyncIterator[QueueStore]:
    yield InProcessStore()


@asynccontextmanager
async def redis_store() -> AsyncIterator[QueueStore]:
    """Queues in a Redis that is started for this, and ended."""
    port = free_port()
    with TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder]
        server = Child("Redis", command, Path(folder) / "redis.log")
        client = Redis(port=port)
        try:
            server.wait_until(lambda: not port_is_free(port), seconds=30)
            store = RedisStore(RedisWire(client, "bench:{routing}:"))
            yield store
            await store.close()
        finally:
            await client.aclose()
            server.stop()


STORES: dict[str, Callable[[], AbstractAsyncContextManager[QueueStore]]] = {
    "memory": memory_store,
    "redis": redis_store,
}


async def measure(kind: str, requests: int, waiting: int) -> dict[str, Any]:
    """The figures of one kind of store, and whether they are good enough."""
    async with STORES[kind]() as store:
        await alone(store, requests // 10)  # warms caches and the connection
        lone = await alone(store, requests)
    async with STORES[kind]() as store:
        many = await crowded(store, requests, waiting)
    goal = GOALS_US[kind]
    return {
        "alone_us": round(lone, 1),
        "crowded_us": round(many, 1),
        "goals_us": [goal, 2 * goal],
        "reached": lone <= goal and many <= 2 * goal,
    }


def main(
    requests: Annotated[int, typer.Option(help="How many are measured.")] = 2_000,
    waiting: Annotated[int, typer.Option(help="How many wait in a crowd.")] = 10_000,
) -> None:
    """Measure each store; exit code 1 when a goal is missed."""
    kinds = ["memory"]
    if shutil.which("redis-server"):
        kinds.append("redis")
    else:
        print("No Redis here: apt-get install redis-server", file=sys.stderr)
    found = {kind: asyncio.run(measure(kind, requests, waiting)) for kind in kinds}
    print(json.dumps(found, indent=2))
    if not all(figures["reached"] for figures in found.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
