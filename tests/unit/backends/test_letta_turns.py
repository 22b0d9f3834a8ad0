"""Turns with a Letta server: conversations, forks, permissions, tools, Stop."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.agents.kinds.letta import LettaAgent
from shared.backends.dialogs import ApprovalRequest
from shared.backends.letta import MAX_PENDING_CALLS, LettaBackend, letta_messages
from shared.errors import UpstreamBroken
from tests.unit.backends.recorded import (
    Person,
    hear,
    recorded,
    results_of,
    session_of,
    user_turn,
)
from tests.unit.backends.support import calls_of, reason_of, sse, text_of
from tests.unit.backends.upstream import Exchange, make_endpoint, serve

SESSION = {"conversation_id": "conv-1"}
ARGUMENTS = '{"path":"/notes/old.txt"}'
TOOL = {"type": "function", "function": {"name": "get_weather"}}
CONFLICT = {
    "message_type": "error_message",
    "message": "CONFLICT: Cannot send a new message: The agent is waiting.",
}


class Server:
    """A server that plays these streams in turn; a number is a status to refuse with.

    With `hang` the last stream does not end before the caller hangs up.
    """

    def __init__(self, *streams: bytes | int, hang: bool = False) -> None:
        self.streams = list(streams)
        self.hang = hang
        self.asked: list[tuple[str, Any]] = []
        self.cancelled = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.append((exchange.path, exchange.body))
        if exchange.path.startswith("/v1/conversations/?"):
            await exchange.answer(200, {"id": f"conv-new-{len(self.asked)}"})
        elif exchange.path.endswith("/cancel"):
            self.cancelled.set()
            await exchange.answer(200, {})
        else:
            stream = self.streams.pop(0)
            if isinstance(stream, int):
                await exchange.answer(stream, {"detail": "not found"})
                return
            await exchange.head()
            await exchange.send(stream)
            if self.hang:
                await exchange.until_closed()

    @property
    def told(self) -> list[tuple[str, Any]]:
        """The path and the body of everything that was said to an agent."""
        return [(path, body) for path, body in self.asked if "/messages" in path]


def letta(name: str) -> bytes:
    return recorded(f"letta/{name}.sse")


def backend(client, url: str, **fields: Any) -> LettaBackend:
    return LettaBackend(client, make_endpoint(url.removesuffix("/v1")), "a1", **fields)


def content(body: dict[str, Any]) -> Any:
    [message] = body["messages"]
    assert message["role"] == "user"
    return message["content"]


async def test_a_chat_begins_a_conversation(client):
    server = Server(letta("text"))
    async with serve(server) as upstream:
        asked = backend(client, upstream.url, isolated=("human",))
        told = await hear(asked, user_turn("Good morning"))
    assert text_of(told.events).startswith("Hello from the scripted model.")
    made, (path, body) = server.asked
    assert made == (
        "/v1/conversations/?agent_id=a1",
        {"isolated_block_labels": ["human"]},
    )
    assert path == "/v1/conversations/conv-new-1/messages"
    assert content(body) == "Good morning"
    assert body["stream_tokens"] is True
    assert "client_tools" not in body
    assert session_of(told.events) == {"conversation_id": "conv-new-1"}


async def test_a_conversation_hears_only_what_is_new(client):
    server = Server(letta("text"))
    async with serve(server) as upstream:
        turn = user_turn("a", "b", "c", session=SESSION)
        told = await hear(backend(client, upstream.url), turn)
    [(path, body)] = server.asked
    assert path == "/v1/conversations/conv-1/messages"
    assert content(body) == "c"
    # It stays the same over turns, by which a fork is known.
    assert session_of(told.events) == SESSION


async def test_a_fork_begins_a_conversation_with_the_branch(client):
    server = Server(letta("text"))
    async with serve(server) as upstream:
        turn = user_turn("a", "b", "c", session=SESSION, forks=True)
        await hear(backend(client, upstream.url), turn)
    [(path, body)] = server.told
    assert "conv-new" in path
    assert content(body).endswith("c")
    assert "User: a" in content(body)


@pytest.mark.parametrize("lost", [404, 409, sse(CONFLICT)])
async def test_a_conversation_that_is_lost_begins_anew(client, lost):
    server = Server(lost, letta("text"))
    async with serve(server) as upstream:
        turn = user_turn("a", "b", "c", session=SESSION)
        told = await hear(backend(client, upstream.url), turn)
    assert text_of(told.events).startswith("Hello")
    assert not told.sentence
    assert "User: a" in content(server.told[1][1])
    assert "conv-new" in session_of(told.events)["conversation_id"]


async def test_an_agent_that_is_not_there_is_told(client):
    server = Server(404)
    async with serve(server) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert told.code == "status_404"
    assert len(server.told) == 1


async def test_one_history_takes_all_chats(client):
    server = Server(letta("text"))
    async with serve(server) as upstream:
        asked = backend(client, upstream.url, one_history=True)
        told = await hear(asked, user_turn("a", "b", "c"))
    [(path, body)] = server.asked
    assert path == "/v1/agents/a1/messages/stream"
    assert content(body) == "c"
    assert session_of(told.events) == {}


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_permission_is_asked_for_and_passed_on(client, allowed):
    second = "approved" if allowed else "denied"
    server = Server(letta("approval"), letta(second))
    person = Person(allows=allowed)
    async with serve(server) as upstream:
        turn = user_turn("TOOL_DELETE", dialogs=person)
        told = await hear(backend(client, upstream.url), turn)
    asked = ApprovalRequest(
        "delete_file", "delete_file", ARGUMENTS, ("/notes/old.txt",)
    )
    assert person.asked == [asked]
    [answer] = server.told[1][1]["messages"]
    [said] = answer["approvals"]
    assert (answer["type"], said["type"]) == ("approval", "approval")
    assert said["approve"] is allowed
    assert calls_of(told.events) == [("delete_file", ARGUMENTS)]
    [(output, failed)] = results_of(told.events)
    assert failed is not allowed
    denied = "The user did not allow this."
    assert output == ("/notes/old.txt is gone" if allowed else denied)
    assert text_of(told.events).endswith("in Bern.")
    assert reason_of(told.events) == "stop"


async def test_open_webui_runs_its_own_tools(client):
    server = Server(letta("client-tool"), letta("client-returned"))
    pending: dict[tuple[str, str, str], Any] = {}
    async with serve(server) as upstream:
        asked = user_turn("TOOL_WEATHER", tools=(TOOL,))
        first = await hear(backend(client, upstream.url, pending=pending), asked)
        assert reason_of(first.events) == "tool_calls"
        assert calls_of(first.events) == [("get_weather", '{"city":"Bern"}')]
        assert results_of(first.events) == []
        [(_, _, call_id)] = pending
        # Open WebUI's next request; the backend is another object.
        call = {"id": call_id, "function": {"name": "get_weather"}}
        said = {"role": "assistant", "content": "", "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": call_id, "content": "21"}
        further = asked.with_messages(said, result)
        second = await hear(backend(client, upstream.url, pending=pending), further)
    assert text_of(second.events).startswith("Tool finished.")
    assert pending == {}
    (path, body), (path_again, answer) = server.told
    assert path == path_again
    assert body["client_tools"][0]["name"] == "get_weather"
    assert answer["messages"][0]["approvals"] == [
        {
            "type": "tool",
            "tool_call_id": call_id,
            "tool_return": "21",
            "status": "success",
        }
    ]


@pytest.mark.parametrize("other", [{"user_id": "other"}, {"chat_id": "other"}])
async def test_a_call_of_another_chat_is_not_answered(client, other):
    server = Server(letta("client-tool"), letta("text"))
    pending: dict[tuple[str, str, str], Any] = {}
    async with serve(server) as upstream:
        asked = user_turn("hi", tools=(TOOL,), user_id="user", chat_id="chat")
        await hear(backend(client, upstream.url, pending=pending), asked)
        [(user_id, chat_id, call_id)] = pending
        assert (user_id, chat_id) == ("user", "chat")
        call = {"id": call_id, "function": {"name": "get_weather"}}
        said = {"role": "assistant", "content": "", "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": call_id, "content": "21"}
        further = replace(asked, **other).with_messages(said, result)
        await hear(backend(client, upstream.url, pending=pending), further)
    assert list(pending) == [("user", "chat", call_id)]
    assert content(server.told[1][1]) == "hi"


async def test_a_result_that_nobody_waits_for_begins_anew(client):
    server = Server(letta("text"))
    call = {"id": "c1", "function": {"name": "get_weather"}}
    said = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "21"}
    async with serve(server) as upstream:
        turn = user_turn("What is the weather?").with_messages(said, result)
        await hear(backend(client, upstream.url), turn)
    assert content(server.told[0][1]) == "What is the weather?"


async def test_only_the_latest_calls_are_waited_for(client):
    server = Server(letta("client-tool"))
    pending = {("", "", str(number)): {} for number in range(MAX_PENDING_CALLS)}
    async with serve(server) as upstream:
        asked = user_turn("TOOL_WEATHER", tools=(TOOL,))
        await hear(backend(client, upstream.url, pending=pending), asked)
    assert len(pending) == MAX_PENDING_CALLS
    assert ("", "", "0") not in pending


async def test_stop_cancels_the_run(client):
    server = Server(letta("cancel")[:900], hang=True)
    async with serve(server) as upstream:
        run = backend(client, upstream.url).run(user_turn("SLOWLY"))
        async with aclosing(run) as events:
            async for event in events:
                if text_of([event]):
                    break
        async with asyncio.timeout(5):
            await server.cancelled.wait()
    path, body = server.asked[-1]
    assert path == "/v1/agents/a1/messages/cancel"
    assert body == {"run_ids": ["run-2d2f7861-573a-4c6a-8540-7d81a264ba18"]}


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (letta("error"), "said_error"),
        (letta("text").split(b'data: {"message_type":"stop')[0], "cut_short"),
        (
            sse({"message_type": "stop_reason", "stop_reason": "end_turn"}),
            "empty_answer",
        ),
        (sse("no JSON"), "unreadable"),
        (sse({"message_type": "assistant_message", "content": 3}), "cut_short"),
        (sse({"message_type": "reasoning_message", "reasoning": 3}), "unreadable"),
        (
            sse({"message_type": "tool_call_message", "tool_call": {"name": "f"}}),
            "unreadable",
        ),
    ],
)
async def test_a_failure_is_told(client, stream, code):
    async with serve(Server(stream)) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert told.code == code


async def test_the_agents_are_listed(client):
    scouts = [{"id": f"agent-{n}", "name": f"Scout {n}"} for n in range(130)]

    async def agents(exchange: Exchange) -> None:
        query = parse_qs(urlsplit(exchange.path).query)
        ids = [scout["id"] for scout in scouts]
        start = ids.index(query["after"][0]) + 1 if "after" in query else 0
        await exchange.answer(200, scouts[start : start + int(query["limit"][0])])

    async with serve(agents) as upstream:
        found = await backend(client, upstream.url).discover()
    assert [{"id": agent.id, "name": agent.name} for agent in found] == scouts


async def test_health_is_asked_for(client):
    async def healthy(exchange: Exchange) -> None:
        await exchange.answer(200, {"status": "ok"})

    async with serve(healthy) as upstream:
        await backend(client, upstream.url).health()
        assert [asked.path for asked in upstream.asked] == ["/v1/health/"]


async def test_a_list_that_is_none(client):
    async def agents(exchange: Exchange) -> None:
        await exchange.answer(200, {"agents": []})

    async with serve(agents) as upstream:
        with pytest.raises(UpstreamBroken):
            await backend(client, upstream.url).discover()


def test_pictures_are_sent_and_other_files_named():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    paper = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}
    parts = [{"type": "text", "text": "See:"}, picture, {"type": "file", "file": paper}]
    [message] = letta_messages([{"role": "user", "content": parts}])
    source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    assert message["content"] == [
        {"type": "text", "text": "See:\n\n(A file that cannot be read: a.pdf.)"},
        {"type": "image", "source": source},
    ]


@pytest.mark.parametrize(
    ("keys", "mistake"),
    [
        ({"model": "agent-1", "url": "http://letta:8283/v1"}, "without `/v1`"),
        ({}, "give the id of an agent"),
        (
            {"model": "agent-1", "one_history": True, "isolated_blocks": ["human"]},
            "no blocks for each chat",
        ),
    ],
)
def test_a_mistake_in_an_entry(keys, mistake):
    entry = {"id": "a", "backend": "letta", "url": "http://letta:8283"}
    with pytest.raises(ValueError, match=mistake):
        LettaAgent(**(entry | keys))
