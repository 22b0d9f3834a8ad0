"""Every built file in Open WebUI's own loader, and what that loader would refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devkit.bundle import gates, host
from devkit.bundle.layout import BuiltFile
from devkit.bundle.suite import build, differences, dist_files
from devkit.manifest import FunctionEntry, read_manifest
from tests.unit.devkit.project import SOURCE, Project

ROOT = Path(__file__).parents[2]
MANIFEST = read_manifest(ROOT)

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        not host.is_available(), reason="needs Open WebUI: run `make test`"
    ),
]


@pytest.fixture(scope="module")
def suite() -> list[BuiltFile]:
    return [build(ROOT, MANIFEST, entry) for entry in MANIFEST.functions]


def test_dist_is_what_the_sources_build(suite):
    assert differences(ROOT, dist_files(suite)) == []


@pytest.mark.parametrize("entry", MANIFEST.functions, ids=lambda entry: entry.id)
def test_a_built_file_passes_every_gate(entry: FunctionEntry):
    assert list(gates.faults(build(ROOT, MANIFEST, entry))) == []


def test_open_webui_loads_every_built_file(suite):
    assert host.load_all(suite) == {entry.id: [] for entry in MANIFEST.functions}


VALVES = """
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        size: int = 1
"""
BROKEN_INIT = """
class Pipe:
    def __init__(self):
        1 / 0
"""

# The source, what the manifest says of it, and what must be found wrong, if anything.
CASES: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "pipe": ("class Pipe: ...\n", {}, None),
    "filter": ("class Filter: ...\n", {"kind": "filter"}, None),
    "action": ("class Action: ...\n", {"kind": "action"}, None),
    "event": ("class Event: ...\n", {"kind": "event"}, None),
    "tool": ("class Tools: ...\n", {"kind": "tool"}, None),
    "valves": (VALVES, {"valves": {"size": 2}}, None),
    "raises": ("raise OSError('no')\n\n\nclass Pipe: ...\n", {}, "OSError: no"),
    "broken_init": (BROKEN_INIT, {}, "ZeroDivisionError: division by zero"),
    "wrong_kind": ("class Filter: ...\n", {}, "it loads as a filter, not as a pipe"),
    "no_class": ("class Other: ...\n", {}, "No Function class found"),
    "bad_valves": (VALVES, {"valves": {"size": "wide"}}, "unable to parse string"),
    "no_valves": ("class Pipe: ...\n", {"valves": {"size": 1}}, "no class Valves"),
    "rewritten": ("class Pipe: ...  # from " + "utils\n", {}, "store a changed text"),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict[str, list[str]]:
    """What Open WebUI says of all cases; it starts once for all of them."""
    built = []
    for name, (source, changes, _) in CASES.items():
        project = Project(tmp_path_factory.mktemp(name))
        project.write(SOURCE, source)
        built.append(project.build(id=name, dist=f"dist/{name}.py", **changes))
    return host.load_all(built)


@pytest.mark.parametrize("name", CASES)
def test_what_open_webui_would_refuse_is_named(report, name):
    expected = CASES[name][2]
    found = " ".join(report[name])
    assert expected in found if expected else found == ""
