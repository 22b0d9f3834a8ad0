"""What of shared/ a built file holds, and in which order."""

from __future__ import annotations

import pytest

from devkit.errors import BuildError

PIPE = """
from shared.x import start


class Pipe:
    def pipe(self):
        return start()
"""


def test_only_what_is_reached_is_kept(bundle):
    text = bundle(
        PIPE,
        x="""
        import json
        import re

        LIMIT = 3
        PATTERN = re.compile("a")


        def start():
            return helper(LIMIT)


        def helper(value):
            return json.dumps(value)


        def unused():
            return PATTERN
        """,
    )
    assert "def start" in text
    assert "def helper" in text
    assert "LIMIT = 3" in text
    assert "import json" in text
    assert "unused" not in text
    assert "PATTERN" not in text
    assert "import re" not in text


def _below(definition: str, use: str) -> str:
    """A module that defines something and then uses it; an import of `use` is first."""
    imports, _, rest = use.partition("\n") if use.startswith("from ") else ("", "", use)
    return f"{imports}\n{definition}\n\n\n{rest}\n"


@pytest.mark.parametrize(
    "use",
    [
        "def start(a: Wanted): ...",
        "def start(a: 'Wanted'): ...",
        "def start(a: 'list[Wanted] | None'): ...",
        "def start() -> dict[str, 'Wanted']: ...",
        "def start(a=Wanted): ...",
        "def start(*, a=Wanted): ...",
        "class start(Wanted): ...",
        "class start(metaclass=Wanted): ...",
        "class start:\n    a: 'Wanted'",
        "class start:\n    Wanted = Wanted",
        "class start:\n    def a(self):\n        return [Wanted for _ in ()]",
        "@Wanted\ndef start(): ...",
        "@Wanted(1)\nclass start: ...",
        "start = Wanted()",
        "start: Wanted = 1",
        "start = lambda: Wanted",
        "start = [Wanted for a in ()]",
        "start = f'{Wanted}'",
        "from typing import cast\nstart = cast('Wanted', 1)",
        "from typing import TypeVar\nstart = TypeVar('start', bound='Wanted')",
        "def start():\n    global Wanted\n    Wanted = 1",
        "def start(a):\n    match a:\n        case Wanted(): ...",
        "def start():\n    try: ...\n    except Wanted: ...",
    ],
)
def test_every_way_to_use_a_name_counts(bundle, use):
    text = bundle(PIPE, x=_below("class Wanted(type): ...", use))
    assert "class Wanted" in text


@pytest.mark.parametrize(
    "use",
    [
        "def start(other): return other",
        "def start():\n    other = 1\n    return other",
        "start = [other for other in ()]",
        "def start(): return {other for other in ()}",
        "start = lambda other: other",
        "from typing import Literal\nstart: Literal['other'] = 'other'",
        "def start(a): return a.other",
        "def start(a): return a(other=1)",
    ],
)
def test_a_local_of_the_same_name_does_not_count(bundle, use):
    text = bundle(PIPE, x=_below("def other(): ...", use))
    assert "def other" not in text


def test_registrations_follow_what_they_register_with(bundle):
    text = bundle(
        PIPE,
        x="""
        TABLE = {}
        NAMES = []
        OTHER = []


        def start():
            return TABLE, NAMES


        def first():
            return second()


        def second():
            return 2


        TABLE["first"] = first
        NAMES.append("x")
        NAMES += ["y"]
        OTHER.append("z")
        """,
    )
    assert 'TABLE["first"] = first' in text
    assert "def second" in text
    assert 'NAMES.append("x")' in text
    assert 'NAMES += ["y"]' in text
    assert "OTHER" not in text


def test_a_definition_below_a_registering_decorator_is_kept(bundle):
    text = bundle(
        PIPE,
        x="""
        class Table:
            def add(self, name):
                return lambda function: function


        MACHINES = Table()


        def start():
            return MACHINES


        @MACHINES.add("one")
        def machine_one(): ...
        """,
    )
    assert "def machine_one" in text


def test_overloads_stay_together(bundle):
    text = bundle(
        PIPE,
        x="""
        from typing import overload


        @overload
        def start(a: int) -> int: ...
        @overload
        def start(a: str) -> str: ...
        def start(a=None):
            return a
        """,
    )
    assert text.count("def start") == 3


def test_modules_stand_below_those_they_import_from(bundle):
    text = bundle(
        """
        from shared.a import alpha


        class Pipe:
            pipe = alpha
        """,
        a="from shared.c import gamma\n\nfrom shared.b import beta\n\nalpha = beta + gamma\n",
        b="from shared.c import gamma\n\nbeta = gamma\n",
        c="gamma = 1\n",
    )
    marks = [line for line in text.splitlines() if line.startswith("# --- ")]
    assert marks == [
        "# --- shared/c.py ---",
        "# --- shared/b.py ---",
        "# --- shared/a.py ---",
        "# --- functions/sample.py ---",
    ]


def test_a_package_can_define_names(project, bundle):
    project.write("shared/deep/__init__.py", "def start(): ...\n")
    text = bundle(PIPE.replace("shared.x", "shared.deep"))
    assert "# --- shared/deep/__init__.py ---" in text


@pytest.mark.parametrize(
    ("shared", "sentence"),
    [
        (
            {"x": "one = 1\n"},
            "functions/sample.py:1: shared.x does not define 'start'.",
        ),
        ({"y": ""}, "functions/sample.py:1: there is no module shared.x."),
        (
            {"x": "from shared.y import start\n", "y": "start = 1\n"},
            "functions/sample.py:1: 'start' is defined in shared.y, not here.",
        ),
        (
            {
                "x": "from shared.y import two\n\nstart = two\n",
                "y": "from shared.x import start\n\ntwo = start\n",
            },
            "These imports form a cycle: shared/x.py -> shared/y.py -> shared/x.py.",
        ),
    ],
)
def test_what_cannot_be_followed_is_an_error(bundle, shared, sentence):
    with pytest.raises(BuildError) as caught:
        bundle(PIPE, **shared)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("shared", "sentence"),
    [
        (
            {
                "x": "import y\nfrom shared.z import two\n\nstart = y, two\n",
                "z": "def y(): ...\n\n\ntwo = 2\n",
            },
            "shared/x.py imports 'y' (import y), which is also defined at "
            "shared/z.py:1.",
        ),
        (
            {
                "x": "from shared.z import two\n\nlog = 1\nstart = two\n",
                "z": "log = 2\ntwo = 2\n",
            },
            "shared/z.py:1: 'log' is also defined at shared/x.py:3.",
        ),
        (
            {
                "x": "from time import sleep\nfrom shared.z import two\n\nstart = sleep, two\n",
                "z": "from asyncio import sleep\n\ntwo = sleep\n",
            },
            "'sleep' is time.sleep in shared/x.py and asyncio.sleep in shared/z.py.",
        ),
        (
            {"x": "start = 1\nPipe = 2\n"},
            "shared/x.py:2: 'Pipe' is a name Open WebUI looks for; a shared module must "
            "not define it.",
        ),
        ({"x": "start = 1\ninput = 2\n"}, "shared/x.py:2: 'input' shadows a builtin."),
    ],
)
def test_two_things_of_one_name_are_an_error(bundle, shared, sentence):
    with pytest.raises(BuildError) as caught:
        bundle(PIPE, **shared)
    assert str(caught.value) == sentence


def test_a_function_may_not_define_what_it_takes_from_shared(bundle):
    with pytest.raises(BuildError, match="'helper' is also defined at"):
        bundle(
            PIPE + "\n\ndef helper(): ...\n",
            x="def helper(): ...\n\n\ndef start():\n    return helper()\n",
        )
