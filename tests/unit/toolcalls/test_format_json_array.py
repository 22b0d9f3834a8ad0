"""json_array: a bare JSON list of calls, as `required` mode makes models write."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

TWO = (
    '[{"name": "get_weather", "parameters": {"city": "Split"}}, '
    '{"name": "add", "parameters": {"a": 4, "b": 4}}]'
)
SPLIT = call("get_weather", city="Split")


def test_a_plain_call():
    assert_read('[{"name": "get_weather", "parameters": {"city": "Split"}}]', SPLIT)


def test_several_calls():
    assert_read(TWO, SPLIT, call("add", a=4, b=4))


def test_over_several_lines():
    assert_read(
        TWO.replace(", {", ",\n  {").replace("[{", "[\n  {"),
        SPLIT,
        call("add", a=4, b=4),
    )


def test_arguments_for_parameters():
    assert_read(TWO.replace("parameters", "arguments"), SPLIT, call("add", a=4, b=4))


def test_brackets_inside_strings():
    assert_read(
        '[{"name": "search", "parameters": {"query": "a ] in }, then ["}}]',
        call("search", query="a ] in }, then ["),
    )


def test_missing_bracket_at_the_end():
    assert_read(TWO[:-1], SPLIT, call("add", a=4, b=4))


def test_data_is_not_a_call():
    assert_untouched(
        '[{"name": "Split", "population": 160577}, {"name": "Zadar", "population": 70779}]'
    )
    assert_untouched(
        '[{"name": "search", "type": "tool"}, {"name": "add", "type": "tool"}]'
    )


def test_unknown_tool():
    assert_untouched('[{"name": "get_ferry", "parameters": {"city": "Split"}}]')


def test_cut():
    assert_read(TWO[:-9], SPLIT, CUT, truncated=True)
