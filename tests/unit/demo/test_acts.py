"""Cutting texts into pieces and answers to a limit."""

from hypothesis import given
from hypothesis import strategies as st

from demo.acts import Call, Citation, Say, Think, pieces, truncate


@given(st.text(), st.booleans())
def test_pieces_add_up_to_the_text(text: str, fine: bool) -> None:
    parts = list(pieces(text, fine))
    assert "".join(parts) == text
    assert all(parts)


def test_fine_pieces_are_four_characters() -> None:
    assert list(pieces("<tool_call>", fine=True)) == ["<too", "l_ca", "ll>"]


def test_a_limit_cuts_inside_a_text_and_drops_what_follows() -> None:
    say = Say(
        "one two three four", (Citation("u", "t", 0, 3), Citation("u", "t", 4, 13))
    )
    acts = (Think("a b"), say, Call("f", {}))
    kept, truncated = truncate(acts, 4)
    assert truncated
    assert kept == (Think("a b"), Say("one two ", (Citation("u", "t", 0, 3),)))
    assert truncate(acts, 6) == (acts, False)
