"""Reads a source file into pieces: its top-level statements with what belongs to them.

The rules that make sure a built file does what its sources do are enforced while
reading; each breach is a BuildError naming file and line. docs/development.md explains
them.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from devkit.bundle.imports import ImportTable, broken_import_rules
from devkit.bundle.names import names_used, root_name
from devkit.errors import BuildError

LANGUAGE = (3, 11)  # the oldest Python that Open WebUI runs on
RESERVED = frozenset({"Pipe", "Filter", "Action", "Event", "Tools", "Valves"})

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Piece:
    """A top-level statement: the lines `first` to `last`, counted from 1, attached
    comments and decorators included.

    `binds` are the names it defines and `uses` those it needs. `changes` is the name it
    registers something with, as in `MACHINES.append(...)`: whoever needs that name
    needs this piece too.
    """

    node: ast.stmt
    first: int
    last: int
    binds: tuple[str, ...]
    uses: frozenset[str]
    changes: str | None

    @property
    def keys(self) -> set[str]:
        """The names that bring this piece into a built file."""
        return {*self.binds, *([self.changes] if self.changes else [])}

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, Definition)


@dataclass(frozen=True)
class Module:
    """A source file. `path` is relative to the project, with forward slashes; `body`
    is the first line below docstring and imports, counted from 1. `targets` says in
    which file a name imported from shared/ is to be found."""

    path: str
    lines: tuple[str, ...]
    imports: ImportTable
    pieces: tuple[Piece, ...]
    body: int
    targets: dict[str, str]

    @cached_property
    def symbols(self) -> dict[str, int]:
        """The names bound at the top level and the line of their first binding."""
        return {
            name: piece.node.lineno
            for piece in reversed(self.pieces)
            for name in piece.binds
        }


def read_module(root: Path, path: str, *, is_entry: bool = False) -> Module:
    """The module at `root / path`; raises BuildError.

    `is_entry` marks a function file. It is kept as a whole, so it may hold any
    statement and the names Open WebUI looks for.
    """
    text = _read(root, path)
    try:
        tree = ast.parse(text, path, feature_version=LANGUAGE)
    except SyntaxError as error:
        raise fail(path, error.lineno or 1, f"{error.msg}.") from error
    for line, sentence in broken_import_rules(tree):
        raise fail(path, line, sentence)
    lines = tuple(text.split("\n"))
    imports, statements, body = _split(path, tree)
    pieces = tuple(_pieces(path, lines, statements, body))
    targets = {
        name: _locate(root, path, dotted, line)
        for name, (dotted, line) in imports.shared.items()
    }
    module = Module(path, lines, imports, pieces, body, targets)
    _check_names(module, is_entry)
    if not is_entry:
        for piece in module.pieces:
            _check_piece(module, piece)
    return module


def fail(path: str, line: int, sentence: str) -> BuildError:
    """The error for a rule broken at `path:line`."""
    return BuildError(f"{path}:{line}: {sentence}")


def _read(root: Path, path: str) -> str:
    try:
        return (root / path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BuildError(f"{path} does not exist.") from error
    except UnicodeDecodeError as error:
        raise BuildError(f"{path} is not UTF-8: {error}.") from error


def _locate(root: Path, path: str, dotted: str, line: int) -> str:
    """The file of the module `dotted`, which `path` imports from."""
    stem = dotted.replace(".", "/")
    for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
        if (root / candidate).is_file():
            return candidate
    raise fail(path, line, f"there is no module {dotted}.")


def _split(path: str, tree: ast.Module) -> tuple[ImportTable, list[ast.stmt], int]:
    """Imports, the other statements, and the line after docstring and imports."""
    table = ImportTable()
    statements: list[ast.stmt] = []
    body = 1
    for node in tree.body:
        is_docstring = node is tree.body[0] and ast.get_docstring(tree) is not None
        if is_docstring or table.add(node):
            if statements:
                raise fail(
                    path, node.lineno, "imports must come before everything else."
                )
            body = _end(node) + 1
        elif not _is_all(node):
            statements.append(node)
    return table, statements, body


def _pieces(
    path: str, lines: tuple[str, ...], statements: list[ast.stmt], body: int
) -> Iterator[Piece]:
    previous_end = body - 1
    for number, node in enumerate(statements):
        first = min([node.lineno, *(d.lineno for d in _decorators(node))])
        if first <= previous_end:
            raise fail(path, first, "write one statement per line.")
        while first - 1 > previous_end and lines[first - 2].startswith("#"):
            first -= 1
        is_last = number + 1 == len(statements)
        limit = len(lines) if is_last else statements[number + 1].lineno - 1
        last = _with_trailing_comments(lines, _end(node), limit)
        uses = names_used(node, "\n".join(lines[first - 1 : last]))
        yield Piece(node, first, last, tuple(_binds(node)), uses, _changes(node))
        previous_end = last


def _with_trailing_comments(lines: tuple[str, ...], last: int, limit: int) -> int:
    """Includes the indented comments that end a block; Python leaves them out."""
    for number in range(last + 1, limit + 1):
        line = lines[number - 1]
        if line.startswith(" ") and line.lstrip().startswith("#"):
            last = number
        elif line.strip():
            break
    return last


def _binds(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, Definition):
        yield node.name
        return
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    for target in targets:
        parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        yield from (part.id for part in parts if isinstance(part, ast.Name))


def _changes(node: ast.stmt) -> str | None:
    """`X` for `X.add(...)`, `X[...] = ...`, `X += ...` and below `@X.add`."""
    if isinstance(node, Definition):
        targets = [
            decorator.func if isinstance(decorator, ast.Call) else decorator
            for decorator in node.decorator_list
        ]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        targets = [node.value.func]
    elif isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign):
        return root_name(node.target)
    else:
        targets = []
    for target in targets:
        if isinstance(target, ast.Attribute | ast.Subscript):
            return root_name(target)
    return None


def _check_names(module: Module, is_entry: bool) -> None:
    for name, line in module.symbols.items():
        if name in vars(builtins):
            raise fail(module.path, line, f"{name!r} shadows a builtin.")
        if name in RESERVED and not is_entry:
            raise fail(
                module.path,
                line,
                f"{name!r} is a name Open WebUI looks for; a shared module must not "
                "define it.",
            )
        if name in module.imports.shared:
            raise fail(module.path, line, f"{name!r} is both imported and defined.")


def _check_piece(module: Module, piece: Piece) -> None:
    """What is allowed at the top level of a shared module."""
    line = piece.node.lineno
    if piece.changes in module.imports.shared:
        raise fail(
            module.path,
            line,
            f"{piece.changes!r} belongs to another module; register with it there, "
            "or the bundler may leave this out.",
        )
    if not piece.binds and piece.changes not in module.symbols:
        raise fail(
            module.path,
            line,
            "the top level of a shared module may only hold imports, definitions, "
            "assignments and changes to its own names, as in `NAME.add(...)`.",
        )


def _decorators(node: ast.stmt) -> list[ast.expr]:
    return node.decorator_list if isinstance(node, Definition) else []


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "__all__"
        for target in node.targets
    )
