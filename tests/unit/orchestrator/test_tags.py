"""What tags say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AqueductError
from shared.orchestration.tags import (
    TAG_WORD_LIMIT,
    Relation,
    capability_in,
    carries_tag,
    relation_in,
    same_tags,
    tag_word,
    taxonomy,
)
from tests.unit.orchestrator.models import model


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("cap:artist", "artist"),
        ("CAP:Artist", "Artist"),
        ("cap: artist ", "artist"),
        ("cap:", None),
        ("cap", None),
        ("recap:artist", None),
        ("rel:works-with:luna", None),
    ],
)
def test_capabilities(tag, found):
    assert capability_in(tag) == found


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("rel:works-with:luna", Relation("works-with", "luna")),
        ("REL:asks:Luna", Relation("asks", "Luna")),
        ("rel:asks:llama3:8b", Relation("asks", "llama3:8b")),
        ("rel:asks: luna ", Relation("asks", "luna")),
        ("rel:asks", None),
        ("rel:asks:", None),
        ("rel::luna", None),
        ("cap:artist", None),
        ("", None),
    ],
)
def test_relations(tag, found):
    assert relation_in(tag) == found


def test_relations_under_another_prefix():
    assert relation_in("team.asks:luna", "team.") == Relation("asks", "luna")
    assert relation_in("rel:asks:luna", "team.") is None


@given(st.text(), st.text())
def test_no_tag_is_an_error(tag, prefix):
    capability_in(tag)
    relation_in(tag, prefix)
    carries_tag(model("luna", tag), prefix)
    taxonomy([model("luna", tag)])


@pytest.mark.parametrize("tag", ["cap:artist", "artist", "ARTIST", " Artist "])
def test_a_capability_is_carried_with_and_without_its_prefix(tag):
    assert carries_tag(model("luna", "cap:Artist"), tag)
    assert not carries_tag(model("luna", "cap:artists"), tag)


def test_a_tag_is_the_same_in_any_case():
    tags = ["cap:Artist", "fast", "CAP:artist", "cap:artists"]
    assert same_tags(tags, " cap:ARTIST ") == ["cap:Artist", "CAP:artist"]
    assert same_tags(tags, "cap:writer") == []


def test_an_empty_tag_is_carried_by_nobody():
    assert not carries_tag(model("luna", "cap:", ""), " ")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("artist", "artist"),
        (" Water colours ", "water-colours"),
        ("code_review", "code-review"),
        ("Übersetzen", "übersetzen"),
        ("绘画", "绘画"),
    ],
)
def test_words_of_tags_are_written_alike(text, word):
    assert tag_word(text) == word
    assert tag_word(word) == word


@pytest.mark.parametrize("text", ["", " ", "a:b", "-a", "a--b", "a`b", "<b>", "a\x00b"])
def test_what_is_no_word_is_refused(text):
    with pytest.raises(AqueductError, match="bad_tag"):
        tag_word(text)


def test_words_have_a_limit():
    assert tag_word("a" * TAG_WORD_LIMIT)
    with pytest.raises(AqueductError, match="bad_tag"):
        tag_word("a" * (TAG_WORD_LIMIT + 1))


@given(st.text(max_size=TAG_WORD_LIMIT))
def test_a_word_makes_a_tag_that_says_the_same(text):
    try:
        word = tag_word(text)
    except AqueductError:
        return
    assert capability_in(f"cap:{word}") == word
    assert relation_in(f"rel:{word}:x:y") == Relation(word, "x:y")


def test_the_taxonomy_counts():
    found = taxonomy(
        [
            model("luna", "cap:artist", "rel:asks:sol", "fast"),
            model("sol", "cap:artist", "cap:writer"),
            model("mira"),
        ]
    )
    assert found == {
        "models": 3,
        "untagged": 1,
        "capabilities": {"artist": 2, "writer": 1},
        "relations": {"asks": 1},
        "other_tags": {"fast": 1},
    }
    assert list(found["capabilities"]) == ["artist", "writer"]
