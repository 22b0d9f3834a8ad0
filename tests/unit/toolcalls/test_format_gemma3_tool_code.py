"""gemma3_tool_code: a tool_code fence that IS a call, in Python."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '```tool_code\nget_weather(city="Kraków", days=2)\n```'


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="Kraków", days=2))


def test_several_lines():
    assert_read(
        "```tool_code\nget_time()\nadd(a=1, b=2.5)\n```",
        call("get_time"),
        call("add", a=1, b=2.5),
    )


def test_prose_around():
    assert_read(
        f"Okay, I will check.\n\n{ONE}\n\nOne moment please.",
        "Okay, I will check.",
        call("get_weather", city="Kraków", days=2),
        "One moment please.",
    )


def test_wrapped_in_print():
    assert_read(
        '```tool_code\nprint(search(query="pierogi"))\n```',
        call("search", query="pierogi"),
    )


def test_missing_fence_at_the_end():
    assert_read(ONE.removesuffix("\n```"), call("get_weather", city="Kraków", days=2))


def test_a_python_fence_is_code():
    assert_untouched(
        "Try this:\n" + ONE.replace("tool_code", "python") + "\nGood luck."
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_dragon"))


def test_cut():
    assert_read(
        'Okay.\n```tool_code\nget_weather(city="Kra', "Okay.", CUT, truncated=True
    )
