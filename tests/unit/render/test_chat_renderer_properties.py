"""What holds of a rendered turn, whatever an agent says."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.events import (
    Citation,
    Failed,
    Finished,
    ReasoningDelta,
    SessionState,
    Status,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
    Usage,
)
from tests.unit.backends.support import text_of, thoughts_of
from tests.unit.render.host import (
    item_text,
    left_to_run,
    message_text,
    render,
    shimmering,
)

PROPERTY = settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

words = st.text("ab \n🌊", max_size=6)
ids = st.sampled_from(["a", "b", "c", ""])
names = st.sampled_from(["add", "sub"])

anything = st.lists(
    st.one_of(
        st.builds(TextDelta, words),
        st.builds(ReasoningDelta, words),
        st.builds(ToolCallStarted, ids, names),
        st.builds(ToolCallArgumentsDelta, ids, words),
        st.builds(ToolCallCompleted, ids, names, st.just("{}")),
        st.builds(ToolResult, ids, words, st.booleans()),
        st.builds(Status, words, st.booleans()),
        st.just(Citation("https://x")),
        st.just(Usage({"total_tokens": 1})),
        st.just(SessionState({"id": 1})),
    ),
    max_size=20,
)
ends = st.sampled_from([Finished(), Finished("tool_calls"), Failed("cut_short")])


@PROPERTY
@given(anything, ends)
def test_no_text_and_no_thought_is_lost_or_told_twice(open_webui, said, end):
    items = open_webui.output(render(*said, end))
    thoughts = [item_text(item) for item in items if item["type"] == "reasoning"]
    assert message_text(items) == text_of(said)
    assert "".join(thoughts) == thoughts_of(said)


@PROPERTY
@given(anything, ends)
def test_nothing_goes_on_after_the_end(open_webui, said, end):
    shown = render(*said, end)
    assert not shimmering(shown)
    for item in open_webui.output(shown):
        assert item["status"] in ("completed", "failed")


@PROPERTY
@given(anything)
def test_nothing_is_left_to_run_after_a_failure(open_webui, said):
    assert left_to_run(open_webui.output(render(*said, Failed("cut_short")))) == []


@PROPERTY
@given(anything, ends, st.sets(ids))
def test_no_two_items_share_an_id_and_no_two_calls_a_call_id(
    open_webui, said, end, used
):
    items = open_webui.output(render(*said, end, used_call_ids=used))
    item_ids = [item["id"] for item in items]
    call_ids = [i["call_id"] for i in items if i["type"] == "function_call"]
    outputs = [i["call_id"] for i in items if i["type"] == "function_call_output"]
    assert len(set(item_ids)) == len(item_ids)
    assert len(set(call_ids)) == len(call_ids)
    assert set(outputs) <= set(call_ids)
    assert not set(call_ids) & used
    assert all(call_ids)


@PROPERTY
@given(anything, ends)
def test_a_turn_of_any_kind_can_be_replayed(open_webui, said, end):
    messages = open_webui.replay(open_webui.output(render(*said, end)), raw=True)
    called = [c["id"] for m in messages for c in m.get("tool_calls", ())]
    answered = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
    assert sorted(called) == sorted(answered)
