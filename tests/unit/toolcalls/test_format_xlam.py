"""xlam: a JSON list, bare, behind a marker, in a fence or right after a thought."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

LIST = '[{"name": "get_weather", "arguments": {"city": "Palo Alto"}}]'
TWO = (
    '[{"name": "get_time", "arguments": {}}, '
    '{"name": "add", "arguments": {"a": 1, "b": 2}}]'
)
PALO_ALTO = call("get_weather", city="Palo Alto")


def test_a_bare_list():
    check(LIST, PALO_ALTO)


def test_behind_a_marker():
    check(f"[TOOL_CALLS]{LIST}", PALO_ALTO)


def test_alone_in_a_fence():
    check(f"```json\n{LIST}\n```", PALO_ALTO)


def test_right_after_a_thought():
    check(f"<think>Weather.</think>{LIST}", "<think>Weather.</think>", PALO_ALTO)


def test_in_tool_call_tags():
    check(f"<tool_call>{LIST}</tool_call>", PALO_ALTO)


def test_several_calls():
    check(TWO, call("get_time"), call("add", a=1, b=2))


def test_arguments_as_a_string():
    check(
        '[{"name": "get_weather", "arguments": "{\\"city\\": \\"Palo Alto\\"}"}]',
        PALO_ALTO,
    )


def test_prose_before():
    check(f"I check.\n{LIST}", "I check.", PALO_ALTO)


def test_unknown_tool():
    check_untouched(LIST.replace("get_weather", "get_startup"))


def test_cut():
    check(TWO[:-8], call("get_time"), CUT, truncated=True)
