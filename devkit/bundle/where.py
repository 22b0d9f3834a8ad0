"""Finds the source line of a line in a built file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from devkit.bundle.suite import LINE_MAP
from devkit.errors import BuildError

_PLACE = re.compile(r"(?:.*/)?(?P<id>\w+?)(?:\.py)?:(?P<line>\d+)")


@dataclass(frozen=True)
class Place:
    """A line of a source file; `path` is relative to the project."""

    path: str
    line: int


def where(root: Path, place: str) -> Place | None:
    """The source of `dist/agents.py:412` (`agents:412` will do); None if that line is
    generated. Reads the line map beside the built files; raises BuildError."""
    found = _PLACE.fullmatch(place)
    if not found:
        raise BuildError(
            f"{place!r} does not name a line; write it as dist/agents.py:412."
        )
    try:
        line_map = json.loads((root / LINE_MAP).read_bytes())
    except FileNotFoundError as error:
        raise BuildError(
            f"{LINE_MAP} does not exist; run `devkit build` first."
        ) from error
    path, line = f"dist/{found['id']}.py", int(found["line"])
    if path not in line_map:
        raise BuildError(f"{path} is not in {LINE_MAP}.")
    for first, last, source, start in line_map[path]:
        if first <= line <= last:
            return Place(source, start + line - first)
    length = (root / path).read_bytes().count(b"\n")
    if not 0 < line <= length:
        raise BuildError(f"{path} has {length} lines.")
    return None
