"""Paths, requests and mappings of the webhook backend: data in, data out."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.backends.webhook_mapping import AnswerMapping, WebhookDecoder
from shared.backends.webhook_paths import fill_in, placeholders, values_at
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, Finished, ReasoningDelta, TextDelta
from tests.unit.backends.recorded import results_of
from tests.unit.backends.support import (
    PROPERTY,
    calls_of,
    text_of,
    thoughts_of,
    usage_of,
)

VALUE = {"a": [{"b": 1}, {"b": None}, {"b": 3}], "c": {"d e": "x"}, "n": None}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a[0].b", [1]),
        ("$.a[-1].b", [3]),
        ("a[*].b", [1, 3]),
        ("c.d e", ["x"]),
        ("n", []),
        ("a[9].b", []),
        ("a.b", []),
        ("c[*]", []),
        ("c[0]", []),
        ("missing.more", []),
    ],
)
def test_paths(path, found):
    assert values_at(VALUE, path) == found


def test_the_empty_path_is_the_whole_value():
    assert values_at(VALUE, "") == [VALUE]
    assert values_at([1, 2], "[*]") == [1, 2]


@pytest.mark.parametrize("path", ["a[", "a[x]", "a..b", "a[0", "]"])
def test_what_is_no_path(path):
    with pytest.raises(ValueError, match="is no path"):
        values_at({}, path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@PROPERTY
@given(
    json_values,
    st.from_regex(r"(a|b|\[0\]|\[\*\])(\.a|\[-1\]|\[\*\])*", fullmatch=True),
)
def test_a_path_finds_something_or_nothing_but_never_fails(value, path):  # fmt: skip
    assert isinstance(values_at(value, path), list)


def test_a_request_is_filled_in():
    pattern = {"q": "{prompt}", "all": "{messages}", "s": ["chat-{thread}", 5, None]}
    values = {"prompt": "Hi {thread}", "messages": [{"role": "user"}], "thread": "t1"}
    assert fill_in(pattern, values) == {
        "q": "Hi {thread}",
        "all": [{"role": "user"}],
        "s": ["chat-t1", 5, None],
    }
    assert placeholders(pattern) == {"prompt", "messages", "thread"}


@PROPERTY
@given(st.text())
def test_what_a_user_says_stands_in_the_request_as_it_is(text):
    """No quotes, braces or line breaks of theirs change its shape."""
    values = {"prompt": text, "thread": "SECRET"}
    filled = fill_in({"q": "{prompt}", "more": "<{prompt}>"}, values)
    assert filled == {"q": text, "more": f"<{text}>"}


def decoded(
    mapping: dict[str, Any], *payloads: Any, name: str = ""
) -> list[AgentEvent]:
    decoder = WebhookDecoder(AnswerMapping.model_validate(mapping))
    events = [event for payload in payloads for event in decoder.feed(payload, name)]
    return [*events, *decoder.finish()]


def test_text_thoughts_session_and_usage():
    mapping = {
        "text": "out.text",
        "thoughts": "out.why",
        "session": "id",
        "usage": "tokens",
    }
    decoder = WebhookDecoder(AnswerMapping.model_validate(mapping))
    events = decoder.feed(
        {"out": {"text": "Hi", "why": "Hm."}, "id": 7, "tokens": {"total": 5}}
    )
    assert events == [ReasoningDelta("Hm."), TextDelta("Hi")]
    assert decoder.session == "7"
    assert usage_of(decoder.finish()) == {"total": 5}


def test_the_first_pick_that_finds_something_counts():
    mapping = {"text": ["output", {"path": "text", "when": {"ok": True}}]}
    assert text_of(decoded(mapping, {"text": "b", "ok": True})) == "b"
    assert text_of(decoded(mapping, {"text": "b", "ok": False})) == ""
    assert text_of(decoded(mapping, {"text": "b", "output": "a"})) == "a"


@pytest.mark.parametrize(
    ("wanted", "given_", "fits"),
    [
        ("message", "message", True),
        (["message", "more"], "more", True),
        ("message", "other", False),
        (3, 3, True),
        (True, True, True),
        (True, "true", True),
        (None, None, False),
    ],
)
def test_conditions(wanted, given_, fits):
    mapping = {"text": {"path": "text", "when": {"kind": wanted}}}
    events = decoded(mapping, {"kind": given_, "text": "x"})
    assert (text_of(events) == "x") is fits


def test_conditions_on_the_name_of_a_server_sent_event():
    mapping = {"text": {"path": "x", "when": {"@event": "token"}}}
    assert text_of(decoded(mapping, {"x": "a"}, name="token")) == "a"
    assert text_of(decoded(mapping, {"x": "a"}, name="other")) == ""


def test_deltas_are_told_as_they_come_and_a_repetition_of_all_is_not():
    long = "This is an answer of more than forty characters."
    pieces = [{"t": long[:20]}, {"t": long[20:]}, {"t": long}]
    assert text_of(decoded({"text": "t"}, *pieces)) == long
    assert text_of(decoded({"text": "t"}, {"t": "ha"}, {"t": "ha"})) == "haha"


@PROPERTY
@given(st.text(min_size=1), st.lists(st.integers(0, 40), max_size=6))
def test_a_growing_text_becomes_deltas(text, cuts):
    mapping = {"text": "t", "thoughts": "w", "cumulative": True}
    grown = [{"t": text[:cut], "w": text[:cut]} for cut in sorted(cuts)]
    events = decoded(mapping, *grown, {"t": text, "w": text})
    assert text_of(events) == thoughts_of(events) == text


def test_a_growing_text_that_begins_anew():
    mapping = {"text": "t", "cumulative": True}
    assert text_of(decoded(mapping, {"t": "ab"}, {"t": "c"}, {"t": "cd"})) == "ab\n\ncd"


def test_a_tool_call_whose_result_comes_later():
    mapping = {"tools": {"name": "tool", "arguments": "input", "result": "seen"}}
    events = decoded(
        mapping,
        {"id": "c1", "tool": "look", "input": '{"at": "it"}', "seen": ""},
        {"id": "c1", "tool": "look", "input": '{"at": "it"}', "seen": "a thing"},
        {"id": "c1", "tool": "look", "input": '{"at": "it"}', "seen": "a thing"},
        {"id": "c2", "tool": "", "input": ""},
    )
    assert calls_of(events) == [("look", '{"at":"it"}')]
    assert results_of(events) == [("a thing", False)]


def test_tool_calls_in_a_list_without_ids():
    mapping = {"tools": {"path": "used[*]", "result": "out"}}
    used = [
        {"name": "a", "arguments": {"x": 1}, "out": {"y": 2}},
        {"name": "b", "arguments": "words", "out": "z"},
        {"name": "c"},
    ]
    events = decoded(mapping, {"used": used})
    assert calls_of(events) == [
        ("a", '{"x":1}'),
        ("b", '{"input":"words"}'),
        ("c", "{}"),
    ]
    assert results_of(events) == [('{"y":2}', False), ("z", False), ("", False)]


@pytest.mark.parametrize(
    ("error", "detail"),
    [("No.", "No."), ({"message": "No."}, "No."), (5, "5"), ({"code": 1}, '{"code":1}')],
)  # fmt: skip
def test_an_error_in_the_answer(error, detail):
    with pytest.raises(UpstreamBroken) as caught:
        decoded({"error": "error"}, {"error": error})
    assert caught.value.fields["detail"] == detail


@pytest.mark.parametrize("error", ["", None, False, {}])
def test_an_error_that_is_none(error):
    mapping = {"error": "error", "text": "text"}
    assert text_of(decoded(mapping, {"error": error, "text": "Hi"})) == "Hi"


def test_the_mark_of_the_end():
    for done, payload in (
        ("last", {"last": True}),
        ({"when": {"event": "end"}}, {"event": "end"}),
    ):
        decoder = WebhookDecoder(AnswerMapping.model_validate({"done": done}))
        decoder.feed({"last": False, "event": "token"})
        assert not decoder.ended
        decoder.feed(payload)
        assert decoder.ended


@pytest.mark.parametrize("payload", [None, 5, "text", [], {}, [{"text": 1}]])
def test_payloads_of_any_shape(payload):
    assert decoded({"text": "text", "tools": "calls[*]"}, payload) == [Finished()]


@pytest.mark.parametrize(
    "mapping",
    [{"text": "a[x]"}, {"text": {"pfad": "a"}}, {"words": "a"}, {"tools": {"name": "["}}],
)  # fmt: skip
def test_mistakes_in_a_mapping(mapping):
    with pytest.raises(ValidationError):
        AnswerMapping.model_validate(mapping)


def test_a_text_that_is_no_text_is_shown_as_json():
    assert (
        text_of(decoded({"text": "t"}, {"t": {"a": 1}}))
        == orjson.dumps({"a": 1}).decode()
    )
