"""What tests saw working with real agents, and the table of it in docs/agents.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

START = "<!-- seen: written by tests/e2e/backends/test_table.py -->"
END = "<!-- end of seen -->"
BACKENDS = (
    "acp",
    "langgraph",
    "a2a",
    "letta",
    "anthropic",
    "agui",
    "cli",
    "webhook",
    "adk",
)
CAPABILITIES = (
    "text",
    "thoughts",
    "tool cards",
    "usage",
    "files in",
    "files out",
    "approvals",
    "sessions",
    "forks",
    "cancel",
    "discovery",
)
# Programs that are rarely installed, by the file of their tests; until they are, what was
# seen earlier holds.
ON_REQUEST = {"test_letta": ("letta", "Letta"), "test_n8n_live": ("webhook", "n8n")}
Seen = Mapping[tuple[str, str], Collection[str]]
SEEN: dict[tuple[str, str], set[str]] = defaultdict(set)
# Why this run cannot speak for all backends, or nothing.
GAPS = pytest.StashKey[list[str]]()


def seen(backend: str, program: str, capability: str) -> None:
    """Note that this was just asserted with a real program, named as users know it.

    Raises ValueError for a backend or capability that the table does not have.
    """
    if backend not in BACKENDS or capability not in CAPABILITIES:
        raise ValueError(f"the table has no {capability} of {backend}")
    SEEN[backend, program].add(capability)


def table(noted: Seen) -> str:
    """The Markdown table, a row for each program, in the order of BACKENDS."""
    rows = [["backend", "tried with", *CAPABILITIES], ["---"] * (2 + len(CAPABILITIES))]
    in_order = sorted(noted, key=lambda row: (BACKENDS.index(row[0]), row[1]))
    for backend, program in in_order:
        marks = ["✓" if c in noted[backend, program] else "" for c in CAPABILITIES]
        rows.append([f"`{backend}`", program, *marks])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def with_table(page: str, noted: Seen) -> str:
    """The page with the table between its two marks; raises ValueError without them."""
    before, start, rest = page.partition(START)
    earlier, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError("the page has no place for the table")
    shown = {**seen_earlier(earlier, noted), **noted}
    return f"{before}{START}\n\n{table(shown)}\n\n{END}{after}"


def seen_earlier(earlier: str, noted: Seen) -> Seen:
    """The rows of a table that this run could not see anew."""
    kept: dict[tuple[str, str], set[str]] = {}
    for line in earlier.splitlines():
        cells = [cell.strip(" `") for cell in line.split("|")[1:-1]]
        row = tuple(cells[:2])
        if row in ON_REQUEST.values() and row not in noted:
            marks = zip(CAPABILITIES, cells[2:], strict=True)
            kept[cells[0], cells[1]] = {name for name, mark in marks if mark}
    return kept


def is_gap(report: pytest.TestReport, path: Path) -> bool:
    """Whether a test's outcome keeps this run from speaking for all backends."""
    return not (report.passed or (report.skipped and path.stem in ON_REQUEST))


def gaps_of_collection(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Why the collected tests are not all of this folder's."""
    here = Path(__file__).parent
    gaps = [f"{arg} chooses tests" for arg in config.args if "::" in arg]
    missing = set(here.glob("test_*.py")) - {item.path for item in items}
    return gaps + [f"{path.name} was not collected" for path in sorted(missing)]
