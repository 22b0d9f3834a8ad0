"""deepseek_v32: DSML tags; an attribute tells strings from JSON."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<｜DSML｜function_calls>
<｜DSML｜invoke name="get_weather">
<｜DSML｜parameter name="city" string="true">Nara</｜DSML｜parameter>
<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>
</｜DSML｜invoke>
</｜DSML｜function_calls>"""

TWO = """\
<｜DSML｜function_calls>
<｜DSML｜invoke name="search">
<｜DSML｜parameter name="query" string="true">a < b && "c"</｜DSML｜parameter>
<｜DSML｜parameter name="tags" string="false">["x", "y"]</｜DSML｜parameter>
</｜DSML｜invoke>
<｜DSML｜invoke name="get_time">
</｜DSML｜invoke>
</｜DSML｜function_calls>"""


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="Nara", days=2))


def test_several_calls_and_no_arguments():
    assert_read(
        TWO, call("search", query='a < b && "c"', tags=["x", "y"]), call("get_time")
    )


def test_prose_around():
    assert_read(
        f"Let me look.\n\n{ONE}\n\nSoon more.",
        "Let me look.",
        call("get_weather", city="Nara", days=2),
        "Soon more.",
    )


def test_a_thought_before_stays():
    assert_read(
        f"<think>Nara, two days.</think>{ONE}",
        "<think>Nara, two days.</think>",
        call("get_weather", city="Nara", days=2),
    )


def test_wrapper_missing():
    inner = "\n".join(ONE.splitlines()[1:-1])
    assert_read(f"Sure.\n{inner}", "Sure.", call("get_weather", city="Nara", days=2))


def test_a_json_object_in_place_of_parameters():
    assert_read(
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '{"city": "Nara", "days": 2}\n'
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        call("get_weather", city="Nara", days=2),
    )


def test_ascii_bars():
    assert_read(ONE.replace("｜", "|"), call("get_weather", city="Nara", days=2))


@pytest.mark.parametrize("value", ["007", "3.10", "[1]", "yes"])
def test_a_string_that_looks_like_something_else(value):
    assert_read(ONE.replace("Nara", value), call("get_weather", city=value, days=2))


def test_a_string_of_several_lines_is_kept_whole():
    code = "def f(x):\n    return x < 3\n"
    assert_read(
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="python">\n'
        f'<｜DSML｜parameter name="code" string="true">{code}</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        call("python", code=code),
    )


def test_missing_end_of_the_wrapper():
    assert_read(
        ONE.removesuffix("\n</｜DSML｜function_calls>"),
        call("get_weather", city="Nara", days=2),
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_deer"))


def test_cut():
    assert_read(f"Let me look.\n{ONE[:100]}", "Let me look.", CUT, truncated=True)
