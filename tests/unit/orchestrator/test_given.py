"""Arguments as models give them."""

import pytest

from shared.orchestration.given import given_count, given_flag, given_texts


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        (["a", " b "], ["a", "b"]),
        ("a", ["a"]),
        ("a, b", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("12", ["12"]),
        ([1, None, ""], ["1"]),
        (None, []),
        ("", []),
    ],
)
def test_texts(given, texts):
    assert given_texts(given) == texts


@pytest.mark.parametrize(
    ("given", "flag"),
    [(True, True), ("true", True), ("False", False), (None, False), (1, True)],
)
def test_flags(given, flag):
    assert given_flag(given) is flag


@pytest.mark.parametrize(
    ("given", "count"),
    [(3, 3), ("4", 4), (5.0, 5), ("many", 7), (None, 7), (float("inf"), 7)],
)
def test_counts(given, count):
    assert given_count(given, 7) == count
