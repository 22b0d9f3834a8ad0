"""Which earlier turns have moved an agent's session on."""

import json
from dataclasses import replace

import pytest

from shared.agents.sessions import (
    SessionPlace,
    answers_after,
    left_session,
    parent_session,
    session_name,
)
from shared.events import SessionState
from shared.render.items import ChatRenderer

CODER = SessionPlace("user", "chat", "coder", "letta")


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setattr("shared.agents.sessions.server_secret", lambda: b"secret")


def kept(place, data):
    """The item as it comes out of a chat again."""
    renderer = ChatRenderer(place.agent_id, lambda code, _: code)
    [event] = renderer.render(place.sealed(SessionState(data)))
    return json.loads(json.dumps(event["item"]))


def answer(id_, parent, **data):
    state = kept(CODER, data)
    return {"id": id_, "parentId": parent, "role": "assistant", "output": [state]}


def question(id_, parent):
    return {"id": id_, "parentId": parent, "role": "user"}


def chat(*messages):
    return {message["id"]: message for message in messages}


@pytest.fixture
def tree(secret):
    return chat(
        question("u1", None),
        answer("a1", "u1", thread_id="t"),
        question("u2", "a1"),
        answer("a2", "u2", thread_id="t"),
        question("u2-edited", "a1"),
        answer("a2-edited", "u2-edited", thread_id="t2"),
        question("u3", "a2"),
        answer("a3", "u3", thread_id="t"),
    )


def test_answers_of_all_branches_after_a_message_are_found(tree):
    assert [m["id"] for m in answers_after(tree, "a1")] == ["a2", "a2-edited"]
    assert [m["id"] for m in answers_after(tree, "a3")] == []


def test_the_session_of_another_agent_is_not_taken(tree):
    assert left_session(CODER, tree["a1"]) == {"thread_id": "t"}
    assert left_session(replace(CODER, agent_id="scout"), tree["a1"]) is None
    assert left_session(CODER, tree["u1"]) is None
    assert left_session(CODER, {}) is None


def test_the_last_session_of_an_answer_counts():
    message = answer("a", "u", thread_id="old")
    message["output"] += answer("a", "u", thread_id="new")["output"]
    assert left_session(CODER, message) == {"thread_id": "new"}


def test_what_a_session_is_doing_is_no_part_of_its_name():
    waiting = {"context_id": "c", "task_id": "t"}
    assert session_name(waiting) == session_name({"context_id": "c", "task_id": ""})
    assert session_name(waiting) != session_name({"context_id": "d", "task_id": "t"})


def test_an_id_that_is_new_with_each_answer_is_a_name():
    assert session_name({"response_id": "r1"}) != session_name({"response_id": "r2"})


@pytest.mark.parametrize("other", ["user_id", "chat_id", "agent_id", "backend"])
def test_a_session_kept_elsewhere_is_none_here(other):
    elsewhere = replace(CODER, **{other: "another"})
    item = {**kept(elsewhere, {"thread_id": "t"}), "agent": "coder"}
    assert left_session(CODER, {"output": [item]}) is None


def test_what_a_user_wrote_into_the_chat_is_no_session():
    item = kept(CODER, {"thread_id": "t"})
    forged = {**item, "data": {"thread_id": "../admin"}}
    unsealed = {key: value for key, value in item.items() if key != "seal"}
    for written in (
        forged,
        unsealed,
        {**item, "seal": 7},
        {**item, "seal": "\ud800"},
        {**item, "data": None},
    ):
        assert left_session(CODER, {"output": [written]}) is None
    assert left_session(CODER, {"output": [item]}) == {"thread_id": "t"}


def test_a_seal_stays_right_when_a_page_has_saved_the_chat():
    item = kept(CODER, {"state": {"b": 1.0, "a": [2**60, "\ud800"]}})
    item["data"] = {"state": {"a": [float(2**60), "\ud800"], "b": 1}}
    assert left_session(CODER, {"output": [item]}) == item["data"]


async def test_a_turn_goes_on_only_in_its_own_place(tree, monkeypatch):
    async def messages(chat_id):
        return tree

    monkeypatch.setattr("shared.agents.sessions.messages_by_id", messages)
    metadata = {"user_message": {"parentId": "a3"}}
    assert await parent_session(CODER, metadata) == ({"thread_id": "t"}, False)
    copied = replace(CODER, user_id="reader", chat_id="copy")
    assert await parent_session(copied, metadata) == (None, False)
