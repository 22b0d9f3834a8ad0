"""No slot is lost or doubled, in whatever order requests come, fail and go."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from shared.routing.dispatcher import Dispatcher
from shared.routing.settings import (
    AffinitySettings,
    ClassCounts,
    PoolSpec,
    QueueSettings,
    UpstreamSlots,
)
from shared.routing.tickets import Gate, Grant, Ticket, gate_names

UPSTREAMS = (UpstreamSlots("a", 1), UpstreamSlots("b", 2), UpstreamSlots("c", 3, 2.0))
NAMES = st.sampled_from([upstream.id for upstream in UPSTREAMS])
SPECS = st.builds(
    PoolSpec,
    name=st.just("pool"),
    upstreams=st.just(UPSTREAMS),
    queue=st.builds(
        QueueSettings,
        per_user=st.sampled_from([0, 1, 2]),
        per_model=st.sampled_from([0, 2]),
        max_waiting=st.just(ClassCounts(person=4, background=3, task=1)),
    ),
    affinity=st.just(AffinitySettings(ttl=20.0)),
)


class Requests(RuleBasedStateMachine):
    """Requests come and go; what was granted is counted here once more, naively."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.number = 0
        self.desk = Dispatcher(PoolSpec("pool", UPSTREAMS))
        self.runs: dict[str, str] = {}
        self.waits: dict[str, Ticket] = {}

    def granted(self, grants: list[Grant]) -> None:
        for grant in grants:
            ticket = self.waits.pop(grant.ticket_id)
            assert grant.ticket_id not in self.runs
            assert grant.upstream not in ticket.excluded
            self.runs[grant.ticket_id] = grant.upstream

    @rule(spec=SPECS)
    def configure(self, spec: PoolSpec) -> None:
        self.desk.spec = spec
        self.granted(self.desk.dispatch(self.now))

    @rule(
        target=requests,
        user=st.sampled_from("xyz"),
        model=st.sampled_from("mn"),
        priority=st.integers(0, 2),
        affinity=st.sampled_from(["", "p", "q", "r"]),
        ahead=st.booleans(),
        excluded=st.frozensets(NAMES, max_size=3),
        login=st.sampled_from(["", "k"]),
    )
    def come(self, **given: object) -> str:
        self.number += 1
        ticket = Ticket(f"t{self.number}", **given)  # type: ignore[arg-type]
        self.waits[ticket.id] = ticket
        refusal, grants = self.desk.enter(ticket, self.now)
        if refusal:
            del self.waits[ticket.id]
        self.granted(grants)
        return ticket.id

    @rule(ticket=consumes(requests), served=st.booleans())
    def go(self, ticket: str, served: bool) -> None:
        self.waits.pop(ticket, None)
        self.runs.pop(ticket, None)
        self.granted(self.desk.leave(ticket, self.now, served))

    @rule(ticket=requests)
    def loosen(self, ticket: str) -> None:
        self.granted(self.desk.loosen(ticket, self.now))

    @rule(
        upstream=NAMES,
        part=st.sampled_from(["", " m", " m (k)"]),
        seconds=st.floats(0.5, 30),
        paused=st.booleans(),
    )
    def shut(self, upstream: str, part: str, seconds: float, paused: bool) -> None:
        name = upstream + part
        gate = Gate(self.now + seconds, "status_5xx", paused)
        for lost in self.desk.shut(name, gate, self.now):
            del self.waits[lost]

    @rule(upstream=NAMES, login=st.sampled_from(["", "k"]))
    def reopen(self, upstream: str, login: str) -> None:
        ticket = Ticket("any", "x", "m", login=login)
        self.granted(self.desk.reopen(gate_names(upstream, ticket), self.now))

    @rule(seconds=st.floats(0.1, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.granted(self.desk.dispatch(self.now))

    @invariant()
    def the_books_are_right(self) -> None:
        running = {i: run.upstream for i, run in self.desk.running.items()}
        assert running == self.runs
        assert self.desk.waiting.keys() == self.waits.keys()
        counts = Counter(self.runs.values())
        for upstream in UPSTREAMS:
            assert self.desk.count_running(upstream.id) == counts[upstream.id]
            assert counts[upstream.id] <= upstream.concurrency
        in_lanes = sum(self.desk.count_waiting(priority) for priority in range(3))
        assert in_lanes == len(self.waits)

    @invariant()
    def no_free_slot_has_somebody_waiting_for_it(self) -> None:
        counts = Counter(self.runs.values())
        users = Counter(self.desk.running[i].ticket.user for i in self.runs)
        models = Counter(self.desk.running[i].ticket.model for i in self.runs)
        rules = self.desk.spec.queue
        for place in self.desk.waiting.values():
            ticket = place.ticket
            if rules.per_user and users[ticket.user] >= rules.per_user:
                continue
            if rules.per_model and models[ticket.model] >= rules.per_model:
                continue
            for upstream in UPSTREAMS:
                gates = [
                    self.desk.gates[name]
                    for name in gate_names(upstream.id, ticket)
                    if name in self.desk.gates
                ]
                assert not (
                    {"", upstream.id} & {*place.lanes}
                    and upstream.id not in ticket.excluded
                    and counts[upstream.id] < upstream.concurrency
                    and all(g.until <= self.now for g in gates)
                    and all(g.paused or not g.probe for g in gates)
                )

    @invariant()
    def an_upstream_on_trial_is_tried_by_one(self) -> None:
        for gate in self.desk.gates.values():
            assert not gate.probe or gate.probe in self.runs

    def teardown(self) -> None:
        """When all have gone, every slot is free and nobody waits."""
        for ticket_id in [*self.runs, *self.waits]:
            self.desk.leave(ticket_id, self.now)
        for ticket_id in list(self.desk.running):
            self.desk.leave(ticket_id, self.now)
        assert not self.desk.running
        assert not self.desk.waiting
        assert all(self.desk.count_running(u.id) == 0 for u in UPSTREAMS)


TestRequests = Requests.TestCase
TestRequests.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
