"""lfm2: a list of Python calls between markers, or a JSON list there."""

import pytest

from tests.unit.toolcalls.support import CUT, call, check, check_untouched, tool


def marked(body: str) -> str:
    return f"<|tool_call_start|>{body}<|tool_call_end|>"


ONE = marked('[get_weather(city="Malmö", days=2)]')
MALMO = call("get_weather", city="Malmö", days=2)


def test_a_plain_call():
    check(ONE, MALMO)


def test_several_calls_and_no_arguments():
    check(
        marked('[get_time(), search(query="what\'s on?"), add(a=-1, b=2.5)]'),
        call("get_time"),
        call("search", query="what's on?"),
        call("add", a=-1, b=2.5),
    )


def test_prose_around():
    check(f"I check that.{ONE}Right away.", "I check that.", MALMO, "Right away.")


def test_two_blocks():
    check(f"{ONE} and {marked('[get_time()]')}", MALMO, "and", call("get_time"))


@pytest.mark.parametrize(
    "body",
    [
        '[{"name": "get_weather", "arguments": {"city": "Malmö", "days": 2}}]',
        '{"name": "get_weather", "arguments": {"city": "Malmö", "days": 2}}',
        '[{"name": "get_weather", "parameters": {"city": "Malmö", "days": 2}}]',
    ],
)
def test_json_inside(body):
    check(marked(body), MALMO)


def test_markers_stripped():
    check('[get_weather(city="Malmö", days=2)]', MALMO)


def test_a_dotted_name():
    tools = [tool("weather.today", ["city"], city="string")]
    check(
        marked('[weather.today(city="Malmö")]'),
        call("weather.today", city="Malmö"),
        tools=tools,
    )


def test_raw_newlines_in_a_string():
    check(
        marked('[python(code="import os\nprint(os.name)\n")]'),
        call("python", code="import os\nprint(os.name)\n"),
    )


def test_brackets_in_a_string():
    check(
        marked('[search(query="a) b] c(", tags=["[", ")"])]'),
        call("search", query="a) b] c(", tags=["[", ")"]),
    )


def test_a_dictionary():
    check(
        marked("[search(query='x', filters={'a': [1, {'b': None}], 'c': True})]"),
        call("search", query="x", filters={"a": [1, {"b": None}], "c": True}),
    )


def test_missing_end_marker():
    check(ONE.removesuffix("<|tool_call_end|>"), MALMO)


def test_unknown_tool():
    check_untouched(ONE.replace("get_weather", "get_herring"))


def test_nothing_is_evaluated():
    check_untouched(marked('[get_weather(city=__import__("os").getcwd())]'))
    check_untouched(marked('[get_weather(city="a" * 3)]'))


def test_cut():
    check(f"I check.{ONE[:45]}", "I check.", CUT, truncated=True)
