"""minicpm5: function tags with a name attribute, values in param tags."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '<function name="get_weather"><param name="city">大连</param></function>'
DALIAN = call("get_weather", city="大连")


def test_a_plain_call():
    assert_read(ONE, DALIAN)


def test_over_several_lines():
    assert_read(
        '<function name="get_weather">\n  <param name="city">大连</param>\n'
        '  <param name="days">3</param>\n</function>\n',
        call("get_weather", city="大连", days=3),
    )


def test_several_calls_and_no_arguments():
    assert_read(
        f'{ONE}\n<function name="get_time"></function>', DALIAN, call("get_time")
    )


def test_prose_around():
    assert_read(f"好的。\n{ONE}\n稍等。", "好的。", DALIAN, "稍等。")


def test_cdata():
    assert_read(
        '<function name="python"><param name="code"><![CDATA[if a < b and c > d:\n'
        '    print("</param>")\n]]></param></function>',
        call("python", code='if a < b and c > d:\n    print("</param>")\n'),
    )


def test_an_ampersand_is_an_ampersand():
    assert_read(ONE.replace("大连", "Q & A"), call("get_weather", city="Q & A"))


def test_values_are_typed_by_the_schema():
    assert_read(
        '<function name="search"><param name="query">[1, 2]</param>'
        '<param name="tags">["a"]</param></function>',
        call("search", query="[1, 2]", tags=["a"]),
    )


def test_a_byte_level_space():
    assert_read(ONE.replace(" name=", "Ġname="), DALIAN)


def test_a_lost_space():
    assert_read(ONE.replace(" name=", "name="), DALIAN)
    assert_read(ONE.replace("<function ", "<functionĠ").replace("m n", "mn"), DALIAN)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_both_quotes(quote):
    assert_read(ONE.replace('"', quote), DALIAN)


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("</function>"), DALIAN)


def test_a_function_element_of_another_kind():
    assert_untouched('<function name="get_weather" line="12"/> is in the call graph.')


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_clam"))


def test_cut():
    assert_read('<function name="search"><param name="query">海', CUT, truncated=True)
