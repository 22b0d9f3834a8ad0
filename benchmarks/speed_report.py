"""Results as a table and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from benchmarks.speed_sample import Sample
from benchmarks.speed_scenarios import Goal, Measure, Place, Scenario, Way

UNITS: dict[Measure, str] = {
    "first_ms": "ms, first",
    "wall_us": "µs",
    "cpu_us": "µs CPU",
}
# Memory that an answer of this length may take: its text and what is made of it.
MEMORY_GROWTH_MB = 10.0

Samples = Mapping[Way, list[Sample]]
Growth = Mapping[Way, float]


@dataclass(frozen=True)
class Verdict:
    """The medians of one measure, and what was to be reached."""

    title: str
    goal: Goal
    medians: Mapping[Way, float]

    @property
    def ratio(self) -> float:
        """The pipe's value, as a multiple of the own connection's."""
        return self.medians[Way.PIPE] / self.medians[Way.NATIVE]

    @property
    def reached(self) -> bool:
        """Whether the pipe keeps within the goal."""
        return self.medians[Way.PIPE] <= self.goal.limit(self.medians[Way.NATIVE])


def verdicts(scenario: Scenario, samples: Samples) -> list[Verdict]:
    """One verdict for each of the scenario's goals."""
    return [
        Verdict(
            scenario.title,
            goal,
            {
                way: median(getattr(sample, goal.measure) for sample in taken)
                for way, taken in samples.items()
            },
        )
        for goal in scenario.goals
    ]


def speed_table(found: list[Verdict]) -> Table:
    """The verdicts, for people."""
    table = Table(
        title="A word: time, and CPU time of Open WebUI (medians)", box=SIMPLE
    )
    table.add_column("what", no_wrap=True)
    table.add_column("measure", no_wrap=True)
    for heading in ("direct", "native", "pipe", "ratio", "goal", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for verdict in found:
        values = [
            f"{verdict.medians[way]:.1f}" if way in verdict.medians else ""
            for way in Way
        ]
        if verdict.goal.measure == "cpu_us":
            values[0] = ""
        table.add_row(
            verdict.title,
            UNITS[verdict.goal.measure],
            *values,
            f"{verdict.ratio:.2f}",
            str(verdict.goal),
            verdict_mark(verdict.reached),
        )
    return table


def verdict_mark(reached: bool) -> str:
    """How a goal's end is shown."""
    return "[green]ok" if reached else "[red]no"


def memory_table(growth: Mapping[Place, Growth]) -> Table:
    """What 100,000 words in one answer take, for people."""
    table = Table(title="Memory for 100,000 words, MB", box=SIMPLE)
    for heading in ("where", "native", "pipe", "goal", ""):
        table.add_column(heading)
    for place, grown in growth.items():
        reached = grown[Way.PIPE] <= MEMORY_GROWTH_MB
        table.add_row(
            place,
            f"{grown[Way.NATIVE]:.1f}",
            f"{grown[Way.PIPE]:.1f}",
            f"{MEMORY_GROWTH_MB:g}",
            verdict_mark(reached),
        )
    return table


def as_json(
    samples: Mapping[Scenario, Samples],
    found: list[Verdict],
    growth: Mapping[Place, Growth],
) -> dict[str, Any]:
    """Everything, for programs: verdicts, memory, and each single sample."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "goals": [
            {
                "scenario": verdict.title,
                "measure": verdict.goal.measure,
                "goal": str(verdict.goal),
                "medians": dict(verdict.medians),
                "ratio": verdict.ratio,
                "reached": verdict.reached,
            }
            for verdict in found
        ],
        "memory_mb": {place: dict(grown) for place, grown in growth.items()},
        "samples": {
            scenario.title: {
                way: [asdict(sample) for sample in taken] for way, taken in each.items()
            }
            for scenario, each in samples.items()
        },
    }
