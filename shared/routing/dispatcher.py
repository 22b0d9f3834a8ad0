"""Who runs where, and who waits: one pool as plain values.

Pure: nothing here waits or looks at a clock; `now` is in seconds and only ever grows.
A request (`Ticket`) enters, is granted a slot of an upstream or waits, and leaves. It
waits in a lane: that of the upstream which holds its chat in cache, or the common one,
`ANY`. So a chat waits for its own upstream while others use the rest; `loosen` puts it
into the common lane, too, its place kept. A free slot goes to the first of both lanes,
but rather to a chat that is at home there, as long as this is fair: within the same
round of all users, and not past the same request again and again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shared.routing.breaker import LASTING_CODES
from shared.routing.lanes import FairTags, Lane
from shared.routing.settings import REQUEST_CLASSES, PoolSpec, UpstreamSlots
from shared.routing.tickets import (
    Gate,
    Grant,
    Running,
    Standing,
    Ticket,
    Waiting,
    gate_names,
)

ANY = ""
BUSY, CLOSED = "busy", "closed"
KEPT_AFFINITIES = 20_000
SERVICE_SHARE = 0.1  # of the newest value in the running mean of service times
MOST_OVERTAKEN = 2


@dataclass(slots=True)
class Dispatcher:
    """The state of one pool. `spec` may be replaced at any time."""

    spec: PoolSpec
    waiting: dict[str, Waiting] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    service: dict[str, float] = field(default_factory=dict)
    # All of a class, and those who may go to an upstream or to any.
    _lines: tuple[Lane, ...] = field(
        default_factory=lambda: tuple(Lane() for _ in REQUEST_CLASSES)
    )
    _lanes: dict[tuple[int, str], Lane] = field(default_factory=dict)
    _tags: tuple[FairTags, ...] = field(
        default_factory=lambda: tuple(FairTags() for _ in REQUEST_CLASSES)
    )
    _arrivals: int = 0
    _of_upstream: dict[str, int] = field(default_factory=dict)
    _of_user: dict[str, int] = field(default_factory=dict)
    _of_model: dict[str, int] = field(default_factory=dict)
    _affinity: dict[str, tuple[str, float]] = field(default_factory=dict)

    # --- a request comes, waits, goes ---

    def enter(self, ticket: Ticket, now: float) -> tuple[str, list[Grant]]:
        """Take a request: "" or why not (BUSY, CLOSED), and the slots now given.

        CLOSED: no upstream can take it, and none is merely making a pause.
        """
        if not self.possible(ticket, now):
            return CLOSED, []
        if not ticket.ahead:
            ticket.entered = now
        self._insert(ticket, self._lane_for(ticket, now))
        grants = self.dispatch(now)
        if ticket.id in self.waiting and not ticket.ahead:
            limit = getattr(
                self.spec.queue.max_waiting, REQUEST_CLASSES[ticket.priority]
            )
            if self.count_waiting(ticket.priority) > limit:
                self._give_up(ticket.id)
                return BUSY, grants
        return "", grants

    def leave(self, ticket_id: str, now: float, served: bool = False) -> list[Grant]:
        """Forget a request, whether it waits or runs; `served`: it had its answer."""
        if ticket_id in self.waiting:
            self._give_up(ticket_id)
            return []
        run = self.running.pop(ticket_id, None)
        if run is None:
            return []
        if served:
            self._learn(run.upstream, now - run.since)
        self._count(run.ticket, run.upstream, -1)
        for gate in self._gates_of(run.upstream, run.ticket):
            if gate.probe == ticket_id:
                gate.probe = ""
        return self.dispatch(now)

    def loosen(self, ticket_id: str, now: float) -> list[Grant]:
        """Let a waiting request go to any upstream from now on."""
        place = self.waiting.get(ticket_id)
        if place is None or ANY in place.lanes:
            return []
        place.lanes = (*place.lanes, ANY)
        self._lane(place.ticket.priority, ANY).add(place.rank, ticket_id)
        return self.dispatch(now)

    def adopt(self, ticket: Ticket, upstream: str, now: float) -> None:
        """Count a request that runs already, granted elsewhere."""
        self.running[ticket.id] = Running(ticket, upstream, now)
        self._count(ticket, upstream, 1)

    # --- upstreams open and shut ---

    def shut(self, gate_name: str, gate: Gate, now: float) -> list[str]:
        """Shut an upstream or a model of it; the ids of those who wait in vain now.

        These have left the queue. Of two reasons the longer time holds, and the code
        that will not pass by itself.
        """
        known = self.gates.get(gate_name)
        if known is not None and known.until > now:
            if gate.paused and not known.paused:
                return []
            keeps = known.code in LASTING_CODES and gate.code not in LASTING_CODES
            code = known.code if keeps else gate.code
            gate = Gate(max(known.until, gate.until), code, gate.paused)
        self.gates[gate_name] = gate
        waiting = list(self.waiting.values())
        lost = [w.ticket.id for w in waiting if not self.possible(w.ticket, now)]
        for ticket_id in lost:
            self._give_up(ticket_id)
        return lost

    def reopen(self, names: Iterable[str], now: float) -> list[Grant]:
        """Open these gates: what was behind them has answered."""
        for name in names:
            self.gates.pop(name, None)
        return self.dispatch(now)

    def possible(self, ticket: Ticket, now: float) -> bool:
        """Whether any upstream can take this request, now or after a pause."""
        return any(
            upstream.id not in ticket.excluded
            and all(
                gate.paused or gate.until <= now
                for gate in self._gates_of(upstream.id, ticket)
            )
            for upstream in self.spec.upstreams
        )

    def next_opening(self, now: float) -> float | None:
        """When the next gate opens while requests wait, or None."""
        if not self.waiting:
            return None
        times = [gate.until for gate in self.gates.values() if gate.until > now]
        return min(times, default=None)

    # --- looking ---

    def count_waiting(self, priority: int) -> int:
        return len(self._lines[priority])

    def count_running(self, upstream: str) -> int:
        return self._of_upstream.get(upstream, 0)

    def standing(self, ticket_id: str, now: float) -> Standing | None:
        """Where a waiting request stands; None when it does not wait."""
        place = self.waiting.get(ticket_id)
        if place is None:
            return None
        mine = place.ticket.priority
        higher = sum(len(line) for line in self._lines[:mine])
        ahead = higher + self._lines[mine].count_before(place.rank)
        pace = self._seconds_per_request(now)
        seconds = None if pace is None else (ahead + 1) * pace
        return Standing(ahead + 1, higher + len(self._lines[mine]), seconds)

    def busy_seconds(self, now: float) -> float | None:
        """How long a new request would wait behind all others, where known."""
        pace = self._seconds_per_request(now)
        return None if pace is None else (len(self.waiting) + 1) * pace

    # --- the choice ---

    def dispatch(self, now: float) -> list[Grant]:
        """Give every free slot to the request whose turn it is."""
        grants: list[Grant] = []
        while self.waiting:
            grant = self._next_grant(now)
            if grant is None:
                break
            grants.append(grant)
        return grants

    def _next_grant(self, now: float) -> Grant | None:
        free = [u for u in self.spec.upstreams if self._has_room(u)]
        for upstream in sorted(free, key=self._load) if len(free) > 1 else free:
            place = self._first_for(upstream.id, now)
            if place is not None:
                return self._grant(place, upstream.id, now)
        return None

    def _first_for(self, upstream: str, now: float) -> Waiting | None:
        """Whose turn it is at this upstream.

        A request of a lower class counts as one of the next higher class that came
        `ageing` seconds later, so that nobody waits for ever.
        """
        best: tuple[Waiting, Waiting | None] | None = None
        best_time = 0.0
        for priority in range(len(REQUEST_CLASSES)):
            first = self._first_of_class(priority, upstream, now)
            if first is None:
                continue
            time = first[0].ticket.entered + priority * self.spec.queue.ageing
            if best is None or time < best_time:
                best, best_time = first, time
        if best is None:
            return None
        place, overtaken = best
        if overtaken is not None:
            overtaken.overtaken += 1
        return place

    def _first_of_class(
        self, priority: int, upstream: str, now: float
    ) -> tuple[Waiting, Waiting | None] | None:
        """The next request of a class, and the one that it overtakes, if any."""
        home = self._head(self._lane(priority, upstream), upstream, now)
        other = self._head(self._lane(priority, ANY), upstream, now)
        if home is None or other is None:
            found = home or other
            return None if found is None else (found, None)
        if home.rank <= other.rank:
            return home, None
        same_round = home.rank[0] <= other.rank[0] + 1
        if same_round and other.overtaken < MOST_OVERTAKEN:
            return home, other
        return other, None

    def _head(self, lane: Lane, upstream: str, now: float) -> Waiting | None:
        """The first request of a lane that may run here now."""
        places = (self.waiting[ticket_id] for ticket_id in lane)
        return next((p for p in places if self._may_run(p.ticket, upstream, now)), None)

    def _may_run(self, ticket: Ticket, upstream: str, now: float) -> bool:
        rules = self.spec.queue
        if upstream in ticket.excluded:
            return False
        if rules.per_user and self._of_user.get(ticket.user, 0) >= rules.per_user:
            return False
        if rules.per_model and self._of_model.get(ticket.model, 0) >= rules.per_model:
            return False
        return all(
            gate.until <= now and (gate.paused or not gate.probe)
            for gate in self._gates_of(upstream, ticket)
        )

    def _has_room(self, upstream: UpstreamSlots) -> bool:
        return self._of_upstream.get(upstream.id, 0) < upstream.concurrency

    def _load(self, upstream: UpstreamSlots) -> float:
        """How busy an upstream would be with one more request: its expected wait."""
        busy = (self.count_running(upstream.id) + 1) / upstream.concurrency
        known = self.service.values()
        mean = sum(known) / len(known) if known else 1.0
        return busy * self.service.get(upstream.id, mean) / upstream.weight

    def _grant(self, place: Waiting, upstream: str, now: float) -> Grant:
        ticket = place.ticket
        self._remove(ticket.id)
        if not ticket.ahead:
            self._tags[ticket.priority].serve(place.rank[0])
        self.adopt(ticket, upstream, now)
        probe = False
        for name in gate_names(upstream, ticket):
            gate = self.gates.get(name)
            if gate is not None and gate.paused:
                del self.gates[name]
            elif gate is not None:
                gate.probe, probe = ticket.id, True
        return Grant(ticket.id, upstream, self._remember(ticket, upstream, now), probe)

    # --- affinity ---

    def _lane_for(self, ticket: Ticket, now: float) -> str:
        """The upstream that holds this chat, unless it is of no use; else ANY."""
        upstream, until = self._affinity.get(ticket.affinity, (ANY, 0.0))
        usable = (
            upstream != ANY
            and until > now
            and upstream not in ticket.excluded
            and any(known.id == upstream for known in self.spec.upstreams)
            and all(g.until <= now for g in self._gates_of(upstream, ticket))
        )
        return upstream if usable else ANY

    def _remember(self, ticket: Ticket, upstream: str, now: float) -> str:
        """Note where a chat is; whether that is where it was: kept, moved or new."""
        key, ttl = ticket.affinity, self.spec.affinity.ttl
        if not key or not ttl:
            return "new"
        before, until = self._affinity.pop(key, (ANY, 0.0))
        if len(self._affinity) >= KEPT_AFFINITIES:
            del self._affinity[next(iter(self._affinity))]  # the least recently used
        self._affinity[key] = (upstream, now + ttl)
        if until <= now:
            return "new"
        return "kept" if before == upstream else "moved"

    # --- books ---

    def _insert(self, ticket: Ticket, lane: str) -> None:
        self._arrivals += 1
        tags = self._tags[ticket.priority]
        tag = float("-inf") if ticket.ahead else tags.new_tag(ticket.user)
        place = Waiting(ticket, (tag, self._arrivals), (lane,))
        self.waiting[ticket.id] = place
        self._lane(ticket.priority, lane).add(place.rank, ticket.id)
        self._lines[ticket.priority].add(place.rank, ticket.id)

    def _remove(self, ticket_id: str) -> Waiting:
        place = self.waiting.pop(ticket_id)
        priority = place.ticket.priority
        for lane in place.lanes:
            self._lane(priority, lane).remove(place.rank, ticket_id)
        self._lines[priority].remove(place.rank, ticket_id)
        return place

    def _give_up(self, ticket_id: str) -> None:
        ticket = self._remove(ticket_id).ticket
        if not ticket.ahead:
            self._tags[ticket.priority].refund(ticket.user)

    def _lane(self, priority: int, upstream: str) -> Lane:
        lane = self._lanes.get((priority, upstream))
        if lane is None:
            lane = self._lanes[priority, upstream] = Lane()
        return lane

    def _count(self, ticket: Ticket, upstream: str, change: int) -> None:
        for counts, key in (
            (self._of_upstream, upstream),
            (self._of_user, ticket.user),
            (self._of_model, ticket.model),
        ):
            counts[key] = counts.get(key, 0) + change
            if not counts[key]:
                del counts[key]

    def _learn(self, upstream: str, seconds: float) -> None:
        known = self.service.get(upstream, seconds)
        self.service[upstream] = known + SERVICE_SHARE * (seconds - known)

    def _gates_of(self, upstream: str, ticket: Ticket) -> Iterator[Gate]:
        if self.gates:
            for name in gate_names(upstream, ticket):
                if name in self.gates:
                    yield self.gates[name]

    def _seconds_per_request(self, now: float) -> float | None:
        """The mean time between two slots that come free, where it can be known."""
        rate = 0.0
        for upstream in self.spec.upstreams:
            seconds = self.service.get(upstream.id)
            gate = self.gates.get(upstream.id)
            if seconds and (gate is None or gate.until <= now):
                rate += upstream.concurrency / seconds
        return 1 / rate if rate else None
