"""The shared queues behind a real Redis Sentinel, through Open WebUI's own client.

Run by test_routing_sentinel.py in a process of its own, as Open WebUI reads REDIS_URL
and REDIS_SENTINEL_HOSTS once.
"""

from __future__ import annotations

import asyncio
import os

from shared.host.redis import host_redis
from shared.routing.redis_queue import RedisStore
from shared.routing.redis_wire import RedisWire
from tests.contract.routing_replicas import SPEC, settled, ticket, until, until_shared
from tests.redis import RedisSentinel, RedisServer


def make_store() -> RedisStore:
    """A replica, as Open WebUI's settings make it."""
    found = host_redis()
    assert found is not None
    wire = RedisWire(found.client, f"{found.prefix}:aqueduct:{{routing}}:")
    return RedisStore(wire, block_seconds=0.5)


async def dies(one: RedisStore, two: RedisStore, first: RedisServer) -> None:
    """The master dies while two requests run and one waits."""
    places = [await store.enter(SPEC, ticket()) for store in (one, two, two)]
    running, waits = places[:2], places[2]
    assert not waits.settled.done()
    await one.leave(running[0])
    await settled(waits)
    behind = await one.enter(SPEC, ticket())
    assert not behind.settled.done()
    first.kill()
    await until(lambda: not one.online and not two.online)
    # Each goes on by itself, and nothing else of `one` runs.
    await settled(behind)
    await until(lambda: one.online and two.online)
    held = [(running[1], two), (waits, two), (behind, one)]
    await until_shared(one, len(held))
    more = await one.enter(SPEC, ticket())
    assert not more.settled.done()
    for place, store in held:
        await store.leave(place)
    await settled(more)
    assert more.grant is not None
    await one.leave(more)
    await until_shared(two, 0)


async def is_replaced(
    one: RedisStore, two: RedisStore, sentinel: RedisSentinel
) -> None:
    """Another server becomes the master while two requests run and one waits."""
    places = [await store.enter(SPEC, ticket()) for store in (one, two, two)]
    await asyncio.to_thread(sentinel.replace_master)
    await one.leave(places[0])
    await settled(places[2])
    await until(lambda: one.online and two.online)
    for place in places[1:]:
        await two.leave(place)
    await until_shared(one, 0)


async def scenario(first: RedisServer, sentinel: RedisSentinel) -> None:
    one, two = make_store(), make_store()
    await dies(one, two, first)
    await is_replaced(one, two, sentinel)
    for store in (one, two):
        await store.close()


def main() -> None:
    with (
        RedisServer() as first,
        RedisServer(follows=first),
        RedisServer(follows=first),
        RedisSentinel(first) as sentinel,
    ):
        sentinel.wait_for_copy()
        os.environ["REDIS_URL"] = sentinel.url
        os.environ["REDIS_SENTINEL_HOSTS"] = "127.0.0.1"
        os.environ["REDIS_SENTINEL_PORT"] = str(sentinel.port)
        asyncio.run(scenario(first, sentinel))


if __name__ == "__main__":
    main()
