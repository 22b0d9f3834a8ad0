"""What a function file needs of shared/: symbol by symbol, in the order it must stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from devkit.bundle.imports import Import
from devkit.bundle.source import Module, Piece, fail, read_module
from devkit.errors import BuildError


@dataclass(frozen=True)
class Section:
    """The pieces of one module that a built file holds."""

    module: Module
    pieces: tuple[Piece, ...]

    @property
    def uses(self) -> frozenset[str]:
        return frozenset(chain.from_iterable(piece.uses for piece in self.pieces))

    @property
    def imports(self) -> list[Import]:
        return [i for i in self.module.imports.external if i.binding in self.uses]

    @property
    def typing_imports(self) -> list[Import]:
        return [i for i in self.module.imports.typing_only if i.binding in self.uses]


def collect(root: Path, source: str) -> list[Section]:
    """The sections of the function file `source` (a path below `root`), which is last;
    every section stands below those it imports from.

    Raises BuildError for a missing name, an import cycle or two things of one name.
    """
    modules = _load(root, source)
    entry = modules[source]
    kept = _closure(modules, entry)
    kept.update(entry.pieces)
    sections = [
        Section(module, tuple(p for p in module.pieces if p in kept))
        for module in _in_order(modules, entry)
    ]
    sections = [s for s in sections if s.pieces or s.module is entry]
    _check_collisions(sections, modules.values())
    return sections


def check_package(root: Path) -> None:
    """Reads all of shared/ and sees that it keeps the rules, used or not; names are
    unique across it, so that no new import can make two of them meet."""
    paths = sorted(p.relative_to(root).as_posix() for p in root.glob("shared/**/*.py"))
    modules = {path: read_module(root, path) for path in paths}
    definitions(modules.values())
    for module in modules.values():
        _check_targets(module, modules)


def _load(root: Path, source: str) -> dict[str, Module]:
    """The function file and every shared module it reaches, by path."""
    modules = {source: read_module(root, source, is_entry=True)}
    waiting = [source]
    while waiting:
        for path in modules[waiting.pop()].targets.values():
            if path not in modules:
                modules[path] = read_module(root, path)
                waiting.append(path)
    for module in modules.values():
        _check_targets(module, modules)
    return modules


def _check_targets(module: Module, modules: dict[str, Module]) -> None:
    for name, path in module.targets.items():
        dotted, line = module.imports.shared[name]
        target = modules[path]
        if name in target.targets:
            origin = target.imports.shared[name][0]
            raise fail(module.path, line, f"{name!r} is defined in {origin}, not here.")
        if name not in target.symbols:
            raise fail(module.path, line, f"{dotted} does not define {name!r}.")


def _closure(modules: dict[str, Module], entry: Module) -> set[Piece]:
    """The pieces that the function file needs, directly or not."""
    kept: set[Piece] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(entry, name) for piece in entry.pieces for name in piece.uses]
    while waiting:
        module, name = waiting.pop()
        if name in module.targets:
            module = modules[module.targets[name]]
        if name not in module.symbols or (module.path, name) in seen:
            continue
        seen.add((module.path, name))
        for piece in module.pieces:
            if name in piece.keys and piece not in kept:
                kept.add(piece)
                waiting += [(module, used) for used in (*piece.uses, *piece.binds)]
    return kept


def _in_order(modules: dict[str, Module], entry: Module) -> list[Module]:
    """Depth first, importers last; the order depends on nothing but the sources."""
    done: dict[str, Module] = {}

    def visit(path: str, *trail: str) -> None:
        if path in done:
            return
        if path in trail:
            circle = " -> ".join((*trail[trail.index(path) :], path))
            raise BuildError(f"These imports form a cycle: {circle}.")
        for target in sorted(set(modules[path].targets.values())):
            visit(target, *trail, path)
        done[path] = modules[path]

    visit(entry.path)
    return list(done.values())


def definitions(modules: Iterable[Module]) -> dict[str, str]:
    """Every top-level name of `modules` and its place; a name may be defined once."""
    defined: dict[str, str] = {}
    for module in sorted(modules, key=lambda module: module.path):
        for name, line in module.symbols.items():
            if name in defined:
                raise fail(
                    module.path, line, f"{name!r} is also defined at {defined[name]}."
                )
            defined[name] = f"{module.path}:{line}"
    return defined


def _check_collisions(sections: list[Section], modules: Iterable[Module]) -> None:
    """One name, one thing: nothing is ever renamed, so nothing may share a name."""
    defined = definitions(modules)
    imported: dict[str, tuple[str, str]] = {}
    for path, item in _imports(sections):
        if item.binding in defined:
            raise BuildError(
                f"{path} imports {item.binding!r} ({item.statement}), which is also "
                f"defined at {defined[item.binding]}."
            )
        origin, first = imported.setdefault(item.binding, (item.origin, path))
        if origin != item.origin:
            raise BuildError(
                f"{item.binding!r} is {item.origin} in {path} and {origin} in {first}."
            )


def _imports(sections: list[Section]) -> Iterator[tuple[str, Import]]:
    for section in sections:
        for item in (*section.imports, *section.typing_imports):
            yield section.module.path, item
