"""Imports inside shared/ go down the table in docs/development.md, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.paths import ROOT

ALLOWED = {
    "agents": {"routing", "backends", "render", "toolcalls", "host"},
    "routing": {"backends", "host"},
    "orchestration": {"host"},
    "memory": {"host"},
    "toolcalls": set(),
    "render": set(),
    "backends": set(),
    "host": set(),
}
SHARED = ROOT / "shared"


def imported(path: Path) -> Iterator[str]:
    """The dotted names of all modules that a file imports from, at any depth."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def packages_used(path: Path) -> set[str]:
    """The packages of shared/ that a file imports from."""
    parts = [name.split(".") for name in imported(path) if name.startswith("shared.")]
    return {part[1] for part in parts if (SHARED / part[1]).is_dir()}


def test_the_table_has_every_package():
    assert ALLOWED.keys() == {path.parent.name for path in SHARED.glob("*/__init__.py")}


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_uses_only_those_below_it(package):
    used = {path: packages_used(path) for path in (SHARED / package).rglob("*.py")}
    strays = {
        str(path): sorted(names - ALLOWED[package] - {package})
        for path, names in used.items()
        if names - ALLOWED[package] - {package}
    }
    assert strays == {}


def test_modules_use_no_package():
    assert {path.name: packages_used(path) for path in SHARED.glob("*.py")} == {
        path.name: set() for path in SHARED.glob("*.py")
    }


def test_only_host_imports_open_webui():
    strays = [
        str(path)
        for path in SHARED.rglob("*.py")
        if path.parent.name != "host"
        and any(name.split(".")[0] == "open_webui" for name in imported(path))
    ]
    assert strays == []
