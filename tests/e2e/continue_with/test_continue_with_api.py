"""What the buttons do to a chat, seen from a tab without a browser."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from devkit.chat_socket import Turn
from devkit.webui import set_valves
from tests.e2e.continue_with.presses import (
    ACTION,
    Tab,
    answering,
    offered,
    open_tab,
)


async def asked(tab: Tab, model: str = "agents.demo") -> Turn:
    """A chat with one question and its answer."""
    turn = await tab.send(model, "What is 6 * 7?")
    assert "42" in (await turn.answer())["content"]
    return turn


def children(messages, message_id):
    return [m for m in messages.values() if m.get("parentId") == message_id]


def statuses(message):
    return [status["description"] for status in message.get("statusHistory") or []]


async def linked_chat(tab: Tab, turn: Turn) -> str:
    """The id of the chat to which the answer's new line leads."""

    async def look() -> str:
        content = (await tab.messages(turn.chat_id))[turn.answer_id]["content"]
        return content.partition("(/c/")[2].partition(")")[0]

    return await tab.until(look)


async def said(tab: Tab, turn: Turn, status: str) -> bool:
    """Whether an answer of the chat has this status."""
    messages = await tab.messages(turn.chat_id)
    return any(status in statuses(message) for message in messages.values())


async def opened(tab: Tab) -> str:
    """The id of the chat that the tab was sent to."""
    pages = [script for script in tab.scripts if "/c/" in script]
    return pages[-1].partition('"/c/')[2].partition('"')[0] if pages else ""


async def test_another_model_goes_on_after_the_answer(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third", text="What is 2 + 3?")
    await tab.press("continue", turn)
    messages = await tab.settled(turn.chat_id, 4)
    [said] = children(messages, turn.answer_id)
    assert said["content"] == "(The answer above is by Demo agent.)\n\nWhat is 2 + 3?"
    [answer] = children(messages, said["id"])
    assert answer["model"] == "agents.third"
    assert "5" in answer["content"]
    chat = await tab.chat(turn.chat_id)
    assert chat["chat"]["models"] == ["agents.demo"]
    assert chat["chat"]["history"]["currentId"] == answer["id"]


async def test_an_empty_text_sends_only_the_hand_over(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third", text="")
    await tab.press("continue", turn)
    messages = await tab.settled(turn.chat_id, 4)
    [said] = children(messages, turn.answer_id)
    assert said["content"] == "(The answer above is by Demo agent.)"


async def test_an_answer_with_tool_cards_can_be_continued(tab, place, expert):
    turn = await tab.send(
        "agents.demo", "use get_weather in Rome", tool_ids=["expert_weather"]
    )
    output = (await turn.answer())["output"]
    assert {"function_call", "function_call_output"} <= {i["type"] for i in output}
    place.demo.reset()
    tab.fill = answering(model="agents.third", text="What did I say first?")
    await tab.press("continue", turn)
    messages = await tab.settled(turn.chat_id, 4)
    assert messages[turn.answer_id]["output"] == output
    [request] = place.demo.requests()
    asked_first, *answered, last = request["body"]["messages"]
    assert asked_first["content"] == "use get_weather in Rome"
    assert {message["role"] for message in answered} <= {"assistant", "tool"}
    assert "sunny in Rome" in answered[-1]["content"]
    assert last["content"].endswith("What did I say first?")


async def test_a_second_opinion_stands_beside_the_first_and_never_saw_it(tab, place):
    turn = await asked(tab)
    place.demo.reset()
    tab.fill = answering(model="agents.third")
    await tab.press("opinion", turn)
    messages = await tab.settled(turn.chat_id, 3)
    question = messages[messages[turn.answer_id]["parentId"]]
    first, second = (messages[child] for child in question["childrenIds"])
    assert (first["model"], second["model"]) == ("agents.demo", "agents.third")
    assert question["models"] == ["agents.demo"]
    [request] = place.demo.requests()
    assert [m["content"] for m in request["body"]["messages"]] == ["What is 6 * 7?"]


async def test_comparing_puts_models_in_columns_of_their_own(tab):
    turn = await asked(tab)
    tab.fill = answering(model_1="agents.third", model_2="agents.leaky")
    await tab.press("compare", turn)
    messages = await tab.settled(turn.chat_id, 4)
    question = messages[messages[turn.answer_id]["parentId"]]
    assert question["models"] == ["agents.demo", "agents.third", "agents.leaky"]
    answers = [messages[child] for child in question["childrenIds"]]
    assert [answer.get("modelIdx") for answer in answers[1:]] == [1, 2]
    assert all("42" in answer["content"] for answer in answers)
    assert (await tab.chat(turn.chat_id))["chat"]["models"] == ["agents.demo"]


async def test_comparing_wants_two_different_models(tab):
    turn = await asked(tab)
    tab.fill = answering(model_1="agents.third", model_2="agents.third")
    await tab.press("compare", turn)
    assert "two different models" in await tab.notice()
    assert len(await tab.messages(turn.chat_id)) == 2


async def test_models_talk_in_turns_each_to_the_others_words(tab, place):
    turn = await asked(tab)
    place.demo.reset()
    tab.fill = answering(model="agents.third", turns=2, goal="Agree")
    await tab.press("talk", turn)
    messages = await tab.settled(turn.chat_id, 6)
    [line] = children(messages, turn.answer_id)
    assert "Third model answers Demo agent, turn 1 of 2" in line["content"]
    assert "Goal: Agree" in line["content"]
    assert line["content"].endswith("nothing more to say, write: [DONE]")
    [second] = children(messages, line["id"])
    [line] = children(messages, second["id"])
    [third] = children(messages, line["id"])
    assert (second["model"], third["model"]) == ("agents.third", "agents.demo")
    assert statuses(third)[-1] == "Turn 2 of 2: the talk is over"
    sent = [request["body"]["messages"] for request in place.demo.requests()]
    assert "You are Third model" in sent[0][0]["content"]
    assert "You are Demo agent" in sent[1][0]["content"]


def roles(messages):
    return [message["role"] for message in messages]


async def test_each_model_of_a_talk_hears_its_own_words_as_its_own(tab, place):
    turn = await asked(tab)
    place.demo.reset()
    tab.fill = answering(model="agents.third", turns=4)
    await tab.press("talk", turn)
    messages = await tab.settled(turn.chat_id, 10)
    said = [m["content"] for m in messages.values() if m["role"] == "assistant"]
    sent = [request["body"]["messages"] for request in place.demo.requests()]
    # Third, demo, third, demo: the words of the other come as the user's.
    assert [roles(each[1:]) for each in sent] == [
        ["user"],
        ["user", "assistant", "user"],
        ["user", "assistant", "user"],
        ["user", "assistant", "user", "assistant", "user"],
    ]
    heard = [[message["content"] for message in each[1:]] for each in sent]
    assert heard[0][0].startswith(f"What is 6 * 7?\n\nDemo agent:\n{said[0]}")
    assert heard[2][1] == said[1]
    assert heard[2][2].startswith(said[2])
    assert heard[3][1::2] == [said[0], said[2]]
    assert heard[3][2].startswith(said[1])
    assert heard[3][4].startswith(said[3])


async def test_without_the_companion_filter_the_last_words_are_the_users(tab, place):
    turn = await asked(tab)
    place.demo.reset()
    tab.fill = answering(model="agents.third", turns=2)
    place.set_active("talk_roles", False)
    try:
        await tab.press("talk", turn)
        await tab.settled(turn.chat_id, 6)
    finally:
        place.set_active("talk_roles", True)
    sent = [request["body"]["messages"] for request in place.demo.requests()]
    heard = [messages[-1] for messages in sent]
    assert [(m["role"], "42" in m["content"]) for m in heard] == [("user", True)] * 2


async def test_regenerating_a_turn_of_a_talk_tells_it_the_same(tab, place):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third", turns=2)
    await tab.press("talk", turn)
    messages = await tab.settled(turn.chat_id, 6)
    [line] = children(messages, turn.answer_id)
    before = place.demo.requests()[1]["body"]["messages"]
    again = await tab.send(
        "agents.third",
        "",
        after=turn,
        user_message=line,
        parent_id=line["parentId"],
    )
    await again.answer()
    assert place.demo.requests()[-1]["body"]["messages"][-1] == before[-1]


async def test_a_talk_ends_when_both_are_done(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third", turns=8, phrase="42")
    await tab.press("talk", turn)
    messages = await tab.settled(turn.chat_id, 6)
    assert len(messages) == 6
    last = (await tab.chat(turn.chat_id))["chat"]["history"]["currentId"]
    assert statuses(messages[last])[-1] == "Turn 2 of 8: both are done"


async def test_stop_ends_the_whole_talk(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.slow", turns=6)
    await tab.press("talk", turn)
    await tab.until(lambda: said(tab, turn, "Turn 1 of 6"))
    await tab.stop(turn.chat_id)
    messages = await tab.settled(turn.chat_id, 4, stopped=True)
    [line] = children(messages, turn.answer_id)
    [answer] = children(messages, line["id"])
    assert statuses(answer)[-1] == "Stopped at turn 1 of 6"
    assert not children(messages, answer["id"])


async def test_a_model_that_does_not_answer_ends_the_talk(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.gone", turns=6)
    await tab.press("talk", turn)
    messages = await tab.settled(turn.chat_id, 4)
    assert len(messages) == 4
    assert await said(tab, turn, "Ended at turn 1 of 6: no answer came")


@pytest.fixture
def one_second(place):
    """A limit that no slow model keeps."""
    with place.client() as admin:
        set_valves(admin, ACTION, MAX_SECONDS=1)
        yield
        set_valves(admin, ACTION, MAX_SECONDS=900)


async def test_a_talk_ends_when_its_time_is_over(tab, one_second):
    turn = await asked(tab)
    tab.fill = answering(model="agents.slow", turns=6)
    await tab.press("talk", turn)
    messages = await tab.settled(turn.chat_id, 4, stopped=True)
    assert len(messages) == 4
    assert await said(tab, turn, "Ended at turn 1 of 6: the time is over")


async def test_stop_in_the_middle_of_a_start_leaves_a_whole_tree(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.slow", turns=6)
    await tab.press("talk", turn)
    await tab.grown(turn.chat_id, 4)
    await tab.stop(turn.chat_id)
    messages = await tab.settled(turn.chat_id, 2, stopped=True)
    assert len(messages) in (2, 4)
    for message in messages.values():
        assert message["parentId"] is None or message["parentId"] in messages
        linked = [child["id"] for child in children(messages, message["id"])]
        assert sorted(message["childrenIds"]) == sorted(linked)
    assert "Stopped at turn 1 of 6" in str(messages)


async def test_somebody_who_types_ends_the_talk_at_once(tab):
    turn = await asked(tab)
    # The goal is told to the model, and this one lets the demo agent wait.
    tab.fill = answering(model="agents.third", turns=6, goal="/slow 600")
    await tab.press("talk", turn)
    await tab.until(lambda: said(tab, turn, "Turn 1 of 6"))
    typed = await tab.send("agents.demo", "What is 2 + 2?", after=turn)
    messages = await tab.settled(turn.chat_id, 6, stopped=True)
    assert len(messages) == 6
    assert "4" in messages[typed.answer_id]["content"]
    [line] = [m for m in children(messages, turn.answer_id) if "turn 1" in m["content"]]
    [answer] = children(messages, line["id"])
    assert statuses(answer)[-1] == "Ended at turn 1 of 6: the chat went on elsewhere"
    chat = await tab.chat(turn.chat_id)
    assert chat["chat"]["history"]["currentId"] == typed.answer_id


async def test_a_talk_ends_with_its_chat(tab, place, user):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third", turns=6, goal="/slow 600")
    await tab.press("talk", turn)
    await tab.until(lambda: said(tab, turn, "Turn 1 of 6"))
    with place.client(user) as client, place.client() as admin:
        client.delete(f"/api/v1/chats/{turn.chat_id}").raise_for_status()

        async def over() -> bool:
            tasks = admin.get("/api/tasks").raise_for_status().json()["tasks"]
            return not any(task.startswith("aqueduct-talk") for task in tasks)

        await tab.until(over)
    assert tab.notices.empty()


async def test_looking_at_another_branch_does_not_end_a_talk(tab, place, user):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third")
    await tab.press("opinion", turn)
    messages = await tab.settled(turn.chat_id, 3)
    [beside] = messages.keys() - {turn.answer_id, messages[turn.answer_id]["parentId"]}
    tab.fill = answering(model="agents.slow", turns=2)
    await tab.press("talk", turn)
    await tab.until(lambda: said(tab, turn, "Turn 1 of 2"))
    with place.client(user) as client:
        # What the arrows below an answer send.
        path = f"/api/v1/chats/{turn.chat_id}"
        chat = client.get(path).raise_for_status().json()["chat"]
        chat["history"]["currentId"] = beside
        client.post(path, json={"chat": chat}).raise_for_status()
    await tab.until(lambda: said(tab, turn, "Turn 2 of 2: the talk is over"))


async def test_a_new_chat_takes_the_branch_along_and_both_are_linked(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third", seed="as_is", text="Say hello")
    await tab.press("new_chat", turn)
    new_id = await linked_chat(tab, turn)
    messages = await tab.settled(new_id, 4)
    assert len(messages) == 4
    [said] = children(messages, turn.answer_id)
    assert f"](/c/{turn.chat_id})" in said["content"]
    assert said["content"].endswith("Say hello")
    assert (await tab.chat(new_id))["chat"]["models"] == ["agents.third"]
    assert (await tab.chat(turn.chat_id))["chat"]["models"] == ["agents.demo"]
    assert await tab.until(lambda: opened(tab)) == new_id


async def test_a_new_chat_may_start_from_a_summary(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third", seed="summary", text="Say hello")
    await tab.press("new_chat", turn)
    new_id = await linked_chat(tab, turn)
    messages = await tab.settled(new_id, 2)
    [said] = children(messages, None)
    parts = said["content"].split("\n\n")
    assert parts[0].endswith("in short:)")
    assert len(parts) > 2
    assert parts[-1] == "Say hello"
    assert len(messages) == 2


async def test_without_a_summary_there_is_no_new_chat(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.gone", seed="summary")
    await tab.press("new_chat", turn)
    assert "no new chat was made" in await tab.notice()
    messages = await tab.messages(turn.chat_id)
    assert len(messages) == 2
    assert "(/c/" not in messages[turn.answer_id]["content"]
    assert messages[turn.answer_id]["statusHistory"][-1]["hidden"]


async def test_a_temporary_chat_can_only_be_continued_in_a_new_one(tab):
    chat_id = f"local:{tab.sid}"
    said = [
        {"id": "one", "role": "user", "content": "What is 6 * 7?"},
        {"id": "two", "role": "assistant", "content": "42"},
    ]
    tab.fill = answering(model="agents.third")
    for button in ("continue", "opinion", "compare", "talk"):
        await tab.press_at(button, chat_id, "two", messages=said)
        assert "temporary chat is not stored" in await tab.notice()
    assert not tab.forms
    await tab.press_at("new_chat", chat_id, "two", messages=said)
    new_id = await tab.until(lambda: opened(tab))
    messages = await tab.settled(new_id, 4)
    assert messages["two"]["content"] == "42"


async def test_closing_the_form_sends_nothing(tab):
    turn = await asked(tab)
    await tab.press("continue", turn)
    assert await tab.notice() == "Cancelled: nothing was sent."
    assert len(await tab.messages(turn.chat_id)) == 2


async def test_notices_and_forms_are_in_the_language_of_the_tab(tab):
    tab.language = "de-DE"
    turn = await asked(tab)
    await tab.press("continue", turn)
    assert await tab.notice() == "Abgebrochen: Es wurde nichts gesendet."
    form = tab.forms[-1]
    assert form["server_name"] == "Mit einem anderen Modell fortsetzen"
    text = form["requestedSchema"]["properties"]["text"]
    assert text["default"] == "Bitte mach weiter."


async def test_without_a_live_tab_nothing_happens_but_a_notice(tab):
    turn = await asked(tab)
    await tab.press("continue", turn, session_id="gone")
    assert "no longer connected" in await tab.notice()
    assert len(await tab.messages(turn.chat_id)) == 2


async def test_a_user_is_neither_offered_nor_given_a_model_of_others(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.secret")
    await tab.press("continue", turn)
    assert await tab.notice() == "The model agents.secret is not available to you."
    assert "agents.secret" not in offered(tab.forms[-1])
    assert len(await tab.messages(turn.chat_id)) == 2


@pytest.fixture
def without_third(place, set_agents):
    """Takes a model away; it comes back after the test."""
    before = place.agents()

    def change(agents: str) -> None:
        set_agents(agents)
        with place.client() as admin:
            admin.get("/api/models").raise_for_status()

    yield lambda: change(before.replace("id: third", "id: fourth"))
    change(before)


async def test_a_model_that_goes_while_the_form_is_open(tab, without_third):
    turn = await asked(tab)

    async def fill(schema):
        without_third()
        return {"model": "agents.third"}

    tab.fill = fill
    await tab.press("continue", turn)
    assert await tab.notice() == "The model agents.third is not available to you."
    assert len(await tab.messages(turn.chat_id)) == 2


async def test_a_chat_that_is_deleted_while_the_form_is_open(tab, place, user):
    turn = await asked(tab)

    async def fill(schema):
        with place.client(user) as client:
            client.delete(f"/api/v1/chats/{turn.chat_id}").raise_for_status()
        return {"model": "agents.third"}

    tab.fill = fill
    await tab.press("continue", turn)
    assert await tab.notice() == "This chat no longer exists."


async def test_an_answer_that_is_still_being_written(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.third")
    running = await tab.send("agents.slow", "What can you do?", after=turn)
    await tab.press("continue", turn)
    assert "still being written" in await tab.notice()
    assert not tab.forms
    await running.stop()
    assert len(await tab.settled(turn.chat_id, 4, stopped=True)) == 4


async def test_two_tabs_and_a_double_click_make_one_turn(tab, place, user):
    turn = await asked(tab)
    chosen = asyncio.Event()

    async def fill(schema):
        await chosen.wait()
        return {"model": "agents.third", "text": ""}

    async with open_tab(place.url, user.token) as other:
        tab.fill = other.fill = fill
        for pressing in (tab, tab, other):
            await pressing.press("continue", turn)
        refused = [await tab.notice(), await tab.notice()]
        chosen.set()
        messages = await tab.settled(turn.chat_id, 4)
    assert len(messages) == 4
    assert all("This chat is busy" in notice for notice in refused)


async def test_the_last_choice_is_proposed_next_and_the_current_model_last(tab):
    turn = await asked(tab)
    tab.fill = answering(model="agents.leaky", text="")
    await tab.press("continue", turn)
    await tab.settled(turn.chat_id, 4)
    await tab.press("opinion", turn)
    await tab.settled(turn.chat_id, 5)
    order = offered(tab.forms[-1])
    assert order[0] == "agents.leaky"
    assert order[-1] == "agents.demo"


async def test_another_user_gets_nothing_of_this_chat(tab, place):
    turn = await asked(tab)
    async with open_tab(place.url, place.create_user("Another").token) as stranger:
        stranger.fill = answering(model="agents.third")
        with pytest.raises(Exception, match="404"):
            await stranger.press("continue", turn)
    async with open_tab(place.url, place.admin_token) as admin:
        admin.fill = answering(model="agents.third")
        await admin.press("continue", turn)
        assert "not write to it" in await admin.notice()
    assert len(await tab.messages(turn.chat_id)) == 2


async def test_an_admin_can_switch_a_button_off(tab, place):
    turn = await asked(tab)

    def buttons():
        with place.client() as admin:
            [model] = [
                model
                for model in admin.get("/api/models").json()["data"]
                if model["id"] == "agents.demo"
            ]
        ids = [action["id"].partition(".") for action in model["actions"]]
        return [button for action, _, button in ids if action == ACTION]

    with place.client() as admin:
        assert buttons() == ["continue", "opinion", "compare", "talk", "new_chat"]
        set_valves(admin, ACTION, BUTTONS=["continue", "compare"])
        try:
            assert buttons() == ["continue", "compare"]
            await tab.press("talk", turn)
            assert await tab.notice() == "This button is switched off."
        finally:
            set_valves(admin, ACTION, BUTTONS=buttons_by_default())
        assert len(buttons()) == 5


def buttons_by_default() -> list[str]:
    return ["continue", "opinion", "compare", "talk", "new_chat"]


PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


async def test_pictures_of_the_branch_reach_the_other_model(tab, place):
    question = {
        "id": str(uuid4()),
        "parentId": None,
        "role": "user",
        "content": "What is this?",
        "files": [{"type": "image", "url": PIXEL}],
        "models": ["agents.demo"],
    }
    turn = await tab.send("agents.demo", "", user_message=question)
    await turn.answer()
    place.demo.reset()
    tab.fill = answering(model="agents.third", text="")
    await tab.press("continue", turn)
    await tab.settled(turn.chat_id, 4)
    [request] = place.demo.requests()
    kinds = [part["type"] for part in request["body"]["messages"][0]["content"]]
    assert kinds == ["text", "image_url"]


@pytest.fixture
def paper(place, user) -> dict:
    """A document of the user, as a message names it."""
    text = b"The password of the tests is okapi-77."
    with place.client(user) as client:
        path = "/api/v1/files/?process_in_background=false"
        file = {"file": ("password.txt", text, "text/plain")}
        stored = client.post(path, files=file).raise_for_status().json()
    kept = {"id": stored["id"], "url": stored["id"], "name": "password.txt"}
    return {"type": "file", **kept}


@pytest.mark.parametrize(
    ("button", "answers", "count"),
    [
        ("opinion", {}, 3),
        ("continue", {"text": "Once more, please?"}, 4),
        ("talk", {"turns": 2}, 6),
        ("new_chat", {"seed": "as_is"}, 4),
    ],
)
async def test_documents_reach_the_other_model(
    tab, place, paper, button, answers, count
):
    question = {
        "id": str(uuid4()),
        "parentId": None,
        "role": "user",
        "content": "What is the password?",
        "files": [paper],
        "models": ["agents.demo"],
    }
    turn = await tab.send("agents.demo", "", user_message=question, files=[paper])
    await turn.answer()
    place.demo.reset()
    tab.fill = answering(model="agents.third", **answers)
    await tab.press(button, turn)
    is_new = button == "new_chat"
    chat_id = await linked_chat(tab, turn) if is_new else turn.chat_id
    await tab.settled(chat_id, count)
    assert "okapi-77" in str(place.demo.requests()[-1]["body"]["messages"])


async def test_an_answer_of_a_workspace_model_can_be_continued(tab, expert):
    turn = await asked(tab, "weather-expert")
    tab.fill = answering(model="agents.third", text="")
    await tab.press("continue", turn, model="weather-expert")
    messages = await tab.settled(turn.chat_id, 4)
    [line] = children(messages, turn.answer_id)
    assert line["content"] == f"(The answer above is by {expert}.)"


async def test_an_answer_of_an_arena_can_be_continued(tab, place, arena):
    turn = await asked(tab, arena)
    tab.fill = answering(model="agents.third", text="")
    await tab.press("continue", turn, model=arena)
    messages = await tab.settled(turn.chat_id, 4)
    [line] = children(messages, turn.answer_id)
    assert children(messages, line["id"])[0]["content"]
