"""command_r7b: a list of tool_name and parameters between action markers."""

from tests.unit.toolcalls.support import (
    CUT,
    assert_calls,
    assert_read,
    assert_untouched,
    call,
)

ONE = """\
<|START_ACTION|>[
    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Quito"}}
]<|END_ACTION|>"""

TWO = """\
<|START_ACTION|>[
    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Quito"}},
    {"tool_call_id": "1", "tool_name": "add", "parameters": {"a": 0.5, "b": -3}}
]<|END_ACTION|>"""


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="Quito"))


def test_several_calls():
    assert_read(TWO, call("get_weather", city="Quito"), call("add", a=0.5, b=-3))


def test_prose_around():
    assert_read(
        f"I will use the weather tool.{ONE}That was it.",
        "I will use the weather tool.",
        call("get_weather", city="Quito"),
        "That was it.",
    )


def test_after_a_thought():
    assert_calls(
        f"<|START_THINKING|>I need the weather.<|END_THINKING|>{ONE}",
        call("get_weather", city="Quito"),
        hidden=["<|START_ACTION|>", "<|END_ACTION|>", "tool_call_id"],
    )


def test_no_arguments():
    assert_read(
        '<|START_ACTION|>[{"tool_name": "get_time", "parameters": {}}]<|END_ACTION|>',
        call("get_time"),
    )


def test_missing_end_of_action():
    assert_read(ONE.removesuffix("<|END_ACTION|>"), call("get_weather", city="Quito"))


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_tides"))


def test_cut():
    assert_read(TWO[:-40], call("get_weather", city="Quito"), CUT, truncated=True)
