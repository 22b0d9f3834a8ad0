"""react: an Action line and an Action Input line."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = 'Action: get_weather\nAction Input: {"city": "Gdynia"}'
GDYNIA = call("get_weather", city="Gdynia")


def test_a_plain_call():
    assert_read(ONE, GDYNIA)


def test_the_thought_is_shown():
    assert_read(
        f"Thought: I need the weather.\n{ONE}\n",
        "Thought: I need the weather.",
        GDYNIA,
    )


def test_input_over_several_lines():
    assert_read(
        'Action: add\nAction Input: {\n  "a": 1,\n  "b": 2\n}\n', call("add", a=1, b=2)
    )


def test_no_arguments():
    assert_read("Action: get_time\nAction Input: {}", call("get_time"))


def test_an_explanation_of_the_format():
    assert_untouched(
        "Action: the action to take, one of [search, calculator]\n"
        "Action Input: the input to the action\n"
        "Observation: the result of the action"
    )


def test_the_word_action_in_prose():
    assert_untouched("Action: search the attic.\nAction Input: none yet.")


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_herring"))


def test_cut():
    assert_read(
        'Thought: the weather.\nAction: get_weather\nAction Input: {"city": "Gd',
        "Thought: the weather.",
        CUT,
        truncated=True,
    )
