"""A fleet of model servers and the people who use it, in simulated time.

Nothing here waits: when all tasks of the event loop sleep, its clock is set to when the
first of them wakes. So hours pass in seconds, the same seed gives the same hours, and
what is measured is the order of things, not this machine. Standard library only: the
environment of LiteLLM runs this, too.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from statistics import fmean, quantiles
from typing import Any, Protocol

# Lognormal, as the lengths of answers are in public traces (BurstGPT, 2024): most take
# seconds, some minutes.
ANSWER_SECONDS, ANSWER_SIGMA, LONGEST_ANSWER = 10.0, 1.2, 600.0
PAUSE_SIGMA = 1.0
TURNS_A_CHAT = 6
CACHE_SECONDS = 600.0
WARM_UP = 1800.0


@dataclass(frozen=True)
class Scenario:
    """Who uses what for how long. `slots` are those of one upstream.

    `pause` is the mean of the seconds between an answer and the next question; the
    `greedy` first people have `chats` going on at once, all others one.
    """

    name: str
    pause: float
    upstreams: int = 4
    slots: int = 2
    people: int = 50
    greedy: int = 0
    chats: int = 1
    hours: float = 6.0


@dataclass(frozen=True)
class Question:
    """One request: whose, in which chat, and how long its answer takes."""

    person: str
    chat: str
    seconds: float


@dataclass
class Served:
    """When and where a question had its answer; `kept` None: the chat was new there."""

    question: Question
    asked: float
    begun: float
    upstream: str
    kept: bool | None


@dataclass
class Stage:
    """The upstreams as they are: what runs where, and which chats they have cached."""

    slots: int
    served: list[Served] = field(default_factory=list)
    most: dict[str, int] = field(default_factory=dict)
    _running: dict[str, int] = field(default_factory=dict)
    _cached: dict[str, tuple[str, float]] = field(default_factory=dict)

    async def answer(self, question: Question, asked: float, upstream: str) -> None:
        """Let an upstream work on a question; whoever sends it there has waited."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        home, until = self._cached.get(question.chat, ("", 0.0))
        kept = home == upstream if until > begun else None
        self._running[upstream] = self._running.get(upstream, 0) + 1
        self.most[upstream] = max(self.most.get(upstream, 0), self._running[upstream])
        await asyncio.sleep(question.seconds)
        self._running[upstream] -= 1
        self._cached[question.chat] = (upstream, loop.time() + CACHE_SECONDS)
        self.served.append(Served(question, asked, begun, upstream, kept))


class Fleet(Protocol):
    """A way of bringing questions to upstreams."""

    async def ask(self, stage: Stage, question: Question) -> None:
        """Wait for an upstream, and call `stage.answer` with it."""


@dataclass(frozen=True)
class Outcome:
    """What one way made of a scenario. Waits in seconds, shares from 0 to 1.

    `kept` is the share of questions that went where their chat was cached, of those
    that could; `jain` is Jain's index of the requests served, over all people.
    """

    requests: int
    load: float
    wait_mean: float
    wait_p50: float
    wait_p95: float
    kept: float
    jain: float


class _SimulatedSelector(selectors.SelectSelector):
    """Waits for nothing: the time that would pass is added to `now`."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None:
            self.now += max(timeout, 0.0)
        return super().select(0 if timeout is not None else None)


class _SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._simulated = _SimulatedSelector()
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now


def run_simulated(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, all of whose waiting takes no time."""
    with asyncio.Runner(loop_factory=_SimulatedLoop) as runner:
        return runner.run(work)


def lognormal(chance: random.Random, mean: float, sigma: float) -> float:
    return chance.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)


def questions(
    scenario: Scenario, seed: int, person: str, number: int
) -> Iterator[tuple[Question, float]]:
    """What a person asks in one chat after another, and the pauses after answers.

    It does not depend on how long they wait, so that all ways get the same.
    """
    chance = random.Random(f"{seed} {person} {number}")
    talk = 0
    while True:
        talk += 1
        for _ in range(1 + int(chance.expovariate(1 / TURNS_A_CHAT))):
            seconds = lognormal(chance, ANSWER_SECONDS, ANSWER_SIGMA)
            pause = lognormal(chance, scenario.pause, PAUSE_SIGMA)
            chat = f"{person} {number} {talk}"
            yield Question(person, chat, min(seconds, LONGEST_ANSWER)), pause


async def live(fleet: Fleet, scenario: Scenario, seed: int) -> Stage:
    """Let all people ask for as long as the scenario lasts."""
    stage = Stage(scenario.slots)
    loop = asyncio.get_running_loop()
    end = loop.time() + scenario.hours * 3600

    async def chat_on(person: str, number: int) -> None:
        begin = random.Random(f"{seed} {person} {number} begin").random()
        await asyncio.sleep(begin * scenario.pause * 2)
        for question, pause in questions(scenario, seed, person, number):
            await fleet.ask(stage, question)
            await asyncio.sleep(pause)

    chats = [
        asyncio.ensure_future(chat_on(f"person {one}", number))
        for one in range(scenario.people)
        for number in range(scenario.chats if one < scenario.greedy else 1)
    ]
    done, _ = await asyncio.wait(
        chats, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED
    )
    for chat in chats:
        chat.cancel()
    await asyncio.gather(*chats, return_exceptions=True)
    for failed in done:
        failed.result()  # nobody leaves by himself
    return stage


def jain_index(shares: list[float]) -> float:
    """(Σx)² / (n Σx²): 1 when all have the same (Jain, Chiu, Hawe 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares))


def outcome(stage: Stage, scenario: Scenario) -> Outcome:
    """The figures of a stage, without its first half hour."""
    seen = [s for s in stage.served if s.asked >= WARM_UP]
    waits = [s.begun - s.asked for s in seen]
    cuts = quantiles(waits, n=100)
    could = [s.kept for s in seen if s.kept is not None]
    people: dict[str, float] = {}
    for served in seen:
        person = served.question.person
        people[person] = people.get(person, 0) + 1
    busy = sum(s.question.seconds for s in seen)
    capacity = scenario.upstreams * scenario.slots
    return Outcome(
        requests=len(seen),
        load=busy / ((scenario.hours * 3600 - WARM_UP) * capacity),
        wait_mean=fmean(waits),
        wait_p50=cuts[49],
        wait_p95=cuts[94],
        kept=sum(could) / len(could),
        jain=jain_index(list(people.values())),
    )


def simulate(fleet: Fleet, scenario: Scenario, seed: int) -> Outcome:
    """One way, one scenario, one seed."""
    return outcome(run_simulated(live(fleet, scenario, seed)), scenario)
