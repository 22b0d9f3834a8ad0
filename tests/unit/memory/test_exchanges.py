"""What of a chat's messages becomes an exchange."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.memory.exchanges import (
    CLIP_MARK,
    StoredExchange,
    branch_exchanges,
    clip_text,
    own_turns,
    question_key,
    visible_text,
)
from shared.memory.notes import Note, notes_block, notes_within
from tests.unit.memory.exchanges import said


def message(role, content, number=0, **more):
    return {"role": role, "content": content, "id": f"{role}{number}", **more}


def test_an_exchange_is_a_question_with_its_answer():
    [made] = branch_exchanges(
        [
            message("user", "Who is Ophelia?", timestamp=1_700_000_000),
            message("assistant", "Your cat.", model="a-model"),
        ],
        "chat",
        speaker="Ada",
    )
    assert (made.question, made.answer) == ("Who is Ophelia?", "Your cat.")
    assert (made.question_id, made.answer_id) == ("user0", "assistant0")
    assert (made.asked_at, made.speaker, made.model) == (
        1_700_000_000,
        "Ada",
        "a-model",
    )


def test_an_unfinished_failed_or_empty_answer_is_none():
    question = message("user", "Hello?")
    for answer in (
        message("assistant", ""),
        message("assistant", "Half a", done=False),
        message("assistant", "Oh", error={"content": "it broke"}),
    ):
        assert branch_exchanges([question, answer], "chat") == []
    assert branch_exchanges([question], "chat") == []


def test_thoughts_and_tool_cards_are_left_out():
    content = (
        '<details type="reasoning" done="true">\n<summary>Thought</summary>\n> Hm.\n'
        '</details>\nIt rains.\n<details type="tool_calls" result="secret">x</details>'
    )
    assert visible_text(message("assistant", content)) == "It rains."


def test_an_answer_without_content_is_read_from_its_output():
    output = [
        {"type": "reasoning", "content": [{"type": "text", "text": "Hm."}]},
        {"type": "function_call_output", "output": [{"text": "secret"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "It rains."}]},
    ]
    assert visible_text(message("assistant", "", output=output)) == "It rains."


def test_a_question_with_a_picture_is_its_text():
    content = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "text", "text": "What is this?"},
    ]
    assert visible_text(message("user", content)) == "What is this?"


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_notes_are_never_stored_again(text):
    note = Note(StoredExchange(1, said(text)), "A chat")
    block = notes_block(notes_within([note], 5_000), can_look_up=True)
    assert visible_text(message("user", block + "And now?")) == "And now?"


def test_nothing_that_a_database_refuses_gets_through():
    text = visible_text(message("user", "a\0b\ud83dc"))
    assert text.encode("utf-8")
    assert "\0" not in text


@given(st.text(), st.integers(min_value=40, max_value=200))
def test_clipping_keeps_within_the_limit(text, limit):
    clipped = clip_text(text, limit)
    assert len(clipped) <= limit
    if len(text) <= limit:
        assert clipped == text
    else:
        assert CLIP_MARK in clipped
        assert clipped.startswith(text[:10])
        assert clipped.endswith(text[-3:])


def test_a_question_is_known_again_by_its_words():
    assert question_key("Who  is\nthat? ") == question_key("Who is that?")
    assert question_key("Who is that?") != question_key("Who is this?")


def test_what_others_wrote_in_a_chat_is_not_this_persons():
    messages = [
        {"id": "q1", "role": "user", "content": "Mine"},
        {"id": "a1", "role": "assistant", "content": "Yes"},
        {"id": "q2", "role": "user", "content": "Somebody else's"},
        {"id": "a2", "role": "assistant", "content": "Yes"},
        {"id": "q3", "role": "user", "content": "Mine, not noted"},
    ]
    authors = {"q1": "me", "q2": "guest", "a2": "me"}
    own = own_turns(messages, authors, "me")
    assert [one["id"] for one in own] == ["q1", "a1", "q3"]
