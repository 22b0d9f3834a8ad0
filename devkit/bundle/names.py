"""Which names a top-level statement takes from the module around it."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator


def names_used(node: ast.stmt, text: str) -> frozenset[str]:
    """Names that `node`, whose source is `text`, needs from its module or builtins.

    Scopes are those of the compiler's own symbol table, so a parameter or a local that
    happens to share a name with something at the top level does not count.
    Annotations count, also when they are written as strings.
    """
    table = symtable.symtable(text, "<statement>", "exec")
    return frozenset(_outer_names(table)) | frozenset(_names_in_strings(node))


def root_name(node: ast.expr) -> str | None:
    """`a` for `a`, `a.b`, `a[0].b` and `a.b(...)`; None where no name stands first."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _outer_names(table: symtable.SymbolTable) -> Iterator[str]:
    kind = table.get_type()
    for symbol in table.get_symbols():
        if kind == "module":
            # Since Python 3.12 the variable of an inlined comprehension shows up here;
            # it is assigned, and so never one of the names looked for.
            needed = symbol.is_referenced() and not symbol.is_assigned()
        else:
            # A class body may read the outer name it is about to shadow.
            needed = symbol.is_global() or (kind == "class" and symbol.is_referenced())
        if needed:
            yield symbol.get_name()
    for child in table.get_children():
        yield from _outer_names(child)


def _names_in_strings(node: ast.stmt) -> Iterator[str]:
    for annotation in _type_expressions(node):
        for text in _strings(annotation):
            try:
                parsed = ast.parse(text, mode="eval")
            except SyntaxError:
                continue  # text inside Annotated[...] and the like
            yield from (n.id for n in ast.walk(parsed) if isinstance(n, ast.Name))


def _type_expressions(node: ast.stmt) -> Iterator[ast.expr]:
    for child in ast.walk(node):
        if isinstance(child, ast.arg | ast.AnnAssign) and child.annotation:
            yield child.annotation
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if child.returns:
                yield child.returns
        elif isinstance(child, ast.Call) and _is_named(child.func, "cast"):
            yield from child.args[:1]
        elif isinstance(child, ast.keyword) and child.arg == "bound":
            yield child.value


def _strings(annotation: ast.expr) -> Iterator[str]:
    """The strings that stand for types: those in Literal[...] do not."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield annotation.value
    if isinstance(annotation, ast.Subscript) and _is_named(annotation.value, "Literal"):
        return
    for child in ast.iter_child_nodes(annotation):
        if isinstance(child, ast.expr):
            yield from _strings(child)


def _is_named(node: ast.expr, name: str) -> bool:
    """Whether `node` is `name` or `module.name`."""
    if isinstance(node, ast.Attribute):
        return node.attr == name
    return isinstance(node, ast.Name) and node.id == name
