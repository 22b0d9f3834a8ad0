"""The imports of a source file: the rules they keep, and how a built file writes them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeGuard

PACKAGE = "shared"
LINE = 88  # Black's line length


@dataclass(frozen=True, order=True)
class Import:
    """One imported name: `import module`, or `from module import name`."""

    module: str
    name: str = ""
    alias: str = ""

    @property
    def binding(self) -> str:
        """The name the code below it gets."""
        return self.alias or self.name or self.module.partition(".")[0]

    @property
    def origin(self) -> str:
        """What that name stands for; imports of one origin may share a binding."""
        if self.name:
            return f"{self.module}.{self.name}"
        return self.module if self.alias else self.binding

    @property
    def statement(self) -> str:
        renamed = f" as {self.alias}" if self.alias else ""
        if self.name:
            return f"from {self.module} import {self.name}{renamed}"
        return f"import {self.module}{renamed}"


@dataclass
class ImportTable:
    """What a module imports. `shared` maps a name to its module and the line that
    imports it; `typing_only` are those of `if TYPE_CHECKING:`."""

    external: list[Import] = field(default_factory=list)
    typing_only: list[Import] = field(default_factory=list)
    shared: dict[str, tuple[str, int]] = field(default_factory=dict)
    future_annotations: bool = False

    def add(self, node: ast.stmt) -> bool:
        """Takes in a top-level statement; False if it is no import."""
        if is_type_checking(node):
            for child in node.body:
                self.typing_only += _external(child)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            return False
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            self.future_annotations |= any(a.name == "annotations" for a in node.names)
        elif isinstance(node, ast.ImportFrom) and _is_shared(node.module):
            for alias in node.names:
                self.shared[alias.name] = (str(node.module), node.lineno)
        else:
            self.external += _external(node)
        return True


def broken_import_rules(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and sentence of every import that the bundler cannot follow."""
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            if any(_is_shared(alias.name) for alias in node.names):
                yield node.lineno, (
                    f"write `from {PACKAGE}.x import Name`, not `import {PACKAGE}.x`."
                )
        elif isinstance(node, ast.ImportFrom):
            if sentence := _broken_from_rule(node, is_top=id(node) in top):
                yield node.lineno, sentence
        elif is_type_checking(node):
            imports_only = all(
                isinstance(child, ast.Import | ast.ImportFrom) for child in node.body
            )
            if not imports_only or node.orelse or id(node) not in top:
                yield node.lineno, (
                    "`if TYPE_CHECKING:` must be at the top level, hold only imports "
                    "and have no `else`."
                )


def _broken_from_rule(node: ast.ImportFrom, *, is_top: bool) -> str | None:
    if node.level:
        return "a built file cannot contain relative imports."
    if any(alias.name == "*" for alias in node.names):
        return "`import *` hides what is imported from the bundler; list the names."
    if not _is_shared(node.module):
        return None
    if not is_top:
        return f"`from {PACKAGE}.x import Name` must be at the top level and unconditional."
    if any(alias.asname for alias in node.names):
        return f"names from {PACKAGE} cannot be renamed with `as`."
    return None


def is_type_checking(node: ast.AST) -> TypeGuard[ast.If]:
    """Whether `node` is `if TYPE_CHECKING:`, the only spelling the bundler knows."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def render_imports(imports: Iterable[Import], *, indent: str = "") -> list[str]:
    """The lines of these imports, merged and in the order isort gives them with Black's
    profile: future, standard library, others; `import` before `from`."""
    sections: dict[int, list[list[Import]]] = {}
    for _, group in groupby(sorted(set(imports), key=_sort_key), key=_line_key):
        line = list(group)
        sections.setdefault(_section(line[0]), []).append(line)
    lines: list[str] = []
    for section in sections.values():
        lines += [""] if lines else []
        for line in section:
            lines += [indent + text for text in _statement(line, LINE - len(indent))]
    return lines


def _statement(line: list[Import], width: int) -> list[str]:
    """One import statement, in parentheses if it is too long for a line."""
    names = [item.name + (f" as {item.alias}" if item.alias else "") for item in line]
    module = line[0].module
    if not line[0].name:
        return [f"import {module}{names[0]}"]
    one_line = f"from {module} import {', '.join(names)}"
    if len(one_line) <= width:
        return [one_line]
    return [f"from {module} import (", *(f"    {name}," for name in names), ")"]


def _section(item: Import) -> int:
    top = item.module.partition(".")[0]
    return 0 if top == "__future__" else 1 if top in sys.stdlib_module_names else 2


def _line_key(item: Import) -> tuple[object, ...]:
    """Equal for what shares a statement; an import with `as` has its own."""
    own = (item.name, item.alias) if item.alias or not item.name else ()
    return (_section(item), bool(item.name), item.module, own)


def _sort_key(item: Import) -> tuple[object, ...]:
    """Modules without regard to case; names as CONSTANT, Class, function."""
    name = item.name
    rank = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    module = (item.module.lower(), item.module)
    aliased = bool(item.alias)
    return (_section(item), bool(name), module, aliased, rank, name.lower(), item.alias)


def _external(node: ast.stmt) -> list[Import]:
    if isinstance(node, ast.Import):
        return [Import(a.name, alias=a.asname or "") for a in node.names]
    assert isinstance(node, ast.ImportFrom)
    return [Import(str(node.module), a.name, a.asname or "") for a in node.names]


def _is_shared(name: str | None) -> bool:
    return (name or "").partition(".")[0] == PACKAGE
