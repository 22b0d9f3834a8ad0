"""Lays out a built file and remembers which source line every line of it is.

From top to bottom: the frontmatter Open WebUI reads, the notice, the imports, one
section for each shared module, the function.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from devkit.bundle.closure import Section
from devkit.bundle.imports import Import, render_imports
from devkit.bundle.source import Module
from devkit.manifest import FunctionEntry, Manifest

AUTHOR = "Aqueduct"
_HASH_LINE = re.compile(r"^# Content hash: ([0-9a-f]{16})$", re.MULTILINE)
_NO_HASH = "0" * 16


@dataclass(frozen=True)
class Span:
    """The lines `first` to `last` of a built file are those of `source` from `line`."""

    first: int
    last: int
    source: str
    line: int


@dataclass(frozen=True)
class BuiltFile:
    """A built file: its text, and its spans from top to bottom. Lines outside of the
    spans (frontmatter, notice, imports, section marks) are generated."""

    entry: FunctionEntry
    text: str
    spans: tuple[Span, ...]


@dataclass
class _Page:
    lines: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def write(self, *lines: str, blank: int = 0) -> None:
        self.lines += [*[""] * blank, *lines]

    def copy(self, module: Module, first: int, last: int, *, blank: int) -> None:
        """Copies the lines `first` to `last` of `module`, below `blank` empty ones."""
        self.write(*module.lines[first - 1 : last], blank=blank)
        start = len(self.lines) - (last - first)
        self.spans.append(Span(start, len(self.lines), module.path, first))


def lay_out(
    manifest: Manifest, entry: FunctionEntry, sections: list[Section]
) -> BuiltFile:
    """The built file of `entry`, whose own section is the last of `sections`."""
    page = _Page()
    page.write('"""', *_frontmatter(manifest, entry), '"""')
    page.write(*_notice(manifest, entry), blank=1)
    page.write(*_import_lines(sections), blank=1)
    for section in sections[:-1]:
        _write_shared(page, section)
    _write_function(page, sections[-1])
    text = "\n".join(page.lines) + "\n"
    text = _HASH_LINE.sub(f"# Content hash: {content_hash(text)}", text, count=1)
    return BuiltFile(entry, text, tuple(page.spans))


def content_hash(text: str) -> str:
    """16 hex digits of the SHA-256 of a built text, its own hash line left blank."""
    blank = _HASH_LINE.sub(f"# Content hash: {_NO_HASH}", text, count=1)
    return hashlib.sha256(blank.encode()).hexdigest()[:16]


def stated_hash(text: str) -> str | None:
    """The hash a text carries in its notice; None if Aqueduct did not build it."""
    found = _HASH_LINE.search(text)
    return found[1] if found else None


def _frontmatter(manifest: Manifest, entry: FunctionEntry) -> list[str]:
    values = {
        "title": entry.name,
        "author": AUTHOR,
        "version": manifest.version,
        "description": entry.description,
        "license": "MIT",
        "required_open_webui_version": manifest.min_open_webui_version,
        "icon_url": entry.icon,
    }
    return [f"{key}: {value}" for key, value in values.items() if value]


def _notice(manifest: Manifest, entry: FunctionEntry) -> list[str]:
    return [
        f"# {AUTHOR} {manifest.version}. Copyright (c) 2026 The Aqueduct authors.",
        "# SPDX-License-Identifier: MIT",
        "#",
        f"# Built from {entry.source} and what it uses from shared/.",
        "# Make changes there: the next update replaces this file.",
        f"# Content hash: {_NO_HASH}",
    ]


def _import_lines(sections: list[Section]) -> list[str]:
    runtime = {item for section in sections for item in section.imports}
    known = {item.binding for item in runtime}
    typing_only = {
        item
        for section in sections
        for item in section.typing_imports
        if item.binding not in known
    }
    if any(section.module.imports.future_annotations for section in sections):
        runtime.add(Import("__future__", "annotations"))
    if not typing_only:
        return render_imports(runtime)
    runtime.add(Import("typing", "TYPE_CHECKING"))
    block = render_imports(typing_only, indent="    ")
    return [*render_imports(runtime), "", "if TYPE_CHECKING:", *block]


def _write_mark(page: _Page, module: Module) -> None:
    # Below the imports Black wants one empty line, everywhere else two are allowed.
    page.write(f"# --- {module.path} ---", blank=2 if page.spans else 1)


def _write_shared(page: _Page, section: Section) -> None:
    module = section.module
    _write_mark(page, module)
    above = None
    for piece in section.pieces:
        blank = 2 if piece.is_definition or (above and above.is_definition) else 1
        if above:
            between = module.lines[above.last : piece.first - 1]
            if not any(line.strip() for line in between):
                blank = len(between)
        page.copy(module, piece.first, piece.last, blank=blank)
        above = piece


def _write_function(page: _Page, section: Section) -> None:
    """The function file is copied as one piece, with everything below its imports."""
    module = section.module
    _write_mark(page, module)
    first, last = module.body, len(module.lines)
    while first < last and not module.lines[first - 1].strip():
        first += 1
    while last > first and not module.lines[last - 1].strip():
        last -= 1
    page.copy(module, first, last, blank=2)
