"""How well a fleet is used: hits of the prefix cache, fairness, waiting; prints JSON.

    python -m benchmarks.routing_fleet [--seeds 3] [--litellm]

50 people at 4 upstreams, answers of heavy-tailed length, in simulated time (see
routing_load.py), each of these with the same questions:

- `one queue`: a single queue over all slots, first come first served, no stickiness;
- `aqueduct`: the router of shared/routing with its queue in memory, as it is by default;
- `oracle`: the same, but it knows when each slot comes free: a request waits for its
  chat's upstream exactly when that has room within the same patience, and goes to
  another at once when it has not;
- `always home`: the same as aqueduct with endless patience;
- LiteLLM's Router: it has no queue, so that requests wait at the upstream it chose. It
  takes part in `busy`, and with a single seed: a request takes it some 10 ms.

In the scenario `busy` people pause for a minute after an answer. In `crowd` nobody
pauses, and five of them have ten chats going on at once.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from dataclasses import asdict, replace
from heapq import heapify, heapreplace
from statistics import median
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.litellm_environment import litellm_python
from benchmarks.routing_load import (
    Fleet,
    Outcome,
    Question,
    Scenario,
    Stage,
    simulate,
)
from devkit.paths import ROOT
from shared.events import AgentEvent, Finished, TextDelta
from shared.routing.dispatcher import ANY
from shared.routing.memory_queue import InProcessStore
from shared.routing.router import RoutedCall, RoutedUpstream, Router
from shared.routing.settings import (
    AffinitySettings,
    PoolSpec,
    QueueSettings,
    UpstreamSlots,
)
from shared.routing.stats import RoutingStats
from shared.routing.store import QueuePlace
from shared.routing.tickets import Ticket

BUSY = Scenario("busy", pause=60.0, hours=3.5)
CROWD = Scenario("crowd", pause=0.01, greedy=5, chats=10, hours=1.5)
ENDLESS = 1e9
LEAST_KEPT, LEAST_JAIN, MOST_WAIT = 0.95, 0.95, 1.2


class OneQueue:
    """All slots in one place, first come first served."""

    def __init__(self, scenario: Scenario) -> None:
        names = [f"gpu{n}" for n in range(scenario.upstreams)]
        self._free = deque(names * scenario.slots)
        self._slots = asyncio.Semaphore(len(self._free))

    async def ask(self, stage: Stage, question: Question) -> None:
        """Wait for any slot."""
        asked = asyncio.get_running_loop().time()
        async with self._slots:
            upstream = self._free.popleft()
            await stage.answer(question, asked, upstream)
            self._free.append(upstream)


class Aqueduct:
    """Our router with its queue in memory."""

    def __init__(
        self, scenario: Scenario, affinity: AffinitySettings | None = None
    ) -> None:
        upstreams = tuple(
            UpstreamSlots(f"gpu{n}", scenario.slots) for n in range(scenario.upstreams)
        )
        patient = QueueSettings.model_validate({"deadline": {"person": ENDLESS}})
        self._spec = PoolSpec(
            "fleet", upstreams, patient, affinity or AffinitySettings()
        )
        self._router: Router | None = None

    def make_store(self, clock: Callable[[], float]) -> InProcessStore:
        return InProcessStore(clock)

    async def ask(self, stage: Stage, question: Question) -> None:
        """Send a question through the router, as the pipe does."""
        loop = asyncio.get_running_loop()
        if self._router is None:
            stats = RoutingStats({}, now=loop.time)
            self._router = Router(self.make_store(loop.time), stats, loop.time)
        asked = loop.time()

        def upstream(name: str) -> RoutedUpstream:
            async def run() -> AsyncGenerator[AgentEvent, None]:
                yield TextDelta("First")
                await stage.answer(question, asked, name)
                yield Finished()

            return RoutedUpstream(run, healthy, {})

        call = RoutedCall(
            self._spec,
            {slots.id: upstream(slots.id) for slots in self._spec.upstreams},
            question.person,
            "model",
            question.chat,
            0,
            lambda code, fields: code,
        )
        SECONDS.set(question.seconds)
        async for _ in self._router.run(call):
            pass


SECONDS: ContextVar[float] = ContextVar("seconds of the question that is asked")


async def healthy() -> None:
    pass


class OracleStore(InProcessStore):
    """Sends a request away from its home at once where it would wait there in vain."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._now = clock
        self._seconds: dict[str, float] = {}

    async def enter(self, spec: PoolSpec, ticket: Ticket) -> QueuePlace:
        """Join the queue with knowledge of the future."""
        self._seconds[ticket.id] = SECONDS.get()
        place = await super().enter(spec, ticket)
        desk = self.pool(spec).desk
        waiting = desk.waiting.get(ticket.id)
        if waiting is not None and ANY not in waiting.lanes:
            seconds = self._free_in(spec, ticket.id, waiting.lanes[0])
            if seconds > spec.affinity.wait:
                self.pool(spec).give(desk.loosen(ticket.id, self._now()))
        return place

    async def leave(self, place: QueuePlace, served: bool = False) -> None:
        """Forget what was known of a request."""
        self._seconds.pop(place.ticket.id, None)
        await super().leave(place, served)

    def _free_in(self, spec: PoolSpec, ticket_id: str, home: str) -> float:
        """The seconds until this upstream has room for a request that waits for it."""
        desk = self.pool(spec).desk
        free = [
            run.since + self._seconds[running]
            for running, run in desk.running.items()
            if run.upstream == home
        ]
        heapify(free)
        for other, waiting in desk.waiting.items():
            if waiting.lanes == (home,) and other != ticket_id:
                heapreplace(free, free[0] + self._seconds[other])
        return free[0] - self._now()


class Oracle(Aqueduct):
    """Our router, told the future."""

    def make_store(self, clock: Callable[[], float]) -> InProcessStore:
        return OracleStore(clock)


def always_home(scenario: Scenario) -> Aqueduct:
    return Aqueduct(scenario, AffinitySettings(wait=ENDLESS))


Outcomes = dict[str, list[Outcome]]  # of a way, by seed

WAYS: dict[str, Callable[[Scenario], Fleet]] = {
    "one queue": OneQueue,
    "aqueduct": Aqueduct,
    "oracle": Oracle,
    "always home": always_home,
}


def medians(outcomes: list[Outcome]) -> Outcome:
    """The median of each figure over the seeds."""
    rows = [asdict(outcome) for outcome in outcomes]
    return replace(
        outcomes[0], **{key: median(row[key] for row in rows) for key in rows[0]}
    )


def litellm_outcomes(scenario: Scenario) -> Outcomes:
    """What LiteLLM's Router makes of a scenario, in its own environment."""
    given = json.dumps(asdict(scenario))
    command = [litellm_python(), "-m", "benchmarks.routing_litellm", given]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    return {way: [Outcome(**fields)] for way, fields in found.items()}


def table(scenario: str, ways: Outcomes) -> Table:
    """One scenario, for people."""
    drawn = Table(title=f"{scenario}: medians over the seeds", box=SIMPLE)
    columns = ("way", "requests", "load", "wait p50", "p95", "mean", "kept", "Jain")
    for column in columns:
        drawn.add_column(column, justify="left" if column == "way" else "right")
    for way, outcomes in ways.items():
        o = medians(outcomes)
        waits = (f"{wait:.1f} s" for wait in (o.wait_p50, o.wait_p95, o.wait_mean))
        shares = (f"{o.kept:.1%}", f"{o.jain:.3f}")
        drawn.add_row(way, str(o.requests), f"{o.load:.2f}", *waits, *shares)
    return drawn


def verdicts(busy: Outcomes, crowd: Outcomes) -> dict[str, Any]:
    """What was to be reached, and what was: medians of what each seed gave."""
    pairs = zip(busy["aqueduct"], busy["oracle"], busy["one queue"], strict=True)
    shares = [
        (ours.kept / oracle.kept, ours.wait_p95 / queue.wait_p95)
        for ours, oracle, queue in pairs
    ]
    kept, wait = (median(column) for column in zip(*shares, strict=True))
    jain = median(outcome.jain for outcome in crowd["aqueduct"])
    return {
        "hits, of the oracle's": [round(kept, 3), kept >= LEAST_KEPT],
        "Jain's index, crowd": [round(jain, 3), jain >= LEAST_JAIN],
        "p95 wait, of one queue's": [round(wait, 3), wait <= MOST_WAIT],
    }


def main(
    seeds: Annotated[int, typer.Option(help="Simulations of each kind.")] = 5,
    litellm: Annotated[
        bool, typer.Option(help="LiteLLM beside it, in an environment made for it.")
    ] = True,
) -> None:
    """Simulate the fleet; exit code 1 when a goal is missed."""
    console = Console(stderr=True)
    found: dict[str, Outcomes] = {}
    for scenario in (BUSY, CROWD):
        found[scenario.name] = {
            name: [simulate(way(scenario), scenario, seed) for seed in range(seeds)]
            for name, way in WAYS.items()
        }
    if litellm:
        found["busy"] |= litellm_outcomes(BUSY)
    for name, ways in found.items():
        console.print(table(name, ways))
    goals = verdicts(found["busy"], found["crowd"])
    shown = {
        name: {way: asdict(medians(outcomes)) for way, outcomes in ways.items()}
        for name, ways in found.items()
    }
    print(json.dumps({"goals": goals, "scenarios": shown}, indent=2))
    if not all(reached for _, reached in goals.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
