"""llama3_json: a JSON object with parameters, bare or behind python_tag."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '{"name": "get_weather", "parameters": {"city": "Tucson"}}'
CLOCK = '{"name": "get_time", "parameters": {}}'
TUCSON = call("get_weather", city="Tucson")


def test_a_plain_call():
    assert_read(ONE, TUCSON)


def test_behind_the_tag():
    assert_read(f"<|python_tag|>{ONE}", TUCSON)


@pytest.mark.parametrize("between", [";", "; ", ";\n", "\n", "<|python_tag|>"])
def test_several_calls(between):
    assert_read(f"<|python_tag|>{ONE}{between}{CLOCK}", TUCSON, call("get_time"))


@pytest.mark.parametrize("marker", ["<|eom_id|>", "<|eot_id|>"])
def test_end_markers_are_not_shown(marker):
    assert_read(f"{ONE}{marker}", TUCSON)
    assert_read(f"<|python_tag|>{ONE}{marker}", TUCSON)


def test_arguments_for_parameters():
    assert_read(ONE.replace("parameters", "arguments"), TUCSON)


def test_with_a_type():
    assert_read(ONE.replace("{", '{"type": "function", ', 1), TUCSON)


def test_the_name_under_function():
    assert_read(ONE.replace('"name"', '"function"'), TUCSON)


def test_parameters_as_a_string():
    assert_read(
        '{"name": "get_weather", "parameters": "{\\"city\\": \\"Tucson\\"}"}', TUCSON
    )


def test_the_builtin_form():
    assert_read(
        '<|python_tag|>search.call(query="cactus")', call("search", query="cactus")
    )


def test_prose_before():
    assert_read(f"Let me get the weather.\n\n{ONE}", "Let me get the weather.", TUCSON)


def test_prose_on_the_same_line():
    assert_read(f"Let me get the weather: {ONE}", "Let me get the weather:", TUCSON)


def test_prose_after():
    assert_read(
        f"{ONE}\n\nThis call asks for Tucson.", TUCSON, "This call asks for Tucson."
    )


def test_numbers_as_strings_are_mended_by_the_schema():
    assert_read(
        '{"name": "add", "parameters": {"a": "2", "b": "3.5"}}', call("add", a=2, b=3.5)
    )


def test_unknown_tool():
    assert_untouched(f"<|python_tag|>{ONE}".replace("get_weather", "get_cactus"))


def test_python_behind_the_tag_that_is_no_known_tool():
    assert_untouched('<|python_tag|>print("hello")')


def test_cut():
    assert_read(f"<|python_tag|>{ONE[:48]}", CUT, truncated=True)
    assert_read(f"<|python_tag|>{ONE};{CLOCK[:32]}", TUCSON, CUT, truncated=True)
