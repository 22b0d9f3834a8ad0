"""kimi_k2: sections of calls whose ids carry the name and an index."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

BEGIN = "<|tool_calls_section_begin|>"
END = "<|tool_calls_section_end|>"


def block(call_id: str, arguments: str) -> str:
    return (
        f"<|tool_call_begin|>{call_id}<|tool_call_argument_begin|>"
        f"{arguments}<|tool_call_end|>"
    )


CITY = '{"city": "Shantou"}'
WEATHER = block("functions.get_weather:0", CITY)
CLOCK = block("functions.get_time:1", "{}")
SHANTOU = call("get_weather", city="Shantou")


def test_a_plain_call():
    assert_read(f"{BEGIN}{WEATHER}{END}", SHANTOU)


def test_several_calls_and_no_arguments():
    assert_read(f"{BEGIN}{WEATHER}{CLOCK}{END}", SHANTOU, call("get_time"))


def test_several_sections():
    assert_read(f"{BEGIN}{WEATHER}{END}{BEGIN}{CLOCK}{END}", SHANTOU, call("get_time"))


def test_prose_around():
    assert_read(f"I look. {BEGIN}{WEATHER}{END} There.", "I look.", SHANTOU, "There.")


def test_inside_a_thought():
    assert_read(
        f"<think>I need the weather. {BEGIN}{WEATHER}{END}",
        "<think>I need the weather.",
        SHANTOU,
    )


@pytest.mark.parametrize(
    "call_id", ["get_weather:0", "functions.get_weather", "get_weather"]
)
def test_ids_as_the_model_varies_them(call_id):
    assert_read(f"{BEGIN}{block(call_id, CITY)}{END}", SHANTOU)


def test_a_high_index():
    assert_read(
        f"{BEGIN}{block('functions.get_weather:117', CITY)}{END}",
        SHANTOU,
    )


def test_singular_section_markers():
    text = f"{BEGIN}{WEATHER}{END}".replace("tool_calls_section", "tool_call_section")
    assert_read(text, SHANTOU)


def test_missing_section_end():
    assert_read(f"{BEGIN}{WEATHER}", SHANTOU)


def test_missing_section_markers():
    assert_read(WEATHER, SHANTOU)


def test_missing_end_of_the_call():
    assert_read(f"{BEGIN}{WEATHER.removesuffix('<|tool_call_end|>')}", SHANTOU)


def test_white_space_between_the_markers():
    assert_read(
        f"{BEGIN}\n{WEATHER}\n{CLOCK}\n{END}\n",
        SHANTOU,
        call("get_time"),
    )


def test_a_marker_inside_a_string():
    arguments = '{"query": "<|tool_call_end|> token"}'
    assert_read(
        f"{BEGIN}{block('functions.search:0', arguments)}{END}",
        call("search", query="<|tool_call_end|> token"),
    )


def test_unknown_tool():
    assert_untouched(f"{BEGIN}{WEATHER}{END}".replace("get_weather", "get_typhoon"))


def test_cut():
    assert_read(f"I look. {BEGIN}{WEATHER[:80]}", "I look.", CUT, truncated=True)
    assert_read(f"{BEGIN}{CLOCK}{WEATHER[:80]}", call("get_time"), CUT, truncated=True)
