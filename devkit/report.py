"""Tables for the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devkit.bundle.layout import BuiltFile

if TYPE_CHECKING:
    from devkit.checks import Result


def show_checks(console: Console, results: Iterable[Result]) -> bool:
    """Prints a line for each check and its faults; True if none failed."""
    passed = True
    for result in results:
        if result.skipped:
            console.print(f"[yellow]skip[/yellow] {result.name}: {result.skipped}")
        elif not result.faults:
            console.print(f"[green]  ok[/green] {result.name}", highlight=False)
        else:
            passed = False
            console.print(f"[red]fail[/red] {result.name}", highlight=False)
            for fault in result.faults:
                console.print(f"     {escape(fault)}", highlight=False)
    return passed


def show_sizes(
    console: Console, root: Path, built: list[BuiltFile], changed: list[str]
) -> None:
    """Prints a table of the built files: lines, KiB, lines out of shared/, state."""
    table = Table("file", "lines", "KiB", "shared modules", "from shared/", "")
    for item in built:
        shared = [span for span in item.spans if span.source != item.entry.source]
        shared_lines = sum(span.last - span.first + 1 for span in shared)
        table.add_row(
            item.entry.dist,
            str(item.text.count("\n")),
            f"{len(item.text.encode()) / 1024:.1f}",
            str(len({span.source for span in shared})),
            f"{shared_lines} lines",
            "changed" if item.entry.dist in changed else "",
        )
    console.print(table)
    for path in changed:
        if not (root / path).exists():
            console.print(f"removed {path}")
