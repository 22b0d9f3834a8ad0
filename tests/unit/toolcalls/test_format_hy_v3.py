"""hy_v3: names and argument tags inside tool_calls (HY v3 and v4)."""

from tests.unit.toolcalls.support import (
    CUT,
    assert_calls,
    assert_read,
    assert_untouched,
    call,
)

ONE = (
    "<tool_calls><tool_call>search<tool_sep><arg_key>query</arg_key>"
    "<arg_value>西湖 龙井</arg_value><arg_key>limit</arg_key><arg_value>8</arg_value>"
    "</tool_call></tool_calls>"
)
TEA = call("search", query="西湖 龙井", limit=8)


def test_a_plain_call():
    assert_read(ONE, TEA)


def test_several_calls_and_no_arguments():
    assert_read(
        ONE.replace(
            "</tool_calls>", "<tool_call>get_time<tool_sep></tool_call></tool_calls>"
        ),
        TEA,
        call("get_time"),
    )


def test_prose_around():
    assert_read(f"稍等。{ONE}请看。", "稍等。", TEA, "请看。")


def test_one_call_cut_off_from_its_wrapper():
    assert_read(ONE.removeprefix("<tool_calls>").removesuffix("</tool_calls>"), TEA)


def test_a_known_call_beside_an_unknown_one():
    text = ONE.replace(
        "</tool_calls>", "<tool_call>brew<tool_sep></tool_call></tool_calls>"
    )
    assert_calls(text, TEA)


def test_unknown_tool():
    assert_untouched(ONE.replace("search", "pour"))


def test_cut():
    assert_read(ONE[:85], CUT, truncated=True)


def test_tags_that_end_in_a_mark():
    mark = ":opensource"
    body = (
        f"<tool_call{mark}>get_weather<tool_sep{mark}>"
        f"<arg_key{mark}>city</arg_key{mark}><arg_value{mark}>Oulu</arg_value{mark}>"
    )
    oulu = call("get_weather", city="Oulu")
    for closer in (f"</tool_call{mark}>", f"<end_of_tool_call{mark}>"):
        assert_read(f"{body}{closer}{body}{closer}", oulu, oulu)
        wrapped = f"<tool_calls{mark}>{body}{closer}</tool_calls{mark}>"
        assert_read(f"I look. {wrapped}", "I look.", oulu)
    text = f'<tool_call{mark}>search<tool_sep{mark}>{{"query": "</arg_value{mark}>"}}'
    assert_read(
        f"{text}<end_of_tool_call{mark}>", call("search", query=f"</arg_value{mark}>")
    )
