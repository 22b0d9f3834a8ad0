"""functionary_v31: the name in a tag, the arguments as JSON inside it."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

ONE = '<function=get_weather>{"city": "Hanoi", "unit": "celsius"}</function>'


def test_a_plain_call():
    check(ONE, call("get_weather", city="Hanoi", unit="celsius"))


def test_several_calls_and_no_arguments():
    check(
        f"{ONE}<function=get_time>{{}}</function>",
        call("get_weather", city="Hanoi", unit="celsius"),
        call("get_time"),
    )


def test_prose_around():
    check(
        f"Checking Hanoi.\n{ONE}\nA moment.",
        "Checking Hanoi.",
        call("get_weather", city="Hanoi", unit="celsius"),
        "A moment.",
    )


def test_the_closing_tag_inside_a_string():
    check(
        '<function=search>{"query": "what does </function> close?"}</function>',
        call("search", query="what does </function> close?"),
    )


def test_missing_closer_at_the_end():
    check(
        ONE.removesuffix("</function>"),
        call("get_weather", city="Hanoi", unit="celsius"),
    )


def test_end_of_message_token_is_not_shown():
    check(f"{ONE}<|eom_id|>", call("get_weather", city="Hanoi", unit="celsius"))


def test_unknown_tool():
    check_untouched(ONE.replace("get_weather", "get_pho"))


def test_arguments_that_do_not_fit():
    check_untouched(ONE.replace('"celsius"', '"kelvin"'))


def test_cut():
    check(ONE[:35], CUT, truncated=True)
