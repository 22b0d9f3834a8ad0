"""ernie45: JSON in tool_call tags, after a thought, beside response tags."""

from tests.unit.toolcalls.support import (
    CUT,
    assert_calls,
    assert_read,
    assert_untouched,
    call,
)

ONE = """\
<tool_call>
{"name": "get_weather", "arguments": {"city": "哈尔滨"}}
</tool_call>
"""


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="哈尔滨"))


def test_several_calls():
    assert_read(
        ONE + '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>\n',
        call("get_weather", city="哈尔滨"),
        call("get_time"),
    )


def test_after_the_end_of_a_thought():
    assert_read(
        f"用户想知道天气。\n</think>\n\n\n{ONE}",
        "用户想知道天气。 </think>",
        call("get_weather", city="哈尔滨"),
    )


def test_beside_a_response():
    assert_calls(
        f"</think>\n\n<response>\n我来查一下。\n</response>\n{ONE}",
        call("get_weather", city="哈尔滨"),
        hidden=["<tool_call>", "</tool_call>"],
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_snow"))


def test_cut():
    assert_read(f"好的。\n{ONE[:50]}", "好的。", CUT, truncated=True)
