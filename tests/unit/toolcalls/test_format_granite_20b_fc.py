"""granite_20b_fc: a function_call marker before each JSON object."""

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

ONE = '<function_call> {"name": "search", "arguments": {"query": "granite"}}'
GRANITE = call("search", query="granite")


def test_a_plain_call():
    assert_read(ONE, GRANITE)


def test_several_calls():
    assert_read(
        f'{ONE} <function_call> {{"name": "get_time", "arguments": {{}}}}',
        GRANITE,
        call("get_time"),
    )


def test_prose_around():
    assert_read(f"I search. {ONE}\nThere.", "I search.", GRANITE, "There.")


def test_no_space_after_the_marker():
    assert_read(ONE.replace("> ", ">"), GRANITE)


def test_closed_as_if_it_were_xml():
    assert_read(f"{ONE}</function_call>", GRANITE)


def test_unknown_tool():
    assert_untouched(ONE.replace('"search"', '"quarry"'))


def test_cut():
    assert_read(ONE[:50], CUT, truncated=True)
