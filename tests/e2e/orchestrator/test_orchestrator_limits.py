"""What an Orchestrator may not do: round in circles, on for ever, or at others' cost."""

from __future__ import annotations

import json

import pytest

from tests.e2e.orchestrator.calls import chat, collect_all, go_on, results, work
from tests.e2e.orchestrator.upstream import Call, Script


def go_to(chat_id: str, message: str) -> Call:
    return "chat_with_model", {"chat_id": chat_id, "message": message}


NESTED = {"model": "deputy", "message": "below"}


async def test_a_model_below_asks_a_model_below(tab, upstream):
    upstream.scripts["below"] = Script([[chat("deep down")]])
    [told] = await work(tab, upstream, [("chat_with_model", NESTED)])
    [deeper] = json.loads(told["answer"])
    assert deeper["answer"] == "Luna says: deep down"


async def test_at_the_bottom_nobody_asks_on(tab, upstream, set_valves):
    set_valves(MAX_DEPTH=1)
    upstream.scripts["below"] = Script([[chat("deep down")]])
    [told] = await work(tab, upstream, [("chat_with_model", NESTED)])
    [refused] = json.loads(told["answer"])
    assert "1 deep" in refused["error"]
    assert upstream.heard("luna") == []


async def test_who_talks_is_one_deeper_too(tab, upstream, set_valves):
    set_valves(MAX_DEPTH=1)
    upstream.scripts["(Deputy answers Luna, turn 1 of 1.)"] = Script(
        [[chat("deeper", model="mira")]]
    )
    talk = {"models": ["luna", "deputy"], "topic": "Depth.", "turns": 1}
    [told] = await work(tab, upstream, [("let_models_talk", talk)])
    [luna, deputy] = told["said"]
    assert luna["text"] == "Luna says: Depth."
    assert "1 deep" in deputy["text"]


async def test_a_chat_by_hand_is_at_the_top_again(tab, upstream, set_valves):
    set_valves(MAX_DEPTH=1)
    upstream.scripts["below"] = Script([[chat("deep down")]])
    turn = await tab.send("deputy", "below", tool_ids=["model_orchestrator"])
    [told] = results(await turn.answer())
    assert told["answer"] == "Luna says: deep down"


@pytest.mark.parametrize("model", ["orchestrator", "deputy"])
async def test_models_do_not_ask_those_who_wait_for_them(tab, upstream, model):
    upstream.scripts["below"] = Script([[chat("up again", model=model)]])
    [told] = await work(tab, upstream, [("chat_with_model", NESTED)])
    [refused] = json.loads(told["answer"])
    assert "may not ask itself" in refused["error"]


async def test_nobody_waits_for_who_waits_for_them(tab, upstream):
    upstream.scripts["above"] = Script([[chat("below", model="deputy")]])
    turn = await tab.say("above")
    upstream.scripts["below"] = Script(
        [
            [
                ("collect", {"chat_ids": [turn.chat_id]}),
                go_to(turn.chat_id, "And what do you say?"),
            ]
        ]
    )
    [told] = results(await turn.answer())
    errors = {each["error"] for each in json.loads(told["answer"])}
    assert errors == {"In this chat somebody is waiting for your answer."}


async def test_chats_and_turns_are_limited_across_depths(tab, upstream, set_valves):
    set_valves(MAX_CHATS=2, MAX_TURNS=4)
    upstream.scripts["below"] = Script([[chat("one"), chat("two")]])
    upstream.scripts["go"] = Script(
        [[("chat_with_model", NESTED)], [go_on("three")], [go_on("four")], [go_on("5")]]
    )
    told = results(await (await tab.say("go")).answer())
    [one, two] = json.loads(told[0]["answer"])
    assert "answer" in one
    assert "2 chats are the limit" in two["error"]
    assert "answer" in told[2]
    assert "4 turns are the limit" in told[3]["error"]


async def test_a_copy_of_a_chat_counts_for_nothing(
    stage, user, tab, upstream, set_valves
):
    set_valves(MAX_CHATS=2)

    def after_copying(done):
        with stage.client(user) as client:
            path = f"/api/v1/chats/{done[0]['chat_id']}/clone"
            client.post(path, json={"title": "A copy"}).raise_for_status()
        return {"model": "luna", "message": "two"}

    second = ("chat_with_model", after_copying)
    told = await work(tab, upstream, [chat("one")], [second], [chat("three")])
    assert told[1]["answer"] == "Luna says: two"
    assert "2 chats are the limit" in told[2]["error"]


async def test_too_many_chats_to_collect_are_refused(tab, upstream, set_valves):
    set_valves(MAX_CHATS=2)
    [told] = await work(tab, upstream, [("collect", {"chat_ids": ["a", "b", "c"]})])
    assert "At most 2 chats" in told["error"]


async def test_tokens_are_limited(tab, upstream, set_valves):
    set_valves(MAX_TOKENS=50)
    told = await work(tab, upstream, [chat("one")], [chat("two")], [chat("three")])
    # Thirty each, as the models report.
    assert ["error" in each for each in told] == [False, False, True]
    assert "50 tokens" in told[2]["error"]


async def test_a_talk_ends_when_the_tokens_are_used_up(tab, upstream, set_valves):
    set_valves(MAX_TOKENS=50)
    talk = {"models": ["luna", "sol"], "topic": "Hills.", "turns": 6}
    [told] = await work(tab, upstream, [("let_models_talk", talk)])
    # Thirty each, and the first one opens.
    assert [each["model"] for each in told["said"]] == ["luna", "sol"]
    assert told["ended"] == "Ended at turn 1 of 6: the tokens for it are used up"


async def test_time_is_limited(tab, upstream, set_valves):
    set_valves(MAX_SECONDS=4)
    [told, refused] = await work(
        tab, upstream, [chat("hello", model="slow")], [chat("x")]
    )
    assert told["status"] == "stopped"
    assert "time for this request is over" in told["error"]
    assert "time for this request is over" in refused["error"]
    assert await tab.tasks(told["chat_id"]) == []


async def test_a_temporary_chat_asks_nobody_and_reads_no_chat(tab, upstream):
    [told] = await work(tab, upstream, [chat("mine", title="Private hills")])
    calls = [
        chat("hello", model="mira"),
        ("find_chats", {"title": "Private hills"}),
        ("read_chat", {"chat_id": told["chat_id"]}),
    ]
    upstream.scripts["aside"] = Script([calls])
    upstream.requests.clear()
    said = [{"role": "user", "content": "aside"}]
    await tab.say("aside", chat_id=f"temporary:{tab.sid}", messages=said)

    async def refusals() -> list[str]:
        heard = [each for messages in upstream.heard("conductor") for each in messages]
        return [str(each["content"]) for each in heard if each["role"] == "tool"]

    told = await tab.until(refusals)
    assert len(told) == 3
    assert all("only in a stored chat" in each for each in told)
    assert upstream.heard("mira") == []


@pytest.mark.parametrize("name", ["secret", "nobody-at-all"])
async def test_models_of_others_are_as_if_they_did_not_exist(tab, upstream, name):
    told = await work(
        tab,
        upstream,
        [
            chat("hello", model=name),
            ("find_model", {"name": name}),
            ("get_models_by_tag", {"tag": name}),
            ("add_capability_tag", {"model": name, "capability": "spy"}),
        ],
    )
    gone = f"There is no model '{name}'."
    assert told[0]["error"] == told[3]["error"] == gone
    assert told[1]["match"] == "none"
    assert told[2]["total"] == 0
    assert tab.asked == []


async def test_chats_of_others_are_as_if_they_did_not_exist(tab, other_tab, upstream):
    [own] = await work(other_tab, upstream, [chat("mine", title="Private rivers")])
    for chat_id in (own["chat_id"], "00000000-0000-0000-0000-000000000000"):
        told = await work(
            tab,
            upstream,
            [
                ("read_chat", {"chat_id": chat_id}),
                ("chat_with_model", {"chat_id": chat_id, "message": "let me in"}),
                ("collect", {"chat_ids": [chat_id]}),
                ("find_chats", {"title": "Private rivers"}),
            ],
        )
        gone = "There is no such chat."
        assert [told[0]["error"], told[1]["error"]] == [gone, gone]
        assert told[2]["chats"][0]["error"] == gone
        assert told[3]["chats"] == []
    messages = await other_tab.messages(own["chat_id"])
    assert len(messages) == 2


async def test_models_that_ask_at_once_stay_within_the_limit(tab, upstream, set_valves):
    set_valves(MAX_TURNS=10, MAX_CHATS=30)
    upstream.scripts["below"] = Script([[chat(f"{number}") for number in range(6)]])
    deputies = [("chat_with_model", {**NESTED, "background": True})] * 4
    told = await work(tab, upstream, deputies, [collect_all()])
    answers = [json.loads(each["answer"]) for each in told[4]["chats"]]
    errors = [each.get("error", "") for answer in answers for each in answer]
    assert len(errors) == 24
    # Four turns are the deputies' own.
    assert errors.count("") == len(upstream.heard("luna")) == 6
    refused = {error for error in errors if error}
    assert refused == {"For this request 10 turns are the limit."}
