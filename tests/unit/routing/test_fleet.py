"""The simulated fleet of the benchmark, for an hour: the router keeps its promises."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.routing_fleet import WAYS, always_home
from benchmarks.routing_load import Scenario, live, outcome, run_simulated

BUSY = Scenario("busy", pause=60.0, hours=1.5)
CROWD = Scenario("crowd", pause=0.01, greedy=5, chats=10, hours=1.5)


@pytest.fixture(scope="module")
def busy():
    return {name: run_simulated(live(WAYS[name](BUSY), BUSY, 0)) for name in WAYS}


def test_time_passes_without_waiting():
    async def sleep_long() -> float:
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(7200))
        return asyncio.get_running_loop().time()

    assert run_simulated(sleep_long()) == pytest.approx(7200)


def test_the_same_seed_gives_the_same_hours(busy):
    again = run_simulated(live(WAYS["aqueduct"](BUSY), BUSY, 0))
    assert again.served == busy["aqueduct"].served


def test_all_ways_are_asked_the_same(busy):
    """In each chat, as far as it came."""
    told = []
    for stage in busy.values():
        seconds: dict[str, list[float]] = {}
        for served in stage.served:
            question = served.question
            seconds.setdefault(question.chat, []).append(question.seconds)
        told.append(seconds)
    for chat in set.intersection(*(set(seconds) for seconds in told)):
        shortest = min(len(seconds[chat]) for seconds in told)
        assert len({tuple(seconds[chat][:shortest]) for seconds in told}) == 1


@pytest.mark.parametrize("way", WAYS)
def test_no_upstream_gets_more_than_it_takes_and_all_are_used(busy, way):
    assert busy[way].most == {f"gpu{n}": BUSY.slots for n in range(BUSY.upstreams)}


def test_chats_stay_where_their_prefix_is_nearly_as_often_as_an_oracle_s(busy):
    ours, oracle = outcome(busy["aqueduct"], BUSY), outcome(busy["oracle"], BUSY)
    assert ours.kept >= 0.95 * oracle.kept
    assert ours.kept > 2 * outcome(busy["one queue"], BUSY).kept


def test_they_hardly_wait_longer_for_it(busy):
    ours, shared = outcome(busy["aqueduct"], BUSY), outcome(busy["one queue"], BUSY)
    assert ours.wait_p95 <= 1.2 * shared.wait_p95


def test_with_endless_patience_every_chat_stays(busy):
    stage = run_simulated(live(always_home(BUSY), BUSY, 0))
    assert outcome(stage, BUSY).kept > 0.99


def test_who_asks_ten_things_at_once_gets_no_more_than_others():
    stage = run_simulated(live(WAYS["aqueduct"](CROWD), CROWD, 0))
    greedy = run_simulated(live(WAYS["one queue"](CROWD), CROWD, 0))
    assert outcome(stage, CROWD).jain >= 0.95
    assert outcome(greedy, CROWD).jain < 0.6, "else there was nothing to prevent"
