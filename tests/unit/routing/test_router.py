"""A call through a pool: waiting, trying again, what is told and what is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from shared.errors import (
    UpstreamBroken,
    UpstreamRefused,
    UpstreamUnreachable,
)
from shared.events import Finished, SessionState, Status, TextDelta
from shared.routing.failures import AttemptsFailed, QueueError
from shared.routing.router import RoutedCall
from shared.routing.settings import (
    BreakerSettings,
    ClassCounts,
    ClassSeconds,
    QueueSettings,
)
from tests.unit.routing.bench import (
    DOWN,
    PATIENCE,
    QUICK,
    Bench,
    Script,
    Upstream,
    refusing,
    until,
)


async def test_a_call_that_need_not_wait_says_nothing_of_it():
    bench = Bench(Upstream("a"))
    assert await bench.said() == [TextDelta("I am a"), Finished()]
    assert bench.running == 0


async def test_one_waits_and_is_told_where_it_stands():
    go = asyncio.Event()
    bench = Bench(
        Upstream("a", [go, TextDelta("one"), Finished()]),
        queue=QueueSettings(notify_after=0),
    )
    first = asyncio.create_task(bench.said())
    await until(lambda: bench.running == 1)
    events = bench.router.run(bench.call("bob"))
    assert await anext(events) == Status("Waiting: position 1 of 1")
    go.set()
    last = [event async for event in events]
    assert isinstance(last[0], Status)
    assert last[0].done
    assert last[0].text.startswith("Waited ")
    assert last[1:] == [TextDelta("one"), Finished()]
    await first


async def test_the_line_changes_when_those_before_leave():
    go, on = asyncio.Event(), asyncio.Event()
    bench = Bench(
        Upstream("a", [go, Finished()], [on, Finished()]),
        queue=QueueSettings(notify_after=0),
    )
    ahead = [asyncio.create_task(bench.said(user=u)) for u in ("ada", "bob")]
    await until(lambda: bench.waiting == 1)
    events = bench.router.run(bench.call("eve"))
    assert await anext(events) == Status("Waiting: position 2 of 2")
    go.set()
    second = await anext(events)
    assert isinstance(second, Status)
    assert second.text.startswith("Waiting: position 1 of 1")
    on.set()
    await asyncio.gather(*ahead)
    assert isinstance([event async for event in events][-1], Finished)


async def test_an_answer_that_goes_on_is_not_queued_behind_everybody():
    go = asyncio.Event()
    bench = Bench(Upstream("a", [go, Finished()]))
    order: list[str] = []

    async def run(call: RoutedCall) -> None:
        async for _ in bench.router.run(call):
            order.append(call.user)

    calls = [bench.call(user) for user in ("ada", "bob", "eve")]
    tasks = [asyncio.create_task(run(call)) for call in calls]
    await until(lambda: bench.waiting == 2)
    going_on = replace(bench.call("kim"), goes_on=True)
    tasks.append(asyncio.create_task(run(going_on)))
    await until(lambda: bench.waiting == 3)
    go.set()
    await asyncio.gather(*tasks)
    assert order == ["ada", "kim", "bob", "eve"]


@pytest.mark.parametrize("waits", [True, False])
async def test_who_stops_frees_the_place_at_once(waits):
    go = asyncio.Event()
    bench = Bench(Upstream("a", [go, Finished()]))
    tasks = [asyncio.create_task(bench.said(user=u)) for u in ("ada", "bob")]
    await until(lambda: bench.running == 1 and bench.waiting == 1)
    stopped, other = reversed(tasks) if waits else tasks
    stopped.cancel()
    await asyncio.wait([stopped])
    assert (bench.running, bench.waiting) == (1, 0)
    go.set()
    await other
    assert bench.running == 0


async def test_an_abandoned_answer_frees_its_slot():
    bench = Bench(Upstream("a", [TextDelta("one"), asyncio.Event()]))
    events = bench.router.run(bench.call())
    assert await anext(events) == TextDelta("one")
    await events.aclose()
    assert bench.running == 0


async def test_past_its_deadline_a_request_gives_up():
    bench = Bench(
        Upstream("a", [asyncio.Event()]),
        queue=QueueSettings(deadline=ClassSeconds(person=0.01)),
    )
    first = asyncio.create_task(bench.said())
    await until(lambda: bench.running == 1)
    with pytest.raises(QueueError) as raised:
        await bench.said(user="bob")
    assert raised.value.code == "queue_expired"
    assert bench.waiting == 0
    first.cancel()


async def test_the_deadline_is_for_all_attempts_together():
    go, now = asyncio.Event(), [0.0]
    holding: Script = [go, Finished()]
    bench = Bench(
        Upstream("a", holding, [refusing(500)], [asyncio.Event()]),
        queue=QueueSettings(deadline=ClassSeconds(person=0.05)),
    )
    first = asyncio.create_task(bench.said())
    await until(lambda: bench.running == 1)
    bench.router = replace(bench.router, clock=lambda: now[0])
    bob = asyncio.create_task(bench.said(user="bob"))
    await until(lambda: bench.waiting == 1)
    eve = asyncio.create_task(bench.said(user="eve"))
    await until(lambda: bench.waiting == 2)
    now[0] = 0.04
    go.set()
    await first
    # Eve runs and does not end; of his time bob has a fifth left.
    await until(lambda: bench.upstreams["a"].calls == 3 and bench.waiting == 1)
    now[0] = 0.06
    with pytest.raises(UpstreamRefused):
        await asyncio.wait_for(bob, PATIENCE)
    eve.cancel()


async def test_past_its_bound_the_queue_refuses():
    bench = Bench(
        Upstream("a", [asyncio.Event()]),
        queue=QueueSettings(max_waiting=ClassCounts(person=0)),
    )
    first = asyncio.create_task(bench.said())
    await until(lambda: bench.running == 1)
    with pytest.raises(QueueError) as raised:
        await bench.said(user="bob")
    assert raised.value.code == "queue_busy"
    first.cancel()


@pytest.mark.parametrize(
    "failure",
    [
        DOWN,
        refusing(408),
        refusing(429),
        refusing(500),
        refusing(503),
        UpstreamBroken("cut_short"),
        UpstreamBroken("said_error", detail="Overloaded"),
    ],
    ids=lambda error: f"{error.code}-{error.fields}",
)
async def test_what_may_pass_is_tried_again(failure):
    bench = Bench(Upstream("a", [failure], [failure], [TextDelta("Hi"), Finished()]))
    events = await bench.said()
    assert events[-2:] == [TextDelta("Hi"), Finished()]
    assert bench.upstreams["a"].calls == 3
    lines = [event for event in events if isinstance(event, Status)]
    assert [line.done for line in lines][-1]
    assert "trying again" in lines[0].text
    assert bench.running == 0


async def test_what_an_upstream_does_is_told_before_its_first_word():
    go = asyncio.Event()
    work = [SessionState({"a": 1}), Status("Reading"), go, TextDelta("Hi"), Finished()]
    bench = Bench(Upstream("a", [DOWN], work))
    events = bench.router.run(bench.call())
    retrying = await anext(events)
    assert retrying == Status("a could not answer; trying again")
    assert await anext(events) == Status("Reading")
    go.set()
    # Its line is its own affair; ours was replaced by it.
    rest = [event async for event in events]
    assert rest == [SessionState({"a": 1}), TextDelta("Hi"), Finished()]


async def test_of_an_attempt_that_failed_only_its_status_was_told():
    failing = [SessionState({"a": 1}), Status("Reading"), DOWN]
    bench = Bench(Upstream("a", failing, [TextDelta("Hi"), Finished()]))
    assert await bench.said() == [
        Status("Reading"),
        Status("a could not answer; trying again"),
        Status("a could not answer; trying again", True),
        TextDelta("Hi"),
        Finished(),
    ]


@pytest.mark.parametrize(
    "failure", [refusing(400), refusing(401), refusing(404), refusing(422)]
)
async def test_what_stays_wrong_is_not_tried_again(failure):
    upstream = Upstream("a", [failure])
    with pytest.raises(UpstreamRefused):
        await Bench(upstream).said()
    assert upstream.calls == 1


async def test_attempts_are_counted():
    upstream = Upstream("a", [DOWN])
    with pytest.raises(UpstreamUnreachable):
        await Bench(upstream, retry=QUICK.model_copy(update={"attempts": 2})).said()
    assert upstream.calls == 2


async def test_a_server_that_wants_too_long_a_pause_is_not_waited_for():
    upstream = Upstream("a", [refusing(429, retry_after=60)])
    bench = Bench(upstream, retry=QUICK.model_copy(update={"budget": 5.0}))
    with pytest.raises(UpstreamRefused):
        await bench.said()
    with pytest.raises(QueueError) as raised:
        await bench.said()
    assert raised.value.code == "queue_busy_wait"
    assert raised.value.fields["seconds"] == pytest.approx(60, abs=1)
    assert upstream.calls == 1


async def test_after_a_word_was_said_nothing_is_tried_again():
    upstream = Upstream("a", [TextDelta("Hello"), UpstreamBroken("cut_short")])
    bench = Bench(upstream)
    events = bench.router.run(bench.call())
    assert await anext(events) == TextDelta("Hello")
    with pytest.raises(UpstreamBroken):
        await anext(events)
    assert upstream.calls == 1


async def test_a_failed_attempts_session_is_never_seen():
    left = SessionState({"thread": 1})
    bench = Bench(Upstream("a", [left, DOWN], [TextDelta("Hi"), Finished()]))
    assert left not in await bench.said()


async def test_another_upstream_is_asked_at_once():
    ill, well = Upstream("ill", [refusing(401)]), Upstream("well")
    bench = Bench(ill, well)
    assert await bench.text() == "I am well"
    assert await bench.text() == "I am well"
    assert ill.calls == 1  # 401 shut it


async def test_the_same_upstream_is_asked_again_when_the_other_is_shut():
    one, two = Upstream("one", [DOWN]), Upstream("two", [refusing(401)])
    one.scripts = ([DOWN], [TextDelta("Hi"), Finished()])
    bench = Bench(one, two, concurrency=2)
    assert await bench.text() == "Hi"
    one.scripts, one.calls = ([DOWN], [TextDelta("Hi again"), Finished()]), 0
    assert await bench.text() == "Hi again"
    assert two.calls == 1


async def test_the_error_stands_that_shut_the_upstream():
    bench = Bench(Upstream("a", [DOWN]), breaker=BreakerSettings(failures=2))
    with pytest.raises(UpstreamUnreachable):
        await bench.said()


async def test_all_errors_are_told_together():
    bench = Bench(Upstream("a", [refusing(401)]), Upstream("b", [refusing(404)]))
    with pytest.raises(AttemptsFailed) as raised:
        await bench.said()
    told = [(code, fields["host"]) for code, fields in raised.value.fields["attempts"]]
    assert told == [("status_401", "a"), ("status_404", "b")]


async def test_an_upstream_that_keeps_failing_is_left_alone():
    upstream = Upstream("a", [DOWN])
    bench = Bench(
        upstream,
        retry=QUICK.model_copy(update={"attempts": 1}),
        breaker=BreakerSettings(failures=2, open_for=60),
    )
    for _ in range(2):
        with pytest.raises(UpstreamUnreachable):
            await bench.said()
    with pytest.raises(QueueError) as raised:
        await bench.said()
    assert raised.value.code == "upstreams_shut"
    assert upstream.calls == 2


async def test_a_wrong_key_is_told_while_the_upstream_is_shut():
    upstream = Upstream("a", [refusing(401)])
    bench = Bench(upstream)
    for kind in (UpstreamRefused, QueueError):
        with pytest.raises(kind) as raised:
            await bench.said()
        assert raised.value.code == "status_401"
    assert upstream.calls == 1


async def test_one_request_tries_it_and_opens_it_for_all():
    upstream = Upstream("a", [DOWN], [TextDelta("Hi"), Finished()])
    bench = Bench(
        upstream,
        concurrency=5,
        retry=QUICK.model_copy(update={"attempts": 1}),
        breaker=BreakerSettings(failures=1, open_for=0.001, health=True),
    )
    with pytest.raises(UpstreamUnreachable):
        await bench.said()
    await until(bench.open_again)
    assert await bench.text() == "Hi"
    assert upstream.asked_how_it_is == 1
    assert bench.store.pool(bench.spec).desk.gates == {}
    assert await bench.text() == "Hi"
    assert upstream.asked_how_it_is == 1


async def test_an_ill_server_is_found_out_before_a_request_is_risked():
    upstream = Upstream("a", [DOWN], [TextDelta("Hi"), Finished()])
    bench = Bench(
        upstream,
        retry=QUICK.model_copy(update={"attempts": 1}),
        breaker=BreakerSettings(failures=1, open_for=0.001, health=True),
    )
    upstream.ill = DOWN
    with pytest.raises(UpstreamUnreachable):
        await bench.said()
    await until(bench.open_again)
    with pytest.raises(UpstreamUnreachable):
        await bench.said()
    assert upstream.calls == 1


async def test_a_server_that_cannot_say_how_it_is_gets_its_request():
    upstream = Upstream("a", [DOWN], [TextDelta("Hi"), Finished()])
    bench = Bench(
        upstream,
        retry=QUICK.model_copy(update={"attempts": 1}),
        breaker=BreakerSettings(failures=1, open_for=0.001, health=True),
    )
    upstream.ill = refusing(404)
    with pytest.raises(UpstreamUnreachable):
        await bench.said()
    await until(bench.open_again)
    assert await bench.text() == "Hi"


async def test_what_happened_is_counted():
    bench = Bench(Upstream("a", [DOWN], [TextDelta("Hi"), Finished()]))
    await bench.said(chat="chat")
    counts = bench.counts["pool"]
    assert isinstance(counts, dict)
    upstream = counts["upstreams"]["a"]
    assert upstream["errors"] == {"connection_refused": 1}
    assert upstream["retries"] == 1
    assert upstream["affinity"] == {"new": 1, "kept": 1}
    assert counts["wait"]["person"]["count"] == 2
