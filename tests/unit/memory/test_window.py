"""The kept window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.memory.exchanges import question_key
from shared.memory.window import keep_last, last_user_text, shown_questions

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "c1"}]},
    {"role": "tool", "tool_call_id": "c1", "content": "result"},
    {"role": "assistant", "content": "first"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "second"},
    {"role": "user", "content": "three"},
]


def test_the_last_exchanges_stay_and_the_system_message():
    assert keep_last(TALK, 1) == [TALK[0], *TALK[5:]]
    assert keep_last(TALK, 2) == TALK
    assert keep_last(TALK, 0) == TALK


ROLES = st.sampled_from(["system", "user", "assistant", "tool"])


@given(st.lists(ROLES), st.integers(min_value=1, max_value=4))
def test_a_result_is_never_left_without_its_call(roles, keep):
    talk = [{"role": role, "content": str(n)} for n, role in enumerate(roles)]
    kept = keep_last(talk, keep)
    cut = [m for m in kept if m["role"] != "system"]
    whole = [m for m in talk if m["role"] != "system"]
    assert [m for m in kept if m["role"] == "system"] == [
        m for m in talk if m["role"] == "system"
    ]
    assert cut == whole[len(whole) - len(cut) :]
    if len(cut) < len(whole):
        assert cut[0]["role"] == "user"
        assert sum(m["role"] == "user" for m in cut) == keep + 1


def test_the_question_is_the_last_user_message():
    assert last_user_text(TALK) == "three"
    assert last_user_text([{"role": "assistant", "content": "hm"}]) == ""


def test_what_is_shown_is_known_by_its_text():
    assert shown_questions(TALK) == {question_key(t) for t in ("one", "two", "three")}
