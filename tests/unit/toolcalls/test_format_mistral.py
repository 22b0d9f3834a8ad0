"""mistral: a marker and a JSON list, or a name, [ARGS] and JSON."""

import pytest

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

LIST = '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Nîmes"}}]'
ARGS = '[TOOL_CALLS]get_weather[ARGS]{"city": "Nîmes"}'
NIMES = call("get_weather", city="Nîmes")


def test_a_plain_list():
    check(LIST, NIMES)


def test_a_plain_name_and_arguments():
    check(ARGS, NIMES)


def test_a_space_before_the_list():
    check(LIST.replace("S][", "S] ["), NIMES)


def test_several_calls_in_a_list():
    check(
        '[TOOL_CALLS] [{"name": "get_time", "arguments": {}, "id": "a1b2c3d4e"}, '
        '{"name": "search", "arguments": {"query": "arènes ]"}, "id": "f5g6h7i8j"}]',
        call("get_time"),
        call("search", query="arènes ]"),
    )


def test_several_markers():
    check(f"{ARGS}[TOOL_CALLS]get_time[ARGS]{{}}", NIMES, call("get_time"))


def test_prose_around():
    check(f"Je regarde. {LIST}\nVoilà.", "Je regarde.", NIMES, "Voilà.")
    check(f"Je regarde. {ARGS}\nVoilà.", "Je regarde.", NIMES, "Voilà.")


def test_the_closer_of_old_templates():
    check(f"{LIST}[/TOOL_CALLS]", NIMES)


def test_end_of_text_is_not_shown():
    check(f"{LIST}</s>", NIMES)
    check(f"{ARGS}</s>", NIMES)


def test_a_thought_before_stays():
    check(f"[THINK]Nîmes ?[/THINK]{ARGS}", "[THINK]Nîmes ?[/THINK]", NIMES)


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
    check(text, NIMES)


@pytest.mark.parametrize(
    "text", ['get_weather[ARGS]{"city": "Nîmes"}', 'get_weather{"city": "Nîmes"}']
)
def test_the_marker_was_dropped(text):
    check(text, NIMES)
    check(f"Je regarde.\n\n{text}", "Je regarde.", NIMES)


def test_brackets_and_braces_inside_strings():
    check(
        '[TOOL_CALLS]python[ARGS]{"code": "d = {}\\nl = [d[\\"k\\"]]  # [ARGS] }"}',
        call("python", code='d = {}\nl = [d["k"]]  # [ARGS] }'),
    )


def test_missing_bracket_at_the_end():
    check(LIST[:-1], NIMES)


def test_unknown_tool():
    check_untouched(LIST.replace("get_weather", "get_cheese"))
    check_untouched(ARGS.replace("get_weather", "get_cheese"))


def test_no_json_behind_the_marker():
    check_untouched("[TOOL_CALLS] is the marker of that model.")


def test_cut():
    check(f"Je regarde. {LIST[:60]}", "Je regarde.", CUT, truncated=True)
    check(f"Je regarde. {ARGS[:42]}", "Je regarde.", CUT, truncated=True)
