"""deepseek_v31: special tokens around the name and bare JSON."""

import pytest

from tests.unit.toolcalls.support import CUT, assert_read, assert_untouched, call

OUTER = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
PARIS = (
    '<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Lyon"}<｜tool▁call▁end｜>'
)
CLOCK = "<｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
ONE = PARIS.join(OUTER)


def test_a_plain_call():
    assert_read(ONE, call("get_weather", city="Lyon"))


def test_several_calls_and_no_arguments():
    assert_read(
        (PARIS + CLOCK).join(OUTER), call("get_weather", city="Lyon"), call("get_time")
    )


def test_prose_around():
    assert_read(
        f"Two things to check.{ONE}And then we talk.",
        "Two things to check.",
        call("get_weather", city="Lyon"),
        "And then we talk.",
    )


def test_after_the_end_of_a_thought():
    assert_read(
        f"So the tool it is.</think>{ONE}",
        "So the tool it is.</think>",
        call("get_weather", city="Lyon"),
    )


def test_outer_markers_missing():
    assert_read(
        f"Hm. {PARIS}{CLOCK}", "Hm.", call("get_weather", city="Lyon"), call("get_time")
    )


def test_all_end_markers_missing():
    assert_read(
        OUTER[0] + PARIS.removesuffix("<｜tool▁call▁end｜>"),
        call("get_weather", city="Lyon"),
    )


@pytest.mark.parametrize(("bar", "gap"), [("|", " "), ("|", "_"), ("|", "▁")])
def test_plain_letters_in_the_markers(bar, gap):
    text = ONE.replace("▁", gap).replace("｜", bar)
    assert_read(text, call("get_weather", city="Lyon"))


def test_a_marker_inside_a_string():
    assert_read(
        '<｜tool▁call▁begin｜>search<｜tool▁sep｜>{"query": "what is <｜tool▁call▁end｜>?"}'
        "<｜tool▁call▁end｜>".join(OUTER),
        call("search", query="what is <｜tool▁call▁end｜>?"),
    )


def test_unknown_tool():
    assert_untouched(ONE.replace("get_weather", "get_mood"))


def test_cut_in_the_second_call():
    assert_read(
        OUTER[0] + CLOCK + PARIS[:50],
        call("get_time"),
        CUT,
        truncated=True,
    )
