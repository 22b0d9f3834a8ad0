"""nemotron_toolcall: a JSON list between TOOLCALL tags (Nemotron Nano 2)."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '<TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Santa Clara"}}]</TOOLCALL>'
CLARA = call("get_weather", city="Santa Clara")


def test_a_plain_call():
    assert_read(ONE, CLARA)


def test_several_calls():
    assert_read(
        '<TOOLCALL>[{"name": "get_time", "arguments": {}}, '
        '{"name": "set_light", "arguments": {"on": false}}]</TOOLCALL>',
        call("get_time"),
        call("set_light", on=False),
    )


def test_prose_around():
    assert_read(f"Checking.\n{ONE}\nWait.", "Checking.", CLARA, "Wait.")


def test_a_thought_before_stays():
    assert_read(f"<think>Weather?</think>{ONE}", "<think>Weather?</think>", CLARA)


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("</TOOLCALL>"), CLARA)


def test_a_json_string_in_place_of_the_arguments():
    assert_read(
        '<TOOLCALL>[{"name": "get_weather", '
        '"arguments": "{\\"city\\": \\"Santa Clara\\"}"}]</TOOLCALL>',
        CLARA,
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_gpu"))


def test_cut():
    assert_read(ONE[:65], CUT, truncated=True)
