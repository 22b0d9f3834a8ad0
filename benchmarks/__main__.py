"""All benchmarks that need no data of their own, one after the other.

`python -m benchmarks` runs each in a process of its own and goes on when one fails;
`python -m benchmarks toolcalls` runs those with "toolcalls" in their name.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer
from rich.console import Console

from devkit.paths import ROOT

BENCHMARKS = (
    "toolcalls_cost",
    "memory_latency",
    "pipe_speed",
    "routing_dispatch",
    "routing_streams",
    "routing_fleet",
)


def main(
    only: Annotated[
        str, typer.Argument(help=f"Part of a name: {', '.join(BENCHMARKS)}.")
    ] = "",
) -> None:
    """Run the benchmarks; exit code 1 when one of them fails."""
    # The programs in between write for themselves, hence nothing may wait in a buffer.
    console = Console(file=sys.stdout, highlight=False)
    chosen = [name for name in BENCHMARKS if only in name]
    if not chosen:
        console.print(f"error: {only!r} is none of {', '.join(BENCHMARKS)}.")
        raise typer.Exit(1)
    failed = []
    for name in chosen:
        console.rule(name)
        sys.stdout.flush()
        if code := run(name):
            failed.append(f"{name} failed with exit code {code}")
    for sentence in failed:
        console.print(f"[red]error:[/red] {sentence}")
    raise typer.Exit(1 if failed else 0)


def run(name: str) -> int:
    """Run one benchmark to its end and return its exit code."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C has reached it too, and it may have servers to stop
        raise


if __name__ == "__main__":
    typer.run(main)
