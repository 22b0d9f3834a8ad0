"""Every family's rendering, with arguments chosen to break its parser.

What a format can carry without ambiguity must come out equal, in every chunking, with
nothing but the prose shown. `Rendering.carries` says what that is.
"""

import json
import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.toolcalls.pieces import RecoveredCall, VisibleText
from tests.unit.toolcalls.families import FAMILIES
from tests.unit.toolcalls.renderings import Rendering
from tests.unit.toolcalls.support import (
    CHUNKINGS,
    STRINGS,
    TOOLS,
    Call,
    assert_read,
    assert_untouched,
    at_random,
    canonical,
    in_tokens,
    merge,
    scan,
    source,
    story,
    tool,
)

NOTE_PROPERTIES = {
    "text": "string",
    "title": "string",
    "count": "integer",
    "ratio": "number",
    "done": "boolean",
    "tags": STRINGS,
    "mode": {"type": "string", "enum": ["append", "replace all", "<new>"]},
    "meta": "object",
}
NOTE_TOOLS = [tool("save_note", ["text"], **NOTE_PROPERTIES), *TOOLS]
CLOCK = Call("get_time", {})
BEFORE = "I will do that now."
AFTER = "All done."

# Strings that stand in files, shells and talk, and markers of every other family.
HOSTILE = [
    "plain words",
    'She said "no", didn\'t she?',
    "line one\nline two\n\n\tline four",
    'C:\\new\\table\\x41 \\" \\\\ \\u00e9',
    "if (a < b && c > d) { return x[0]; }",
    "{ [ ( } ] )",
    "}}]] }]",
    'unbalanced { and " and [',
    '<div class="a"><br/>1 < 2</div>',
    "vector<map<int, string>> v;",
    "é ü 漢字 עברית 🙂 𝕏 \u202f",
    "42",
    "-0",
    "1e5",
    "[1, 2]",
    '{"a": 1}',
    "'quoted'",
    '"quoted"',
    "a, b=c",
    "x='y', z=\"w\")",
    "key: value, other: {nested}",
    "`code` and ``more ` code``",
    '```json\n{"name": "get_time", "arguments": {}}\n```',
    "~~~\n```",
    "</tool_call>",
    '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>',
    "<function=get_time>\n</function>",
    "<parameter=text>\nx\n</parameter>",
    '<invoke name="get_time"></invoke>',
    "<arg_key>text</arg_key><arg_value>x</arg_value>",
    "[TOOL_CALLS]get_time[ARGS]{}",
    '[{"name": "get_time", "arguments": {}}]',
    "[get_time()]",
    "get_time{}",
    "<|tool_call>call:get_time{}<tool_call|>",
    "<|python_tag|>get_time.call()",
    "<|channel|>commentary to=functions.get_time<|message|>{}<|call|>",
    "<｜tool▁calls▁begin｜><｜tool▁call▁end｜>",
    "Action: get_time\nAction Input: {}",
    "functools[...]",
    "to=self",
    "<think>hm</think>",
    "$$\\frac{a}{b}$$ \\begin{tool}",
    "{{ jinja }} {% if x %} %s ${HOME} $(ls)",
    "SELECT * FROM t WHERE a <> 'b'; -- ok",
    "#!/bin/sh\nset -e\ncat <<'EOF' | tr a b\n$x \"y\"\nEOF",
    "^\\d+(?:\\.\\d*)?[^\"'\\]]$",
    "trailing backslash \\",
    "a\\",
    "True",
    "null",
    "None of these",
    "def f():\n    return 1\n",
    "    indented\n",
    "\n\nspaced out\n\n",
    " ",
    "",
    "a &lt; b &amp;&amp; c &#39;",
    ",",
    ":",
    ";{",
]

LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Cn"))
MARKS = st.sampled_from("\"'`\\/<>{}[]()=:,;|&#%$\n\t ")
words = st.text(st.sampled_from(string.ascii_lowercase + " "), max_size=12)
strings = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(MARKS | LETTERS, max_size=40),
    st.lists(st.sampled_from(HOSTILE) | words, min_size=1, max_size=3).map(" ".join),
)
numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
scalars = strings | st.integers(-(10**9), 10**9) | numbers | st.booleans() | st.none()
keys = st.sampled_from(["a", "key", "snake_case", "camelCase", "n0"])
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, min_size=1, max_size=3)
    | st.dictionaries(keys, inner, min_size=1, max_size=3),
    max_leaves=5,
)
notes = st.fixed_dictionaries(
    {"text": strings},
    optional={
        "title": strings,
        "count": st.integers(-(2**53), 2**53),
        "ratio": numbers,
        "done": st.booleans(),
        "tags": st.lists(strings, min_size=1, max_size=3),
        "mode": st.sampled_from(NOTE_PROPERTIES["mode"]["enum"]),
        "meta": st.dictionaries(keys, trees, min_size=1, max_size=3),
    },
)

seeds = st.integers(0, 2**32)

every_family = pytest.mark.parametrize("family", FAMILIES)


def around(rendering: Rendering, calls: list[Call]) -> tuple[str, list]:
    """The calls as the family writes them amid prose, and the story they tell."""
    text = rendering.write(calls)
    if rendering.alone:
        return text, calls
    if rendering.last:
        return f"{BEFORE}\n\n{text}", [BEFORE, *calls]
    return f"{BEFORE}\n\n{text}\n\n{AFTER}", [BEFORE, *calls, AFTER]


def hostile_cases() -> Iterator[Any]:
    """Each hostile string with each family that has a way to write it."""
    for family, rendering in FAMILIES.items():
        for number, value in enumerate(HOSTILE):
            arguments = {"text": value, "done": False}
            if rendering.carries(arguments):
                yield pytest.param(family, arguments, id=f"{family}-{number}")


@pytest.mark.parametrize(("family", "arguments"), list(hostile_cases()))
def test_a_hostile_string(family, arguments):
    text = FAMILIES[family].write([Call("save_note", arguments)])
    pieces = scan(in_tokens(text), NOTE_TOOLS)
    (found,) = [piece for piece in pieces if isinstance(piece, RecoveredCall)]
    assert canonical(json.loads(found.arguments)) == canonical(arguments)
    assert "".join(map(source, pieces)) == text


@every_family
def test_no_arguments_several_calls_and_prose(family):
    rendering = FAMILIES[family]
    note = Call("save_note", {"text": "x = [1, 2]", "count": 3, "tags": ["a", "b"]})
    calls = [note, CLOCK, note] if rendering.several else [note]
    text, told = around(rendering, calls)
    assert_read(text, *told, tools=NOTE_TOOLS)
    text, told = around(rendering, [CLOCK])
    assert_read(text, *told, tools=NOTE_TOOLS)


@every_family
def test_after_a_thought(family):
    rendering = FAMILIES[family]
    opener, closer = rendering.thoughts
    if rendering.alone:
        return
    text = f"{opener}The clock, then.{closer}\n\n{rendering.write([CLOCK])}"
    pieces = scan([text], NOTE_TOOLS)
    calls = [piece.name for piece in pieces if isinstance(piece, RecoveredCall)]
    assert calls == ["get_time"]


@every_family
def test_an_unknown_tool_is_shown_as_it_came(family):
    rendering = FAMILIES[family]
    text, _ = around(rendering, [Call("unheard_of", {"text": "x"})])
    assert scan([text], NOTE_TOOLS) == [VisibleText(text)]


@every_family
@pytest.mark.parametrize(
    "code",
    [
        "It writes:\n\n````\n{}\n````\n\nand waits.",
        "It writes:\n~~~~xml\n{}\n~~~~\nand waits.",
        "* It writes:\n\n  ````text\n  {}\n  ````\n* It waits.",
        "It writes:\n\n````\n{}",
    ],
)
def test_in_a_fence_it_is_an_example(family, code):
    call = FAMILIES[family].write([Call("save_note", {"text": "x"})])
    assert_untouched(code.replace("{}", call), tools=NOTE_TOOLS)


@every_family
def test_in_inline_code_it_is_an_example(family):
    call = FAMILIES[family].write([Call("save_note", {"text": "x"})])
    line = call.replace("\n", " ")
    assert_untouched(f"It writes ````{line}```` and waits.", tools=NOTE_TOOLS)


@every_family
def test_cut_anywhere(family):
    """Never a wrong call; nothing but prose is shown once the tool's name was read."""
    rendering = FAMILIES[family]
    note = Call("save_note", {"text": 'a "b" {c} 12', "count": 31, "tags": ["x", "yz"]})
    calls = [note, CLOCK] if rendering.several else [note]
    text, told = around(rendering, calls)
    text = text.removesuffix(f"\n\n{AFTER}")
    wanted = canonical_story(calls)
    known = text.rindex("save_note") + len("save_note") + 2
    for end in range(text.index("save_note"), len(text) + 1):
        pieces = scan([text[:end]], NOTE_TOOLS, truncated=True)
        found = canonical_story(story(pieces))
        recovered = [part for part in found if isinstance(part, tuple)]
        assert recovered == wanted[: len(recovered)]
        if end > known:
            shown = [part for part in found if isinstance(part, str)]
            assert (text[:end], shown) == (text[:end], told[: told.index(note)])


@every_family
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_arguments_in_any_chunking(family, data):
    rendering = FAMILIES[family]
    arguments = data.draw(notes.filter(rendering.carries))
    calls = [Call("save_note", arguments)]
    if rendering.several and data.draw(st.booleans()):
        calls.append(CLOCK)
    text, told = around(rendering, calls)
    chunkings = [*CHUNKINGS.values(), lambda text: at_random(text, data.draw(seeds))]
    results = [scan(chunk(text), NOTE_TOOLS) for chunk in chunkings]
    assert "".join(map(source, results[0])) == text
    assert all(pieces == results[0] for pieces in results)
    assert canonical_story(story(merge(results[0]))) == canonical_story(told)


def canonical_story(told: list) -> list:
    return [
        (part.name, canonical(part.arguments)) if isinstance(part, Call) else part
        for part in told
    ]
