"""inkling: typed message blocks; the tool block holds name and args."""

from tests.unit.toolcalls.support import (
    CUT,
    assert_calls,
    assert_read,
    assert_untouched,
    call,
)

BLOCK = (
    '<|content_invoke_tool_json|>{"name":"get_weather","args":{"city":"Turku"}}'
    "<|end_message|>"
)
ONE = f"<|message_model|>get_weather{BLOCK}"
TURKU = call("get_weather", city="Turku")


def test_a_plain_call():
    assert_read(ONE, TURKU)


def test_without_the_message_header():
    assert_read(BLOCK, TURKU)


def test_several_calls_and_no_arguments():
    assert_read(
        f"{ONE}<|message_model|>get_time<|content_invoke_tool_json|>"
        '{"name":"get_time","args":{}}<|end_message|>',
        TURKU,
        call("get_time"),
    )


def test_after_thought_and_text():
    assert_calls(
        "<|message_model|><|content_thinking|>Weather.<|end_message|>"
        f"<|message_model|><|content_text|>I look.<|end_message|>{ONE}",
        TURKU,
        hidden=["<|content_invoke_tool_json|>"],
    )


def test_prose_before():
    assert_read(f"I look. {BLOCK}", "I look.", TURKU)


def test_missing_end_of_message():
    assert_read(ONE.removesuffix("<|end_message|>"), TURKU)


def test_unknown_tool():
    assert_untouched(BLOCK.replace("get_weather", "get_ice"))


def test_cut():
    assert_read(BLOCK[:65], CUT, truncated=True)
