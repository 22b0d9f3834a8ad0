"""A scripted Orchestrator at work, seen from a tab without a browser."""

from __future__ import annotations

from tests.e2e.continue_with.presses import answering
from tests.e2e.continue_with.test_continue_with_api import opened
from tests.e2e.orchestrator.calls import chat, collect_all, go_on, results, work
from tests.e2e.orchestrator.upstream import Script


async def test_it_lists_the_models_that_the_user_may_use(tab, upstream):
    [listed, found] = await work(
        tab, upstream, [("list_models", {}), ("find_model", {"name": "lun"})]
    )
    by_id = {model["id"]: model for model in listed["models"]}
    assert {"luna", "sol", "mira", "slow", "deputy", "orchestrator"} <= set(by_id)
    assert not {"secret", "conductor"} & set(by_id)
    assert by_id["luna"]["context_size"] == 32_768
    assert by_id["orchestrator"]["you"] is True
    assert by_id["agents.demo"]["agent"] is True
    assert (found["match"], found["model"]["id"]) == ("prefix", "luna")


async def test_it_knows_tags_and_relations(tab, upstream):
    [artists, tags, graph] = await work(
        tab,
        upstream,
        [
            ("get_models_by_tag", {"tag": "artist"}),
            ("tag_taxonomy", {}),
            ("discover_relationships", {}),
        ],
    )
    assert [model["id"] for model in artists["models"]] == ["luna", "sol"]
    assert tags["capabilities"]["artist"] == 2
    assert ["luna", "works-with", "sol"] in graph["edges"]
    assert {"id": "mira", "name": "Mira", "capabilities": ["fact-checker"]} in (
        graph["nodes"]
    )


async def test_three_turns_with_a_model_picked_by_tag(tab, upstream):
    first = ("chat_with_model", {"tag": "artist", "message": "A cat, please."})
    upstream.scripts["draw"] = Script([[first], [go_on("Bigger.")], [go_on("Thanks.")]])
    turn = await tab.say("draw")
    told = results(await turn.answer())
    # Luna and Sol can draw; she can do nothing else.
    assert [each["model"] for each in told] == ["luna"] * 3
    assert [each["answer"] for each in told] == [
        "Luna says: A cat, please.",
        "Luna says: Bigger.",
        "Luna says: Thanks.",
    ]
    stored = await tab.chat(told[0]["chat_id"])
    assert stored["title"] == told[0]["title"] == "Luna: A cat, please."
    assert stored["meta"]["tags"] == ["orchestrated"]
    assert stored["meta"]["orchestrated"] == {
        "parent_chat_id": turn.chat_id,
        "parent_message_id": turn.answer_id,
    }
    history = stored["chat"]["history"]
    branch = [history["messages"][history["currentId"]]]
    while branch[0]["parentId"]:
        branch.insert(0, history["messages"][branch[0]["parentId"]])
    assert [each["role"] for each in branch] == ["user", "assistant"] * 3
    assert f"(/c/{turn.chat_id})" in branch[0]["content"]
    # The model has heard the whole conversation, and in which chat it is.
    heard = upstream.heard("luna")[-1]
    assert len([each for each in heard if each["role"] == "user"]) == 3
    assert "This chat is “Luna: A cat, please.”" in str(heard[0]["content"])
    sources = (await turn.stored())["sources"]
    assert sources[0]["source"]["url"].endswith(f"/c/{told[0]['chat_id']}")


async def test_three_models_at_once(tab, upstream):
    asked = [
        chat(text, model="slow", background=True) for text in ("one", "two", "three")
    ]
    upstream.scripts["all"] = Script([asked, [collect_all()]])
    turn = await tab.say("all")
    # None of them has been let go: they are all at work.
    await tab.until(lambda: said(tab, turn, "0 of 3 chats have an answer"))
    await tab.until(lambda: heard(upstream, 3))
    upstream.let_go.set()
    *begun, collected = results(await turn.answer())
    assert [each["status"] for each in begun] == ["running"] * 3
    assert [each["answer"] for each in collected["chats"]] == [
        f"One momentSlow says: {text}" for text in ("one", "two", "three")
    ]
    assert len(await tab.child_chats(turn.chat_id)) == 3


async def test_more_at_once_than_allowed_wait_for_a_place(tab, upstream, set_valves):
    set_valves(MAX_PARALLEL=2)
    asked = [
        chat(text, model="slow", background=True) for text in ("one", "two", "three")
    ]
    upstream.scripts["all"] = Script([asked, [collect_all()]])
    turn = await tab.say("all")
    await tab.until(lambda: said(tab, turn, "2 chats are running; Slow is next"))
    await tab.until(lambda: heard(upstream, 2))
    assert len(await tab.child_chats(turn.chat_id)) == 2
    upstream.let_go.set()
    *_, collected = results(await turn.answer())
    assert len([each["answer"] for each in collected["chats"]]) == 3


async def test_models_talk_in_turn(tab, upstream):
    models = ["luna", "Sol", "mira"]
    call = ("let_models_talk", {"models": models, "topic": "The moon.", "turns": 3})
    upstream.scripts["talk"] = Script([[call]])
    turn = await tab.say("talk")
    [told] = results(await turn.answer())
    assert [each["model"] for each in told["said"]] == ["luna", "sol", "mira", "luna"]
    assert told["ended"] == "Turn 3 of 3: the talk is over"
    [stored] = await tab.child_chats(turn.chat_id)
    assert stored["id"] == told["chat_id"]
    # Mira hears the words of the other two as the user's, by their names.
    heard = str(upstream.heard("mira")[-1])
    assert "Luna says" in heard
    assert "Sol says" in heard


async def test_agents_are_asked_like_models(tab, upstream):
    asked = chat("What can you do?", model="Demo agent")
    [told] = await work(tab, upstream, [asked])
    assert (told["model"], told["status"]) == ("agents.demo", "answered")
    messages = await tab.messages(told["chat_id"])
    assert told["answer"] in [each["content"] for each in messages.values()]


async def test_an_agent_asks_too(tab, upstream):
    words = 'use chat_with_model {"model": "luna", "message": "From an agent."}'
    turn = await tab.send("agents.demo", words, tool_ids=["model_orchestrator"])
    assert "Luna says: From an agent." in str((await turn.answer())["output"])
    [child] = await tab.child_chats(turn.chat_id)
    assert child["title"] == "Luna: From an agent."


async def test_long_answers_are_clipped(tab, upstream, set_valves):
    set_valves(MAX_CHARS=200)
    [told] = await work(tab, upstream, [chat("word " * 100)])
    assert len(told["answer"]) == 200
    assert told["clipped"].startswith("200 of ")
    assert told["link"] == f"/c/{told['chat_id']}"


async def test_a_broken_model_is_told_as_an_error(tab, upstream):
    [told] = await work(tab, upstream, [chat("hello", model="broken")])
    assert told["status"] == "failed"
    assert "out of memory" in told["error"]
    assert "hint" in told


async def test_a_busy_chat_is_not_written_to(tab, upstream):
    upstream.scripts["go"] = Script(
        [[chat("one", model="slow", background=True)], [go_on("two")]]
    )
    [_, refused] = results(await (await tab.say("go")).answer())
    assert "still being written" in refused["error"]
    upstream.let_go.set()


async def test_its_own_chats_can_be_found_and_read(tab, upstream):
    [told] = await work(tab, upstream, [chat("Rivers.", title="About rivers")])
    [found, read] = await work(
        tab,
        upstream,
        [
            ("find_chats", {"title": "about RIV"}),
            ("read_chat", {"chat_id": told["chat_id"], "last": 1}),
        ],
    )
    assert [each["chat_id"] for each in found["chats"]] == [told["chat_id"]]
    assert found["chats"][0]["orchestrated"] is True
    assert read["total"] == 2
    [message] = read["messages"]
    assert message == {
        "role": "assistant",
        "model": "luna",
        "text": "Luna says: Rivers.",
    }


async def said(tab, turn, status: str) -> bool:
    """Whether the answer had this status."""
    stored = await turn.stored()
    return any(
        each["description"] == status for each in stored.get("statusHistory") or []
    )


async def heard(upstream, count: int) -> bool:
    """Whether so many slow models are at work."""
    return len(upstream.heard("slow")) == count


async def test_its_chats_go_on_with_a_button(tab, upstream):
    [told] = await work(tab, upstream, [chat("A cat, please.")])
    old = await tab.messages(told["chat_id"])
    [answer_id] = (key for key, each in old.items() if each["role"] == "assistant")
    tab.fill = answering(model="mira", text="Is that a cat?")
    await tab.press_at("new_chat", told["chat_id"], answer_id, model="luna")
    new = await tab.settled(await tab.until(lambda: opened(tab)), 4)
    [first, _, _, last] = new.values()
    assert last["content"] == "Mira says: Is that a cat?"
    # What was a model's errand is a person's chat here.
    [asked] = (each for each in old.values() if each["role"] == "user")
    assert first["content"] == asked["content"]
    assert asked["meta"]
    assert not first["meta"]
