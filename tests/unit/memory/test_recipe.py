"""The recipe: what is found first, and when nothing is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.memory.exchanges import question_key
from shared.memory.recall import Scope, recall
from shared.memory.terms import query_terms, words
from tests.unit.memory.exchanges import BIKE, CAT, SOUP, said

TRIP = [
    said("I booked the train to Lisbon.", "Nice.", chat="trip", number=1),
    said("It leaves at nine.", "Early!", chat="trip", number=2),
    said("The hotel is by the river.", "Good.", chat="trip", number=3),
]


async def ask(store, model, question, scope=None, **more):
    hits = await recall(
        store, model.question, "ada", question, scope or Scope(), **more
    )
    return [hit.stored.exchange for hit in hits]


@pytest.fixture
async def filled(store, model):
    await store.save("ada", [CAT, BIKE, SOUP, *TRIP])
    await model.index(store)
    return store


async def test_an_answerable_question_passes_the_gate(filled, model):
    assert await ask(filled, model, "What is my cat called?") == [CAT]


async def test_a_foreign_question_pulls_nothing_in(filled, model):
    assert await ask(filled, model, "Which guitar strings sound warm?") == []
    assert await ask(filled, model, "Does my neighbour own a parrot?") == []


async def test_the_gate_holds_without_vectors_too(store, model):
    await store.save("ada", [CAT, BIKE, SOUP])
    assert await ask(store, model, "Is my cat called Ophelia?") == [CAT]
    assert await ask(store, model, "Which guitar strings sound warm?") == []


async def test_a_neighbour_lends_its_words(store, model):
    await store.save("ada", [CAT, BIKE, SOUP, *TRIP])
    found = await ask(store, model, "When does the train leave?", gated=False, limit=3)
    # It holds one of the two words, and the one before it holds the other.
    assert found[0] == TRIP[1]


async def test_only_this_chat_when_others_are_not_allowed(filled, model):
    scope = Scope(chat_id="bikes", only_chat=True)
    found = await ask(filled, model, "my cat Ophelia", scope, gated=False)
    assert found == [BIKE]


async def test_what_the_model_sees_anyway_is_not_told(filled, model):
    shown = Scope(chat_id="cats", shown={question_key(CAT.question)})
    assert await ask(filled, model, "What is my cat called?", shown) == []


async def test_a_copy_of_a_chat_is_not_told_twice(filled, model):
    await filled.save("ada", [replace(CAT, chat_id="copy")])
    await model.index(filled)
    question = "What is my cat called?"
    assert len(await ask(filled, model, question)) == 1
    in_the_copy = Scope(chat_id="copy", shown={question_key(CAT.question)})
    assert await ask(filled, model, question, in_the_copy) == []


async def test_what_was_asked_before_in_another_chat_is_told(filled, model):
    here = Scope(chat_id="here", shown={question_key(SOUP.question)})
    assert SOUP in await ask(filled, model, SOUP.question, here)


async def test_an_empty_question_or_memory_finds_nothing(store, filled, model):
    assert await ask(filled, model, "  ?!  ") == []
    hits = await recall(store, model.question, "nobody", "cat", Scope(), gated=False)
    assert hits == []


def test_words_are_folded_and_unspaced_scripts_paired():
    assert words("Café au lait") == ["cafe", "au", "lait"]
    assert words("我喜欢猫 cats") == ["我喜", "喜欢", "欢猫", "cats"]
    assert words("snake_case(2)") == ["snake", "case", "2"]


def test_stop_words_are_asked_for_only_where_there_is_nothing_else():
    assert query_terms("What is the name of my cat?") == ["name", "cat"]
    assert query_terms("who is that") == ["who", "is", "that"]
