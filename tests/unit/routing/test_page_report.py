"""The report behind the operator's page."""

from __future__ import annotations

import json

from shared.routing.operator import routing_report
from shared.routing.settings import UNLIMITED, PoolSpec, UpstreamSlots
from shared.routing.stats import RoutingStats
from shared.routing.store import PoolView
from shared.routing.tickets import GateView

NOW = 30_000_000 * 60.0
SPEC = PoolSpec("gpu", (UpstreamSlots("gpu1", 4), UpstreamSlots("gpu2", UNLIMITED)))
QUIET = PoolView((0, 0, 0), {}, ())


def replica(wait: float = 1.0, minutes_ago: int = 0) -> dict:
    """What a replica counted that served one request in this minute."""
    data: dict = {}
    pool = RoutingStats(data, now=lambda: NOW - 60 * minutes_ago).pool("gpu")
    upstream = pool.upstream("gpu1")
    pool.waited("person", wait)
    upstream.started("kept")
    upstream.first_token(0.5)
    upstream.ended("status_503")
    return data


def report(view: PoolView = QUIET, *counts) -> dict:
    found = routing_report([(SPEC, view)], counts, NOW)
    assert json.loads(json.dumps(found)) == found
    return found["pools"][0]


def upstreams(view: PoolView) -> dict[str, dict]:
    return {upstream["name"]: upstream for upstream in report(view)["upstreams"]}


def test_a_pool_that_nobody_used_has_no_figures():
    pool = report()
    assert pool["wait"]["count"] == 0
    assert pool["wait"]["last_hour"]["p50"] is None
    assert [u["attempts"] for u in pool["upstreams"]] == [0, 0]


def test_states_are_those_of_the_store():
    view = PoolView((3, 0, 1), {"gpu1": 4}, ())
    pool = report(view)
    assert pool["waiting"] == {"person": 3, "background": 0, "task": 1}
    running = [(u["running"], u["concurrency"]) for u in pool["upstreams"]]
    assert running == [(4, 4), (0, None)]


def test_counts_are_those_of_all_replicas():
    pool = report(QUIET, replica(1.0), replica(3.0), replica(1.0, minutes_ago=5))
    assert pool["wait"]["count"] == 3
    assert pool["wait"]["sum"] == 5.0
    now = int(NOW // 60)
    counted = [(at, count) for at, count, _, _ in pool["wait"]["by_minute"]]
    assert counted == [(now - 5, 1), (now, 2)]
    first = pool["upstreams"][0]
    assert first["affinity"] == {"kept": 3}
    assert first["errors"] == {"status_503": 3}
    assert first["errors_by_minute"] == [[now - 5, 1], [now, 2]]


def test_what_is_older_than_an_hour_counts_in_sum_only():
    pool = report(QUIET, replica(minutes_ago=90), replica())
    assert pool["wait"]["count"] == 2
    assert pool["wait"]["last_hour"]["count"] == 1
    assert len(pool["wait"]["by_minute"]) == 1


def test_a_shut_upstream_says_why_and_until_when():
    gates = (GateView("gpu1", "status_503", 12.0, paused=False, trying=False),)
    found = upstreams(PoolView((0, 0, 0), {}, gates))
    shut = {"breaker": "open", "error": "status_503", "retry_in": 12.0, "models": {}}
    assert found["gpu1"].items() >= shut.items()
    assert found["gpu2"]["breaker"] == "closed"


def test_an_upstream_on_trial_is_half_open():
    gates = (
        GateView("gpu1", "status_503", 0.0, paused=False, trying=False),
        GateView("gpu2", "status_503", 9.0, paused=False, trying=True),
    )
    found = upstreams(PoolView((0, 0, 0), {}, gates))
    assert found["gpu1"]["breaker"] == found["gpu2"]["breaker"] == "half_open"


def test_a_pause_is_none_once_it_is_over():
    gates = (
        GateView("gpu1", "status_429", 2.0, paused=True, trying=False),
        GateView("gpu2", "status_429", 0.0, paused=True, trying=False),
    )
    found = upstreams(PoolView((0, 0, 0), {}, gates))
    assert found["gpu1"]["breaker"] == "paused"
    assert found["gpu2"]["breaker"] == "closed"


def test_a_shut_model_leaves_the_upstream_in_service():
    gates = (GateView("gpu1 qwen", "status_404", 60.0, paused=False, trying=False),)
    found = upstreams(PoolView((0, 0, 0), {}, gates))
    assert found["gpu1"]["breaker"] == "closed"
    assert found["gpu1"]["models"] == {"qwen": "status_404"}
