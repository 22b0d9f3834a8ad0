"""How a built file looks, and that every line of it can be found again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devkit.bundle import gates
from devkit.bundle.imports import Import, render_imports
from devkit.bundle.layout import content_hash, stated_hash
from devkit.bundle.suite import differences, dist_files, write_dist
from devkit.bundle.where import Place, where
from devkit.errors import BuildError

FUNCTION = '''
"""Not part of the built file."""

import json
from typing import TYPE_CHECKING

from pydantic import BaseModel

from shared.words import Word, greeting

if TYPE_CHECKING:
    from collections.abc import Iterator


# What can be set.
class Pipe:
    class Valves(BaseModel):
        name: str = "you"

    def pipe(self, body: dict) -> "Iterator[str]":
        yield json.dumps(Word(greeting(self.Valves().name)).text)
'''

WORDS = '''
"""Words; this docstring stays behind."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import NoName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A heading, attached to nothing.

UNUSED = 1

# How it starts.
HELLO = "Hello"  # with a capital
POLITE = "Good day"


# Frozen, for it is a key.
@dataclass(frozen=True)
class Word:
    text: str
    # the last comment of a class


def other(a: Callable[[], None]) -> Iterator[str]: ...


@functools.cache
def greeting(name: str) -> str:
    if not name:
        raise NoName
    return f"{HELLO}, {POLITE} {name}"
    # the last comment of a function
'''

ERRORS = "class NoName(Exception): ...\n"

EXPECTED = '''
"""
title: Sample
author: Aqueduct
version: 1.2.3
description: Says hello.
license: MIT
required_open_webui_version: 0.12.0
"""

# Aqueduct 1.2.3. Copyright (c) 2026 The Aqueduct authors.
# SPDX-License-Identifier: MIT
#
# Built from functions/sample.py and what it uses from shared/.
# Make changes there: the next update replaces this file.
# Content hash: HASH

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

# --- shared/errors.py ---


class NoName(Exception): ...


# --- shared/words.py ---

# How it starts.
HELLO = "Hello"  # with a capital
POLITE = "Good day"


# Frozen, for it is a key.
@dataclass(frozen=True)
class Word:
    text: str
    # the last comment of a class


@functools.cache
def greeting(name: str) -> str:
    if not name:
        raise NoName
    return f"{HELLO}, {POLITE} {name}"
    # the last comment of a function


# --- functions/sample.py ---


# What can be set.
class Pipe:
    class Valves(BaseModel):
        name: str = "you"

    def pipe(self, body: dict) -> "Iterator[str]":
        yield json.dumps(Word(greeting(self.Valves().name)).text)
'''


@pytest.fixture
def sample(project):
    project.write("functions/sample.py", FUNCTION)
    project.write("shared/words.py", WORDS)
    project.write("shared/errors.py", ERRORS)
    return project


def test_a_built_file_reads_like_its_sources(sample):
    text = sample.build().text
    assert text.replace(stated_hash(text), "HASH") == EXPECTED.removeprefix("\n")


def test_it_passes_every_gate(sample):
    assert list(gates.faults(sample.build())) == []


def test_without_type_checking_it_is_black_stable_too(sample):
    sample.write("functions/sample.py", "import json\n\n\nclass Pipe:\n    a = json\n")
    assert list(gates.faults(sample.build())) == []
    sample.write("functions/sample.py", "class Pipe: ...\n")
    assert list(gates.faults(sample.build())) == []


def test_every_copied_line_is_found_again(sample):
    built = sample.build()
    write_dist(sample.root, dist_files([built]))
    generated = []
    for number, line in enumerate(built.text.splitlines(), start=1):
        place = where(sample.root, f"dist/sample.py:{number}")
        if place is None:
            generated.append(line)
            continue
        source = (sample.root / place.path).read_text().splitlines()
        assert source[place.line - 1] == line
    assert "class NoName(Exception): ..." not in generated
    assert '"""' in generated
    assert "import json" in generated


def test_where_takes_what_a_person_types(sample):
    write_dist(sample.root, dist_files([sample.build()]))
    for place in ("dist/sample.py:38", "sample.py:38", "sample:38"):
        assert where(sample.root, place) == Place("shared/words.py", 19)
    for place, words in (
        ("sample", "does not name a line"),
        ("other:1", "dist/other.py is not in"),
        ("sample:999", "has 66 lines"),
    ):
        with pytest.raises(BuildError, match=words):
            where(sample.root, place)


def test_the_result_does_not_depend_on_the_day_or_the_machine(sample):
    """Another hash seed, folder, time zone and line ending give the same bytes."""
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]; from pathlib import Path;"
        "from devkit.bundle.suite import *; from tests.unit.devkit.project import *;"
        "p = Project(Path(sys.argv[1]));"
        "sys.stdout.buffer.write(str(dist_files([p.build()])).encode())"
    )
    repository = Path(__file__).parents[3]
    results = set()
    for seed in ("1", "2", "3"):
        path = sample.root / "functions/sample.py"
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        process = subprocess.run(
            [sys.executable, "-c", program, str(sample.root), str(repository)],
            env=os.environ | {"PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}"},
            cwd=sample.root,
            capture_output=True,
            check=True,
        )
        results.add(process.stdout)
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    assert results == {str(dist_files([sample.build()])).encode()}


def test_dist_holds_what_was_built_and_nothing_else(sample):
    files = dist_files([sample.build()])
    assert differences(sample.root, files) == sorted(files)
    write_dist(sample.root, files)
    assert differences(sample.root, files) == []
    sample.write("dist/old.py", "")
    sample.write("dist/sample.py", "edited")
    assert differences(sample.root, files) == ["dist/old.py", "dist/sample.py"]
    write_dist(sample.root, files)
    assert differences(sample.root, files) == []
    assert not (sample.root / "dist/old.py").exists()


def test_a_hand_edit_shows_in_the_hash(sample):
    text = sample.build().text
    assert stated_hash(text) == content_hash(text)
    assert content_hash(text.replace("Hello", "Howdy")) != stated_hash(text)
    assert stated_hash("class Pipe: ...\n") is None


@pytest.mark.parametrize(
    ("source", "changed", "gate"),
    [
        ("class Pipe:", "class Pipe", "compiles"),
        ("import json\n", "", "pyflakes"),
        ("class Pipe:", "class Filter: ...\n\n\nclass Pipe:", "entry class"),
        ("class Pipe:", "class Other:", "entry class"),
        ('"you"', '"words ' + 'from configuration"', "import rewriting"),
        ("import json\n", "import json\nimport shared\n", "stands alone"),
        ('"you"', "'you'", "Black"),
        ('"you"', '"me"', "content hash"),
    ],
)
def test_each_gate_closes(sample, source, changed, gate):
    built = sample.build()
    broken = type(built)(built.entry, built.text.replace(source, changed, 1), ())
    assert gate in {fault.partition(":")[0] for fault in gates.faults(broken)}


def test_imports_are_in_the_order_the_linter_asks_for():
    imports = [
        Import("typing", "cast"),
        Import("typing", "TYPE_CHECKING"),
        Import("typing", "Any"),
        Import("typing", "overload", "typed"),
        Import("PIL", "Image"),
        Import("pydantic", "BaseModel"),
        Import("numpy", alias="np"),
        Import("os.path"),
        Import("json"),
        Import("json"),
        Import("__future__", "annotations"),
        Import("a.module.with.a.rather.long.name.in.a.package", "a_function_of_it"),
        Import("a.module.with.a.rather.long.name.in.a.package", "AClassOfIt"),
        Import("a.module.with.a.rather.long.name.in.a.package", "A_CONSTANT"),
    ]
    text = "\n".join(render_imports(imports)) + "\n"
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "I"]
    process = subprocess.run(
        [*command, "--target-version", "py311", "--diff", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stdout) == (0, ""), process.stdout
    assert text.count("import json") == 1
