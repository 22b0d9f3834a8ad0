"""granite: a marker and a JSON list, with no closer (Granite 3)."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

LIST = '[{"name": "get_weather", "arguments": {"city": "Boston"}}]'
TWO = (
    '[{"name": "get_time", "arguments": {}}, '
    '{"name": "add", "arguments": {"a": 1, "b": 1}}]'
)
BOSTON = call("get_weather", city="Boston")


def test_a_plain_call():
    assert_read(f"<|tool_call|>{LIST}", BOSTON)


def test_the_plain_tag():
    assert_read(f"<tool_call>{LIST}", BOSTON)


def test_a_space_after_the_marker():
    assert_read(f"<|tool_call|> {LIST}", BOSTON)
    assert_read(f"<tool_call> {LIST}", BOSTON)


def test_several_calls():
    assert_read(f"<|tool_call|>{TWO}", call("get_time"), call("add", a=1, b=1))


def test_prose_around():
    assert_read(f"Sure. <|tool_call|>{LIST}\nWait.", "Sure.", BOSTON, "Wait.")


def test_end_of_text_is_not_shown():
    assert_read(f"<|tool_call|>{LIST}<|end_of_text|>", BOSTON)


def test_missing_bracket_at_the_end():
    assert_read(f"<|tool_call|>{LIST[:-1]}", BOSTON)


def test_unknown_tool():
    assert_untouched(f"<|tool_call|>{LIST}".replace("get_weather", "get_chowder"))


def test_cut():
    assert_read(f"<|tool_call|>{TWO[:-20]}", call("get_time"), CUT, truncated=True)
