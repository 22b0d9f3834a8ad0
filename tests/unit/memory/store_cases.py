"""What every store has to do; each backend's tests run all of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from shared.memory.recall import Scope, recall
from tests.unit.memory.conftest import BagOfWords
from tests.unit.memory.exchanges import BIKE, CAT, SOUP, said


def texts(found):
    return [one.exchange.question for one in found]


async def find(store, model, user, question, scope=None, **more):
    hits = await recall(
        store, model.question, user, question, scope or Scope(), gated=False, **more
    )
    return [hit.stored.exchange for hit in hits]


class StoreCases:
    """Fixtures `store` and `model` are the backend's."""

    async def test_what_is_saved_comes_back_as_it_was(self, store):
        assert await store.save("ada", [CAT, BIKE]) == 2
        found = await store.listing("ada")
        assert [one.exchange for one in found] == [CAT, BIKE]
        assert await store.fetch("ada", [one.id for one in found]) == found
        assert await store.count("ada") == 2

    async def test_saving_twice_changes_nothing(self, store):
        await store.save("ada", [CAT])
        assert await store.save("ada", [CAT]) == 0
        assert await store.count("ada") == 1

    async def test_a_regenerated_answer_replaces_the_old_one(self, store, model):
        await store.save("ada", [CAT])
        await model.index(store)
        again = replace(CAT, answer_id="a2", answer="Shakespeare would be pleased.")
        assert await store.save("ada", [again]) == 1
        assert [one.exchange for one in await store.listing("ada")] == [again]
        assert await find(store, model, "ada", "Shakespeare") == [again]
        assert not (await query(store, "fine")).matches[0].anywhere.size

    async def test_an_answer_that_reads_the_same_takes_over_too(self, store):
        await store.save("ada", [CAT])
        again = replace(CAT, answer_id="a2")
        assert await store.save("ada", [again]) == 1
        assert [one.exchange for one in await store.listing("ada")] == [again]

    async def test_a_skipped_question_is_not_taken_in(self, store):
        await store.skip("ada", [CAT.question_id])
        await store.skip("ada", [CAT.question_id])
        assert await store.save("ada", [CAT, BIKE]) == 1
        assert [one.exchange for one in await store.listing("ada")] == [BIKE]
        assert await store.save("bob", [CAT]) == 1

    async def test_words_and_vectors_find_the_right_one(self, store, model):
        await store.save("ada", [CAT, BIKE, SOUP])
        await model.index(store)
        found = await find(store, model, "ada", "What is my cat called?", limit=1)
        assert found == [CAT]

    async def test_words_alone_find_it_while_there_is_no_vector(self, store, model):
        await store.save("ada", [CAT, BIKE, SOUP])
        found = await find(store, model, "ada", "bicycles with flat tyres", limit=1)
        assert found == [BIKE]

    async def test_no_call_crosses_from_one_user_to_another(self, store, model):
        await store.save("ada", [CAT])
        await store.save("bob", [replace(BIKE, question="My cat is called Hamlet.")])
        await model.index(store)
        [own] = await store.listing("ada")
        assert await find(store, model, "bob", "cat Ophelia", limit=9) != [CAT]
        assert await store.fetch("bob", [own.id]) == []
        assert await store.forget("bob", [own.id]) == 0
        assert await store.listing("bob", "cats") == []
        for user in ("bob", "eve"):
            found = await store.candidates(user, ["ophelia"])
            assert own.id not in found.ids
            assert not found.matches[0].anywhere.size
        assert await store.count("ada") == 1

    async def test_the_same_chat_of_two_users_stays_two(self, store):
        await store.save("ada", [CAT])
        await store.save("bob", [replace(CAT, answer="No, Hamlet.")])
        assert [one.exchange for one in await store.listing("ada")] == [CAT]
        assert await store.forget_user("bob") == 1
        assert await store.count("ada") == 1

    async def test_what_is_forgotten_is_gone_and_stays_gone(self, store, model):
        await store.save("ada", [CAT, BIKE])
        await model.index(store)
        cat, _ = await store.listing("ada")
        assert await store.forget("ada", [cat.id]) == 1
        assert CAT not in await find(store, model, "ada", "cat Ophelia")
        assert not (await query(store, "ophelia")).matches[0].anywhere.size
        assert await store.save("ada", [CAT]) == 0

    async def test_copies_of_what_is_forgotten_go_with_it_and_stay_gone(
        self, store, model
    ):
        """A chat that is cloned, forked or imported keeps the ids of its messages."""
        copy = replace(CAT, chat_id="copy of cats")
        await store.save("ada", [CAT, BIKE, copy])
        await store.save("bob", [CAT])
        cat = (await store.listing("ada", "cats"))[0]
        assert await store.forget("ada", [cat.id]) == 2
        assert texts(await store.listing("ada")) == [BIKE.question]
        later = replace(CAT, chat_id="a later copy")
        assert await store.save("ada", [copy, later]) == 0
        assert await store.count("bob") == 1

    async def test_what_is_to_stay_out_outlives_its_chat(self, store):
        await store.save("ada", [BIKE])
        await store.skip("ada", [CAT.question_id])
        await store.forget_chats(["cats"])
        assert await store.forget_all("ada") == 1
        imported = replace(CAT, chat_id="imported")
        assert await store.save("ada", [imported, BIKE]) == 1
        await store.forget_user("ada")
        assert await store.save("ada", [imported]) == 1

    async def test_a_branch_that_was_left_is_dropped_but_may_come_back(self, store):
        other = said("And a dog.", chat="cats", number=1)
        await store.save("ada", [CAT, other, BIKE])
        await store.save("bob", [CAT])
        assert await store.keep_only("ada", "cats", [other.question_id]) == 1
        assert texts(await store.listing("ada")) == [other.question, BIKE.question]
        assert await store.count("bob") == 1
        assert await store.save("ada", [CAT]) == 1

    async def test_a_deleted_chat_takes_all_of_it_along(self, store):
        await store.save("ada", [CAT, said("And a dog.", chat="cats", number=1), BIKE])
        await store.exclude("ada", "cats", True)
        assert await store.forget_chats(["cats", "nowhere"]) == 2
        assert texts(await store.listing("ada")) == [BIKE.question]
        assert not await store.is_excluded("ada", "cats")

    async def test_either_message_takes_its_exchange_along(self, store):
        await store.save("ada", [CAT, BIKE])
        assert await store.forget_message("cats", CAT.answer_id) == 1
        assert await store.forget_message("cats", BIKE.question_id) == 0
        assert await store.forget_message("bikes", BIKE.question_id) == 1
        assert await store.count("ada") == 0

    async def test_a_user_who_comes_back_starts_empty(self, store):
        await store.save("ada", [CAT])
        assert await store.forget_user("ada") == 1
        assert (await store.candidates("ada", ["cat"])).ids.size == 0
        assert await store.save("ada", [CAT]) == 1

    async def test_another_model_makes_all_vectors_anew(self, store, model):
        await store.save("ada", [CAT, BIKE])
        assert await model.index(store) == 2
        other = BagOfWords("another", 32)
        assert np.isnan(await cosines(store, other, "cat")).all()
        assert await other.index(store) == 2
        assert not np.isnan(await cosines(store, other, "cat")).any()
        assert await other.index(store) == 0

    async def test_cosines_are_the_mean_of_questions_and_wholes(self, store, model):
        await store.save("ada", [CAT])
        await model.index(store)
        [found] = await cosines(store, model, "Ophelia")
        question = f"8 May 2023\nAda: {CAT.question}"
        made = await model.encode([question, f"{question}\n{CAT.answer}"])
        _, vector = await model.question("Ophelia")
        both = [np.dot(vector, one) / np.linalg.norm(one) for one in made]
        assert abs(found - np.mean(both)) < 0.01

    async def test_an_exchange_that_changed_meanwhile_stays_pending(self, store, model):
        await store.save("ada", [CAT])
        [(user, seen)] = await store.pending(model.embedder, 5)
        await store.save("ada", [replace(CAT, answer="Changed.")])
        vector = np.ones(model.embedder.dimension, np.float32)
        late = [(user, seen.id, seen.exchange.digest, vector)]
        assert await store.set_vectors(model.embedder, late) == 0
        assert len(await store.pending(model.embedder, 5)) == 1

    async def test_the_newest_is_embedded_first(self, store, model):
        await store.save("ada", [said("old", number=1), said("new", number=9)])
        await store.save("bob", [said("middle", number=5)])
        waiting = await store.pending(model.embedder, 2)
        assert [one.exchange.question for _, one in waiting] == ["new", "middle"]
        assert [user for user, _ in waiting] == ["ada", "bob"]

    async def test_chats_are_left_out_and_taken_in_again(self, store):
        await store.exclude("ada", "cats", True)
        await store.exclude("ada", "cats", True)
        assert await store.is_excluded("ada", "cats")
        assert not await store.is_excluded("bob", "cats")
        await store.exclude("ada", "cats", False)
        assert not await store.is_excluded("ada", "cats")

    async def test_lists_go_on_where_they_ended(self, store):
        await store.save("ada", [said(f"Number {n}", number=n) for n in range(5)])
        first = await store.listing("ada", limit=3)
        rest = await store.listing("ada", limit=3, after=first[-1].id)
        assert texts(first + rest) == [f"Number {n}" for n in range(5)]
        await store.save("bob", [CAT, BIKE])
        assert await store.chat_ids(limit=2) == ["bikes", "cats"]
        assert await store.chat_ids(after="cats") == ["chat"]

    async def test_states_are_kept(self, store):
        assert await store.state("backfill") is None
        await store.set_state("backfill", {"done": 1})
        await store.set_state("backfill", {"done": 2})
        assert await store.state("backfill") == {"done": 2}

    async def test_of_many_at_once_one_gets_the_lease(self, store):
        names = "abcdefgh"
        taken = await asyncio.gather(
            *(store.take_lease("backfill", name, 60) for name in names)
        )
        assert sum(taken) == 1
        holder = names[taken.index(True)]
        other = names[taken.index(False)]
        assert await store.take_lease("backfill", holder, 60)
        assert not await store.take_lease("backfill", other, 60)
        assert await store.take_lease("another", other, 60)
        # Given back; a lease that runs out is no different.
        assert await store.take_lease("backfill", holder, 0)
        assert await store.take_lease("backfill", other, 60)
        assert not await store.take_lease("backfill", holder, 60)

    async def test_languages_without_spaces_are_found(self, store, model):
        cat = said("我的猫叫小白，它害怕吸尘器。", "好名字。", chat="zh", number=1)
        rain = said("明天会下雨吗？", "会。", chat="zh", number=2)
        await store.save("ada", [cat, rain])
        found = await store.candidates("ada", ["吸尘"])
        assert len(found.matches[0].in_question) == 1
        assert await find(store, model, "ada", "吸尘器", limit=1) == [cat]


async def cosines(store, model, question):
    found = await store.candidates("ada", [question.lower()])
    return await found.compare(*await model.question(question))


async def query(store, *terms):
    return await store.candidates("ada", terms)
