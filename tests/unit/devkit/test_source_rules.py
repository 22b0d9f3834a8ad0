"""The rules a source file keeps; each breach names file and line."""

from __future__ import annotations

import pytest

from devkit.errors import BuildError

FUNCTION = "from shared.x import start\n\n\nclass Pipe:\n    pipe = start\n"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("import shared.y\nstart = 1\n", 1, "write `from shared.x import Name`"),
        ("from shared.y import a as b\nstart = 1\n", 1, "with `as`"),
        ("from .y import a\nstart = 1\n", 1, "relative import"),
        ("from typing import *\nstart = 1\n", 1, "list the names"),
        ("def start():\n    from shared.y import a\n", 2, "at the top level"),
        ("try:\n    from shared.y import a\nexcept ImportError: ...\n", 2, "top level"),
        ("start = 1\nimport json\n", 2, "imports must come before"),
        ("if TYPE_CHECKING:\n    from shared.y import a\n", 2, "top level"),
        ("if TYPE_CHECKING:\n    a = 1\n", 1, "hold only imports"),
        (
            "try:\n    import json\nexcept ImportError:\n    json = None\n",
            1,
            "may only hold",
        ),
        ("start = 1\nprint(start)\n", 2, "may only hold"),
        ("start = 1\nfor a in ():\n    start = 2\n", 2, "may only hold"),
        ("import sys\n\nstart = 1\nsys.path.append('a')\n", 4, "may only hold"),
        ("start = 1; other = 2\n", 1, "one statement per line"),
        ("def start(:\n", 1, "invalid syntax"),
        ("type start = int\n", 1, ""),
    ],
)
def test_breach(bundle, text, place, words):
    with pytest.raises(BuildError) as caught:
        bundle(FUNCTION, x=text, y="a = 1\n")
    assert str(caught.value).startswith(f"shared/x.py:{place}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "statement", ["TABLE['a'] = 1", "TABLE.update(a=1)", "@TABLE.get\ndef one(): ..."]
)
def test_registering_with_another_module_is_an_error(bundle, statement):
    with pytest.raises(BuildError, match="'TABLE' belongs to another module"):
        bundle(
            FUNCTION,
            x=f"from shared.y import TABLE\n\nstart = TABLE\n{statement}\n",
            y="TABLE = {}\n",
        )


def test_a_function_file_may_hold_any_statement(bundle):
    text = bundle(
        FUNCTION + "\n\nfor number in range(3):\n    setattr(Pipe, str(number), 1)\n",
        x="start = 1\n",
    )
    assert "for number in range(3):" in text


def test_a_source_that_is_not_utf8(project):
    project.write("functions/sample.py", "")
    (project.root / "functions/sample.py").write_bytes(b"# caf\xe9\n")
    with pytest.raises(BuildError, match=r"functions/sample.py is not UTF-8"):
        project.build()
