"""What `devkit check` finds beyond single files."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from devkit.bundle import gates
from devkit.bundle.source import read_module
from devkit.bundle.suite import dist_files, write_dist
from devkit.checks import check_built, check_project
from devkit.manifest import schema_text
from tests.unit.devkit.project import SOURCE, Project

ROOT = Path(__file__).parents[3]
SHARED = sorted(
    path.relative_to(ROOT).as_posix() for path in ROOT.glob("shared/**/*.py")
)


@pytest.fixture
def sound(project) -> Project:
    project.write("shared/x.py", "start = 1\n")
    project.write(
        SOURCE, "from shared.x import start\n\n\nclass Pipe:\n    a = start\n"
    )
    project.write("manifest.schema.json", schema_text())
    project.write("pyproject.toml", '[project]\nversion = "1.2.3"\n')
    write_dist(project.root, dist_files([project.build()]))
    return project


def failures(project: Project) -> dict[str, list[str]]:
    results = [
        *check_project(project.root, project.manifest()),
        *check_built(project.root, [project.build()]),
    ]
    return {result.name: result.faults for result in results if result.faults}


def test_a_sound_project_passes(sound):
    assert failures(sound) == {}


def test_a_project_without_a_version_of_its_own_passes(sound):
    sound.write("pyproject.toml", "[tool.black]\n")
    assert failures(sound) == {}


@pytest.mark.parametrize(
    ("path", "text", "name", "fault"),
    [
        (
            "shared/y.py",
            "start = 2\n",
            "shared/ keeps the bundler's rules",
            "shared/y.py:1: 'start' is also defined at shared/x.py:1.",
        ),
        (
            "shared/y.py",
            "from shared.x import stop\n",
            "shared/ keeps the bundler's rules",
            "shared/y.py:1: shared.x does not define 'stop'.",
        ),
        (
            "manifest.schema.json",
            "{}\n",
            "manifest.schema.json is current",
            "run `python -m devkit schema`",
        ),
        (
            "pyproject.toml",
            '[project]\nversion = "1.2.4"\n',
            "one version",
            "pyproject.toml says 1.2.4, manifest.json 1.2.3",
        ),
        (
            "dist/sample.py",
            "edited\n",
            "dist/ is what the sources build",
            "dist/sample.py differs",
        ),
    ],
)
def test_what_is_wrong_is_named(sound, path, text, name, fault):
    sound.write(path, text)
    assert failures(sound) == {name: [fault]}


@pytest.mark.parametrize("path", SHARED)
def test_every_shared_module_builds_into_a_file_that_runs_alone(
    project, path, monkeypatch
):
    """Whatever a function takes of it, nothing it needs is left behind."""
    (project.root / "shared").symlink_to(ROOT / "shared")
    dotted = path.removesuffix(".py").replace("/", ".")
    for name in read_module(ROOT, path).symbols:
        project.write(
            SOURCE, f"from {dotted} import {name}\n\n\nclass Pipe:\n    a = {name}\n"
        )
        built = project.build()
        assert list(gates.compiles(built)) == []
        assert list(gates.lints(built)) == []
        # Dataclasses look their module up while they are made.
        module = types.ModuleType("built")
        monkeypatch.setitem(sys.modules, "built", module)
        exec(compile(built.text, path, "exec"), module.__dict__)
