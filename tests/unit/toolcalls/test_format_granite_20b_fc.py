"""granite_20b_fc: a function_call marker before each JSON object."""

from tests.unit.toolcalls.support import CUT, call, check, check_untouched

ONE = '<function_call> {"name": "search", "arguments": {"query": "granite"}}'
GRANITE = call("search", query="granite")


def test_a_plain_call():
    check(ONE, GRANITE)


def test_several_calls():
    check(
        f'{ONE} <function_call> {{"name": "get_time", "arguments": {{}}}}',
        GRANITE,
        call("get_time"),
    )


def test_prose_around():
    check(f"I search. {ONE}\nThere.", "I search.", GRANITE, "There.")


def test_no_space_after_the_marker():
    check(ONE.replace("> ", ">"), GRANITE)


def test_closed_as_if_it_were_xml():
    check(f"{ONE}</function_call>", GRANITE)


def test_unknown_tool():
    check_untouched(ONE.replace('"search"', '"quarry"'))


def test_cut():
    check(ONE[:50], CUT, truncated=True)
