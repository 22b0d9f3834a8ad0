"""Every built file in Open WebUI's own loader, and what that loader would refuse."""

from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize(
    ("kind", "entry_class"),
    [
        ("pipe", "Pipe"),
        ("filter", "Filter"),
        ("action", "Action"),
        ("event", "Event"),
        ("tool", "Tools"),
    ],
)
def test_each_kind_loads(tmp_path, kind, entry_class):
    project = Project(tmp_path)
    project.write(SOURCE, f"class {entry_class}: ...\n")
    assert host.load_all([project.build(kind=kind)]) == {"sample": []}


VALVES = """
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        size: int = 1
"""


@pytest.mark.parametrize(
    ("function", "changes", "fault"),
    [
        ("raise OSError('no')\n\n\nclass Pipe: ...\n", {}, "OSError: no"),
        ("class Pipe:\n    def __init__(self):\n        1 / 0\n", {}, "ZeroDivision"),
        ("class Filter: ...\n", {}, "it loads as a filter, not as a pipe"),
        ("class Other: ...\n", {}, "No Function class found"),
        (VALVES, {"valves": {"size": "wide"}}, "unable to parse string as an integer"),
        ("class Pipe: ...\n", {"valves": {"size": 1}}, "there is no class Valves"),
        ("class Pipe: ...  # from " + "utils\n", {}, "would store a changed text"),
    ],
)
def test_what_open_webui_would_refuse_is_named(tmp_path, function, changes, fault):
    project = Project(tmp_path)
    project.write(SOURCE, function)
    (found,) = host.load_all([project.build(**changes)])["sample"]
    assert fault in found
