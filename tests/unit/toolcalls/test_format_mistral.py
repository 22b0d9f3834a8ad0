"""mistral: a marker and a JSON list, or a name, [ARGS] and JSON."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

LIST = '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Nîmes"}}]'
ARGS = '[TOOL_CALLS]get_weather[ARGS]{"city": "Nîmes"}'
NIMES = call("get_weather", city="Nîmes")


def test_a_plain_list():
    assert_read(LIST, NIMES)


def test_a_plain_name_and_arguments():
    assert_read(ARGS, NIMES)


def test_a_space_before_the_list():
    assert_read(LIST.replace("S][", "S] ["), NIMES)


def test_several_calls_in_a_list():
    assert_read(
        '[TOOL_CALLS] [{"name": "get_time", "arguments": {}, "id": "a1b2c3d4e"}, '
        '{"name": "search", "arguments": {"query": "arènes ]"}, "id": "f5g6h7i8j"}]',
        call("get_time"),
        call("search", query="arènes ]"),
    )


def test_several_markers():
    assert_read(f"{ARGS}[TOOL_CALLS]get_time[ARGS]{{}}", NIMES, call("get_time"))


def test_prose_around():
    assert_read(f"Je regarde. {LIST}\nVoilà.", "Je regarde.", NIMES, "Voilà.")
    assert_read(f"Je regarde. {ARGS}\nVoilà.", "Je regarde.", NIMES, "Voilà.")


def test_the_closer_of_old_templates():
    assert_read(f"{LIST}[/TOOL_CALLS]", NIMES)


def test_end_of_text_is_not_shown():
    assert_read(f"{LIST}</s>", NIMES)
    assert_read(f"{ARGS}</s>", NIMES)


def test_a_thought_before_stays():
    assert_read(f"[THINK]Nîmes ?[/THINK]{ARGS}", "[THINK]Nîmes ?[/THINK]", NIMES)


@pytest.mark.parametrize(
    "text",
    [
        '[TOOL_CALLS]get_weather{"city": "Nîmes"}',
        '[TOOL_CALLS] get_weather {"city": "Nîmes"}',
        '[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Nîmes"}',
        '[TOOL_CALLS] get_weather[ARGS] {"city": "Nîmes"}',
        '[TOOL_CALLS]{"name": "get_weather", "arguments": {"city": "Nîmes"}}',
    ],
)
def test_variants(text):
    assert_read(text, NIMES)


@pytest.mark.parametrize(
    "text", ['get_weather[ARGS]{"city": "Nîmes"}', 'get_weather{"city": "Nîmes"}']
)
def test_the_marker_was_dropped(text):
    assert_read(text, NIMES)
    assert_read(f"Je regarde.\n\n{text}", "Je regarde.", NIMES)


def test_brackets_and_braces_inside_strings():
    assert_read(
        '[TOOL_CALLS]python[ARGS]{"code": "d = {}\\nl = [d[\\"k\\"]]  # [ARGS] }"}',
        call("python", code='d = {}\nl = [d["k"]]  # [ARGS] }'),
    )


def test_missing_bracket_at_the_end():
    assert_read(LIST[:-1], NIMES)


def test_unknown_tool():
    assert_untouched(LIST.replace("get_weather", "get_cheese"))
    assert_untouched(ARGS.replace("get_weather", "get_cheese"))


def test_no_json_behind_the_marker():
    assert_untouched("[TOOL_CALLS] is the marker of that model.")


def test_cut():
    assert_read(f"Je regarde. {LIST[:60]}", "Je regarde.", CUT, truncated=True)
    assert_read(f"Je regarde. {ARGS[:42]}", "Je regarde.", CUT, truncated=True)
