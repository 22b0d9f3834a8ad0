"""A turn as an API caller gets it, checked with the official client's own types."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.events import (
    Citation,
    Failed,
    FileOutput,
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
from shared.render.chunks import CompletionRenderer
from tests.unit.backends.support import text_of, thoughts_of
from tests.unit.render.host import sentence

openai_types = pytest.importorskip("openai.types.chat")

COUNTS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
SERVER_RUN = (
    ToolCallStarted("a", "clock"),
    ToolCallArgumentsDelta("a", "{}"),
    ToolCallCompleted("a", "clock", "{}"),
    ToolResult("a", "noon"),
)
PENDING = (
    ToolCallStarted("b", "add"),
    ToolCallArgumentsDelta("b", '{"x": 1}'),
    ToolCallCompleted("b", "add", '{"x": 1}'),
)


def stream(*events: Any, include_usage: bool = False) -> list[dict[str, Any]]:
    """The chunks of a turn, each of them valid."""
    renderer = CompletionRenderer("agents.scout", sentence, include_usage)
    chunks = [chunk for event in events for chunk in renderer.render(event)]
    for chunk in chunks:
        if "error" not in chunk:
            openai_types.ChatCompletionChunk.model_validate(chunk)
    return chunks


def whole(*events: Any) -> dict[str, Any]:
    """The turn as one completion, which is valid."""
    renderer = CompletionRenderer("agents.scout", sentence)
    for event in events:
        renderer.add(event)
    completion = renderer.completion()
    openai_types.ChatCompletion.model_validate(completion)
    return completion


def deltas(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def told(chunks: list[dict[str, Any]], key: str) -> str:
    return "".join(delta.get(key) or "" for delta in deltas(chunks))


def reasons(chunks: list[dict[str, Any]]) -> list[str]:
    found = [c["finish_reason"] for chunk in chunks for c in chunk["choices"]]
    return [reason for reason in found if reason]


def streamed_calls(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [call for delta in deltas(chunks) for call in delta.get("tool_calls", ())]


def test_a_stream_of_thoughts_and_text():
    chunks = stream(
        ReasoningDelta("Hm"), TextDelta("Hel"), TextDelta("lo"), Finished("length")
    )
    assert told(chunks, "reasoning_content") == "Hm"
    assert told(chunks, "content") == "Hello"
    assert reasons(chunks) == ["length"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_all_chunks_share_their_head_and_the_first_says_the_role():
    chunks = stream(TextDelta("a"), TextDelta("b"), Finished())
    assert len({(c["id"], c["created"], c["model"]) for c in chunks}) == 1
    assert [delta.get("role") for delta in deltas(chunks)] == ["assistant", None, None]
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["model"] == "agents.scout"


def test_an_empty_answer_is_an_answer():
    assert reasons(stream(Finished())) == ["stop"]
    assert whole(Finished())["choices"][0]["message"]["content"] == ""


def test_usage_comes_where_it_was_asked_for():
    quiet = stream(TextDelta("a"), Usage(COUNTS), Finished())
    assert all("usage" not in chunk for chunk in quiet)
    asked = stream(TextDelta("a"), Usage(COUNTS), Finished(), include_usage=True)
    assert asked[-1]["usage"] == COUNTS
    assert asked[-1]["choices"] == []
    assert whole(TextDelta("a"), Usage(COUNTS), Finished())["usage"] == COUNTS


def test_usage_of_several_model_calls_is_their_sum():
    """The pipe asks the model again after each tool it runs."""
    turn = (Usage(COUNTS), TextDelta("a"), Usage(COUNTS), Finished())
    total = {key: 2 * count for key, count in COUNTS.items()}
    assert stream(*turn, include_usage=True)[-1]["usage"] == total
    assert whole(*turn)["usage"] == total


def test_usage_in_the_names_of_the_responses_api_gets_the_names_of_this_one():
    counts = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    turn = (TextDelta("a"), Usage(counts), Finished())
    assert COUNTS.items() <= whole(*turn)["usage"].items()
    assert COUNTS.items() <= stream(*turn, include_usage=True)[-1]["usage"].items()


@pytest.mark.parametrize("reason", ["stop", "tool_calls"])
def test_what_the_agent_ran_itself_is_its_own_affair(reason):
    chunks = stream(*SERVER_RUN, TextDelta("Noon."), Finished(reason))
    assert streamed_calls(chunks) == []
    assert reasons(chunks) == ["stop"]
    [choice] = whole(*SERVER_RUN, TextDelta("Noon."), Finished(reason))["choices"]
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


def test_what_is_left_to_run_is_the_callers():
    turn = (*SERVER_RUN, TextDelta("Let me add."), *PENDING, Finished("tool_calls"))
    function = {"name": "add", "arguments": '{"x": 1}'}
    called = {"id": "b", "type": "function", "function": function}
    chunks = stream(*turn)
    assert streamed_calls(chunks) == [{"index": 0, **called}]
    assert reasons(chunks) == ["tool_calls"]
    [choice] = whole(*turn)["choices"]
    assert choice["message"]["tool_calls"] == [called]
    assert choice["finish_reason"] == "tool_calls"


def test_pending_calls_are_numbered_and_finish_as_calls():
    chunks = stream(
        ToolCallCompleted("a", "add", "{}"),
        ToolCallCompleted("b", "sub", "{}"),
        Finished("stop"),
    )
    indexes = [(c["index"], c["id"]) for c in streamed_calls(chunks)]
    assert indexes == [(0, "a"), (1, "b")]
    assert reasons(chunks) == ["tool_calls"]


def test_citations_are_annotations():
    turn = (TextDelta("Six."), Citation("https://x/a", "A"), Finished())
    [note] = [n for d in deltas(stream(*turn)) for n in d.get("annotations", ())]
    assert note["type"] == "url_citation"
    assert note["url_citation"]["url"] == "https://x/a"
    assert note["url_citation"]["title"] == "A"


def test_citations_of_a_whole_completion():
    turn = (
        TextDelta("Six."),
        Citation("https://x/a", "A"),
        Citation("https://x/b"),
        Finished(),
    )
    notes = whole(*turn)["choices"][0]["message"]["annotations"]
    assert [n["url_citation"]["url"] for n in notes] == ["https://x/a", "https://x/b"]


def test_images():
    turn = (FileOutput("data:image/png;base64,A", "image/png"), Finished())
    [image] = [i for d in deltas(stream(*turn)) for i in d.get("images", ())]
    assert image["image_url"]["url"] == "data:image/png;base64,A"
    assert whole(*turn)["choices"][0]["message"]["images"] == [image]


def test_statuses_and_sessions_have_no_place():
    assert stream(Status("looking"), SessionState({"id": 1})) == []


def test_a_failure_is_an_error_object():
    *_, error = stream(TextDelta("Hel"), Failed("cut_short", {"host": "h"}))
    assert error == {
        "error": {"message": "cut_short: {'host': 'h'}", "code": "cut_short"}
    }


words = st.text("ab\n🌊", max_size=4)
anything = st.lists(
    st.one_of(
        st.builds(TextDelta, words),
        st.builds(ReasoningDelta, words),
        st.builds(ToolCallCompleted, st.sampled_from("abc"), words, st.just("{}")),
        st.builds(ToolResult, st.sampled_from("abc"), words),
        st.builds(FileOutput, st.just("https://x"), st.just("image/png")),
        st.just(Status("looking")),
    ),
    max_size=15,
)
finishes = st.builds(Finished, st.sampled_from(["stop", "length", "tool_calls"]))


@settings(deadline=None, max_examples=150)
@given(anything, finishes)
def test_the_whole_is_what_was_streamed(said, finish):
    chunks, [choice] = stream(*said, finish), whole(*said, finish)["choices"]
    message = choice["message"]
    assert message["content"] == told(chunks, "content") == text_of(said)
    assert message.get("reasoning_content", "") == thoughts_of(said)
    assert [choice["finish_reason"]] == reasons(chunks)
    indexed = [
        {"index": index, **call}
        for index, call in enumerate(message.get("tool_calls", ()))
    ]
    assert streamed_calls(chunks) == indexed


def test_usage_in_half_numbers_is_no_trouble():
    """Servers put null where they did not count."""
    renderer = CompletionRenderer("m", lambda code, fields: code)
    renderer.add(TextDelta("Hello"))
    renderer.add(Usage({"prompt_tokens": 3}))
    assert renderer.completion()["usage"]["total_tokens"] == 3
