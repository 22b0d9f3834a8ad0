"""A turn as Open WebUI shows and saves it, reduced by its own code."""

import pytest

from shared.agents.turns import call_ids, undo_own_cards
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
from shared.render.items import STATE_ITEM_TYPE
from tests.unit.render.host import (
    cards,
    host_events,
    item_text,
    kinds,
    left_to_run,
    message_text,
    render,
    shimmering,
)

WHOLE_TURN = (
    ReasoningDelta("Let me "),
    ReasoningDelta("see."),
    TextDelta("I look it up."),
    ToolCallStarted("a", "search"),
    ToolCallArgumentsDelta("a", '{"q":'),
    ToolCallArgumentsDelta("a", " 6}"),
    ToolCallCompleted("a", "search", '{"q": 6}'),
    ToolResult("a", "six"),
    ReasoningDelta("Now I know."),
    TextDelta("It is "),
    TextDelta("six."),
    SessionState({"response_id": "r1"}),
    Usage({"total_tokens": 5}),
    Finished(),
)


def test_a_whole_turn_in_its_order(open_webui):
    items = open_webui.output(render(*WHOLE_TURN))
    assert kinds(items) == [
        "reasoning",
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
        "message",
        STATE_ITEM_TYPE,
    ]
    thoughts = [item_text(item) for item in items if item["type"] == "reasoning"]
    assert thoughts == ["Let me see.", "Now I know."]
    assert message_text(items) == "I look it up.It is six."
    assert cards(items) == [("search", '{"q": 6}', "six")]
    assert {item["status"] for item in items} == {"completed"}
    assert left_to_run(items) == []


def test_every_step_on_the_way_is_a_state_open_webui_can_show(open_webui):
    shown = render(*WHOLE_TURN)
    for end in range(1, len(shown) + 1):
        for item in open_webui.output(shown[:end]):
            assert item["type"]
            assert item["id"]


def test_a_thought_has_a_beginning_an_end_and_a_duration(open_webui):
    [thought] = open_webui.output(render(ReasoningDelta("Hm"), Finished()))
    assert thought["ended_at"] >= thought["started_at"]
    assert isinstance(thought["duration"], int)


def test_text_goes_on_in_the_same_item_until_something_else_comes(open_webui):
    items = open_webui.output(
        render(
            TextDelta("a"),
            Status("looking"),
            TextDelta("b"),
            Citation("https://x"),
            TextDelta("c"),
            Finished(),
        )
    )
    assert [item_text(item) for item in items] == ["abc"]


def test_parallel_calls_in_one_another(open_webui):
    items = open_webui.output(
        render(
            ToolCallStarted("a", "add"),
            ToolCallStarted("b", "sub"),
            ToolCallArgumentsDelta("b", '{"y"'),
            ToolCallArgumentsDelta("a", '{"x"'),
            ToolCallArgumentsDelta("a", ": 1}"),
            ToolCallArgumentsDelta("b", ": 2}"),
            ToolCallCompleted("b", "sub", '{"y": 2}'),
            ToolCallCompleted("a", "add", '{"x": 1}'),
            ToolResult("b", "two"),
            ToolResult("a", "one"),
            TextDelta("Done."),
            Finished(),
        )
    )
    assert cards(items) == [("add", '{"x": 1}', "one"), ("sub", '{"y": 2}', "two")]
    assert message_text(items) == "Done."
    assert {item["status"] for item in items} == {"completed"}


def test_arguments_show_while_they_come(open_webui):
    items = open_webui.output(
        render(ToolCallStarted("a", "add"), ToolCallArgumentsDelta("a", '{"x"'))
    )
    assert cards(items) == [("add", '{"x"', None)]
    assert items[0]["status"] == "in_progress"


def test_a_call_that_comes_whole(open_webui):
    items = open_webui.output(
        render(ToolCallCompleted("a", "add", "{}"), ToolResult("a", "one"), Finished())
    )
    assert cards(items) == [("add", "{}", "one")]


def test_a_failed_call_is_marked(open_webui):
    items = open_webui.output(
        render(
            ToolCallCompleted("a", "add", "{}"),
            ToolResult("a", "no room", failed=True),
            Finished(),
        )
    )
    assert cards(items) == [("add", "{}", "no room")]
    assert {item["status"] for item in items} == {"failed"}


def test_files_and_embeds_of_a_result_stay_with_it(open_webui):
    file = {"type": "image", "url": "/api/v1/files/1/content"}
    result = ToolResult("a", "see", files=(file,), embeds=("<p>hi</p>",))
    items = open_webui.output(
        render(ToolCallCompleted("a", "t", "{}"), result, Finished())
    )
    assert items[1]["files"] == [file]
    assert items[1]["embeds"] == ["<p>hi</p>"]


def test_a_result_nobody_asked_for_is_not_shown(open_webui):
    items = open_webui.output(render(ToolResult("x", "?"), TextDelta("a"), Finished()))
    assert kinds(items) == ["message"]


def test_a_call_that_the_host_has_to_run_is_left_to_it(open_webui):
    items = open_webui.output(
        render(ToolCallCompleted("a", "add", "{}"), Finished("tool_calls"))
    )
    assert left_to_run(items) == ["add"]
    assert items[0]["status"] == "completed"


def test_a_used_call_id_is_renamed(open_webui):
    """A server that counts from zero in every turn must not overwrite old cards."""
    items = open_webui.output(
        render(
            ToolCallStarted("call_0", "add"),
            ToolCallArgumentsDelta("call_0", "{}"),
            ToolCallCompleted("call_0", "add", "{}"),
            ToolResult("call_0", "one"),
            Finished(),
            used_call_ids=["call_0"],
        )
    )
    assert cards(items) == [("add", "{}", "one")]
    assert items[0]["call_id"] != "call_0"


def test_an_id_that_comes_again_within_a_turn_is_renamed(open_webui):
    items = open_webui.output(
        render(
            ToolCallCompleted("call_0", "add", "{}"),
            ToolResult("call_0", "one"),
            ToolCallCompleted("call_0", "sub", "{}"),
            ToolResult("call_0", "two"),
            Finished(),
        )
    )
    assert cards(items) == [("add", "{}", "one"), ("sub", "{}", "two")]
    assert len({item["call_id"] for item in items}) == 2


def test_a_call_without_an_id_gets_one(open_webui):
    items = open_webui.output(
        render(ToolCallCompleted("", "add", "{}"), ToolResult("", "one"), Finished())
    )
    assert cards(items) == [("add", "{}", "one")]
    assert items[0]["call_id"]


@pytest.mark.parametrize("end", [Finished(), Failed("cut_short")])
def test_a_status_is_closed_in_the_end(end):
    assert shimmering(render(Status("looking")))
    assert not shimmering(render(Status("looking"), TextDelta("a"), end))


def test_a_status_that_is_done_is_not_closed_again():
    shown = render(Status("looking"), Status("found", done=True), Finished())
    assert [s["description"] for s in host_events(shown, "status")] == [
        "looking",
        "found",
    ]


def test_a_failure_keeps_what_came_and_ends_with_its_sentence(open_webui):
    shown = render(ReasoningDelta("Hm"), TextDelta("Hel"), Failed("x", {"a": 1}))
    assert shown[-1] == {"error": {"message": "x: {'a': 1}"}}
    items = open_webui.output(shown)
    assert message_text(items) == "Hel"
    assert {item["status"] for item in items} == {"completed"}


@pytest.mark.parametrize(
    "events",
    [
        (ToolCallStarted("a", "add"), ToolCallArgumentsDelta("a", '{"x')),
        (ToolCallStarted("a", "add"),),
        (ToolCallCompleted("a", "add", "{}"),),
    ],
    ids=["cut-arguments", "no-arguments", "whole"],
)
def test_after_a_failure_no_tool_is_left_for_open_webui_to_run(open_webui, events):
    """It would run a call that was cut, and ask the agent again after the error."""
    items = open_webui.output(render(*events, Failed("cut_short")))
    assert left_to_run(items) == []
    assert "in_progress" not in {item["status"] for item in items}


def test_the_finish_reason_comes_last():
    shown = render(TextDelta("a"), Finished("length"))
    assert shown[-1]["choices"][0]["finish_reason"] == "length"


def test_each_citation_is_a_source():
    shown = render(Citation("https://x/a", "A", "Said so."), Citation("https://x/b"))
    first, second = host_events(shown, "source")
    assert first["source"] == {"name": "A", "url": "https://x/a"}
    assert first["document"] == ["Said so."]
    assert first["metadata"][0]["source"] == "https://x/a"
    assert second["source"]["name"] == "https://x/b"
    assert second["document"] == ["https://x/b"]


def test_usage_is_passed_on():
    assert render(Usage({"total_tokens": 5})) == [{"usage": {"total_tokens": 5}}]


def test_an_image_is_a_delta_that_open_webui_stores():
    [shown] = render(FileOutput("data:image/png;base64,A", "image/png"))
    assert shown["choices"][0]["delta"] == {
        "images": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}}
        ]
    }


def test_two_files_are_both_seen():
    """Open WebUI's page replaces its files by those of the newest event."""
    shown = render(
        FileOutput("https://x/a.pdf", "application/pdf", "a.pdf"),
        TextDelta("and"),
        FileOutput("https://x/b.pdf", "application/pdf", "b.pdf"),
        Finished(),
    )
    events = host_events(shown, "files")
    assert [file["name"] for file in events[-1]["files"]] == ["a.pdf", "b.pdf"]


def test_the_session_is_saved_as_an_item_of_our_own(open_webui):
    items = open_webui.output(
        render(TextDelta("a"), SessionState({"response_id": "r1"}), Finished())
    )
    [state] = [item for item in items if item["type"] == STATE_ITEM_TYPE]
    assert state["agent"] == "scout"
    assert state["data"] == {"response_id": "r1"}
    assert "content" not in state


def test_what_open_webui_cannot_show_is_passed_over():
    assert render(TextDelta(""), ReasoningDelta("")) == []


def test_a_turn_comes_back_as_history_without_our_cards(open_webui):
    items = open_webui.output(render(*WHOLE_TURN))
    history = [
        {"role": "user", "content": "Six?"},
        *open_webui.replay(items, raw=True),
        {"role": "user", "content": "Again"},
    ]
    assert call_ids(history) == {"a"}
    assert undo_own_cards(history, frozenset()) == [
        {"role": "user", "content": "Six?"},
        {"role": "assistant", "content": "I look it up.\n\nIt is six."},
        {"role": "user", "content": "Again"},
    ]


def test_the_replay_of_a_failed_turn_is_whole(open_webui):
    """Every call in it has a result, or the next request is refused by servers."""
    items = open_webui.output(
        render(
            TextDelta("Let me see."),
            ToolCallCompleted("a", "add", "{}"),
            ToolResult("a", "no", failed=True),
            Failed("cut_short"),
        )
    )
    roles = [message["role"] for message in open_webui.replay(items, raw=True)]
    assert roles == ["assistant", "tool"]
