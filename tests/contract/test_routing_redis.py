"""The queues that replicas share, in a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import redis.asyncio

from shared.routing.dispatcher import BUSY, CLOSED
from shared.routing.memory_queue import InProcessStore
from shared.routing.redis_queue import RedisStore
from shared.routing.redis_wire import RedisWire, spec_json, ticket_json
from shared.routing.settings import (
    AffinitySettings,
    BreakerSettings,
    ClassCounts,
    PoolSpec,
    QueueSettings,
    UpstreamSlots,
)
from shared.routing.store import QueuePlace
from tests.contract.routing_replicas import (
    LEASE,
    PATIENCE,
    ROOT,
    SPEC,
    Replicas,
    connected,
    found,
    settled,
    ticket,
    until,
    until_shared,
)
from tests.redis import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    async with connected(server) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def replicas(client: redis.asyncio.Redis) -> AsyncIterator[Replicas]:
    replicas = Replicas(client)
    yield replicas
    await replicas.close()


@pytest.fixture
async def blinking(client: redis.asyncio.Redis) -> AsyncIterator[Replicas]:
    """Replicas whose leases outlast the time that they lose sight of Redis."""
    replicas = Replicas(client, lease=60.0)
    yield replicas
    await replicas.close()


async def test_one_global_order(replicas: Replicas):
    one, two = replicas.stores
    running = [await one.enter(SPEC, ticket()), await two.enter(SPEC, ticket())]
    assert {p.grant.upstream for p in running if p.grant} == {"a", "b"}
    users = ["ada", "ada", "bob", "eve"]
    waiting = [
        await store.enter(SPEC, ticket(user))
        for store, user in zip([one, two, one, two], users, strict=True)
    ]
    assert [p.settled.done() for p in waiting] == [False] * 4
    standing = await two.standing(waiting[3])
    assert standing is not None
    assert (standing.position, standing.total) == (2, 4)
    order: list[str] = []
    stores = {id(p): s for p, s in zip(waiting, [one, two, one, two], strict=True)}
    left = list(waiting)
    await one.leave(running[0])
    while left:
        await until(lambda: any(p.settled.done() for p in left))
        done = next(p for p in left if p.settled.done())
        left.remove(done)
        order.append(done.ticket.user)
        await stores[id(done)].leave(done)
    assert order == ["bob", "eve", "ada", "ada"]


async def test_a_dead_replicas_slots_and_places_come_back(replicas: Replicas):
    dead, alive = replicas.stores
    for _ in range(3):
        await dead.enter(SPEC, ticket())
    waits = await alive.enter(SPEC, ticket("bob"))
    assert not waits.settled.done()
    await dead.close()
    await settled(waits)
    view = await alive.view(SPEC)
    assert (sum(view.running.values()), sum(view.waiting)) == (1, 0)


async def test_a_breaker_is_shared(replicas: Replicas):
    one, two = replicas.stores
    spec = PoolSpec(
        "pool", (UpstreamSlots("a"),), breaker=BreakerSettings(failures=2, open_for=0.3)
    )
    for store in (one, two):
        place = await store.enter(spec, ticket())
        opened = await store.failed(place, "status_5xx")
        await store.leave(place)
    assert opened
    refused = await one.enter(spec, ticket())
    assert refused.refusal is not None
    assert (refused.refusal.reason, refused.refusal.cause) == (CLOSED, "status_5xx")

    async def tried() -> QueuePlace | None:
        place = await one.enter(spec, ticket())
        return place if place.grant is not None else None

    probe = await found(tried)
    assert probe.grant is not None
    assert probe.grant.probe
    waits = await two.enter(spec, ticket())
    assert not waits.settled.done()
    assert await one.succeeded(probe)
    await one.leave(probe)
    await settled(waits)
    assert waits.grant is not None
    assert not waits.grant.probe


async def test_a_wrong_key_shuts_its_owner_out_and_nobody_else(replicas: Replicas):
    one, two = replicas.stores
    spec = PoolSpec(
        "pool", (UpstreamSlots("a", 9),), breaker=BreakerSettings(open_for=0.3)
    )
    place = await one.enter(spec, ticket(login="ada"))
    assert await one.failed(place, "status_401")
    await one.leave(place)
    refused = await two.enter(spec, ticket(login="ada"))
    assert refused.refusal is not None
    assert refused.refusal.cause == "status_401"
    other = await two.enter(spec, ticket(login="bob"))
    assert other.grant is not None
    assert not other.grant.probe

    async def tried() -> QueuePlace | None:
        place = await two.enter(spec, ticket(login="ada"))
        return place if place.grant is not None else None

    probe = await found(tried)
    assert await two.succeeded(probe)
    await two.leave(probe)
    # The next wrong key is the first one again.
    again = await one.enter(spec, ticket(login="ada"))
    assert again.grant is not None
    assert not again.grant.probe
    await until(lambda: not two._tasks)
    assert await one.failed(again, "status_401")


async def test_a_pause_is_waited_for_in_all_replicas(replicas: Replicas):
    one, two = replicas.stores
    spec = PoolSpec("pool", (UpstreamSlots("a", 5),))
    place = await one.enter(spec, ticket())
    await one.pause(place, "status_429", 0.3)
    waits = await two.enter(spec, ticket())
    assert not waits.settled.done()
    await settled(waits)
    assert waits.grant is not None


async def test_a_place_without_its_request_is_passed_over(
    replicas: Replicas, client: redis.asyncio.Redis
):
    one, _ = replicas.stores
    spec = PoolSpec("pool", (UpstreamSlots("a"),))
    first, _, waits = [await one.enter(spec, ticket(u)) for u in ("a", "b", "c")]
    lost = next(p for p in one.places.values() if p.ticket.user == "b")
    await client.hdel(f"{ROOT}pool:waiting", lost.ticket.id)  # type: ignore[misc]
    await one.leave(first)
    await settled(waits)
    assert one.online
    assert waits.grant is not None


async def test_no_pause_is_longer_than_an_hour(replicas: Replicas):
    one, _ = replicas.stores
    for store in (one, InProcessStore()):
        place = await store.enter(SPEC, ticket())
        await store.pause(place, "status_429", 1e9)
        [gate] = (await store.view(SPEC)).gates
        assert 3500 < gate.seconds <= 3600


async def test_of_two_reasons_the_stronger_holds(client: redis.asyncio.Redis):
    wire = RedisWire(client, ROOT)

    async def shut(seconds: float, code: str, paused: bool) -> tuple[float, str, bool]:
        await wire.ask("pool", "shut", "a", seconds, code, int(paused))
        [gate] = (await wire.ask("pool", "view"))["gates"]
        return round(gate["seconds"] / 100), gate["code"], gate["paused"]

    await wire.ask("pool", "enter", ticket_json(ticket(), "me", 0), spec_json(SPEC))
    assert await shut(900, "status_401", False) == (9, "status_401", False)
    assert await shut(500, "status_5xx", False) == (9, "status_401", False)
    assert await shut(2000, "status_429", True) == (9, "status_401", False)
    # Its time is over: what its trial says counts.
    await wire.ask("pool", "reopen", "a", "model")
    assert await shut(-1, "status_401", False) == (0, "status_401", False)
    assert await shut(900, "status_429", True) == (9, "status_429", True)
    assert await shut(500, "status_429", True) == (9, "status_429", True)


async def test_a_chat_stays_where_it_was_in_whatever_replica(replicas: Replicas):
    for turn in range(4):
        store = replicas.stores[turn % 2]
        place = await store.enter(SPEC, ticket(affinity="chat"))
        assert place.grant is not None
        assert place.grant.affinity == ("kept" if turn else "new")
        await store.leave(place)


async def test_the_bound_is_that_of_all_together(replicas: Replicas):
    one, two = replicas.stores
    spec = PoolSpec(
        "pool",
        (UpstreamSlots("a"),),
        QueueSettings(max_waiting=ClassCounts(person=1)),
    )
    places = [await one.enter(spec, ticket()), await two.enter(spec, ticket())]
    assert [place.refusal for place in places] == [None, None]
    third = await one.enter(spec, ticket())
    assert third.refusal is not None
    assert third.refusal.reason == BUSY


async def test_a_line_that_moves_is_told_in_other_replicas(replicas: Replicas):
    one, two = replicas.stores
    spec = PoolSpec("pool", (UpstreamSlots("a"),))
    first = await one.enter(spec, ticket())
    await one.enter(spec, ticket("bob"))
    last = await two.enter(spec, ticket("eve"))
    await until(lambda: two.online)
    standing = await two.standing(last)
    assert standing is not None
    assert standing.position == 2
    last.moved = moved = asyncio.get_running_loop().create_future()
    await one.leave(first, served=True)
    async with asyncio.timeout(PATIENCE):
        await moved
    assert last.standing is not None
    assert last.standing.position == 1


async def test_a_lost_letter_is_made_up_for(
    replicas: Replicas, client: redis.asyncio.Redis
):
    one, _ = replicas.stores
    spec = PoolSpec("pool", (UpstreamSlots("a"),))
    first = await one.enter(spec, ticket())
    waits = await one.enter(spec, ticket())
    # Another connection takes the letter, as one does that breaks while it waits.
    wire = RedisWire(client, ROOT)
    thief = asyncio.create_task(wire.next_letter(one.replica, 5))
    one._listener.cancel()  # type: ignore[union-attr]
    await asyncio.wait([one._listener])  # type: ignore[list-item]
    await wire.ask("pool", "leave", first.ticket.id, 0)
    assert (await thief)["kind"] == "grant"
    one._join()
    await settled(waits)
    assert waits.grant is not None


async def test_a_request_that_is_stopped_while_it_enters_leaves_nothing(
    replicas: Replicas,
):
    one, _ = replicas.stores
    entering = asyncio.create_task(one.enter(SPEC, ticket()))
    await asyncio.sleep(0)
    entering.cancel()
    await asyncio.wait([entering])
    await until(lambda: not one._tasks)
    assert sum((await one.view(SPEC)).running.values()) == 0


async def test_without_redis_the_queue_is_local(server: RedisServer):
    async with redis.asyncio.from_url(
        "redis://127.0.0.1:1", decode_responses=True
    ) as c:
        store = RedisStore(RedisWire(c, ROOT))
        places = [await store.enter(SPEC, ticket()) for _ in range(3)]
        assert [p.grant is not None for p in places] == [True, True, False]
        await store.leave(places[0])
        await settled(places[2])
        assert not store.online
        await store.close()


async def test_a_redis_that_does_not_run_the_script_is_not_called_gone(
    client: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture
):
    store = RedisStore(RedisWire(client, ROOT), LEASE / 3, refused_seconds=0.3)
    await client.set(f"{ROOT}pool:waiting", "something else")
    running = [await store.enter(SPEC, ticket()) for _ in range(2)]
    waits = await store.enter(SPEC, ticket())
    assert [p.grant is not None for p in running] == [True, True]
    assert not waits.settled.done()
    [line] = [r for r in caplog.records if r.name == "aqueduct.routing"]
    assert line.levelname == "ERROR"
    assert line.getMessage().startswith("Redis does not run routing")
    assert "WRONGTYPE" in line.getMessage()
    # Asked again and again, it says the same; nobody notices.
    await until(lambda: caplog.text.count("does not run routing") >= 2)
    assert "gone" not in caplog.text
    await client.delete(f"{ROOT}pool:waiting")
    await until_shared(store, 2)
    await store.leave(running[0])
    await settled(waits)
    assert waits.grant is not None
    await store.close()


async def test_redis_restarted_in_the_middle():
    with RedisServer() as server:
        async with connected(server) as client:
            replicas = Replicas(client)
            one, two = replicas.stores
            running = [await s.enter(SPEC, ticket()) for s in (one, two)]
            waiting = [await s.enter(SPEC, ticket()) for s in (one, two)]
            assert [p.settled.done() for p in waiting] == [False, False]
            await until(lambda: one.online and two.online)
            server.kill()
            await until(lambda: not one.online and not two.online)
            # Each goes on by itself: its own running request holds only one slot.
            for place in waiting:
                await settled(place)
            server.start()
            await until(lambda: one.online and two.online)
            held = [*running, *waiting]
            await until_shared(one, len(held))
            more = await two.enter(SPEC, ticket())
            assert not more.settled.done()
            for place, store in zip(held, (one, two, one, two), strict=True):
                await store.leave(place)
            await settled(more)
            await two.leave(more)
            await until_shared(one, 0)
            await replicas.close()


async def test_a_request_that_waited_in_a_lost_redis_is_there_once(
    blinking: Replicas, client: redis.asyncio.Redis
):
    one, two = blinking.stores
    running = [await one.enter(SPEC, ticket()), await two.enter(SPEC, ticket())]
    waits = await one.enter(SPEC, ticket())
    old = one.replica
    one._lose(ConnectionError("a blip"))
    # Its own queue knows of one running request only.
    await settled(waits)
    await back(one, old, client)
    assert await in_books(client) == {"a": 1, "b": 2}
    assert sum((await two.view(SPEC)).waiting) == 0
    for store, place in ((one, running[0]), (one, waits), (two, running[1])):
        await store.leave(place)
    assert await in_books(client) == {}


async def test_a_slot_given_by_a_lost_redis_is_given_back(
    blinking: Replicas, client: redis.asyncio.Redis
):
    one, two = blinking.stores
    running = [await two.enter(SPEC, ticket()) for _ in range(2)]
    waits = await one.enter(SPEC, ticket())
    old = one.replica
    one._lose(ConnectionError("a blip"))
    await settled(waits)
    assert waits.grant is not None
    mine = waits.grant.upstream
    other = next(p for p in running if p.grant and p.grant.upstream != mine)
    await two.leave(other)  # Redis gives this slot to the one that waits
    await back(one, old, client)
    assert await in_books(client) == {mine: 2}
    await one.leave(waits)
    assert await in_books(client) == {mine: 1}


async def test_a_request_that_enters_as_redis_is_lost_enters_once(replicas: Replicas):
    one, _ = replicas.stores
    entering = asyncio.create_task(one.enter(SPEC, ticket()))
    await asyncio.sleep(0)
    assert one.places
    one._lose(ConnectionError("a blip"))
    place = await entering
    assert place.grant is not None
    assert sum((await one._local.view(SPEC)).running.values()) == 1


async def test_a_chat_that_waits_for_its_upstream_is_loosened_after_a_blip(
    blinking: Replicas, client: redis.asyncio.Redis
):
    one, _ = blinking.stores
    spec = replace(SPEC, affinity=AffinitySettings(wait=0.1))
    await one.enter(spec, ticket(affinity="chat"))
    other = await one.enter(spec, ticket("bob"))
    waits = await one.enter(spec, ticket(affinity="chat"))
    old = one.replica
    one._lose(ConnectionError("a blip"))
    await back(one, old, client)
    assert not waits.settled.done()
    await one.leave(other)
    await settled(waits)
    assert waits.grant is not None
    assert waits.grant.upstream == "b"


async def back(store: RedisStore, old: str, client: redis.asyncio.Redis) -> None:
    """Wait until the store has told Redis all, and its old name is forgotten there."""

    async def forgotten() -> bool:
        await store.view(SPEC)
        return store.online and old not in await client.zrange(f"{ROOT}replicas", 0, -1)

    await found(forgotten)


async def in_books(client: redis.asyncio.Redis) -> dict[str, int]:
    """What is booked on each upstream, which is what runs there."""
    books = await client.hgetall(f"{ROOT}pool:books")  # type: ignore[misc]
    booked = {
        name.partition(":")[2]: int(number)
        for name, number in books.items()
        if name.startswith("upstream:")
    }
    texts = await client.hvals(f"{ROOT}pool:running")  # type: ignore[misc]
    assert booked == Counter(json.loads(text)["upstream"] for text in texts)
    return booked


async def test_a_cluster_will_do():
    with RedisServer(cluster=True) as server:
        url = server.url.removesuffix("/0")
        async with redis.asyncio.RedisCluster.from_url(url, decode_responses=True) as c:
            replicas = Replicas(c)
            one, two = replicas.stores
            running = [await s.enter(SPEC, ticket()) for s in (one, two)]
            waits = await two.enter(SPEC, ticket())
            await one.leave(running[0])
            await settled(waits)
            assert waits.grant is not None
            assert await one.failed(running[1], "status_401")
            await one.publish(b"{}")
            assert await two.published() == [b"{}"]
            assert one.online
            assert two.online
            await replicas.close()


async def test_counts_are_published(replicas: Replicas):
    one, two = replicas.stores
    await one.enter(SPEC, ticket())
    await two.enter(SPEC, ticket())
    await until(lambda: one._next_beat > 0 and two._next_beat > 0)
    await one.publish(b'{"x":1}')
    await two.publish(b'{"x":2}')
    assert sorted(await one.published()) == [b'{"x":1}', b'{"x":2}']
