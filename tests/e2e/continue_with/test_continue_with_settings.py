"""What admins and users set for the buttons, and models that are not the server's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devkit.webui import set_valves
from tests.e2e.continue_with.presses import ACTION, answering, offered
from tests.e2e.continue_with.test_continue_with_api import asked, children


@pytest.fixture
def user_valves(place, user) -> Iterator:
    """Sets the user's valves for one test."""
    path = f"/api/v1/functions/id/{ACTION}/valves/user/update"

    def change(**valves) -> None:
        with place.client(user) as client:
            client.post(path, json=valves).raise_for_status()

    yield change
    change(**dict.fromkeys(("CONTINUE_MODEL", "COMPARE_MODELS"), ""))
    change(ASK_TEXT=True, TALK_TURNS=4)


async def test_a_user_sets_the_proposed_model_for_each_button(tab, user_valves):
    turn = await asked(tab)
    user_valves(CONTINUE_MODEL="Slow model", COMPARE_MODELS="agents.leaky, agents.slow")
    await tab.press("continue", turn)
    await tab.notice()
    await tab.press("compare", turn)
    await tab.notice()
    one, several = (form["requestedSchema"]["properties"] for form in tab.forms)
    assert one["model"]["default"] == "agents.slow"
    assert several["model_1"]["default"] == "agents.leaky"
    assert several["model_2"]["default"] == "agents.slow"


async def test_a_user_sets_the_proposed_turns(tab, user_valves):
    turn = await asked(tab)
    user_valves(TALK_TURNS=7)
    await tab.press("talk", turn)
    await tab.notice()
    turns = tab.forms[-1]["requestedSchema"]["properties"]["turns"]
    assert (turns["default"], turns["maximum"]) == (7, 10)


async def test_who_does_not_want_to_be_asked_for_words_is_not(tab, user_valves):
    turn = await asked(tab)
    user_valves(ASK_TEXT=False)
    tab.fill = answering(model="agents.third")
    await tab.press("continue", turn)
    messages = await tab.settled(turn.chat_id, 4)
    assert "text" not in tab.forms[-1]["requestedSchema"]["properties"]
    [said] = children(messages, turn.answer_id)
    assert said["content"].endswith("Please continue.")


@pytest.fixture
def valves(place) -> Iterator:
    """Sets the admin's valves for one test."""
    with place.client() as admin:
        yield lambda **changed: set_valves(admin, ACTION, **changed)
        set_valves(admin, ACTION, SHOW_FIRST_ANSWER=False, MODELS="", HANDOVER_LINE="")


async def test_a_second_opinion_may_be_shown_the_first_answer(tab, place, valves):
    turn = await asked(tab)
    place.demo.reset()
    valves(SHOW_FIRST_ANSWER=True)
    tab.fill = answering(model="agents.third")
    await tab.press("opinion", turn)
    messages = await tab.settled(turn.chat_id, 3)
    [request] = place.demo.requests()
    sent = request["body"]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"] == messages[turn.answer_id]["content"]
    assert sent[2]["content"].startswith("The answer above is by another model.")


async def test_an_admin_chooses_models_and_words(tab, valves):
    turn = await asked(tab)
    valves(MODELS="agents.third, tag:none", HANDOVER_LINE="{next} goes on:")
    tab.fill = answering(text="")
    await tab.press("continue", turn)
    messages = await tab.settled(turn.chat_id, 4)
    assert offered(tab.forms[-1]) == ["agents.third"]
    [said] = children(messages, turn.answer_id)
    assert said["content"] == "Third model goes on:"


# A model that only the user's browser can reach, as the page names it.
DIRECT = {"id": "mine", "name": "My own model", "direct": True}


async def test_an_answer_of_the_browsers_own_model_can_be_continued(tab, place, user):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third", text="")
    await tab.press("continue", turn, model="mine", model_item=DIRECT)
    assert len(await tab.settled(turn.chat_id, 4)) == 4
    assert "mine" not in offered(tab.forms[-1])


def answered_by(place, user, turn, model: str) -> None:
    """Change whose answer it is, as if another model had given it."""
    path = f"/api/v1/chats/{turn.chat_id}"
    with place.client(user) as client:
        chat = client.get(path).raise_for_status().json()["chat"]
        chat["history"]["messages"][turn.answer_id]["model"] = model
        client.post(path, json={"chat": chat}).raise_for_status()


async def test_the_browsers_own_model_cannot_talk(tab, place, user):
    turn = await asked(tab)
    answered_by(place, user, turn, "mine")
    await tab.press("talk", turn, model="mine", model_item=DIRECT)
    assert (await tab.notice()).startswith("My own model comes over a connection of")
    assert not tab.forms
    assert len(await tab.messages(turn.chat_id)) == 2


async def test_a_model_that_went_cannot_talk(tab, place, user):
    turn = await asked(tab)
    answered_by(place, user, turn, "agents.former")
    await tab.press("talk", turn)
    assert await tab.notice() == "The model agents.former is not available to you."
    assert not tab.forms
    assert len(await tab.messages(turn.chat_id)) == 2
