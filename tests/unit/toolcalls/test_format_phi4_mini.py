"""phi4_mini: functools and a JSON list, or tool_call tags of its own."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

LIST = '[{"name": "get_weather", "arguments": {"city": "Redmond"}}]'
REDMOND = call("get_weather", city="Redmond")


def test_a_plain_call():
    assert_read(f"functools{LIST}", REDMOND)


def test_in_tags():
    assert_read(f"<|tool_call|>{LIST}<|/tool_call|>", REDMOND)


def test_several_calls_and_no_arguments():
    assert_read(
        'functools[{"name": "get_time", "arguments": {}}, '
        '{"name": "add", "arguments": {"a": 1, "b": 2}}]',
        call("get_time"),
        call("add", a=1, b=2),
    )


def test_prose_around():
    assert_read(f"I check.\nfunctools{LIST}\nOk.", "I check.", REDMOND, "Ok.")


def test_end_marker_is_not_shown():
    assert_read(f"functools{LIST}<|end|>", REDMOND)


def test_unknown_tool():
    assert_untouched(f"functools{LIST}".replace("get_weather", "get_campus"))


def test_cut():
    assert_read(f"I check.\nfunctools{LIST[:50]}", "I check.", CUT, truncated=True)
