"""Thoughts between tags at the start of an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backends.think_tags import THINK_TAGS, ThinkTagSplitter
from tests.unit.backends.support import PROPERTY, chunkings, text_of, thoughts_of


def split(pieces) -> tuple[str, str]:
    """Thoughts and text of an answer that arrives in these pieces."""
    splitter = ThinkTagSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    events += splitter.finish()
    return thoughts_of(events), text_of(events)


@pytest.mark.parametrize(("opener", "closer"), THINK_TAGS.items())
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_every_tag_in_any_size_of_piece(opener, closer, size):
    answer = f"{opener}\nHm, 6 < 7.\n{closer}\n\nSix."
    pieces = [answer[i : i + size] for i in range(0, len(answer), size)]
    thoughts, text = split(pieces)
    assert thoughts.strip() == "Hm, 6 < 7."
    assert text.strip() == "Six."


@PROPERTY
@given(chunkings("\n <think>one </thin two</think>\n\nThree <think>four</think>."))
def test_any_chunking_gives_the_same(pieces):
    thoughts, text = split(pieces)
    assert thoughts == "one </thin two"
    assert text == "Three <think>four</think>."


@PROPERTY
@given(st.data(), st.text("<think/>◁▷ab\n ", max_size=30))
def test_no_chunking_changes_what_an_answer_says(data, answer):
    assert split(data.draw(chunkings(answer))) == split([answer])


@pytest.mark.parametrize(
    "answer",
    [
        "The tag <think> opens a thought, </think> closes it.",
        "<thinker> is no tag",
        "<",
        "< 5",
        "</think> alone",
        "`<think>`",
        "\n\n",
        "  indented",
        "",
    ],
)
def test_text_that_opens_no_thought_is_left_as_it_is(answer):
    assert split(answer) == ("", answer)


def test_a_second_thought_right_after_the_first():
    answer = "<think>one</think>\n<think>two</think>\nDone"
    assert split(answer) == ("onetwo", "Done")


def test_a_thought_that_never_ends_is_still_told():
    assert split(["<think>and then", " </thi"]) == ("and then </thi", "")


def test_an_empty_thought_leaves_only_the_answer():
    thoughts, text = split(["<think>\n\n</think>\n\nHello"])
    assert thoughts.strip() == ""
    assert text == "Hello"


def test_a_piece_is_told_as_soon_as_it_can_be_no_tag():
    splitter = ThinkTagSplitter()
    assert splitter.feed("<thi") == []
    assert text_of(splitter.feed("s")) == "<this"
    assert splitter.passing


def test_a_thought_is_told_while_it_grows():
    splitter = ThinkTagSplitter()
    splitter.feed("<think>")
    assert thoughts_of(splitter.feed("slowly")) == "slowly"
    assert thoughts_of(splitter.feed(" now <")) == " now "
