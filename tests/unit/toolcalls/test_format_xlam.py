"""xlam: a JSON list, bare, behind a marker, in a fence or right after a thought."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

LIST = '[{"name": "get_weather", "arguments": {"city": "Palo Alto"}}]'
TWO = (
    '[{"name": "get_time", "arguments": {}}, '
    '{"name": "add", "arguments": {"a": 1, "b": 2}}]'
)
PALO_ALTO = call("get_weather", city="Palo Alto")


def test_a_bare_list():
    assert_read(LIST, PALO_ALTO)


def test_behind_a_marker():
    assert_read(f"[TOOL_CALLS]{LIST}", PALO_ALTO)


def test_alone_in_a_fence():
    assert_read(f"```json\n{LIST}\n```", PALO_ALTO)


def test_right_after_a_thought():
    assert_read(f"<think>Weather.</think>{LIST}", "<think>Weather.</think>", PALO_ALTO)


def test_in_tool_call_tags():
    assert_read(f"<tool_call>{LIST}</tool_call>", PALO_ALTO)


def test_several_calls():
    assert_read(TWO, call("get_time"), call("add", a=1, b=2))


def test_arguments_as_a_string():
    assert_read(
        '[{"name": "get_weather", "arguments": "{\\"city\\": \\"Palo Alto\\"}"}]',
        PALO_ALTO,
    )


def test_prose_before():
    assert_read(f"I check.\n{LIST}", "I check.", PALO_ALTO)


def test_unknown_tool():
    assert_untouched(LIST.replace("get_weather", "get_startup"))


def test_cut():
    assert_read(TWO[:-8], call("get_time"), CUT, truncated=True)
