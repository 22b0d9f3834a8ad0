"""firefunction: the word functools and a JSON list."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = ' functools[{"name": "get_weather", "arguments": {"city": "Austin"}}]'


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="Austin"))


def test_several_calls():
    assert_read(
        ' functools[{"name": "get_time", "arguments": {}}, '
        '{"name": "search", "arguments": {"query": "BBQ [open now]", "limit": 3}}]',
        call("get_time"),
        call("search", query="BBQ [open now]", limit=3),
    )


def test_prose_around():
    assert_read(
        f"Let me call a function.{ONE}\nThat is all.",
        "Let me call a function.",
        call("get_weather", city="Austin"),
        "That is all.",
    )


def test_the_module_of_that_name_is_not_a_call():
    assert_untouched("Use functools.lru_cache, functools[0] is an error.")


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_rodeo"))


def test_cut():
    assert_read(ONE[:55], CUT, truncated=True)
