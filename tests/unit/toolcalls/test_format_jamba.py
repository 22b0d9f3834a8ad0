"""jamba: a JSON list between tool_calls tags, with a space before."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = (
    ' <tool_calls>[\n    {"name": "get_weather", "arguments": '
    '{"city": "Haifa", "unit": "celsius"}}\n]</tool_calls>'
)
HAIFA = call("get_weather", city="Haifa", unit="celsius")


def test_a_plain_call():
    assert_read(ONE, HAIFA)


def test_several_calls():
    assert_read(
        ' <tool_calls>[\n    {"name": "get_time", "arguments": {}},\n'
        '    {"name": "calculator", "arguments": {"expression": "[1, 2][0]"}}\n'
        "]</tool_calls>",
        call("get_time"),
        call("calculator", expression="[1, 2][0]"),
    )


def test_prose_around():
    assert_read(f"Sure, checking.{ONE} Done.", "Sure, checking.", HAIFA, "Done.")


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_sand"))


def test_cut():
    assert_read(ONE[:85], CUT, truncated=True)
