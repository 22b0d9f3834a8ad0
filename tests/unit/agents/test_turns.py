"""From Open WebUI's request to what an agent is given."""

import pytest

from shared.agents.parsing import parse_agents
from shared.agents.turns import build_turn, call_ids, undo_own_cards

[SCOUT] = parse_agents("- {id: scout, url: 'http://host/v1', model: m}").agents
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
ASKED = {"role": "user", "content": "Six?"}
AGAIN = {"role": "user", "content": "Again"}
SYSTEM = {"role": "system", "content": "Be brief."}


def agent(**changes):
    return SCOUT.model_copy(update=changes)


def said(content, *names):
    """An assistant message that calls these tools; a call's id is its tool's name."""
    message = {"role": "assistant", "content": content}
    if names:
        message["tool_calls"] = [
            {"id": n, "type": "function", "function": {"name": n, "arguments": "{}"}}
            for n in names
        ]
    return message


def result(call_id):
    return {"role": "tool", "tool_call_id": call_id, "content": "six"}


def history(*messages, offered=(), **changes):
    """What the agent gets of a conversation that goes on with another question."""
    tools = [{"type": "function", "function": {"name": name}} for name in offered]
    body = {"messages": [*messages, AGAIN], "tools": tools}
    turn = build_turn(agent(**changes), body)
    assert turn.messages[-1] == AGAIN
    return list(turn.messages[:-1])


def test_a_conversation_without_tools_stays_as_it_is():
    messages = [SYSTEM, ASKED, said("Six.")]
    assert history(*messages) == messages


def test_a_card_of_the_agents_own_is_undone():
    """Its server would refuse a call of a tool that its caller never offered."""
    replayed = [
        ASKED,
        said("Let me see.", "search"),
        result("search"),
        said("It is six."),
    ]
    assert history(*replayed) == [ASKED, said("Let me see.\n\nIt is six.")]


def test_a_card_without_text_leaves_nothing_behind():
    replayed = [ASKED, said("", "search"), result("search"), said("Six.")]
    assert history(*replayed) == [ASKED, said("Six.")]
    replayed = [ASKED, said(None, "a", "b"), result("a"), result("b"), said("Six.")]
    assert history(*replayed) == [ASKED, said("Six.")]


def test_several_rounds_of_cards_are_one_answer():
    replayed = [
        ASKED,
        said("One.", "search"),
        result("search"),
        said("", "clock"),
        result("clock"),
        said("Two.", "look"),
        result("look"),
        said("Three."),
    ]
    assert history(*replayed) == [ASKED, said("One.\n\nTwo.\n\nThree.")]


def test_a_call_of_an_offered_tool_stays_with_its_result():
    replayed = [ASKED, said("Hm.", "add"), result("add"), said("Six.")]
    assert history(*replayed, offered=["add"]) == replayed


def test_of_mixed_calls_only_the_offered_ones_stay():
    replayed = [
        ASKED,
        said("Hm.", "add", "search"),
        result("search"),
        result("add"),
        said("Six."),
    ]
    assert history(*replayed, offered=["add"]) == [
        ASKED,
        said("Hm.", "add"),
        result("add"),
        said("Six."),
    ]


def test_an_agent_whose_tools_are_suppressed_sees_no_calls():
    replayed = [ASKED, said("Hm.", "add"), result("add"), said("Six.")]
    kept = history(*replayed, offered=["add"], tools="suppress")
    assert kept == [ASKED, said("Hm.\n\nSix.")]


def test_no_result_is_left_without_its_call():
    for names in ((), ("add",), ("add", "search")):
        kept = history(
            ASKED,
            said("a", "add", "search"),
            result("add"),
            result("search"),
            said("b", "search"),
            result("search"),
            offered=names,
        )
        answered = {m["tool_call_id"] for m in kept if m["role"] == "tool"}
        assert answered == call_ids(kept)


def test_this_turns_own_round_stays_whole():
    """A call whose result went missing would be made again without end."""
    messages = [ASKED, said("Hm.", "gone"), result("gone")]
    turn = build_turn(SCOUT, {"messages": messages})
    assert list(turn.messages) == messages


def test_images_and_files_of_a_question_stay():
    question = {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}},
        ],
    }
    assert history(question, said("A cat.")) == [question, said("A cat.")]


def test_answers_in_parts_are_not_run_together():
    parts = {"role": "assistant", "content": [{"type": "text", "text": "One."}]}
    assert history(ASKED, parts, said("Two.")) == [ASKED, parts, said("Two.")]


def test_what_is_open_webuis_own_in_a_message_does_not_go_out():
    message = {**ASKED, "id": "1", "timestamp": 5, "files": [], "name": "Ada"}
    assert history(message) == [{**ASKED, "name": "Ada"}]


def test_the_request_is_not_changed():
    call = said("Hm.", "search")
    messages = [ASKED, call, result("search"), said("Six."), AGAIN]
    before = [dict(message) for message in messages]
    build_turn(agent(system="Be kind."), {"messages": messages})
    assert messages == before
    assert "tool_calls" in call


def test_call_ids_of_a_history():
    assert call_ids([ASKED, said("", "a", "b"), result("a")]) == {"a", "b"}
    assert undo_own_cards([said("", "a")], frozenset()) == []


def test_parameters_are_what_open_webui_does_not_keep_for_itself():
    body = {
        "model": "agents.scout",
        "messages": [ASKED],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": 9,
        "metadata": {"chat_id": "c"},
        "features": {},
        "files": [],
        "session_id": "s",
        "_private": 1,
    }
    assert build_turn(SCOUT, body).params == {"temperature": 0, "max_tokens": 9}


def test_the_chats_parameters_win_over_the_agents():
    scout = agent(params={"temperature": 0.2, "top_p": 0.5})
    turn = build_turn(scout, {"messages": [ASKED], "temperature": 1})
    assert turn.params == {"temperature": 1, "top_p": 0.5}


def test_a_parameter_that_is_null_is_none():
    scout = agent(params={"temperature": 0.2})
    turn = build_turn(scout, {"messages": [ASKED], "temperature": None})
    assert turn.params["temperature"] == 0.2


def test_tools_are_offered_and_their_parameters_go_with_them():
    body = {"messages": [ASKED], "tools": [TOOL], "tool_choice": "auto"}
    turn = build_turn(SCOUT, body)
    assert (turn.tools, turn.params) == ((TOOL,), {"tool_choice": "auto"})
    for bare in (
        build_turn(SCOUT, body, with_tools=False),
        build_turn(agent(tools="suppress"), body),
        build_turn(SCOUT, {**body, "tools": None}),
    ):
        assert (bare.tools, bare.params) == ((), {})


def test_who_asks_where():
    turn = build_turn(
        SCOUT, {"messages": [ASKED]}, user_id="u", chat_id="c", session={"id": 1}
    )
    assert (turn.user_id, turn.chat_id, turn.session) == ("u", "c", {"id": 1})


@pytest.mark.parametrize(
    ("messages", "first"),
    [
        ([ASKED], {"role": "system", "content": "Be kind."}),
        ([SYSTEM, ASKED], {"role": "system", "content": "Be kind.\n\nBe brief."}),
        (
            [{"role": "system", "content": [{"type": "text", "text": "x"}]}, ASKED],
            {
                "role": "system",
                "content": [
                    {"type": "text", "text": "Be kind."},
                    {"type": "text", "text": "x"},
                ],
            },
        ),
    ],
)
def test_the_agents_prompt_stands_before_the_chats(messages, first):
    turn = build_turn(agent(system="Be kind."), {"messages": messages})
    assert list(turn.messages) == [first, ASKED]


def test_without_a_prompt_there_is_no_system_message():
    assert build_turn(SCOUT, {"messages": [ASKED]}).messages == (ASKED,)


def test_nothing_was_said_at_all():
    assert build_turn(SCOUT, {}).messages == ()
