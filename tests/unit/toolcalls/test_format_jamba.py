"""jamba: a JSON list between tool_calls tags, with a space before."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

ONE = (
    ' <tool_calls>[\n    {"name": "get_weather", "arguments": '
    '{"city": "Haifa", "unit": "celsius"}}\n]</tool_calls>'
)
HAIFA = call("get_weather", city="Haifa", unit="celsius")


def test_a_plain_call():
    check(ONE, HAIFA)


def test_several_calls():
    check(
        ' <tool_calls>[\n    {"name": "get_time", "arguments": {}},\n'
        '    {"name": "calculator", "arguments": {"expression": "[1, 2][0]"}}\n'
        "]</tool_calls>",
        call("get_time"),
        call("calculator", expression="[1, 2][0]"),
    )


def test_prose_around():
    check(f"Sure, checking.{ONE} Done.", "Sure, checking.", HAIFA, "Done.")


def test_unknown_tool():
    check_untouched(ONE.replace("get_weather", "get_sand"))


def test_cut():
    check(ONE[:85], CUT, truncated=True)
