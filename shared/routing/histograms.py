"""Histograms as plain dictionaries: cheap to count in, kept for a while by the minute.

A histogram reads {"count": n, "sum": x, "buckets": {"0.25": n, …}, "minutes": {…}}.
A bucket is named after its upper bound; `minutes` maps minutes since 1970 to the
buckets of that minute. Dictionaries, because they are JSON, because the sum of two is
made by adding their numbers, and because they outlive a reload of the function.
"""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

# Five steps a decade (Renard's series R5): a quantile read from the buckets is within
# a fifth of the true one. From a millisecond to almost two hours; also good for tokens/s.
BUCKET_BOUNDS = tuple(
    float(f"{mantissa}e{exponent}")
    for exponent in range(-3, 4)
    for mantissa in (1, 1.6, 2.5, 4, 6.3)
)
BUCKET_NAMES = (*(f"{bound:g}" for bound in BUCKET_BOUNDS), "inf")
MINUTES_KEPT = 60

HistogramData = dict[str, Any]
Buckets = Mapping[str, int]


def new_histogram() -> HistogramData:
    return {"count": 0, "sum": 0.0, "buckets": {}, "minutes": {}}


def observe(histogram: HistogramData, value: float, minute: int) -> None:
    """Count one value (seconds, or tokens a second) in this minute since 1970."""
    name = BUCKET_NAMES[bisect_left(BUCKET_BOUNDS, value)]
    histogram["count"] += 1
    histogram["sum"] += value
    buckets = histogram["buckets"]
    buckets[name] = buckets.get(name, 0) + 1
    buckets = this_minute(histogram["minutes"], minute)
    buckets[name] = buckets.get(name, 0) + 1


def this_minute(minutes: dict[str, dict[str, int]], minute: int) -> dict[str, int]:
    """The counts of this minute; makes room by dropping the oldest minutes."""
    key = str(minute)
    counts = minutes.get(key)
    if counts is None:
        counts = minutes[key] = {}
        while len(minutes) > MINUTES_KEPT:
            del minutes[next(iter(minutes))]
    return counts


def quantile(buckets: Buckets, share: float) -> float | None:
    """The value that `share` (0 to 1) of all lie below; None where there are none.

    Inside a bucket values are taken to lie evenly, as Prometheus does it in
    histogram_quantile. Above the last bound it is that bound.
    """
    counts = [buckets.get(name, 0) for name in BUCKET_NAMES]
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    sums = list(accumulate(counts))
    place = bisect_left(sums, rank)
    while not counts[place]:
        place += 1  # rank 0: the first bucket that holds anything
    if place == len(BUCKET_BOUNDS):
        return BUCKET_BOUNDS[-1]
    low = BUCKET_BOUNDS[place - 1] if place else 0.0
    inside = (rank - (sums[place] - counts[place])) / counts[place]
    return low + (BUCKET_BOUNDS[place] - low) * inside


def add_numbers(one: Any, other: Any) -> Any:
    """The sum of two trees of dictionaries whose leaves are numbers."""
    if not isinstance(one, Mapping):
        return one + other
    joined = dict(one)
    for key, value in other.items():
        joined[key] = add_numbers(joined[key], value) if key in joined else value
    return joined
