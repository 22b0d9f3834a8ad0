"""The queues of one process."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from shared.routing.breaker import (
    KEY_CODES,
    BreakerRecord,
    after_failure,
    after_success,
)
from shared.routing.dispatcher import ANY, CLOSED, Dispatcher
from shared.routing.settings import REQUEST_CLASSES, PoolSpec
from shared.routing.store import LONGEST_PAUSE, PoolView, QueuePlace, Refusal
from shared.routing.tickets import (
    Gate,
    GateView,
    Grant,
    Standing,
    Ticket,
    gate_names,
)

TELL_SECONDS = 1.0  # between two looks at the line of those who wait
NO_RECORD = BreakerRecord()


class MemoryPool:
    """One pool: the desk, who waits at it in this process, and its timers."""

    def __init__(self, spec: PoolSpec, clock: Callable[[], float]) -> None:
        self.desk = Dispatcher(spec)
        self.places: dict[str, QueuePlace] = {}
        self.records: dict[str, BreakerRecord] = {}
        self._clock = clock
        self._telling: asyncio.TimerHandle | None = None
        self._opening: asyncio.TimerHandle | None = None

    def enter(self, place: QueuePlace) -> None:
        """Let a request in, unless it is here already, or is told what becomes of it."""
        if place.ticket.id in self.places or place.settled.done():
            return
        self.desk.spec = place.spec
        now = self._clock()
        ticket = place.ticket
        self.places[ticket.id] = place
        refusal, grants = self.desk.enter(ticket, now)
        if refusal:
            del self.places[ticket.id]
            place.refuse(self.refusal(refusal, ticket, now))
        self.give(grants)
        waiting = self.desk.waiting.get(ticket.id)
        if waiting is None:
            return
        self._await_opening(now)
        if ANY not in waiting.lanes:
            patience = place.spec.affinity.wait
            asyncio.get_running_loop().call_later(patience, self._loosen, ticket.id)

    def take_over(self, place: QueuePlace) -> None:
        """Go on with a request that runs or waits elsewhere until now."""
        if place.grant is None:
            self.enter(place)
        elif place.ticket.id not in self.places:
            ticket = place.ticket
            self.places[ticket.id] = place
            self.desk.adopt(ticket, place.grant.upstream, self._clock())

    def forget(self) -> None:
        """Drop all requests: somebody else goes on with them."""
        self.places.clear()
        self.desk = Dispatcher(self.desk.spec)

    def leave(self, ticket_id: str, served: bool) -> None:
        if self.places.pop(ticket_id, None) is not None:
            self.give(self.desk.leave(ticket_id, self._clock(), served))
            self._tell_later()

    def shut(self, name: str, seconds: float, code: str, paused: bool) -> None:
        now = self._clock()
        lost = self.desk.shut(name, Gate(now + seconds, code, paused), now)
        for ticket_id in lost:
            place = self.places.pop(ticket_id)
            place.refuse(self.refusal(CLOSED, place.ticket, now))
        self._await_opening(now)

    def reopen(self, names: Iterable[str]) -> None:
        self.give(self.desk.reopen(names, self._clock()))

    def give(self, grants: Iterable[Grant]) -> None:
        for grant in grants:
            self.places[grant.ticket_id].give(grant)
            self._tell_later()

    def refusal(self, reason: str, ticket: Ticket, now: float) -> Refusal:
        if reason != CLOSED:
            return Refusal(reason, self.desk.busy_seconds(now))
        names = [
            name
            for upstream in self.desk.spec.upstreams
            for name in gate_names(upstream.id, ticket)
        ]
        shut = [self.desk.gates[name] for name in names if name in self.desk.gates]
        if not shut:
            return Refusal(reason)
        first = min(shut, key=lambda gate: gate.until)
        return Refusal(reason, max(0.0, first.until - now), first.code)

    def standing(self, ticket_id: str) -> Standing | None:
        return self.desk.standing(ticket_id, self._clock())

    def view(self) -> PoolView:
        now, desk = self._clock(), self.desk
        return PoolView(
            tuple(desk.count_waiting(rank) for rank in range(len(REQUEST_CLASSES))),
            {u.id: desk.count_running(u.id) for u in desk.spec.upstreams},
            tuple(
                GateView(name, g.code, max(0.0, g.until - now), g.paused, bool(g.probe))
                for name, g in desk.gates.items()
            ),
        )

    def _loosen(self, ticket_id: str) -> None:
        self.give(self.desk.loosen(ticket_id, self._clock()))

    def _await_opening(self, now: float) -> None:
        """Look again when a shut upstream may be used, if somebody waits for it."""
        opening = self.desk.next_opening(now)
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if opening is not None:
            loop = asyncio.get_running_loop()
            self._opening = loop.call_later(opening - now, self._open)

    def _open(self) -> None:
        now = self._clock()
        self.give(self.desk.dispatch(now))
        self._await_opening(now)

    def _tell_later(self) -> None:
        if self._telling is None and self.desk.waiting:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._telling = None
        for ticket_id in self.desk.waiting:
            place = self.places[ticket_id]
            if place.moved is not None:
                place.tell(self.standing(ticket_id))


class InProcessStore:
    """All pools of this process; see QueueStore."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pools: dict[str, MemoryPool] = {}

    def pool(self, spec: PoolSpec) -> MemoryPool:
        pool = self._pools.get(spec.name)
        if pool is None:
            pool = self._pools[spec.name] = MemoryPool(spec, self._clock)
        return pool

    def forget(self) -> None:
        for pool in self._pools.values():
            pool.forget()

    async def enter(self, spec: PoolSpec, ticket: Ticket) -> QueuePlace:
        place = QueuePlace(spec, ticket)
        self.pool(spec).enter(place)
        return place

    async def leave(self, place: QueuePlace, served: bool = False) -> None:
        self.pool(place.spec).leave(place.ticket.id, served)

    async def standing(self, place: QueuePlace) -> Standing | None:
        return self.pool(place.spec).standing(place.ticket.id)

    async def succeeded(self, place: QueuePlace) -> bool:
        assert place.grant is not None
        pool, upstream = self.pool(place.spec), place.grant.upstream
        names = gate_names(upstream, place.ticket)
        for name in names:
            if name == upstream or name in pool.records:
                record = pool.records.get(name, NO_RECORD)
                pool.records[name] = after_success(record, self._clock())
        reopens = place.grant.probe
        if reopens:
            pool.reopen(names)
        return reopens

    async def failed(self, place: QueuePlace, code: str) -> bool:
        assert place.grant is not None
        pool = self.pool(place.spec)
        name = failing_gate(place, code)
        record, shut = after_failure(
            pool.records.get(name, NO_RECORD),
            self._clock(),
            code,
            place.grant.probe,
            place.spec.breaker,
        )
        pool.records[name] = record
        if shut is not None:
            pool.shut(name, shut.seconds, code, False)
        return shut is not None

    async def pause(self, place: QueuePlace, code: str, seconds: float) -> None:
        assert place.grant is not None
        seconds = min(seconds, LONGEST_PAUSE)
        short = seconds <= place.spec.retry.budget
        self.pool(place.spec).shut(place.grant.upstream, seconds, code, short)

    async def view(self, spec: PoolSpec) -> PoolView:
        return self.pool(spec).view()

    def share(self, counts: Mapping[str, Any]) -> None:
        """Nobody else is there."""

    async def publish(self, counts: bytes) -> None:
        """Nobody else is there."""

    async def published(self) -> Sequence[bytes]:
        return []


def failing_gate(place: QueuePlace, code: str) -> str:
    """What this failure counts against, so that what is well is not shut.

    A model that is not there is no other's fault, nor is an agent's key another's.
    """
    assert place.grant is not None
    upstream, model, login = gate_names(place.grant.upstream, place.ticket)
    if code == "status_404":
        return model
    if code not in KEY_CODES or not place.ticket.login:
        return upstream
    own_key = any(u.id == upstream and u.own_key for u in place.spec.upstreams)
    return upstream if own_key else login
