"""hunyuan: a JSON list, or names and argument tags, inside tool_calls."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

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
    check(LIST, SHENZHEN)


def test_plain_tags():
    check(TAGS, SHENZHEN)


def test_several_calls_in_a_list():
    check(
        '<tool_calls>[{"name": "get_time", "arguments": {}}, '
        '{"name": "add", "arguments": {"a": 1, "b": 2}}]</tool_calls>',
        call("get_time"),
        call("add", a=1, b=2),
    )


def test_several_calls_in_tags_without_newlines():
    check(
        "<tool_calls><tool_call>get_time<tool_sep></tool_call>"
        "<tool_call>add<tool_sep><arg_key>a</arg_key><arg_value>1</arg_value>"
        "<arg_key>b</arg_key><arg_value>2</arg_value></tool_call></tool_calls>",
        call("get_time"),
        call("add", a=1, b=2),
    )


def test_prose_around():
    check(f"我来查。\n{LIST}\n好了。", "我来查。", SHENZHEN, "好了。")
    check(f"我来查。\n{TAGS}\n好了。", "我来查。", SHENZHEN, "好了。")


def test_a_thought_before_stays():
    check(f"<think>\n查天气\n</think>\n{TAGS}", "<think> 查天气 </think>", SHENZHEN)


def test_missing_closers_at_the_end():
    check(TAGS.removesuffix("\n</tool_calls>"), SHENZHEN)
    check(LIST.removesuffix("\n</tool_calls>"), SHENZHEN)


def test_unknown_tool():
    check_untouched(LIST.replace("get_weather", "get_tide"))
    check_untouched(TAGS.replace("get_weather", "get_tide"))


def test_cut():
    check(LIST[:75], CUT, truncated=True)
    check(TAGS[:90], CUT, truncated=True)
