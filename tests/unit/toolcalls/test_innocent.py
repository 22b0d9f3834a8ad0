"""Innocent texts: no call is invented and no character is altered."""

import pytest

from shared.toolcalls.pieces import VisibleText
from tests.unit.toolcalls.innocents_code import INNOCENT_CODE
from tests.unit.toolcalls.innocents_markup import MARKUP
from tests.unit.toolcalls.support import (
    CHUNKINGS,
    TOOLS,
    assert_untouched,
    at_random,
    scan,
    tool,
)

INNOCENT = {**MARKUP, **INNOCENT_CODE}

# Tools of real requests often require nothing, which makes almost anything fit.
LOOSE = [
    tool(
        spec["function"]["name"],
        [],
        **spec["function"]["parameters"]["properties"],
    )
    for spec in TOOLS
]


@pytest.mark.parametrize("label", INNOCENT)
def test_innocent(label):
    assert_untouched(INNOCENT[label])


@pytest.mark.parametrize("label", INNOCENT)
def test_innocent_with_tools_that_take_anything(label):
    assert_untouched(INNOCENT[label], tools=LOOSE)


@pytest.mark.parametrize(
    "label", [label for label in INNOCENT if "open end" not in label]
)
def test_innocent_when_the_limit_was_reached(label):
    assert_untouched(INNOCENT[label], truncated=True)


@pytest.mark.parametrize("label", INNOCENT)
def test_innocent_amid_prose(label):
    assert_untouched(f"Let me explain.\n\n{INNOCENT[label]}\n\nAnything else?")


@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_all_innocents_in_one_message(chunking):
    text = "\n\n".join(INNOCENT[label] for label in INNOCENT if "open end" not in label)
    assert scan(CHUNKINGS[chunking](text), TOOLS) == [VisibleText(text)]


@pytest.mark.parametrize("seed", range(5))
def test_random_chunks(seed):
    altered = [
        label
        for label, text in INNOCENT.items()
        if scan(at_random(text, seed), LOOSE) != [VisibleText(text)]
    ]
    assert altered == []


def test_there_are_enough():
    assert len(INNOCENT) >= 150
