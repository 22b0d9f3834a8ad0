from __future__ import annotations

import pytest

from shared.errors import AqueductError
from shared.host.new_chats import linked_history
from shared.orchestration.new_chat import chat_link, seeded
from shared.orchestration.tree import (
    answer_at,
    branch_to,
    column_models,
    newest_end,
    question_of,
    stored_text,
)

TREE = {
    "q": {"id": "q", "parentId": None, "role": "user", "childrenIds": ["a", "b"]},
    "a": {"id": "a", "parentId": "q", "role": "assistant", "model": "one"},
    "b": {"id": "b", "parentId": "q", "role": "assistant", "childrenIds": ["r"]},
    "r": {"id": "r", "parentId": "b", "role": "user", "childrenIds": []},
}


@pytest.mark.parametrize("message_id", ["q", "gone"])
def test_a_button_belongs_under_an_answer(message_id):
    with pytest.raises(AqueductError) as caught:
        answer_at(TREE, message_id)
    assert caught.value.code == "message_gone"


def test_an_answer_without_a_question_has_none():
    assert question_of(TREE, TREE["a"])["id"] == "q"
    with pytest.raises(AqueductError) as caught:
        question_of(TREE, {"id": "x", "parentId": None})
    assert caught.value.code == "no_question"


def test_a_branch_goes_from_the_first_message_and_survives_a_circle():
    assert [message["id"] for message in branch_to(TREE, "r")] == ["q", "b", "r"]
    circle = {"x": {"id": "x", "parentId": "y"}, "y": {"id": "y", "parentId": "x"}}
    assert len(branch_to(circle, "x")) == 2


def test_columns_are_the_models_asked_or_the_first_that_answered():
    assert column_models(TREE, {"models": ["x", "y"]}) == ["x", "y"]
    assert column_models(TREE, TREE["q"]) == ["one"]


def test_text_is_of_the_output_where_there_is_one():
    said = {"type": "message", "content": [{"type": "output_text", "text": "said"}]}
    thought = {"type": "reasoning", "content": [{"text": "thought"}]}
    assert stored_text({"content": "stale", "output": [thought, said]}) == "said"
    assert stored_text({"content": "plain", "output": []}) == "plain"
    assert stored_text({"content": [{"type": "text", "text": "part"}]}) == "part"


def test_a_seed_keeps_only_the_model_whose_answer_is_on_the_branch():
    branch = [
        {"id": "q", "role": "user", "models": ["one", "two"]},
        {"id": "b", "parentId": "q", "role": "assistant", "model": "two"},
    ]
    question, answer = seeded(branch)
    assert question["models"] == ["two"]
    assert (answer["modelIdx"], answer["done"]) == (0, True)
    history = linked_history([question, answer])
    assert history["currentId"] == "b"
    assert history["messages"]["q"]["childrenIds"] == ["b"]
    assert history["messages"]["b"]["parentId"] == "q"


def test_a_title_cannot_break_out_of_its_link():
    link = chat_link("a](http://evil) <b> `c`", "id")
    assert link == r"[a\](http://evil) \<b\> \`c\`](/c/id)"


def test_the_newest_end_is_of_what_is_not_known():
    messages = {
        "q": {"childrenIds": ["a"], "timestamp": 1},
        "a": {"childrenIds": ["typed", "turn"], "timestamp": 1},
        "typed": {"childrenIds": ["answer"], "timestamp": 2},
        "answer": {"childrenIds": [], "timestamp": 2},
        "turn": {"childrenIds": [], "timestamp": 3},
    }
    assert newest_end(messages, {"q", "a", "turn"}) == "answer"
    assert newest_end(messages, {"q", "a"}) == "turn"
    assert newest_end(messages, set(messages)) is None
