"""What every built file has to pass before it is worth installing.

A gate takes a built file and yields the sentences of what is wrong; none means passed.
"""

from __future__ import annotations

import ast
import io
from collections.abc import Callable, Iterator

import black
from pyflakes import api as pyflakes
from pyflakes import reporter

from devkit.bundle.imports import PACKAGE
from devkit.bundle.layout import BuiltFile, content_hash, stated_hash
from devkit.bundle.source import LANGUAGE
from devkit.manifest import Kind

Gate = Callable[[BuiltFile], Iterator[str]]

# open_webui/utils/plugin.py, replace_imports: a plain text replacement, so it strikes
# in comments and strings too. Split here, or this very file would hold them.
REWRITTEN = tuple(f"from {name}" for name in ("utils", "apps", "main", "config"))


def compiles(built: BuiltFile) -> Iterator[str]:
    """The text is Python 3.11."""
    try:
        tree = ast.parse(built.text, built.entry.dist, feature_version=LANGUAGE)
        compile(tree, built.entry.dist, "exec")
    except SyntaxError as error:
        yield f"line {error.lineno}: {error.msg}"


def lints(built: BuiltFile) -> Iterator[str]:
    """pyflakes finds neither unknown nor unused names."""
    output = io.StringIO()
    pyflakes.check(built.text, built.entry.dist, reporter.Reporter(output, output))
    yield from output.getvalue().splitlines()


def has_one_entry_class(built: BuiltFile) -> Iterator[str]:
    """Open WebUI takes the first of Pipe, Filter, Action, Event it finds for the kind."""
    entry_classes = {kind.entry_class for kind in Kind}
    bound = {
        node.name
        for node in ast.walk(ast.parse(built.text))
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and node.col_offset == 0
        and node.name in entry_classes
    }
    expected = built.entry.kind.entry_class
    if bound != {expected}:
        found = ", ".join(sorted(bound)) or "none"
        yield f"expected {expected} as the only entry class, found: {found}"


def survives_import_rewriting(built: BuiltFile) -> Iterator[str]:
    """Open WebUI stores the text as it is: nothing in it gets replaced."""
    for number, line in enumerate(built.text.split("\n"), start=1):
        for phrase in REWRITTEN:
            if phrase in line:
                yield f"line {number}: Open WebUI would rewrite {phrase!r}"


def stands_alone(built: BuiltFile) -> Iterator[str]:
    """No import of shared/ is left over."""
    for node in ast.walk(ast.parse(built.text)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.partition(".")[0] == PACKAGE for name in names):
            yield f"line {getattr(node, 'lineno', 0)}: imports {PACKAGE}"


def is_black_stable(built: BuiltFile) -> Iterator[str]:
    """The editor of Open WebUI runs Black on saving; that must not change the text."""
    formatted = black.format_str(built.text, mode=black.Mode())
    for number, (ours, theirs) in enumerate(
        zip(built.text.split("\n"), formatted.split("\n"), strict=False), start=1
    ):
        if ours != theirs:
            yield f"line {number}: Black would change it to {theirs!r}"
            return
    if built.text != formatted:
        yield "Black would change the end of the file"


def states_its_hash(built: BuiltFile) -> Iterator[str]:
    """The notice carries the hash by which hand edits are recognised."""
    if stated_hash(built.text) != content_hash(built.text):
        yield "the content hash in the notice is wrong"


GATES: dict[str, Gate] = {
    "compiles": compiles,
    "pyflakes": lints,
    "entry class": has_one_entry_class,
    "import rewriting": survives_import_rewriting,
    "stands alone": stands_alone,
    "Black": is_black_stable,
    "content hash": states_its_hash,
}


def faults(built: BuiltFile) -> Iterator[str]:
    """`gate: sentence` for everything wrong; a file that does not compile gets no more."""
    for name, gate in GATES.items():
        found = [f"{name}: {sentence}" for sentence in gate(built)]
        yield from found
        if found and gate is compiles:
            return
