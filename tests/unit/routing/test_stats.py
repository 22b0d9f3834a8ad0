from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.routing.histograms import (
    BUCKET_BOUNDS,
    BUCKET_NAMES,
    MINUTES_KEPT,
    add_numbers,
    new_histogram,
    observe,
    quantile,
)
from shared.routing.stats import MOST_KEYS, RoutingStats

VALUES = st.floats(min_value=0, max_value=1e5)
SHARES = st.floats(min_value=0, max_value=1)


class Notes:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, dict[str, str]]] = []

    def add(self, name, amount, attributes) -> None:
        self.told.append((name, amount, dict(attributes)))

    record = add

    def total(self, name: str) -> float:
        return sum(amount for told, amount, _ in self.told if told == name)


class Minutes:
    """A clock that stands until it is set."""

    minute = 0

    def __call__(self) -> float:
        return self.minute * 60.0


def histogram_of(values, minute: int = 0):
    histogram = new_histogram()
    for value in values:
        observe(histogram, value, minute)
    return histogram


def bucket_of(value: float) -> tuple[float, float]:
    """The bounds of the bucket that a value falls in."""
    bounds = [0.0, *BUCKET_BOUNDS, math.inf]
    return next((low, high) for low, high in pairwise(bounds) if value <= high)


@given(st.lists(VALUES, min_size=1), SHARES)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values, share):
    rank = max(math.ceil(share * len(values)), 1)
    low, high = bucket_of(sorted(values)[rank - 1])
    found = quantile(histogram_of(values)["buckets"], share)
    assert found is not None
    assert min(low, BUCKET_BOUNDS[-1]) <= found <= high


def test_nothing_has_no_quantile():
    assert quantile({}, 0.5) is None


@pytest.mark.parametrize(
    ("value", "name"),
    [(0, "0.001"), (0.001, "0.001"), (0.26, "0.4"), (6300, "6300"), (1e6, "inf")],
)
def test_a_bucket_is_named_after_its_upper_bound(value, name):
    assert histogram_of([value])["buckets"] == {name: 1}
    assert name in BUCKET_NAMES


@given(st.lists(VALUES), st.lists(VALUES))
def test_the_sum_of_two_histograms_is_that_of_all_values(one, other):
    summed = add_numbers(histogram_of(one), histogram_of(other))
    whole = histogram_of([*one, *other])
    assert summed.pop("sum") == pytest.approx(whole.pop("sum"))
    assert summed == whole


def test_sums_leave_what_is_summed_as_it_was():
    one, other = histogram_of([1.0]), histogram_of([2.0])
    add_numbers(one, other)["buckets"]["1"] = 99
    assert one == histogram_of([1.0])


def test_only_the_last_hour_is_kept_by_the_minute():
    histogram = new_histogram()
    for minute in range(1000, 1000 + 3 * MINUTES_KEPT):
        observe(histogram, 1.0, minute)
    assert histogram["count"] == 3 * MINUTES_KEPT
    kept = [int(minute) for minute in histogram["minutes"]]
    assert kept == list(range(1000 + 2 * MINUTES_KEPT, 1000 + 3 * MINUTES_KEPT))


def test_a_day_of_requests_is_counted():
    clock, notes, data = Minutes(), Notes(), {}
    clock.minute = 7
    pool = RoutingStats(data, notes, clock).pool("gpu")
    upstream = pool.upstream("gpu1")
    pool.queued("person")
    pool.waited("person", 0.3)
    upstream.started("new")
    upstream.ended("status_503")
    upstream.retried()
    upstream.started("kept")
    upstream.first_token(0.5)
    upstream.ended(seconds=2.0, tokens=100)
    upstream.breaker("open")
    pool.queued("task")
    pool.left("task", "expired")
    pool.fell_back("other")
    assert data["gpu"]["wait"]["person"]["minutes"] == {"7": {"0.4": 1}}
    assert data["gpu"]["left"] == {"task": {"expired": 1}}
    assert data["gpu"]["fallbacks"] == {"other": 1}
    counted = data["gpu"]["upstreams"]["gpu1"]
    assert counted["affinity"] == {"new": 1, "kept": 1}
    assert counted["errors"] == {"status_503": 1}
    assert counted["errors_by_minute"] == {"7": {"count": 1}}
    assert counted["retries"] == 1
    assert counted["breaker"] == {"open": 1}
    assert counted["first_token"]["buckets"] == {"0.63": 1}
    assert counted["token_rate"]["buckets"] == {"63": 1}
    assert notes.total("aqueduct.routing.waiting") == 0
    assert notes.total("aqueduct.routing.running") == 0
    assert notes.total("aqueduct.routing.attempts") == 2
    assert notes.total("aqueduct.routing.errors") == 1


def test_a_stop_is_counted_but_no_failure():
    data = {}
    upstream = RoutingStats(data).pool("gpu").upstream("gpu1")
    upstream.started("new")
    upstream.ended("cancelled")
    counted = data["gpu"]["upstreams"]["gpu1"]
    assert counted["errors"] == {"cancelled": 1}
    assert counted["errors_by_minute"] == {}


def test_counts_are_json_and_go_on_after_a_reload():
    data = {}
    for _ in range(2):
        pool = RoutingStats(data).pool("gpu")
        pool.waited("person", 1.0)
        pool.upstream("gpu1").started("new")
    assert data["gpu"]["wait"]["person"]["count"] == 2
    assert data["gpu"]["upstreams"]["gpu1"]["affinity"] == {"new": 2}
    assert json.loads(json.dumps(data)) == data


def test_errors_of_any_kind_take_bounded_memory():
    data = {}
    upstream = RoutingStats(data).pool("gpu").upstream("gpu1")
    for number in range(10 * MOST_KEYS):
        upstream.ended(f"error {number}")
    errors = data["gpu"]["upstreams"]["gpu1"]["errors"]
    assert len(errors) == MOST_KEYS + 1
    assert sum(errors.values()) == 10 * MOST_KEYS


def test_what_is_no_longer_configured_is_forgotten():
    data = {}
    stats = RoutingStats(data)
    for pool in ("gpu", "old"):
        for upstream in ("gpu1", "gpu2"):
            stats.pool(pool).upstream(upstream).started("new")
    stats.forget_others({"gpu": ["gpu2"], "not used yet": ["x"]})
    assert list(data) == ["gpu"]
    assert list(data["gpu"]["upstreams"]) == ["gpu2"]
