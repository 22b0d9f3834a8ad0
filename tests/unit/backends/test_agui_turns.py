"""Turns with an AG-UI agent: histories, threads, questions and failures."""

from __future__ import annotations

import pytest

from shared.agents.kinds.agui import AGUIAgent
from shared.backends.agui import AGUIBackend, agui_messages, agui_tool
from shared.backends.dialogs import ApprovalRequest, UserQuestion
from tests.unit.backends.recorded import (
    Person,
    hear,
    recorded,
    results_of,
    session_of,
    user_turn,
)
from tests.unit.backends.support import calls_of, sse, text_of, usage_of
from tests.unit.backends.upstream import Exchange, make_endpoint, saying, serve

FINISHED = {"type": "RUN_FINISHED"}
HELLO = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "1", "delta": "Hello"}
SESSION = {"thread_id": "t1", "state": {"mood": "calm"}}


class Agent:
    """An agent that plays these runs in turn."""

    def __init__(self, *runs: bytes) -> None:
        self.runs = list(runs)
        self.bodies: list[dict] = []

    async def __call__(self, exchange: Exchange) -> None:
        self.bodies.append(exchange.body)
        await exchange.head()
        await exchange.send(self.runs.pop(0))


def asks(message: str = "Where?", **interrupt) -> bytes:
    """A run that stops to ask something."""
    asked = {"id": "i1", "reason": "input", "message": message, **interrupt}
    outcome = {"type": "interrupt", "interrupts": [asked]}
    return sse({**FINISHED, "outcome": outcome})


def backend(client, url: str, **fields) -> AGUIBackend:
    return AGUIBackend(client, make_endpoint(url), **fields)


def contents(body: dict) -> list:
    return [message["content"] for message in body["messages"]]


async def test_the_whole_branch_goes_into_a_new_thread(client):
    agent = Agent(*[sse(HELLO, FINISHED)] * 2)
    turn = user_turn("a", "b", "c", session=SESSION)
    async with serve(agent) as upstream:
        asked = backend(client, upstream.url, forwarded={"mode": "fast"})
        told = await hear(asked, turn)
        await hear(asked, turn)
    assert text_of(told.events) == "Hello"
    assert session_of(told.events) == {}
    first, second = agent.bodies
    assert contents(first) == ["a", "b", "c"]
    assert first["forwardedProps"] == {"mode": "fast"}
    assert first["threadId"] != second["threadId"]
    assert first["runId"] != second["runId"]


async def test_a_thread_that_is_kept_hears_only_what_is_new(client):
    state = {"type": "STATE_SNAPSHOT", "snapshot": {"mood": "glad"}}
    agent = Agent(sse(HELLO, state, FINISHED))
    turn = user_turn("a", "b", "c", session=SESSION)
    async with serve(agent) as upstream:
        told = await hear(backend(client, upstream.url, keeps_threads=True), turn)
    [body] = agent.bodies
    assert body["threadId"] == "t1"
    assert body["state"] == {"mood": "calm"}
    assert contents(body) == ["c"]
    assert session_of(told.events) == {"thread_id": "t1", "state": {"mood": "glad"}}


async def test_a_fork_begins_another_thread_with_the_branch(client):
    agent = Agent(sse(HELLO, FINISHED))
    turn = user_turn("a", "b", "c", session=SESSION, forks=True)
    async with serve(agent) as upstream:
        told = await hear(backend(client, upstream.url, keeps_threads=True), turn)
    [body] = agent.bodies
    assert body["threadId"] != "t1"
    assert contents(body) == ["a", "b", "c"]
    assert session_of(told.events)["thread_id"] == body["threadId"]


@pytest.mark.parametrize(
    ("allowed", "payload"),
    [
        (True, {"approved": True}),
        (False, {"approved": False, "reason": "The user did not allow this."}),
    ],
)
async def test_a_permission_is_asked_for_and_passed_on(client, allowed, payload):
    second = "agui/approved.sse" if allowed else "agui/denied.sse"
    agent = Agent(recorded("agui/approval.sse"), recorded(second))
    person = Person(allows=allowed)
    async with serve(agent) as upstream:
        turn = user_turn("TOOL_DELETE", dialogs=person)
        told = await hear(backend(client, upstream.url), turn)
    arguments = '{"path":"/notes/old.txt"}'
    assert person.asked == [
        ApprovalRequest(
            "delete_file",
            f"Approve delete_file({arguments})?",
            arguments,
            ("/notes/old.txt",),
        )
    ]
    question, answer = agent.bodies
    [resumed] = answer["resume"]
    assert resumed["status"] == "resolved"
    assert resumed["payload"] == payload
    assert answer["threadId"] == question["threadId"]
    # An agent without a memory is told of the call that it waits with.
    assert answer["messages"][-1]["toolCalls"][0]["function"]["name"] == "delete_file"
    assert calls_of(told.events) == [("delete_file", arguments)]
    assert len(results_of(told.events)) == 1
    assert usage_of(told.events)["total_tokens"] > 26  # those of both runs


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        (None, "Bern"),
        ({"type": "object", "properties": {"city": {}}}, {"city": "Bern"}),
    ],
)
async def test_a_question_is_answered(client, schema, payload):
    run = asks(responseSchema=schema) if schema else asks()
    agent = Agent(run, sse(HELLO, FINISHED))
    person = Person(says="Bern")
    async with serve(agent) as upstream:
        told = await hear(
            backend(client, upstream.url, keeps_threads=True),
            user_turn("Weather?", dialogs=person),
        )
    assert person.asked == [UserQuestion("Where?")]
    answer = agent.bodies[1]
    expected = {"interruptId": "i1", "status": "resolved", "payload": payload}
    assert answer["resume"] == [expected]
    assert answer["messages"] == []
    assert text_of(told.events) == "Hello"


async def test_a_question_that_nobody_answers_is_cancelled(client):
    agent = Agent(asks(), sse(HELLO, FINISHED))
    async with serve(agent) as upstream:
        await hear(backend(client, upstream.url), user_turn("?", dialogs=Person()))
    assert agent.bodies[1]["resume"] == [{"interruptId": "i1", "status": "cancelled"}]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (sse(HELLO), "cut_short"),
        (sse(FINISHED), "empty_answer"),
        (sse("no JSON"), "unreadable"),
        (sse({**HELLO, "delta": 3}, FINISHED), "unreadable"),
        (sse({"type": "STATE_DELTA", "delta": [{"op": "remove"}]}), "unreadable"),
        (sse({"type": "RUN_ERROR", "message": "out of luck"}), "said_error"),
        (b'{"error": "no such agent"}', "said_error"),
    ],
)
async def test_a_failure_is_told(client, stream, code):
    async with serve(saying(stream)) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert told.code == code


async def test_what_came_before_a_failure_stays(client):
    error = {"type": "RUN_ERROR", "message": "out of luck"}
    async with serve(saying(sse(HELLO, error))) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert text_of(told.events) == "Hello"
    assert told.sentence == "Scout reported an error. (out of luck)"


async def test_any_answer_shows_that_the_server_is_there(client):
    async with serve(saying(b"method not allowed")) as upstream:
        await backend(client, upstream.url).health()


def test_messages_in_the_protocols_words():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    paper = {"filename": "a.pdf", "file_data": "https://example.org/a.pdf"}
    parts = [{"type": "text", "text": "See:"}, picture, {"type": "file", "file": paper}]
    messages = agui_messages(
        [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ]
    )
    assert len({message.pop("id") for message in messages}) == 4
    source = {"type": "data", "value": "aGk=", "mimeType": "image/png"}
    link = {"type": "url", "value": "https://example.org/a.pdf"}
    assert messages == [
        {"role": "system", "content": "Be short."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See:"},
                {"type": "image", "source": source},
                {"type": "document", "source": {**link, "mimeType": "application/pdf"}},
            ],
        },
        {"role": "assistant", "content": "", "toolCalls": [call]},
        {"role": "tool", "content": "done", "toolCallId": "c1"},
    ]


def test_a_tool_in_the_protocols_words():
    function = {"name": "f", "parameters": {"type": "object"}}
    assert agui_tool({"type": "function", "function": function}) == {
        "name": "f",
        "description": "",
        "parameters": {"type": "object"},
    }


def test_an_entry_cannot_be_discovered():
    with pytest.raises(ValueError, match="no list of agents"):
        AGUIAgent(id="a", backend="agui", url="http://x", discover=True)
