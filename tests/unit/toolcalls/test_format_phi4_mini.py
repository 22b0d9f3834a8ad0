"""phi4_mini: functools and a JSON list, or tool_call tags of its own."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

LIST = '[{"name": "get_weather", "arguments": {"city": "Redmond"}}]'
REDMOND = call("get_weather", city="Redmond")


def test_a_plain_call():
    check(f"functools{LIST}", REDMOND)


def test_in_tags():
    check(f"<|tool_call|>{LIST}<|/tool_call|>", REDMOND)


def test_several_calls_and_no_arguments():
    check(
        'functools[{"name": "get_time", "arguments": {}}, '
        '{"name": "add", "arguments": {"a": 1, "b": 2}}]',
        call("get_time"),
        call("add", a=1, b=2),
    )


def test_prose_around():
    check(f"I check.\nfunctools{LIST}\nOk.", "I check.", REDMOND, "Ok.")


def test_end_marker_is_not_shown():
    check(f"functools{LIST}<|end|>", REDMOND)


def test_unknown_tool():
    check_untouched(f"functools{LIST}".replace("get_weather", "get_campus"))


def test_cut():
    check(f"I check.\nfunctools{LIST[:50]}", "I check.", CUT, truncated=True)
