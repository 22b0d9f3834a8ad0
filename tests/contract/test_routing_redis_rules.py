"""The rules that Redis runs are those of the dispatcher, and hold whoever dies."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.routing.dispatcher import Dispatcher
from shared.routing.redis_wire import RedisWire, spec_json, ticket_json
from shared.routing.settings import ClassCounts, PoolSpec, QueueSettings, UpstreamSlots
from shared.routing.tickets import Gate, Ticket, gate_names
from tests.contract.routing_replicas import ROOT, connected
from tests.redis import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


# --- the rules in Lua are those in Python ---

SLOTS = (UpstreamSlots("a", 1), UpstreamSlots("b", 2), UpstreamSlots("c", 2, 2.5))
UPSTREAM_NAMES = st.sampled_from(["a", "b", "c"])
TICKETS = st.builds(
    Ticket,
    id=st.just(""),
    user=st.sampled_from("xyz"),
    model=st.sampled_from("mn"),
    priority=st.integers(0, 2),
    affinity=st.sampled_from(["", "p", "q", "r"]),
    ahead=st.booleans(),
    excluded=st.frozensets(UPSTREAM_NAMES, max_size=2),
    login=st.sampled_from(["", "k"]),
)
NUMBER = st.integers(0, 30)
STEPS = st.one_of(
    st.tuples(st.just("enter"), TICKETS),
    st.tuples(st.just("enter"), TICKETS),
    st.tuples(st.just("leave"), NUMBER),
    st.tuples(st.just("loosen"), NUMBER),
    st.tuples(
        st.just("shut"),
        st.tuples(
            st.sampled_from(["a", "b", "c", "a m", "b n", "a m (k)", "c m (k)"]),
            st.booleans(),
        ),
    ),
    st.tuples(st.just("reopen"), st.tuples(UPSTREAM_NAMES, TICKETS)),
)
SPECS = st.builds(
    PoolSpec,
    name=st.just("pool"),
    upstreams=st.just(SLOTS),
    queue=st.builds(
        QueueSettings,
        per_user=st.sampled_from([0, 2]),
        per_model=st.sampled_from([0, 3]),
        max_waiting=st.just(ClassCounts(person=5, background=3, task=1)),
        ageing=st.just(1e6),
    ),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(spec=SPECS, steps=st.lists(STEPS, max_size=40))
def test_the_rules_in_redis_are_those_in_memory(server, spec, steps):
    asyncio.run(compare(server, spec, steps))


async def compare(server: RedisServer, spec: PoolSpec, steps: list) -> None:
    async with connected(server) as client:
        await client.flushall()
        wire, desk = RedisWire(client, ROOT), Dispatcher(spec)
        for number, (what, given_) in enumerate(steps):
            now = number / 1000
            if what == "enter":
                given_.id = f"t{number}"
                refusal, _ = desk.enter(given_, now)
                text = ticket_json(given_, "me", 0.0)
                said = await wire.ask("pool", "enter", text, spec_json(spec))
                assert (said["kind"] == "refusal") == bool(refusal)
                assert said.get("reason", "") == refusal
            elif what == "leave":
                desk.leave(f"t{given_}", now)
                await wire.ask("pool", "leave", f"t{given_}", 0)
            elif what == "loosen":
                desk.loosen(f"t{given_}", now)
                await wire.ask("pool", "loosen", f"t{given_}")
            elif what == "shut":
                name, paused = given_
                desk.shut(name, Gate(now + 1e6, "status_5xx", paused), now)
                await wire.ask("pool", "shut", name, 1e6, "status_5xx", int(paused))
            else:
                names = gate_names(*given_)
                desk.reopen(names, now)
                await wire.ask("pool", "reopen", *names)
            await same(client, wire, desk, now)


async def same(
    client: redis.asyncio.Redis, wire: RedisWire, desk: Dispatcher, now: float
) -> None:
    """The books of both say the same."""
    running = await client.hgetall(f"{ROOT}pool:running")  # type: ignore[misc]
    assert running.keys() == desk.running.keys()
    for ticket_id, run in desk.running.items():
        assert f'"upstream":"{run.upstream}"' in running[ticket_id]
    waiting = await client.hkeys(f"{ROOT}pool:waiting")  # type: ignore[misc]
    assert set(waiting) == desk.waiting.keys()
    if not waiting:
        return
    lines = await wire.ask("pool", "standings", "me", *waiting)
    for ticket_id, position, total, _ in lines:
        standing = desk.standing(ticket_id, now)
        assert standing is not None
        assert (position, total) == (standing.position, standing.total)


# --- no slot is lost or doubled when replicas die ---

OWNERS = st.sampled_from(["one", "two", "three"])
LIVES = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), OWNERS, TICKETS),
        st.tuples(st.just("enter"), OWNERS, TICKETS),
        st.tuples(st.just("leave"), NUMBER, st.booleans()),
        st.tuples(st.just("loosen"), NUMBER, st.none()),
        st.tuples(st.just("beat"), OWNERS, st.none()),
        st.tuples(st.just("die"), OWNERS, st.none()),
    ),
    max_size=40,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=LIVES)
def test_no_slot_is_lost_or_doubled_when_replicas_die(server, steps):
    asyncio.run(live(server, steps))


async def live(server: RedisServer, steps: list) -> None:
    spec = PoolSpec("pool", SLOTS)
    owners: dict[str, str] = {}
    async with connected(server) as client:
        await client.flushall()
        wire = RedisWire(client, ROOT)
        for number, (what, one, other) in enumerate(steps):
            if what == "enter":
                other.id = f"t{number}"
                await wire.ask("pool", "beat", one, 60)
                text = ticket_json(other, one, 0.0)
                said = await wire.ask("pool", "enter", text, spec_json(spec))
                if said["kind"] != "refusal":
                    owners[other.id] = one
            elif what == "leave":
                await wire.ask("pool", "leave", f"t{one}", int(other))
                owners.pop(f"t{one}", None)
            elif what == "loosen":
                await wire.ask("pool", "loosen", f"t{one}")
            else:
                await wire.ask("pool", "beat", one, 60 if what == "beat" else 0)
            if what == "die":
                owners = {i: owner for i, owner in owners.items() if owner != one}
            await in_order(client, wire, owners)
        for ticket_id in owners:
            await wire.ask("pool", "leave", ticket_id, 0)
        await in_order(client, wire, {})
        left = await client.hgetall(f"{ROOT}pool:books")  # type: ignore[misc]
        assert not [name for name in left if name.split(":")[0] in ("user", "model")]


async def in_order(
    client: redis.asyncio.Redis, wire: RedisWire, owners: dict[str, str]
) -> None:
    """Everybody alive is there once, nobody dead is, and no slot idles in vain."""
    await wire.ask("pool", "check")
    running = {
        ticket_id: json.loads(text)
        for ticket_id, text in (await client.hgetall(f"{ROOT}pool:running")).items()  # type: ignore[misc]
    }
    waiting = {
        ticket_id: json.loads(text)
        for ticket_id, text in (await client.hgetall(f"{ROOT}pool:waiting")).items()  # type: ignore[misc]
    }
    assert not running.keys() & waiting.keys()
    assert {**running, **waiting}.keys() == owners.keys()
    counts = Counter(ticket["upstream"] for ticket in running.values())
    view = await wire.ask("pool", "view")
    assert [counts[slots.id] for slots in SLOTS] == view["running"] or not running
    assert sum(view["waiting"]) == len(waiting)
    for slots in SLOTS:
        assert counts[slots.id] <= slots.concurrency
        for ticket in waiting.values():
            lanes = [
                await client.zscore(
                    f"{ROOT}pool:lane:{ticket['priority']}:{name}", ticket["member"]
                )
                for name in ("", slots.id)
            ]
            may_run = slots.id not in ticket["excluded"] and lanes != [None, None]
            assert not (may_run and counts[slots.id] < slots.concurrency)
