"""What routing counts: how long requests wait, how upstreams answer, what fails.

For the core, in the order of a request's life (all calls are plain and take under a
microsecond; times are differences in seconds, by whatever clock the caller has):

    stats = RoutingStats(data)           data = shared_resource("routing stats 1", dict)
    pool = stats.pool("gpu")
    pool.queued("person")                it comes; then exactly one of the next two
    pool.waited("person", 1.25)          its turn came, 0.0 when that was at once
    pool.left("person", "cancelled")     it left without one; also "expired" (its
                                         deadline) and "refused" (the queue is full)
    upstream = pool.upstream("gpu1")
    upstream.started("kept")             an attempt begins: "kept" went where the chat
                                         was before, "moved" had to go elsewhere, "new"
                                         has no such place
    upstream.first_token(0.4)            since started()
    upstream.ended(seconds=6, tokens=90) exactly once for each started(): tokens, where
                                         known, in the seconds since the first one
    upstream.ended("status_429")         or: the code of the error, or "cancelled"
    upstream.retried()                   after ended(code): this upstream failed, and
                                         the request is tried again
    pool.fell_back("other-pool")         another pool or agent takes it over
    upstream.breaker("open")             a change of state: closed, half_open, open

All is kept in `data`, a tree of dictionaries with numbers as leaves, see histograms.py;
it is JSON as it stands, and the trees of several replicas are summed by `add_numbers`.
Memory is bounded by the pools and upstreams there are; `forget_others` drops what is
no longer configured.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from shared.routing.histograms import new_histogram, observe, this_minute

MOST_KEYS = 50  # different errors, or targets of a fallback, of one upstream or pool
BREAKER_LEVELS = {"closed": 0, "half_open": 1, "open": 2}

Attributes = Mapping[str, str]
StatsData = dict[str, Any]


class Recorder(Protocol):
    """Where counts also go as they happen: OpenTelemetry, when it is on."""

    def add(self, name: str, amount: int, attributes: Attributes) -> None:
        """Add to a counter."""

    def record(self, name: str, value: float, attributes: Attributes) -> None:
        """Count a value in a histogram, or set a gauge."""


class SilentRecorder:
    """The recorder of a server without telemetry."""

    def add(self, name: str, amount: int, attributes: Attributes) -> None:
        pass

    def record(self, name: str, value: float, attributes: Attributes) -> None:
        pass


class RoutingStats:
    """The counts of all pools of this process.

    `now` gives seconds since 1970, which are the same minutes in all replicas.
    """

    def __init__(
        self,
        data: StatsData,
        recorder: Recorder | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.data = data
        self._recorder = recorder or SilentRecorder()
        self._now = now
        self._pools: dict[str, PoolStats] = {}

    def pool(self, name: str) -> "PoolStats":
        """The counts of one pool; goes on with what `data` holds of it."""
        pool = self._pools.get(name)
        if pool is None:
            data = self.data.setdefault(name, {})
            pool = PoolStats(name, data, self._recorder, self._now)
            self._pools[name] = pool
        return pool

    def forget_others(self, pools: Mapping[str, Collection[str]]) -> None:
        """Keep only these pools, each with these upstreams."""
        for name in [name for name in self.data if name not in pools]:
            del self.data[name]
        self._pools.clear()
        for name, kept in pools.items():
            upstreams = self.data.get(name, {}).get("upstreams", {})
            for upstream in [key for key in upstreams if key not in kept]:
                del upstreams[upstream]


class PoolStats:
    """The counts of one pool: see the module's docstring."""

    def __init__(
        self,
        name: str,
        data: StatsData,
        recorder: Recorder,
        now: Callable[[], float],
    ) -> None:
        self._attributes = {"aqueduct.pool": name}
        self._recorder = recorder
        self._now = now
        self._wait: StatsData = data.setdefault("wait", {})
        self._left: StatsData = data.setdefault("left", {})
        self._fallbacks: StatsData = data.setdefault("fallbacks", {})
        self._data: StatsData = data.setdefault("upstreams", {})
        self._upstreams: dict[str, UpstreamStats] = {}

    def upstream(self, name: str) -> "UpstreamStats":
        upstream = self._upstreams.get(name)
        if upstream is None:
            attributes = self._attributes | {"aqueduct.upstream": name}
            data = self._data.setdefault(name, {})
            upstream = UpstreamStats(data, attributes, self._recorder, self._now)
            self._upstreams[name] = upstream
        return upstream

    def queued(self, kind: str) -> None:
        """A request of this class (person, background, task) comes."""
        self._recorder.add("aqueduct.routing.waiting", 1, self._of_class(kind))

    def waited(self, kind: str, seconds: float) -> None:
        """Its turn came after so many seconds; 0 when it came at once."""
        histogram = self._wait.get(kind)
        if histogram is None:
            histogram = self._wait[kind] = new_histogram()
        observe(histogram, seconds, int(self._now() // 60))
        attributes = self._of_class(kind)
        self._recorder.record("aqueduct.routing.wait", seconds, attributes)
        self._recorder.add("aqueduct.routing.waiting", -1, attributes)

    def left(self, kind: str, why: str) -> None:
        """It left without a place: `cancelled`, `expired` or `refused`."""
        count_one(self._left.setdefault(kind, {}), why)
        attributes = self._of_class(kind)
        self._recorder.add("aqueduct.routing.waiting", -1, attributes)
        self._recorder.add(
            "aqueduct.routing.left", 1, attributes | {"aqueduct.reason": why}
        )

    def fell_back(self, target: str) -> None:
        """Another pool or agent takes a request over."""
        count_one(self._fallbacks, target)
        self._recorder.add(
            "aqueduct.routing.fallbacks",
            1,
            self._attributes | {"aqueduct.target": target},
        )

    def _of_class(self, kind: str) -> dict[str, str]:
        return self._attributes | {"aqueduct.class": kind}


class UpstreamStats:
    """The counts of one upstream: see the module's docstring."""

    def __init__(
        self,
        data: StatsData,
        attributes: Attributes,
        recorder: Recorder,
        now: Callable[[], float],
    ) -> None:
        self._data = data
        self._attributes = dict(attributes)
        self._recorder = recorder
        self._now = now
        data.setdefault("affinity", {})
        data.setdefault("errors", {})
        data.setdefault("errors_by_minute", {})
        data.setdefault("breaker", {})
        data.setdefault("retries", 0)
        data.setdefault("first_token", new_histogram())
        data.setdefault("token_rate", new_histogram())

    def started(self, affinity: str) -> None:
        """An attempt begins; the chat's upstream was `kept`, `moved` or it is `new`."""
        count_one(self._data["affinity"], affinity)
        self._recorder.add("aqueduct.routing.running", 1, self._attributes)
        self._recorder.add(
            "aqueduct.routing.attempts",
            1,
            self._attributes | {"aqueduct.affinity": affinity},
        )

    def first_token(self, seconds: float) -> None:
        """The first token came so many seconds after the attempt began."""
        self._observe("first_token", seconds)

    def ended(self, error: str = "", *, seconds: float = 0.0, tokens: int = 0) -> None:
        """An attempt is over: well, with an error's code, or `cancelled`.

        `tokens` came in `seconds` after the first one; 0 where unknown.
        """
        self._recorder.add("aqueduct.routing.running", -1, self._attributes)
        if tokens and seconds > 0:
            self._observe("token_rate", tokens / seconds)
        if not error:
            return
        count_one(self._data["errors"], error)
        if error != "cancelled":
            minutes = self._data["errors_by_minute"]
            count_one(this_minute(minutes, int(self._now() // 60)), "count")
        self._recorder.add(
            "aqueduct.routing.errors", 1, self._attributes | {"error.type": error}
        )

    def retried(self) -> None:
        """The request that failed here is tried again."""
        self._data["retries"] += 1
        self._recorder.add("aqueduct.routing.retries", 1, self._attributes)

    def breaker(self, state: str) -> None:
        """The breaker is `closed`, `half_open` or `open` from now on."""
        count_one(self._data["breaker"], state)
        self._recorder.record(
            "aqueduct.routing.breaker", BREAKER_LEVELS[state], self._attributes
        )

    def _observe(self, name: str, value: float) -> None:
        observe(self._data[name], value, int(self._now() // 60))
        self._recorder.record(f"aqueduct.routing.{name}", value, self._attributes)


def count_one(counts: dict[str, int], key: str) -> None:
    """One more of `key`; of `other` when there are too many different ones."""
    if key not in counts and len(counts) >= MOST_KEYS:
        key = "other"
    counts[key] = counts.get(key, 0) + 1
