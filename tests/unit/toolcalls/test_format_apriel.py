"""apriel: a JSON list between tool_calls tags, after the reasoning steps."""

from tests.unit.toolcalls.support import (
    CUT,
    assert_calls,
    assert_read,
    assert_untouched,
    call,
)


def test_a_plain_call():
    assert_read(
        '<tool_calls>[{"name": "get_weather", "arguments": {"city": "Lagos"}}]'
        "</tool_calls>",
        call("get_weather", city="Lagos"),
    )


def test_several_calls_with_ids():
    assert_read(
        '<tool_calls>[{"name": "get_time", "arguments": {}, "id": "0"},\n'
        ' {"name": "bash", "arguments": {"command": "date -u"}, "id": "1"}]\n'
        "</tool_calls>",
        call("get_time"),
        call("bash", command="date -u"),
    )


def test_prose_around():
    assert_read(
        "Checking the docs first.\n"
        '<tool_calls>[{"name": "search", "arguments": {"query": "changelog"}}]'
        "</tool_calls>\nDone.",
        "Checking the docs first.",
        call("search", query="changelog"),
        "Done.",
    )


def test_after_the_reasoning_steps():
    assert_calls(
        "Here are my reasoning steps:\nThe user asks for the time.\n"
        "[BEGIN FINAL RESPONSE]\n"
        '<tool_calls>[{"name": "get_time", "arguments": {}}]</tool_calls>',
        call("get_time"),
        hidden=["<tool_calls>", "</tool_calls>"],
    )


def test_missing_closer_at_the_end():
    assert_read(
        '<tool_calls>[{"name": "calculator", "arguments": {"expression": "6*7"}}]',
        call("calculator", expression="6*7"),
    )


def test_unknown_tool():
    assert_untouched(
        '<tool_calls>[{"name": "order_pizza", "arguments": {"size": 3}}]</tool_calls>'
    )


def test_cut():
    assert_read(
        'Right.\n<tool_calls>[{"name": "bash", "arguments": {"command": "find / -na',
        "Right.",
        CUT,
        truncated=True,
    )
