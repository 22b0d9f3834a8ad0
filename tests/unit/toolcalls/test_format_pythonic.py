"""pythonic: a bare list of Python calls (Llama 3.2, ToolACE, Gemma 3 prompts)."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = "[get_weather(city='Mesa', unit='fahrenheit')]"
MESA = call("get_weather", city="Mesa", unit="fahrenheit")


def test_a_plain_call():
    assert_read(ONE, MESA)


def test_several_calls():
    assert_read(
        '[get_time(), add(a=1, b=-2.5e3), search(query="it\'s", limit=3)]',
        call("get_time"),
        call("add", a=1, b=-2500.0),
        call("search", query="it's", limit=3),
    )


def test_prose_before_on_the_same_line():
    assert_read(f"Let me check the weather: {ONE}", "Let me check the weather:", MESA)


def test_prose_after():
    assert_read(f"{ONE} It is hot there.", MESA, "It is hot there.")


def test_over_several_lines():
    assert_read(
        "[\n    get_weather(\n        city='Mesa',\n        unit='fahrenheit',\n    )\n]",
        MESA,
    )


def test_nested_containers():
    assert_read(
        "[search(query='x', tags=['a', ''], "
        "filters={'n': [[1, 2], [3]], 'o': {'p': None}})]",
        call(
            "search",
            query="x",
            tags=["a", ""],
            filters={"n": [[1, 2], [3]], "o": {"p": None}},
        ),
    )


def test_quotes_inside_a_string_that_were_not_escaped():
    assert_read(
        "[search(query='what's up in Mesa?')]",
        call("search", query="what's up in Mesa?"),
    )


def test_a_bare_word_for_an_enum():
    assert_read("[get_weather(city='Mesa', unit=fahrenheit)]", MESA)


def test_escapes():
    assert_read(
        r"[python(code='a = \'x\'\nb = \"y\"\n# \\d+ \u00e9 \t')]",
        call("python", code="a = 'x'\nb = \"y\"\n# \\d+ é \t"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "[get_weather(city)]",
        "[get_weather(city=input())]",
        "[get_weather(city='a').upper()]",
        "[get_weather, search, add]",
        "[get_weather(city='Mesa') for city in cities]",
        "[add(a=1, b=2) + add(a=3, b=4)]",
        "[1, get_time()]",
        "x[get_time()]",
        "[get_time()](https://clock.example)",
    ],
)
def test_python_that_is_no_list_of_calls(text):
    assert_untouched(text)


def test_unknown_tool():
    assert_untouched("[get_cactus(city='Mesa')]")


def test_a_list_with_one_unknown_call_is_no_leak():
    assert_untouched("[get_cactus(city='Mesa'), get_mesa(flat=True)]")


def test_cut():
    assert_read(ONE[:30], CUT, truncated=True)
