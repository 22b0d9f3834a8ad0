"""The imports of a source file: the rules they keep, and how a built file writes them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeGuard

import isort

PACKAGE = "shared"

# Fixed, so that neither the machine nor a stray configuration file changes the result.
_ISORT = isort.Config(profile="black", py_version="311", src_paths=())


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
                    "`if TYPE_CHECKING:` stands at the top level, holds imports only "
                    "and has no `else`."
                )


def _broken_from_rule(node: ast.ImportFrom, *, is_top: bool) -> str | None:
    if node.level:
        return "a relative import means nothing in a built file."
    if any(alias.name == "*" for alias in node.names):
        return "`import *` hides from the bundler what is imported; name it."
    if not _is_shared(node.module):
        return None
    if not is_top:
        return (
            f"`from {PACKAGE}.x import Name` stands at the top level, unconditionally."
        )
    if any(alias.asname for alias in node.names):
        return f"what comes from {PACKAGE} keeps its name; no `as`."
    return None


def is_type_checking(node: ast.AST) -> TypeGuard[ast.If]:
    """Whether `node` is `if TYPE_CHECKING:`, the only spelling the bundler knows."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def render_imports(imports: Iterable[Import], *, indent: str = "") -> list[str]:
    """The lines of these imports, merged and sorted by isort with Black's profile."""
    source = "\n".join(sorted({item.statement for item in imports}))
    width = 88 - len(indent)
    text = isort.code(source, config=isort.Config(config=_ISORT, line_length=width))
    return [indent + line if line else "" for line in text.splitlines()]


def _external(node: ast.stmt) -> list[Import]:
    if isinstance(node, ast.Import):
        return [Import(a.name, alias=a.asname or "") for a in node.names]
    assert isinstance(node, ast.ImportFrom)
    return [Import(str(node.module), a.name, a.asname or "") for a in node.names]


def _is_shared(name: str | None) -> bool:
    return (name or "").partition(".")[0] == PACKAGE
