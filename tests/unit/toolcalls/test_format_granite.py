"""granite: a marker and a JSON list, with no closer (Granite 3)."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

LIST = '[{"name": "get_weather", "arguments": {"city": "Boston"}}]'
TWO = (
    '[{"name": "get_time", "arguments": {}}, '
    '{"name": "add", "arguments": {"a": 1, "b": 1}}]'
)
BOSTON = call("get_weather", city="Boston")


def test_a_plain_call():
    check(f"<|tool_call|>{LIST}", BOSTON)


def test_the_plain_tag():
    check(f"<tool_call>{LIST}", BOSTON)


def test_a_space_after_the_marker():
    check(f"<|tool_call|> {LIST}", BOSTON)
    check(f"<tool_call> {LIST}", BOSTON)


def test_several_calls():
    check(f"<|tool_call|>{TWO}", call("get_time"), call("add", a=1, b=1))


def test_prose_around():
    check(f"Sure. <|tool_call|>{LIST}\nWait.", "Sure.", BOSTON, "Wait.")


def test_end_of_text_is_not_shown():
    check(f"<|tool_call|>{LIST}<|end_of_text|>", BOSTON)


def test_missing_bracket_at_the_end():
    check(f"<|tool_call|>{LIST[:-1]}", BOSTON)


def test_unknown_tool():
    check_untouched(f"<|tool_call|>{LIST}".replace("get_weather", "get_chowder"))


def test_cut():
    check(f"<|tool_call|>{TWO[:-20]}", call("get_time"), CUT, truncated=True)
