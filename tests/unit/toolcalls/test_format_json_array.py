"""json_array: a bare JSON list of calls, as `required` mode makes models write."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

TWO = (
    '[{"name": "get_weather", "parameters": {"city": "Split"}}, '
    '{"name": "add", "parameters": {"a": 4, "b": 4}}]'
)
SPLIT = call("get_weather", city="Split")


def test_a_plain_call():
    check('[{"name": "get_weather", "parameters": {"city": "Split"}}]', SPLIT)


def test_several_calls():
    check(TWO, SPLIT, call("add", a=4, b=4))


def test_over_several_lines():
    check(
        TWO.replace(", {", ",\n  {").replace("[{", "[\n  {"),
        SPLIT,
        call("add", a=4, b=4),
    )


def test_arguments_for_parameters():
    check(TWO.replace("parameters", "arguments"), SPLIT, call("add", a=4, b=4))


def test_brackets_inside_strings():
    check(
        '[{"name": "search", "parameters": {"query": "a ] in }, then ["}}]',
        call("search", query="a ] in }, then ["),
    )


def test_missing_bracket_at_the_end():
    check(TWO[:-1], SPLIT, call("add", a=4, b=4))


def test_data_is_not_a_call():
    check_untouched(
        '[{"name": "Split", "population": 160577}, {"name": "Zadar", "population": 70779}]'
    )
    check_untouched(
        '[{"name": "search", "type": "tool"}, {"name": "add", "type": "tool"}]'
    )


def test_unknown_tool():
    check_untouched('[{"name": "get_ferry", "parameters": {"city": "Split"}}]')


def test_cut():
    check(TWO[:-9], SPLIT, CUT, truncated=True)
