"""glm4: the name after the opener, then key and value tags (GLM 4.5 to 5)."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call, tool

ONE = """\
<tool_call>get_weather
<arg_key>city</arg_key>
<arg_value>Xi'an</arg_value>
<arg_key>days</arg_key>
<arg_value>3</arg_value>
</tool_call>"""
XIAN = call("get_weather", city="Xi'an", days=3)


def test_a_plain_call():
    assert_read(ONE, XIAN)


def test_several_calls():
    assert_read(
        f"{ONE}\n<tool_call>bash\n<arg_key>command</arg_key>\n"
        "<arg_value>ls | wc -l</arg_value>\n</tool_call>",
        XIAN,
        call("bash", command="ls | wc -l"),
    )


def test_prose_around():
    assert_read(f"Let me check.{ONE}\nA moment.", "Let me check.", XIAN, "A moment.")


def test_a_thought_before_stays():
    assert_read(
        f"<think>Weather of Xi'an.</think>\n{ONE}",
        "<think>Weather of Xi'an.</think>",
        XIAN,
    )


def test_without_newlines():
    assert_read(ONE.replace("\n", ""), XIAN)


@pytest.mark.parametrize(
    "text",
    ["<tool_call>get_time\n</tool_call>", "<tool_call>get_time</tool_call>"],
)
def test_no_arguments(text):
    assert_read(text, call("get_time"))


def test_missing_end_of_a_value():
    assert_read(ONE.replace("3</arg_value>", "3"), XIAN)


def test_missing_end_of_a_value_before_the_next_key():
    assert_read(ONE.replace("an</arg_value>", "an"), XIAN)


def test_a_value_of_several_lines_with_tags_in_it():
    page = '<ul class="a">\n  <li>1 < 2 & 3</li>\n</ul>'
    assert_read(
        f"<tool_call>python\n<arg_key>code</arg_key>\n<arg_value>{page}</arg_value>\n"
        "</tool_call>",
        call("python", code=page),
    )


def test_values_are_typed_by_the_schema():
    assert_read(
        "<tool_call>search\n<arg_key>query</arg_key>\n<arg_value>2024</arg_value>\n"
        "<arg_key>limit</arg_key>\n<arg_value>10</arg_value>\n"
        '<arg_key>tags</arg_key>\n<arg_value>["a", "b"]</arg_value>\n'
        '<arg_key>filters</arg_key>\n<arg_value>{"lang": "zh"}</arg_value>\n'
        "</tool_call>",
        call("search", query="2024", limit=10, tags=["a", "b"], filters={"lang": "zh"}),
    )


def test_a_name_that_looks_like_a_tag():
    tools = [tool("div", ["text"], text="string")]
    assert_read(
        "<tool_call>div\n<arg_key>text</arg_key>\n<arg_value>hi</arg_value>\n"
        "</tool_call>",
        call("div", text="hi"),
        tools=tools,
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_wall"))


def test_a_value_that_does_not_fit():
    assert_untouched(ONE.replace(">3<", ">soon<"))


def test_cut_in_a_value():
    assert_read(f"Let me check.{ONE[:70]}", "Let me check.", CUT, truncated=True)


def test_cut_in_the_second_call():
    assert_read(
        f"{ONE}\n<tool_call>bash\n<arg_key>command</arg_key>\n<arg_value>rm -rf /t",
        XIAN,
        CUT,
        truncated=True,
    )
