"""hunyuan: a JSON list, or names and argument tags, inside tool_calls."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

LIST = """\
<tool_calls>
[
    {"name": "get_weather", "arguments": {"city": "深圳", "days": 1}}
]
</tool_calls>"""

TAGS = """\
<tool_calls>
<tool_call>get_weather<tool_sep>
<arg_key>city</arg_key>
<arg_value>深圳</arg_value>
<arg_key>days</arg_key>
<arg_value>1</arg_value>
</tool_call>
</tool_calls>"""

SHENZHEN = call("get_weather", city="深圳", days=1)


def test_a_plain_list():
    assert_read(LIST, SHENZHEN)


def test_plain_tags():
    assert_read(TAGS, SHENZHEN)


def test_several_calls_in_a_list():
    assert_read(
        '<tool_calls>[{"name": "get_time", "arguments": {}}, '
        '{"name": "add", "arguments": {"a": 1, "b": 2}}]</tool_calls>',
        call("get_time"),
        call("add", a=1, b=2),
    )


def test_several_calls_in_tags_without_newlines():
    assert_read(
        "<tool_calls><tool_call>get_time<tool_sep></tool_call>"
        "<tool_call>add<tool_sep><arg_key>a</arg_key><arg_value>1</arg_value>"
        "<arg_key>b</arg_key><arg_value>2</arg_value></tool_call></tool_calls>",
        call("get_time"),
        call("add", a=1, b=2),
    )


def test_prose_around():
    assert_read(f"我来查。\n{LIST}\n好了。", "我来查。", SHENZHEN, "好了。")
    assert_read(f"我来查。\n{TAGS}\n好了。", "我来查。", SHENZHEN, "好了。")


def test_a_thought_before_stays():
    assert_read(
        f"<think>\n查天气\n</think>\n{TAGS}", "<think> 查天气 </think>", SHENZHEN
    )


def test_missing_closers_at_the_end():
    assert_read(TAGS.removesuffix("\n</tool_calls>"), SHENZHEN)
    assert_read(LIST.removesuffix("\n</tool_calls>"), SHENZHEN)


def test_unknown_tool():
    assert_untouched(LIST.replace("get_weather", "get_tide"))
    assert_untouched(TAGS.replace("get_weather", "get_tide"))


def test_cut():
    assert_read(LIST[:75], CUT, truncated=True)
    assert_read(TAGS[:90], CUT, truncated=True)
