"""Turns with a LangGraph server: threads, forks, interrupts, Stop and failures."""

from typing import Any

import orjson
import pytest

from shared.agents.kinds.langgraph import LangGraphAgent
from shared.backends.dialogs import ApprovalRequest, UserQuestion
from shared.backends.langgraph import LangGraphBackend
from shared.backends.langgraph_humans import (
    interrupt_question,
    settle_interrupts,
)
from shared.backends.langgraph_stream import GraphInterrupt
from tests.unit.backends.recorded import (
    Person,
    hear,
    recorded,
    results_of,
    session_of,
    user_turn,
)
from tests.unit.backends.support import text_of
from tests.unit.backends.upstream import Exchange, make_endpoint, serve

RUN = "01a1f6dd-b3bf-72b8-a64c-d374962138d2"
SESSION = {"thread_id": "t1", "run_id": "r1", "checkpoint_id": "c1"}


class Server:
    """A server that plays recorded runs in turn and knows where each one ended."""

    def __init__(
        self,
        *runs: str,
        checkpoint: str = "c2",
        run_id: str = "",
        last: dict[str, Any] | None = None,
    ) -> None:
        self.runs = list(runs)
        self.last = last or {}
        self.checkpoint = checkpoint
        self.run_id = run_id
        self.asked: list[tuple[str, dict]] = []

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.append((exchange.path, exchange.body))
        if exchange.path.endswith("/state"):
            metadata = {"run_id": self.run_id}
            state = {
                "metadata": metadata,
                "values": {"messages": [self.last]},
                "checkpoint": {"checkpoint_id": self.checkpoint},
            }
            await exchange.answer(200, state)
        elif exchange.path.endswith("/runs/stream") and self.runs:
            stream = recorded(f"langgraph/{self.runs.pop(0)}.sse")
            first = stream.split(b"data: ", 1)[1].split(b"\n")[0]
            self.run_id = orjson.loads(first)["run_id"]
            await exchange.head()
            await exchange.send(stream)
        else:
            await exchange.answer(404, {"detail": "Thread or assistant not found."})

    @property
    def bodies(self) -> list[dict]:
        return [body for path, body in self.asked if path.endswith("/runs/stream")]


def backend(client, url: str, **fields) -> LangGraphBackend:
    return LangGraphBackend(client, make_endpoint(url), "agent", **fields)


async def test_a_new_thread_gets_the_branch_and_ends_in_a_checkpoint(client):
    server = Server("text")
    async with serve(server) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("a", "b", "c"))
    assert text_of(told.events).startswith("Hello from the scripted model.")
    [body] = server.bodies
    assert [m["content"] for m in body["input"]["messages"]] == ["a", "b", "c"]
    assert body["if_not_exists"] == "create"
    assert body["on_disconnect"] == "cancel"
    session = session_of(told.events)
    assert session["checkpoint_id"] == "c2"
    assert f"/threads/{session['thread_id']}/runs/stream" in server.asked[0][0]


@pytest.mark.parametrize("forks", [False, True])
async def test_every_turn_begins_at_the_checkpoint_of_its_parent(client, forks):
    server = Server("text")
    turn = user_turn("a", "b", "c", session=SESSION, forks=forks)
    async with serve(server) as upstream:
        await hear(backend(client, upstream.url), turn)
    [body] = server.bodies
    assert body["checkpoint_id"] == "c1"
    assert [m["content"] for m in body["input"]["messages"]] == ["c"]
    assert "/threads/t1/" in server.asked[0][0]


async def test_a_stopped_answer_goes_on_where_its_run_ended(client):
    server = Server("text", checkpoint="c9", run_id="r1")
    turn = user_turn("a", "b", "c", session={"thread_id": "t1", "run_id": "r1"})
    async with serve(server) as upstream:
        await hear(backend(client, upstream.url), turn)
    assert server.bodies[0]["checkpoint_id"] == "c9"


async def test_a_stopped_answer_begins_anew_where_it_left_a_call_open(client):
    """Models refuse a conversation in which a call has no result."""
    server = Server("text", run_id="r1", last={"tool_calls": [{"name": "look"}]})
    turn = user_turn("a", "b", "c", session={"thread_id": "t1", "run_id": "r1"})
    async with serve(server) as upstream:
        await hear(backend(client, upstream.url), turn)
    [body] = server.bodies
    assert "checkpoint_id" not in body
    assert len(body["input"]["messages"]) == 3


async def test_a_stopped_answer_begins_anew_after_another_branch_went_on(client):
    server = Server("text", run_id="r7")
    turn = user_turn("a", "b", "c", session={"thread_id": "t1", "run_id": "r1"})
    async with serve(server) as upstream:
        await hear(backend(client, upstream.url), turn)
    [body] = server.bodies
    assert "checkpoint_id" not in body
    assert len(body["input"]["messages"]) == 3


async def test_a_thread_that_is_gone_is_begun_anew(client):
    server = Server("text")

    async def script(exchange: Exchange) -> None:
        if "/threads/t1/" in exchange.path:
            await exchange.answer(404, {"detail": "not found"})
        else:
            await server(exchange)

    async with serve(script) as upstream:
        turn = user_turn("a", "b", "c", session=SESSION)
        told = await hear(backend(client, upstream.url), turn)
    assert not told.sentence
    assert len(server.bodies[0]["input"]["messages"]) == 3
    assert session_of(told.events)["thread_id"] != "t1"


@pytest.mark.parametrize(
    ("allows", "decision"),
    [
        (True, {"type": "approve"}),
        (False, {"type": "reject", "message": "The user did not allow this."}),
    ],
)
async def test_a_tool_that_needs_permission(client, allows, decision):
    server = Server("approval", "approval-rejected")
    person = Person(allows=allows)
    async with serve(server) as upstream:
        turn = user_turn("weather?", dialogs=person)
        told = await hear(backend(client, upstream.url), turn)
    [request] = person.asked
    assert isinstance(request, ApprovalRequest)
    assert request.tool == "get_weather"
    assert '"city": "Bern"' in request.detail
    assert server.bodies[1]["command"] == {"resume": {"decisions": [decision]}}
    assert "input" not in server.bodies[1]
    assert len(results_of(told.events)) == 1


async def test_a_question_is_asked_and_the_run_goes_on(client):
    server = Server("question", "question-answered")
    person = Person(says="Bern")
    async with serve(server) as upstream:
        turn = user_turn("hi", dialogs=person)
        told = await hear(backend(client, upstream.url), turn)
    assert person.asked == [UserQuestion("Which city?")]
    assert server.bodies[1]["command"] == {"resume": "Bern"}
    assert text_of(told.events) == "You chose Bern."


async def test_without_a_dialog_the_next_message_is_the_answer(client):
    server = Server("question", "question-answered")
    async with serve(server) as upstream:
        graph = backend(client, upstream.url)
        told = await hear(graph, user_turn("hi"))
        assert text_of(told.events) == "Which city?"
        session = session_of(told.events)
        turn = user_turn("hi", "Which city?", "Rome", session=session)
        told = await hear(graph, turn)
    assert text_of(told.events) == "You chose Bern."
    assert server.bodies[1]["command"] == {"resume": "Rome"}
    assert server.bodies[1]["checkpoint_id"] == "c2"
    assert "waiting" not in session_of(told.events)


async def test_another_answer_to_a_question_begins_anew(client):
    session = SESSION | {"waiting": ["i1"]}
    server = Server("text", run_id="r7")
    async with serve(server) as upstream:
        turn = user_turn("hi", "Which city?", "Rome", session=session)
        await hear(backend(client, upstream.url), turn)
    [body] = server.bodies
    assert len(body["input"]["messages"]) == 3


async def test_stop_cancels_the_run(client):
    server = Server()
    start = recorded("langgraph/cancel.sse").split(b"\n\n")

    async def script(exchange: Exchange) -> None:
        if exchange.path.endswith("/runs/stream"):
            await exchange.head(Content_Location=f"/threads/t/runs/{RUN}")
            await exchange.send(b"\n\n".join(start[:3]) + b"\n\n")
            await exchange.until_closed()
        else:
            server.asked.append((exchange.path, exchange.body))
            await exchange.answer(200, {})

    async with serve(script) as upstream:
        run = backend(client, upstream.url).run(user_turn("SLOWLY"))
        async for event in run:
            if text_of([event]):
                break
        await run.aclose()
    [(path, _)] = server.asked
    run_id = "01a1f6de-1fda-7265-98ee-3f6deb9d504a"
    assert path.endswith(f"/runs/{run_id}/cancel?wait=true&action=interrupt")


async def test_an_error_in_the_stream_is_told(client):
    async with serve(Server("error")) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert told.code == "said_error"
    assert "OpenAIAuthenticationError" in told.sentence
    assert session_of(told.events)["thread_id"]


async def test_an_unknown_assistant_is_told(client):
    async with serve(Server()) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert told.code == "status_404"
    assert "Thread or assistant not found." in told.sentence


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b'{"detail": "Out of order"}', "said_error"),
        (b"<html>Busy", "unreadable"),
        (b'{"other": 1}', "unreadable"),
        (b'event: messages\ndata: {"no": "list"}\n\n', "unreadable"),
        (b"event: messages\ndata: {broken\n\n", "unreadable"),
        (b'event: metadata\ndata: {"run_id": "r"}\n\n', "empty_answer"),
    ],
)
async def test_streams_that_say_nothing_readable(client, said, code):
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(said)

    async with serve(script) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert told.code == code


async def test_configuration_and_context_go_into_every_run(client):
    server = Server("question", "question-answered")
    fields = {"config": {"recursion_limit": 5}, "context": {"tone": "calm"}}
    async with serve(server) as upstream:
        turn = user_turn("hi", dialogs=Person(says="Bern"))
        await hear(backend(client, upstream.url, **fields), turn)
    assert [(b["config"], b["context"]) for b in server.bodies] == [
        ({"recursion_limit": 5}, {"tone": "calm"})
    ] * 2


async def test_assistants_are_discovered(client):
    made_by_server = {
        "assistant_id": "id1",
        "graph_id": "agent",
        "name": "agent",
        "metadata": {"created_by": "system"},
    }
    mine = [
        {"assistant_id": f"id{number}", "graph_id": "agent", "name": f"Mine {number}"}
        for number in range(2, 130)
    ]

    async def script(exchange: Exchange) -> None:
        start, count = exchange.body["offset"], exchange.body["limit"]
        await exchange.answer(200, [made_by_server, *mine][start : start + count])

    async with serve(script) as upstream:
        models = await backend(client, upstream.url).discover()
    assert [(m.id, m.name) for m in models] == [
        ("agent", "agent"),
        *((f"id{number}", f"Mine {number}") for number in range(2, 130)),
    ]


async def test_several_interrupts_are_answered_by_their_ids():
    waiting = [GraphInterrupt("i1", "One?"), GraphInterrupt("i2", "Two?")]
    resume = await settle_interrupts(Person(says="yes"), waiting)
    assert resume == {"i1": "yes", "i2": "yes"}


def hitl(*allowed: str) -> GraphInterrupt:
    """A call of `ask_user` that waits, and what may be decided about it."""
    action = {"name": "ask_user", "args": {"question": "Which city?"}}
    config = {"action_name": "ask_user", "allowed_decisions": list(allowed)}
    return GraphInterrupt(
        "i", {"action_requests": [action], "review_configs": [config]}
    )


@pytest.mark.parametrize(
    ("allowed", "person", "decision"),
    [
        (("respond",), Person(says="Bern"), {"type": "respond", "message": "Bern"}),
        (("respond",), Person(), {"type": "respond", "message": "The user did not answer."}),
        (("approve", "respond"), Person(), {"type": "approve"}),
        (("approve", "respond"), Person(False), {"type": "respond", "message": "The user did not allow this."}),
        ((), Person(False), {"type": "reject", "message": "The user did not allow this."}),
    ],
)  # fmt: skip
async def test_only_what_the_graph_allows_is_decided(allowed, person, decision):
    resume = await settle_interrupts(person, [hitl(*allowed)])
    assert resume == {"decisions": [decision]}
    if allowed == ("respond",):
        assert person.asked == [UserQuestion("Which city?")]


@pytest.mark.parametrize(("allows", "kind"), [(True, "accept"), (False, "ignore")])
async def test_requests_in_the_older_form(allows, kind):
    args = {"file_path": "/a", "moves": [{"dest": "../b"}], "files": ["c", "d"]}
    request = {"action_request": {"action": "send", "args": args}}
    person = Person(allows=allows)
    waiting = GraphInterrupt("i", [request])
    assert await settle_interrupts(person, [waiting]) == [{"type": kind, "args": None}]
    [asked] = person.asked
    assert isinstance(asked, ApprovalRequest)
    assert (asked.tool, asked.paths) == ("send", ("/a", "../b", "c", "d"))


@pytest.mark.parametrize(
    ("value", "message", "choices"),
    [
        ("Which city?", "Which city?", ()),
        ({"question": "Which?", "options": ["a", "b"]}, "Which?", ("a", "b")),
        ({"query": "Which?", "choices": [1, 2]}, "Which?", ()),
        (42, "42", ()),
        ({"n": 1}, '{\n  "n": 1\n}', ()),
    ],
)
def test_questions_in_every_shape(value, message, choices):
    assert interrupt_question(value) == UserQuestion(message, choices)


def test_an_agent_needs_a_graph():
    with pytest.raises(ValueError, match="give the id of a graph"):
        LangGraphAgent(id="a", url="http://x")
    assert LangGraphAgent(id="a", url="http://x", discover=True).discover
