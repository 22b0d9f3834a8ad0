"""Everything `devkit check` proves, as one list of results."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from devkit.bundle import gates, host
from devkit.bundle.closure import check_package
from devkit.bundle.layout import BuiltFile
from devkit.bundle.suite import differences, dist_files
from devkit.errors import BuildError
from devkit.manifest import SCHEMA_NAME, Manifest, schema_text


@dataclass(frozen=True)
class Result:
    """One check: what was looked at, the sentences of what is wrong, or why it was
    skipped."""

    name: str
    faults: list[str] = field(default_factory=list)
    skipped: str = ""


def check_built(root: Path, built: list[BuiltFile]) -> Iterator[Result]:
    """The gates of each file, and dist/ against them."""
    for item in built:
        yield Result(item.entry.dist, list(gates.faults(item)))
    stale = differences(root, dist_files(built))
    yield Result("dist/ is what the sources build", [f"{p} differs" for p in stale])


def check_host(built: list[BuiltFile]) -> Result:
    """Open WebUI's own loader takes every file."""
    name = "loads in Open WebUI"
    if not host.is_available():
        return Result(name, skipped="Open WebUI is not installed in this Python")
    try:
        report = host.load_all(built)
    except BuildError as error:
        return Result(name, [str(error)])
    return Result(name, [f"{id_}: {f}" for id_, found in report.items() for f in found])


def check_project(root: Path, manifest: Manifest) -> Iterator[Result]:
    """What holds for the project rather than for one built file."""
    try:
        check_package(root)
        yield Result("shared/ keeps the bundler's rules")
    except BuildError as error:
        yield Result("shared/ keeps the bundler's rules", [str(error)])
    path = root / SCHEMA_NAME
    fresh = path.is_file() and path.read_text(encoding="utf-8") == schema_text()
    yield Result(
        f"{SCHEMA_NAME} is current",
        [] if fresh else ["run `python -m devkit schema`"],
    )
    stated = _project_version(root)
    yield Result(
        "one version",
        (
            []
            if stated in (None, manifest.version)
            else [f"pyproject.toml says {stated}, manifest.json {manifest.version}"]
        ),
    )


def _project_version(root: Path) -> str | None:
    path = root / "pyproject.toml"
    if not path.is_file():
        return None
    version = tomllib.loads(path.read_text("utf-8")).get("project", {}).get("version")
    return str(version) if version else None
