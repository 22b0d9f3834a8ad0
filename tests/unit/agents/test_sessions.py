"""Which earlier turns have moved an agent's session on."""

from shared.agents.sessions import answers_after, left_session, session_name
from shared.render.items import STATE_ITEM_TYPE


def answer(id_, parent, **data):
    state = {"type": STATE_ITEM_TYPE, "agent": "coder", "data": data}
    return {"id": id_, "parentId": parent, "role": "assistant", "output": [state]}


def question(id_, parent):
    return {"id": id_, "parentId": parent, "role": "user"}


def chat(*messages):
    return {message["id"]: message for message in messages}


TREE = chat(
    question("u1", None),
    answer("a1", "u1", thread_id="t"),
    question("u2", "a1"),
    answer("a2", "u2", thread_id="t"),
    question("u2-edited", "a1"),
    answer("a2-edited", "u2-edited", thread_id="t2"),
    question("u3", "a2"),
    answer("a3", "u3", thread_id="t"),
)


def test_answers_of_all_branches_after_a_message_are_found():
    assert [m["id"] for m in answers_after(TREE, "a1")] == ["a2", "a2-edited"]
    assert [m["id"] for m in answers_after(TREE, "a3")] == []


def test_the_session_of_another_agent_is_not_taken():
    assert left_session("coder", TREE["a1"]) == {"thread_id": "t"}
    assert left_session("scout", TREE["a1"]) is None
    assert left_session("coder", TREE["u1"]) is None
    assert left_session("coder", {}) is None


def test_the_last_session_of_an_answer_counts():
    message = answer("a", "u", thread_id="old")
    message["output"] += answer("a", "u", thread_id="new")["output"]
    assert left_session("coder", message) == {"thread_id": "new"}


def test_what_a_session_is_doing_is_no_part_of_its_name():
    waiting = {"context_id": "c", "task_id": "t"}
    assert session_name(waiting) == session_name({"context_id": "c", "task_id": ""})
    assert session_name(waiting) != session_name({"context_id": "d", "task_id": "t"})


def test_an_id_that_is_new_with_each_answer_is_a_name():
    assert session_name({"response_id": "r1"}) != session_name({"response_id": "r2"})
