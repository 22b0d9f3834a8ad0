"""functionary_v31: the name in a tag, the arguments as JSON inside it."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '<function=get_weather>{"city": "Hanoi", "unit": "celsius"}</function>'


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="Hanoi", unit="celsius"))


def test_several_calls_and_no_arguments():
    assert_read(
        f"{ONE}<function=get_time>{{}}</function>",
        call("get_weather", city="Hanoi", unit="celsius"),
        call("get_time"),
    )


def test_prose_around():
    assert_read(
        f"Checking Hanoi.\n{ONE}\nA moment.",
        "Checking Hanoi.",
        call("get_weather", city="Hanoi", unit="celsius"),
        "A moment.",
    )


def test_the_closing_tag_inside_a_string():
    assert_read(
        '<function=search>{"query": "what does </function> close?"}</function>',
        call("search", query="what does </function> close?"),
    )


def test_missing_closer_at_the_end():
    assert_read(
        ONE.removesuffix("</function>"),
        call("get_weather", city="Hanoi", unit="celsius"),
    )


def test_end_of_message_token_is_not_shown():
    assert_read(f"{ONE}<|eom_id|>", call("get_weather", city="Hanoi", unit="celsius"))


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_pho"))


def test_arguments_that_do_not_fit():
    assert_untouched(ONE.replace('"celsius"', '"kelvin"'))


def test_cut():
    assert_read(ONE[:35], CUT, truncated=True)
