"""Builds the whole suite: the files of dist/ as text, and dist/ itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from devkit.bundle.closure import collect
from devkit.bundle.layout import BuiltFile, lay_out
from devkit.manifest import FunctionEntry, Kind, Manifest

FUNCTIONS_EXPORT = "dist/aqueduct.json"
TOOLS_EXPORT = "dist/aqueduct-tools.json"
LINE_MAP = "dist/linemap.json"


def build(root: Path, manifest: Manifest, entry: FunctionEntry) -> BuiltFile:
    """The built file of one function; raises BuildError. Writes nothing."""
    return lay_out(manifest, entry, collect(root, entry.source))


def build_all(root: Path, manifest: Manifest) -> list[BuiltFile]:
    """Every function of the manifest, built; raises BuildError for the first fault."""
    return [build(root, manifest, entry) for entry in manifest.functions]


def dist_files(built: Iterable[BuiltFile]) -> dict[str, str]:
    """Every file of dist/ and its text, by path relative to the project.

    Open WebUI keeps tools apart from functions and imports each on its own page, hence
    two export files; the second exists only if the suite has tools.
    """
    built = list(built)
    files = {item.entry.dist: item.text for item in built}
    tools = [item for item in built if item.entry.kind is Kind.TOOL]
    functions = [item for item in built if item.entry.kind is not Kind.TOOL]
    files[FUNCTIONS_EXPORT] = _json([_export(item) for item in functions])
    if tools:
        files[TOOLS_EXPORT] = _json([_export(item) for item in tools])
    files[LINE_MAP] = _line_map(built)
    return files


def write_dist(root: Path, files: dict[str, str]) -> list[str]:
    """Makes dist/ hold exactly `files`; returns the paths that changed or went."""
    changed = differences(root, files)
    for path in changed:
        target = root / path
        if path in files:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[path].encode())
        else:
            target.unlink()
    return changed


def differences(root: Path, files: dict[str, str]) -> list[str]:
    """Paths where dist/ is not byte for byte what `files` says, superfluous ones too."""
    present = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in (root / "dist").rglob("*")
        if path.is_file()
    }
    wanted = {path: text.encode() for path, text in files.items()}
    return sorted(
        path
        for path in present.keys() | wanted.keys()
        if present.get(path) != wanted.get(path)
    )


def _export(built: BuiltFile) -> dict[str, Any]:
    """One item as Open WebUI's own export writes it, without what differs by server:
    owner and times. Its import posts the item to /create, which takes what it knows."""
    entry = built.entry
    translations = {"i18n": entry.i18n} if entry.i18n else {}
    return {
        "id": entry.id,
        "name": entry.name,
        "type": entry.kind.value,
        "content": built.text,
        "meta": {"description": entry.description} | translations,
    }


def _line_map(built: list[BuiltFile]) -> str:
    """{"dist/x.py": [[first, last, source, line], ...]}, one span a line."""
    blocks = []
    for item in built:
        rows = [[s.first, s.last, s.source, s.line] for s in item.spans]
        body = ",\n".join(f"    {json.dumps(row)}" for row in rows)
        blocks.append(f"  {json.dumps(item.entry.dist)}: [\n{body}\n  ]")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
