"""lfm2: a list of Python calls between markers, or a JSON list there."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call, tool


def marked(body: str) -> str:
    return f"<|tool_call_start|>{body}<|tool_call_end|>"


ONE = marked('[get_weather(city="Malmö", days=2)]')
MALMO = call("get_weather", city="Malmö", days=2)


def test_a_plain_call():
    assert_read(ONE, MALMO)


def test_several_calls_and_no_arguments():
    assert_read(
        marked('[get_time(), search(query="what\'s on?"), add(a=-1, b=2.5)]'),
        call("get_time"),
        call("search", query="what's on?"),
        call("add", a=-1, b=2.5),
    )


def test_prose_around():
    assert_read(f"I check that.{ONE}Right away.", "I check that.", MALMO, "Right away.")


def test_two_blocks():
    assert_read(f"{ONE} and {marked('[get_time()]')}", MALMO, "and", call("get_time"))


@pytest.mark.parametrize(
    "body",
    [
        '[{"name": "get_weather", "arguments": {"city": "Malmö", "days": 2}}]',
        '{"name": "get_weather", "arguments": {"city": "Malmö", "days": 2}}',
        '[{"name": "get_weather", "parameters": {"city": "Malmö", "days": 2}}]',
    ],
)
def test_json_inside(body):
    assert_read(marked(body), MALMO)


def test_markers_stripped():
    assert_read('[get_weather(city="Malmö", days=2)]', MALMO)


def test_a_dotted_name():
    tools = [tool("weather.today", ["city"], city="string")]
    assert_read(
        marked('[weather.today(city="Malmö")]'),
        call("weather.today", city="Malmö"),
        tools=tools,
    )


def test_raw_newlines_in_a_string():
    assert_read(
        marked('[python(code="import os\nprint(os.name)\n")]'),
        call("python", code="import os\nprint(os.name)\n"),
    )


def test_brackets_in_a_string():
    assert_read(
        marked('[search(query="a) b] c(", tags=["[", ")"])]'),
        call("search", query="a) b] c(", tags=["[", ")"]),
    )


def test_a_dictionary():
    assert_read(
        marked("[search(query='x', filters={'a': [1, {'b': None}], 'c': True})]"),
        call("search", query="x", filters={"a": [1, {"b": None}], "c": True}),
    )


def test_missing_end_marker():
    assert_read(ONE.removesuffix("<|tool_call_end|>"), MALMO)


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_herring"))


def test_nothing_is_evaluated():
    assert_untouched(marked('[get_weather(city=__import__("os").getcwd())]'))
    assert_untouched(marked('[get_weather(city="a" * 3)]'))


def test_cut():
    assert_read(f"I check.{ONE[:45]}", "I check.", CUT, truncated=True)


def test_an_echo_of_the_calls_is_not_run_again():
    body = "[get_weather(city='Oslo'), get_time()]<|tool_call_end|>"
    calls = [call("get_weather", city="Oslo"), call("get_time")]
    assert_read(f"<|tool_call_start|>{body}{body}Done.", *calls, "Done.")
    wrapped = f"<|tool_call_start|>{body}"
    assert_read(wrapped + wrapped, *calls, *calls)


def test_two_equal_calls_in_one_list_are_two():
    pair = "<|tool_call_start|>[get_time(), get_time()]<|tool_call_end|>"
    assert_read(pair + pair, *[call("get_time")] * 4)


def test_other_calls_behind_the_wrapper_are_no_echo():
    first = "<|tool_call_start|>[get_weather(city='Oslo')]<|tool_call_end|>"
    assert_read(
        f"{first}[get_weather(city='Bergen')]<|tool_call_end|>",
        call("get_weather", city="Oslo"),
        call("get_weather", city="Bergen"),
    )
