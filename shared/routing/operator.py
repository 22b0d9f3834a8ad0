"""What an administrator sees of routing: states and counts as one report."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.routing.histograms import (
    MINUTES_KEPT,
    HistogramData,
    add_numbers,
    quantile,
)
from shared.routing.settings import (
    REQUEST_CLASSES,
    UNLIMITED,
    PoolSpec,
    UpstreamSlots,
)
from shared.routing.store import PoolView
from shared.routing.tickets import GateView


def routing_report(
    pools: Iterable[tuple[PoolSpec, PoolView]],
    counts: Sequence[Mapping[str, Any]],
    now: float,
) -> dict[str, Any]:
    """The report as JSON; `counts` has the tree of `RoutingStats.data` of each replica.

    Times are in seconds, `now` in seconds since 1970. Counts are those since the
    replicas started, what stands under `last_hour` is younger; a row of `by_minute`
    holds the minute since 1970, how many, the median and the 95th percentile.
    """
    summed: Any = {}
    for tree in counts:
        summed = add_numbers(summed, tree)
    minute = int(now // 60)
    return {
        "now": now,
        "replicas": len(counts),
        "pools": [
            pool_report(spec, view, summed.get(spec.name) or {}, minute)
            for spec, view in pools
        ],
    }


def pool_report(
    spec: PoolSpec, view: PoolView, counts: Mapping[str, Any], minute: int
) -> dict[str, Any]:
    waits: Any = {}
    for histogram in counts.get("wait", {}).values():
        waits = add_numbers(waits, histogram)
    of_upstreams = counts.get("upstreams", {})
    return {
        "name": spec.name,
        "waiting": dict(zip(REQUEST_CLASSES, view.waiting, strict=True)),
        "max_waiting": spec.queue.max_waiting.model_dump(),
        "wait": spread(waits, minute),
        "wait_by_class": {
            kind: spread(histogram, minute)
            for kind, histogram in counts.get("wait", {}).items()
        },
        "left": counts.get("left", {}),
        "fallbacks": counts.get("fallbacks", {}),
        "upstreams": [
            upstream_report(upstream, view, of_upstreams.get(upstream.id) or {}, minute)
            for upstream in spec.upstreams
        ],
    }


def upstream_report(
    upstream: UpstreamSlots, view: PoolView, counts: Mapping[str, Any], minute: int
) -> dict[str, Any]:
    affinity = counts.get("affinity", {})
    minutes = counts.get("errors_by_minute", {})
    limited = upstream.concurrency < UNLIMITED
    return {
        "name": upstream.id,
        "running": view.running.get(upstream.id, 0),
        "concurrency": upstream.concurrency if limited else None,
        "weight": upstream.weight,
        **standing_of(upstream.id, view.gates),
        "attempts": sum(affinity.values()),
        "affinity": affinity,
        "first_token": spread(counts.get("first_token", {}), minute),
        "token_rate": spread(counts.get("token_rate", {}), minute),
        "errors": counts.get("errors", {}),
        "errors_by_minute": [
            [at, minutes[str(at)]["count"]]
            for at in last_minutes(minute)
            if str(at) in minutes
        ],
        "retries": counts.get("retries", 0),
        "breaker_changes": counts.get("breaker", {}),
    }


def standing_of(upstream: str, gates: Iterable[GateView]) -> dict[str, Any]:
    """Whether an upstream serves: closed, half_open, open (its breaker) or paused.

    `error` is the code of what shut it, `retry_in` the seconds until it is used again;
    `models` has the codes of models that are shut there while others are served.
    """
    state: dict[str, Any] = {"breaker": "closed", "error": "", "retry_in": None}
    models = {}
    for gate in gates:
        name, _, model = gate.name.partition(" ")
        if name != upstream or (gate.paused and not gate.seconds):
            continue
        if model:
            models[model] = gate.code
        elif gate.paused:
            state = {"breaker": "paused", "error": gate.code, "retry_in": gate.seconds}
        else:
            breaker = "open" if gate.seconds and not gate.trying else "half_open"
            again = gate.seconds or None
            state = {"breaker": breaker, "error": gate.code, "retry_in": again}
    return state | {"models": models}


def spread(histogram: HistogramData, minute: int) -> dict[str, Any]:
    """A histogram in figures: of always, of the last hour, and by the minute."""
    minutes = histogram.get("minutes", {})
    recent = [
        (at, minutes[str(at)]) for at in last_minutes(minute) if str(at) in minutes
    ]
    hour: Any = {}
    for _, buckets in recent:
        hour = add_numbers(hour, buckets)
    return {
        "count": histogram.get("count", 0),
        "sum": histogram.get("sum", 0.0),
        "last_hour": {
            "count": sum(hour.values()),
            "p50": quantile(hour, 0.5),
            "p95": quantile(hour, 0.95),
            "p99": quantile(hour, 0.99),
        },
        "by_minute": [
            [at, sum(buckets.values()), quantile(buckets, 0.5), quantile(buckets, 0.95)]
            for at, buckets in recent
        ],
    }


def last_minutes(minute: int) -> range:
    """The minutes kept, oldest first, this one included."""
    return range(minute - MINUTES_KEPT + 1, minute + 1)
