"""hermes: JSON in tool_call tags (Qwen 2.5 and 3, Hermes, Granite 4, SmolLM 3 ...)."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = """\
<tool_call>
{"name": "get_weather", "arguments": {"city": "Bergen"}}
</tool_call>"""
CLOCK = """\
<tool_call>
{"name": "get_time", "arguments": {}}
</tool_call>"""
BERGEN = call("get_weather", city="Bergen")


def test_a_plain_call():
    assert_read(ONE, BERGEN)


def test_on_one_line():
    assert_read(ONE.replace("\n", ""), BERGEN)


def test_several_calls():
    assert_read(f"{ONE}\n{CLOCK}\n{ONE}", BERGEN, call("get_time"), BERGEN)


def test_prose_before_between_and_after():
    assert_read(
        f"The weather first.\n\n{ONE}\n\nThen the time.\n{CLOCK}\nThat is all.",
        "The weather first.",
        BERGEN,
        "Then the time.",
        call("get_time"),
        "That is all.",
    )


def test_a_thought_before_stays():
    assert_read(
        f"<think>\nThey want the weather.\n</think>\n\n{ONE}",
        "<think> They want the weather. </think>",
        BERGEN,
    )


def test_inside_a_thought_that_never_ends():
    assert_read(
        f"<think>\nI should call it now.\n{ONE}",
        "<think> I should call it now.",
        BERGEN,
    )


def test_no_arguments_key():
    assert_read('<tool_call>\n{"name": "get_time"}\n</tool_call>', call("get_time"))


def test_null_arguments():
    assert_read(
        '<tool_call>\n{"name": "get_time", "arguments": null}\n</tool_call>',
        call("get_time"),
    )


def test_parameters_for_arguments():
    assert_read(ONE.replace("arguments", "parameters"), BERGEN)


def test_arguments_as_a_string():
    assert_read(
        '<tool_call>\n{"name": "get_weather", '
        '"arguments": "{\\"city\\": \\"Bergen\\", \\"days\\": 2}"}\n</tool_call>',
        call("get_weather", city="Bergen", days=2),
    )


def test_the_arguments_come_first():
    assert_read(
        '<tool_call>\n{"arguments": {"city": "Bergen"}, "name": "get_weather"}\n'
        "</tool_call>",
        BERGEN,
    )


def test_missing_closer_at_the_end():
    assert_read(ONE.removesuffix("\n</tool_call>"), BERGEN)


def test_missing_closer_between_two_calls():
    assert_read(f"{ONE.removesuffix('</tool_call>')}{CLOCK}", BERGEN, call("get_time"))


def test_two_objects_in_one_wrapper():
    assert_read(
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bergen"}}\n'
        '{"name": "get_time", "arguments": {}}\n</tool_call>',
        BERGEN,
        call("get_time"),
    )


def test_a_list_in_one_wrapper():
    assert_read(
        '<tool_call>\n[{"name": "get_weather", "arguments": {"city": "Bergen"}}, '
        '{"name": "get_time", "arguments": {}}]\n</tool_call>',
        BERGEN,
        call("get_time"),
    )


@pytest.mark.parametrize(
    ("opener", "closer"),
    [("<|tool_call|>", "<|/tool_call|>"), ("<tools>", "</tools>")],
)
def test_wrappers_of_the_small_coders(opener, closer):
    text = ONE.replace("<tool_call>", opener).replace("</tool_call>", closer)
    assert_read(text, BERGEN)


def test_markers_and_braces_inside_a_string():
    code = 'print("</tool_call>")  # {"name": "x"'
    assert_read(
        '<tool_call>\n{"name": "python", "arguments": {"code": '
        '"print(\\"</tool_call>\\")  # {\\"name\\": \\"x\\""}}\n</tool_call>',
        call("python", code=code),
    )


def test_end_of_turn_token_is_not_shown():
    assert_read(f"{ONE}<|im_end|>", BERGEN)


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_rain"))


def test_a_known_call_beside_an_unknown_one():
    unknown = ONE.replace("get_weather", "get_rain")
    assert_read(f"{CLOCK}\n{unknown}", call("get_time"), " ".join(unknown.split()))


def test_arguments_that_do_not_fit():
    assert_untouched(ONE.replace('{"city": "Bergen"}', '{"days": 2}'))
    assert_untouched(ONE.replace('"Bergen"', '["Bergen"]'))


@pytest.mark.parametrize("length", range(46, 67))
def test_cut_anywhere_in_the_arguments(length):
    assert_read(f"Ok.\n{ONE[:length]}", "Ok.", CUT, truncated=True)


def test_cut_in_the_second_call():
    assert_read(f"{CLOCK}\n{ONE[:60]}", call("get_time"), CUT, truncated=True)
