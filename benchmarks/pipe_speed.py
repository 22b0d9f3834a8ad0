"""The agents pipe beside Open WebUI's own OpenAI connection.

`python -m benchmarks.pipe_speed` starts an Open WebUI with both, and an upstream that
costs next to nothing, and takes turns between them. docs/development.md says how to read it.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.progress import track

from benchmarks.speed_api import Target, read_streams
from benchmarks.speed_chat import read_answers
from benchmarks.speed_meter import MemoryWatch, cpu_meter
from benchmarks.speed_report import (
    Growth,
    Samples,
    as_json,
    memory_table,
    speed_table,
    verdicts,
)
from benchmarks.speed_sample import Meter, Progress, Sample
from benchmarks.speed_scenarios import (
    LONG,
    MODELS,
    PIPE,
    PLACES,
    SCENARIOS,
    WARM_UP,
    Place,
    Scenario,
    Way,
)
from benchmarks.speed_site import Site, running_site
from benchmarks.speed_upstream import WordModel
from devkit.chat_socket import ChatSocket


class Bench:
    """Runs scenarios against one site, over the API and in chats."""

    def __init__(self, site: Site, console: Console) -> None:
        self._site = site
        self._console = console
        self._meter: Meter = cpu_meter(site.server_pid)

    async def measure(self, scenario: Scenario) -> Samples:
        """Take turns between the ways; what the first turn gives does not count."""
        samples: dict[Way, list[Sample]] = {way: [] for way in scenario.ways}
        rounds = range(scenario.rounds + 1)
        for turn in track(rounds, scenario.title, console=self._console):
            for way in scenario.ways:
                progress = scenario.progress(self._meter)
                name = self._name(way, scenario.model, scenario.pipe)
                sample = await self._read(scenario.place, way, name, progress)
                if turn:
                    samples[way].append(sample)
        return samples

    async def grow(self, place: Place) -> Growth:
        """Megabytes that one long answer takes on, each way, after a warm-up."""
        growth: dict[Way, float] = {}
        for way in (Way.NATIVE, Way.PIPE):
            for model in (WARM_UP, LONG):
                progress = Progress(self._meter, model.words)
                with MemoryWatch(self._site.server_pid) as watch:
                    await self._read(place, way, self._name(way, model), progress)
            growth[way] = watch.grown_mb
        return growth

    @staticmethod
    def _name(way: Way, model: WordModel, pipe: str = PIPE) -> str:
        return f"{pipe}.{model.name}" if way is Way.PIPE else model.name

    async def _read(
        self, place: Place, way: Way, name: str, progress: Progress
    ) -> Sample:
        if place == "chat":
            async with ChatSocket.connect(
                self._site.url, self._site.admin.token
            ) as chats:
                return await read_answers(chats, name, progress)
        if way is Way.DIRECT:
            target = Target(f"{self._site.upstream_url}/v1/chat/completions", name)
        else:
            url = f"{self._site.url}/api/chat/completions"
            target = Target(url, name, self._site.admin.token)
        return read_streams(target, progress)


async def run(console: Console, only: str) -> dict[str, Any]:
    """Measure the scenarios whose title holds `only`, show tables, return all."""
    chosen = [scenario for scenario in SCENARIOS if only in scenario.title]
    samples: dict[Scenario, Samples] = {}
    growth: dict[Place, Growth] = {}
    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as folder:
        console.print("Starting Open WebUI …")
        with running_site(Path(folder), MODELS) as site:
            bench = Bench(site, console)
            for scenario in chosen:
                samples[scenario] = await bench.measure(scenario)
            if not only:
                for place in PLACES:
                    console.print(f"Memory, {place} …")
                    growth[place] = await bench.grow(place)
    found = [v for each in chosen for v in verdicts(each, samples[each])]
    console.print(speed_table(found))
    if growth:
        console.print(memory_table(growth))
    return as_json(samples, found, growth)


def main(
    only: Annotated[
        str, typer.Option(help="Measure only what has this in its name.")
    ] = "",
    json_path: Annotated[
        Path | None,
        typer.Option("--json", help="Write all samples here; - is standard output."),
    ] = None,
) -> None:
    """Measure the pipe beside Open WebUI's own connection; about two minutes."""
    to_stdout = json_path == Path("-")
    console = Console(stderr=to_stdout)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(run(console, only))
    text = json.dumps(results, indent=2)
    if to_stdout:
        print(text)
    elif json_path is not None:
        json_path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
