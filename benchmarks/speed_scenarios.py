"""What is measured, and what is to be reached."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from benchmarks.speed_sample import Meter, Progress
from benchmarks.speed_upstream import WordModel

Measure = Literal["first_ms", "wall_us", "cpu_us"]
Place = Literal["api", "chat"]
PLACES: tuple[Place, ...] = ("api", "chat")
PIPE = "agents"
UNJOINED_PIPE = "agents_unjoined"


class Way(StrEnum):
    """How a request reaches the upstream."""

    DIRECT = "direct"
    NATIVE = "native"
    PIPE = "pipe"


@dataclass(frozen=True)
class Goal:
    """A limit for the pipe: so many times the own connection's, and so much more."""

    measure: Measure
    times: float = 1.0
    more: float = 0.0

    def limit(self, native: float) -> float:
        """The highest value that reaches the goal."""
        return native * self.times + self.more

    def __str__(self) -> str:
        return f"+ {self.more:g}" if self.more else f"x {self.times:.2f}"


@dataclass(frozen=True)
class Scenario:
    """One thing to measure, `rounds` times each way in turns after a warm-up.

    `pipe` is the id of the function that stands for the pipe.
    """

    title: str
    place: Place
    model: WordModel
    goals: tuple[Goal, ...]
    streams: int = 1
    rounds: int = 5
    whole: bool = False
    pipe: str = PIPE

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways to compare; the upstream alone has no chats and no CPU time."""
        compared = (Way.NATIVE, Way.PIPE)
        if self.place == "chat" or self.streams > 1:
            return compared
        return (Way.DIRECT, *compared)

    def progress(self, meter: Meter) -> Progress:
        """A measurement to be filled; of many streams it takes the middle."""
        words = self.model.words
        margin = words // 10 if self.streams > 1 else 0
        return Progress(meter, words, self.streams, margin, self.whole)


BURST = WordModel(5000)
ONE_WORD = WordModel(1)
CALM = WordModel(100, 20)  # 50 words a second: each in a frame of its own
CALM_CHAT = WordModel(120, 20)  # longer, since chats do not all begin at once
FAST_CHAT = WordModel(500, 4)  # 250 words a second: four in a frame of a screen
RUSHING_CHAT = WordModel(2000, 1)
WARM_UP = WordModel(10_000)
LONG = WordModel(100_000)

SCENARIOS = (
    Scenario("API burst", "api", BURST, (Goal("wall_us", 1.1), Goal("cpu_us", 1.1))),
    Scenario("API 25 x 50/s", "api", CALM, (Goal("cpu_us", 1.1),), streams=25),
    Scenario("API 1 word", "api", ONE_WORD, (Goal("first_ms", more=5),), rounds=25),
    # From the request on: joined, a burst is a few pieces, the first already large.
    Scenario(
        "chat burst",
        "chat",
        BURST,
        (Goal("wall_us", 0.4), Goal("cpu_us", 0.4)),
        whole=True,
    ),
    Scenario(
        "same, unjoined",
        "chat",
        BURST,
        (Goal("wall_us", 0.8), Goal("cpu_us", 0.8)),
        pipe=UNJOINED_PIPE,
    ),
    Scenario(
        "chat 4 x 1000/s", "chat", RUSHING_CHAT, (Goal("cpu_us", 0.4),), streams=4
    ),
    Scenario("chat 4 x 250/s", "chat", FAST_CHAT, (Goal("cpu_us", 0.4),), streams=4),
    Scenario("chat 8 x 50/s", "chat", CALM_CHAT, (Goal("cpu_us", 0.8),), streams=8),
    Scenario("chat 1 word", "chat", ONE_WORD, (Goal("first_ms", more=5),), rounds=15),
)
MODELS = [*{scenario.model: None for scenario in SCENARIOS}, WARM_UP, LONG]
