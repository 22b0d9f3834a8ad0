"""A talk in the roles that its messages have for each of its models."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.orchestration.talk_view import TALK_KEY, as_heard

NAMES = {"first": "First", "second": "Second"}


def question(text: str, speaker: str = "") -> dict:
    talk = {TALK_KEY: {"speaker": speaker, "names": NAMES}} if speaker else {}
    return {"role": "user", "content": text, **talk}


def answer(model: str, text: str) -> dict:
    return {"role": "assistant", "model": model, "content": text}


def sent(branch: list[dict]) -> list[dict]:
    """The messages of a request as Open WebUI makes them: without their authors."""
    return [{"role": each["role"], "content": each["content"]} for each in branch]


TALK = [
    question("Tea or coffee?"),
    answer("first", "Tea."),
    question("(Second answers First, 1)", "second"),
    answer("second", "Coffee!"),
    question("(First answers Second, 2)", "first"),
    answer("first", "Why?"),
    question("(Second answers First, 3)", "second"),
    answer("second", "It wakes."),
    question("(First answers Second, 4)", "first"),
]


def heard(listener: str, branch: list[dict], messages: list[dict] | None = None):
    spoken = as_heard(listener, NAMES, messages or sent(branch), branch)
    return [(each["role"], each["content"]) for each in spoken]


def test_the_one_who_was_asked_first_hears_the_other_as_its_user():
    assert heard("first", TALK) == [
        ("user", "Tea or coffee?"),
        ("assistant", "Tea."),
        ("user", "Coffee!\n\n(First answers Second, 2)"),
        ("assistant", "Why?"),
        ("user", "It wakes.\n\n(First answers Second, 4)"),
    ]


def test_the_one_who_joined_hears_the_question_and_the_first_answer_in_one():
    assert heard("second", TALK[:7]) == [
        ("user", "Tea or coffee?\n\nFirst:\nTea.\n\n(Second answers First, 1)"),
        ("assistant", "Coffee!"),
        ("user", "Why?\n\n(Second answers First, 3)"),
    ]


def test_a_third_model_hears_both_as_others():
    [(role, content)] = heard("third", TALK[:5])
    assert role == "user"
    assert content == (
        "Tea or coffee?\n\nFirst:\nTea.\n\nSecond:\nCoffee!\n\n(First answers Second, 2)"
    )


def test_own_tool_calls_stay_and_those_of_others_are_left_out():
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "{}"}
    asked, tea, line = sent(TALK[:3])
    messages = [{"role": "system", "content": "s"}, asked, call, result, tea, line]
    own = as_heard("first", NAMES, messages, TALK[:3])
    assert own == messages
    assert heard("second", TALK[:3], messages) == [
        ("system", "s"),
        ("user", "Tea or coffee?\n\nFirst:\nTea.\n\n(Second answers First, 1)"),
    ]


def test_pictures_stay_where_they_are():
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    messages = sent(TALK[:3])
    messages[0]["content"] = [{"type": "text", "text": "Tea or coffee?"}, picture]
    [(_, content)] = heard("second", TALK[:3], messages)
    kinds = [part["type"] for part in content]
    assert kinds == ["text", "image_url", "text", "text"]


def test_attached_files_and_skills_do_not_hide_whose_words_come_next():
    skill = {"original_text": "Tea or coffee?", "expanded_text": "Tea? Think hard."}
    branch = [{**TALK[0], "meta": {"skills_create": skill}}, *TALK[1:3]]
    messages = sent(branch)
    for content in ("<attached_files/>\n\nTea or coffee?", "Tea? Think hard."):
        messages[0]["content"] = content
        [(role, said)] = heard("second", branch, messages)
        assert role == "user"
        assert said.startswith(f"{content}\n\nFirst:\nTea.")


def test_what_was_summarised_is_not_missed():
    summary = {"role": "system", "content": "summary"}
    assert heard("first", TALK, [summary, *sent(TALK)[5:]]) == [
        ("system", "summary"),
        ("assistant", "Why?"),
        ("user", "It wakes.\n\n(First answers Second, 4)"),
    ]


def test_an_answer_without_words_is_silence():
    branch = [
        *TALK[:3],
        answer("second", ""),
        question("(First answers Second, 2)", "first"),
    ]
    messages = [each for each in sent(branch) if each["content"]]
    assert heard("first", branch, messages)[-1] == ("user", "(First answers Second, 2)")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["first", "second", "third"]), st.sampled_from("xyz")
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 4),
)
def test_whoever_spoke_only_own_words_are_the_assistants(answers, kept):
    branch: list[dict] = []
    for model, word in answers:
        # The same question again and again: its place tells, not its text.
        branch += [question("go on"), answer(model, f"{model} says {word}")]
    branch.append(question("go on"))
    spoken = heard("first", branch, sent(branch)[-2 * kept - 1 :])
    assert spoken[-1][0] == "user"
    for role, content in spoken:
        assert ("first says" in content) == (role == "assistant")
    roles = [role for role, _ in spoken]
    assert not any(pair == ("user", "user") for pair in pairwise(roles))


@pytest.mark.parametrize("branch", [[], TALK[:1]])
def test_messages_that_nobody_knows_are_left_alone(branch):
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    assert as_heard("first", NAMES, messages, branch) == messages
