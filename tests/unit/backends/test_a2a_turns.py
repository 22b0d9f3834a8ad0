"""Turns with A2A agents: cards, dialects, questions, lost streams, Stop, failures."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.agents.kinds.a2a import A2AAgent
from shared.backends import a2a
from shared.backends.a2a import A2ABackend
from shared.backends.a2a_wire import A2AInterface, card_interfaces, choose_interface
from shared.backends.addresses import HostRules
from shared.backends.base import Turn
from shared.backends.dialogs import UserQuestion
from shared.backends.http import new_http_client
from shared.errors import UpstreamUnreachable
from tests.unit.backends.recorded import (
    Person,
    hear,
    recorded,
    session_of,
    user_turn,
)
from tests.unit.backends.support import sse, text_of
from tests.unit.backends.upstream import KEY, Exchange, make_endpoint, serve

OWN = HostRules(("127.0.0.1",))
TEXT = recorded("a2a/text.sse")
HELLO = "Hello from the scripted model. This text is streamed in several small chunks."
TASK_ID = "ccc00a16-39da-4334-8dd8-30e171f9163e"
# After the third piece of the text.
CUT = b"\n\n".join(TEXT.split(b"\n\n")[:5]) + b"\n\n"
WHOLE = {
    "id": TASK_ID,
    "contextId": "c",
    "status": {"state": "TASK_STATE_COMPLETED"},
    "artifacts": [{"artifactId": "answer", "parts": [{"text": HELLO}]}],
}
NOT_FOUND = {"error": {"code": -32001, "message": "Task not found"}}


class Agent:
    """An agent whose card names its own address; `answers` says what to do next.

    An answer is a stream (bytes), JSON, or a function of the exchange.
    """

    def __init__(self, *answers: Any, streaming: bool = True, **interface: str) -> None:
        self.answers = list(answers)
        self.streaming = streaming
        self.interface = {"protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        self.interface |= interface
        self.asked: list[Exchange] = []

    async def __call__(self, exchange: Exchange) -> None:
        if "well-known" in exchange.path:
            url = f"http://{exchange.headers['host']}/agent"
            card = {
                "name": "Card",
                "supportedInterfaces": [{"url": url, **self.interface}],
                "capabilities": {"streaming": self.streaming},
            }
            await exchange.answer(200, card)
            return
        self.asked.append(exchange)
        answer = self.answers.pop(0)
        if isinstance(answer, bytes):
            await exchange.head()
            await exchange.send(answer)
        elif isinstance(answer, Callable):
            await answer(exchange)
        else:
            await exchange.answer(200, answer)

    @property
    def methods(self) -> list[str]:
        """What was asked: JSON-RPC's methods, or the paths."""
        return [(e.body or {}).get("method") or e.path for e in self.asked]

    def message(self, number: int = 0) -> dict[str, Any]:
        body = self.asked[number].body
        return body.get("params", body)["message"]


def backend(client, url: str, **fields: Any) -> A2ABackend:
    return A2ABackend(client, client, make_endpoint(url), OWN, **fields)


async def cut(exchange: Exchange) -> None:
    """Say a part of the text and break the connection inside a chunk."""
    await exchange.send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    await exchange.send(f"{len(CUT):x}\r\n".encode() + CUT + b"\r\nff\r\n")


async def test_a_turn(client):
    agent = Agent(TEXT)
    async with serve(agent) as server:
        told = await hear(backend(client, server.url), user_turn("hi"))
    assert text_of(told.events) == HELLO
    assert session_of(told.events) == {
        "context_id": "897108cb-9c40-44f5-8a5d-cad0660e7444"
    }
    [asked] = agent.asked
    assert asked.path == "/agent"
    assert asked.headers["a2a-version"] == "1.0"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body["method"] == "SendStreamingMessage"
    assert agent.message()["parts"] == [{"text": "hi"}]


async def test_a_context_is_continued_with_what_is_new(client):
    agent = Agent(TEXT)
    async with serve(agent) as server:
        turn = user_turn("a", "b", "c", session={"context_id": "c1"})
        await hear(backend(client, server.url), turn)
    assert agent.message()["contextId"] == "c1"
    assert agent.message()["parts"] == [{"text": "c"}]


async def test_a_fork_begins_a_context_with_the_whole_branch(client):
    agent = Agent(TEXT)
    async with serve(agent) as server:
        turn = user_turn("a", "b", "c", session={"context_id": "c1"}, forks=True)
        await hear(backend(client, server.url), turn)
    assert "contextId" not in agent.message()
    [part] = agent.message()["parts"]
    assert "User: a" in part["text"]
    assert "Assistant: b" in part["text"]


@pytest.mark.parametrize("lost", [cut, CUT])
async def test_a_lost_stream_is_attached_again(client, lost):
    """What was missed meanwhile comes from the task itself."""
    part = {"artifactId": "answer", "parts": [{"text": HELLO[:40]}]}
    so_far = WHOLE | {"status": {"state": "TASK_STATE_WORKING"}, "artifacts": [part]}
    update = {"artifact": {"artifactId": "answer", "parts": [{"text": HELLO[40:]}]}}
    done = {"taskId": TASK_ID, "status": {"state": "TASK_STATE_COMPLETED"}}
    rest = sse(
        {"result": {"task": so_far}},
        {"result": {"artifactUpdate": update | {"append": True}}},
        {"result": {"statusUpdate": done}},
    )
    agent = Agent(lost, {"result": so_far}, rest)
    async with serve(agent) as server:
        told = await hear(backend(client, server.url), user_turn("hi"))
    assert text_of(told.events) == HELLO
    assert not told.sentence
    assert agent.methods == ["SendStreamingMessage", "GetTask", "SubscribeToTask"]
    assert agent.asked[2].body["params"] == {"id": TASK_ID}


async def test_a_task_that_ended_meanwhile_is_fetched(client):
    agent = Agent(cut, {"result": WHOLE})
    async with serve(agent) as server:
        told = await hear(backend(client, server.url), user_turn("hi"))
    assert text_of(told.events) == HELLO
    assert agent.methods == ["SendStreamingMessage", "GetTask"]


async def test_a_task_that_nobody_may_listen_to_is_looked_at(client, monkeypatch):
    monkeypatch.setattr(a2a, "PAUSE_SECONDS", 0)
    working = WHOLE | {"status": {"state": "TASK_STATE_WORKING"}, "artifacts": []}
    agent = Agent(cut, {"result": working}, NOT_FOUND, {"result": WHOLE})
    async with serve(agent) as server:
        told = await hear(backend(client, server.url), user_turn("hi"))
    assert text_of(told.events) == HELLO


async def test_an_agent_that_is_gone_for_good(client, monkeypatch):
    monkeypatch.setattr(a2a, "PAUSE_SECONDS", 0)

    async def gone(exchange: Exchange) -> None:
        agent.answers.append(gone)

    agent = Agent(cut, gone)
    async with serve(agent) as server:
        told = await hear(backend(client, server.url), user_turn("hi"))
    assert told.code == "cut_short"
    assert HELLO.startswith(text_of(told.events))


async def test_an_agent_without_streams_is_asked_until_its_task_ends(
    client, monkeypatch
):
    monkeypatch.setattr(a2a, "PAUSE_SECONDS", 0)
    working = WHOLE | {"status": {"state": "TASK_STATE_WORKING"}, "artifacts": []}
    agent = Agent(
        {"result": {"task": working}},
        {"result": working},
        {"result": WHOLE},
        streaming=False,
    )
    async with serve(agent) as server:
        told = await hear(backend(client, server.url), user_turn("hi"))
    assert text_of(told.events) == HELLO
    assert agent.methods == ["SendMessage", "GetTask", "GetTask"]


async def test_a_task_that_never_moves_is_given_up(client, monkeypatch):
    monkeypatch.setattr(a2a, "PAUSE_SECONDS", 0)
    working = {"result": WHOLE | {"status": {"state": "working"}, "artifacts": []}}

    async def again(exchange: Exchange) -> None:
        agent.answers.append(again)
        await exchange.answer(200, working)

    agent = Agent(again, streaming=False)
    async with serve(agent) as server:
        impatient = A2ABackend(
            client, client, make_endpoint(server.url, between_tokens=0.05), OWN
        )
        told = await hear(impatient, user_turn("hi"))
    assert told.code == "silent_between"


async def test_a_stream_that_is_lost_before_its_task_is_known(client):
    async def nothing(exchange: Exchange) -> None:
        await exchange.head()

    async with serve(Agent(nothing)) as server:
        told = await hear(backend(client, server.url), user_turn("hi"))
    assert told.code == "cut_short"


async def test_a_question_is_asked_and_the_task_goes_on(client):
    agent = Agent(recorded("a2a/input.sse"), TEXT)
    person = Person(says="Bern")
    async with serve(agent) as server:
        turn = user_turn("hi", dialogs=person)
        told = await hear(backend(client, server.url), turn)
    assert person.asked == [UserQuestion("Which city?")]
    answer = agent.message(1)
    assert answer["parts"] == [{"text": "Bern"}]
    assert answer["taskId"] == "a3d34bcf-bee1-46ff-9ce3-fd9586298cd5"
    assert answer["contextId"] == "0ace5486-b305-4121-baa2-c329f582023c"
    assert text_of(told.events) == HELLO


async def test_without_a_dialog_the_next_message_is_the_answer(client):
    waiting = WHOLE | {"status": {"state": "TASK_STATE_INPUT_REQUIRED"}}
    agent = Agent(recorded("a2a/input.sse"), {"result": waiting}, TEXT)
    async with serve(agent) as server:
        speaking = backend(client, server.url)
        told = await hear(speaking, user_turn("hi"))
        assert text_of(told.events) == "Which city?"
        session = session_of(told.events)
        turn = user_turn("hi", "Which city?", "Rome", session=session)
        told = await hear(speaking, turn)
    assert agent.message(2)["taskId"] == session["task_id"]
    assert "task_id" not in session_of(told.events)


@pytest.mark.parametrize("answer", [NOT_FOUND, {"result": WHOLE}])
async def test_a_question_that_waits_no_more_is_begun_anew(client, answer):
    """The agent forgot the task, or another branch of the chat answered it."""
    agent = Agent(answer, TEXT)
    session = {"context_id": "c", "task_id": "t"}
    async with serve(agent) as server:
        turn = user_turn("a", "b", "c", session=session)
        told = await hear(backend(client, server.url), turn)
    assert text_of(told.events) == HELLO
    assert {"taskId", "contextId"}.isdisjoint(agent.message(1))
    assert "Assistant: b" in agent.message(1)["parts"][0]["text"]


async def test_stop_cancels_the_task(client):
    async def slow(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(CUT)
        await exchange.until_closed()

    agent = Agent(slow, {"result": WHOLE})
    async with serve(agent) as server:
        run = backend(client, server.url).run(user_turn("hi"))
        async for event in run:
            if text_of([event]):
                break
        await run.aclose()
    assert agent.methods[1:] == ["CancelTask"]
    assert agent.asked[1].body["params"] == {"id": TASK_ID}


async def test_stop_while_the_user_is_asked_cancels_the_task(client):
    class Absent(Person):
        async def ask(self, question: UserQuestion) -> str | None:
            raise asyncio.CancelledError

    agent = Agent(recorded("a2a/input.sse"), {"result": WHOLE})
    async with serve(agent) as server:
        run = backend(client, server.url).run(user_turn("hi", dialogs=Absent()))
        with pytest.raises(asyncio.CancelledError):
            [event async for event in run]
    assert agent.methods[1:] == ["CancelTask"]


async def test_a_task_that_failed_is_not_cancelled_and_tells_no_secret(client):
    said = {"parts": [{"text": f"The key {KEY} is wrong."}]}
    status = {"state": "TASK_STATE_FAILED", "message": said}
    failed = {"taskId": "t", "status": status}
    agent = Agent(sse({"result": {"statusUpdate": failed}}))
    async with serve(agent) as server:
        told = await hear(backend(client, server.url), user_turn("hi"))
    assert told.code == "said_error"
    assert "The key ••• is wrong." in told.sentence
    assert agent.methods == ["SendStreamingMessage"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"error": {"code": -32603, "message": "Out of order"}}, "said_error"),
        (sse({"error": {"code": -32603, "message": "Out of order"}}), "said_error"),
        (b"data: {broken\n\n", "unreadable"),
        (b'data: {"result": {"task": {"artifacts": 5}}}\n\n', "unreadable"),
        (sse({"result": {"message": {"parts": []}}}), "empty_answer"),
    ],
)
async def test_failures(client, answer, code):
    async with serve(Agent(answer)) as server:
        told = await hear(backend(client, server.url), user_turn("hi"))
    assert told.code == code
    assert told.sentence


@pytest.mark.parametrize(
    ("rest", "legacy", "parts", "part"),
    [
        (False, False, "parts", {"raw": "aGk=", "mediaType": "text/plain", "filename": "a.txt"}),
        (True, False, "parts", {"raw": "aGk=", "mediaType": "text/plain", "filename": "a.txt"}),
        (False, True, "parts", {"kind": "file", "file": {"bytes": "aGk=", "mimeType": "text/plain", "name": "a.txt"}}),
        (True, True, "content", {"file": {"fileWithBytes": "YUdrPQ==", "mimeType": "text/plain", "name": "a.txt"}}),
    ],
)  # fmt: skip
async def test_the_users_files_in_every_dialect(client, rest, legacy, parts, part):
    data = base64.b64encode(b"hi").decode()
    file = {"filename": "a.txt", "file_data": f"data:text/plain;base64,{data}"}
    content = [{"type": "text", "text": "see"}, {"type": "file", "file": file}]
    agent = Agent(
        TEXT,
        protocolBinding="HTTP+JSON" if rest else "JSONRPC",
        protocolVersion="0.3" if legacy else "1.0",
    )
    async with serve(agent) as server:
        turn = Turn(({"role": "user", "content": content},))
        await hear(backend(client, server.url), turn)
    message = agent.message()
    assert message[parts][1] == part
    assert message["role"] == ("user" if legacy and not rest else "ROLE_USER")
    assert ("a2a-version" in agent.asked[0].headers) is not legacy


@pytest.mark.parametrize(
    ("rest", "legacy", "operation", "path", "method"),
    [
        (False, False, "stream", "", "SendStreamingMessage"),
        (False, True, "stream", "", "message/stream"),
        (False, True, "subscribe", "", "tasks/resubscribe"),
        (False, True, "get", "", "tasks/get"),
        (False, True, "cancel", "", "tasks/cancel"),
        (True, False, "stream", "/message:stream", None),
        (True, False, "get", "/tasks/t", None),
        (True, True, "send", "/v1/message:send", None),
        (True, True, "cancel", "/v1/tasks/t:cancel", None),
        (True, False, "subscribe", "/tasks/t:subscribe", None),
    ],
)
def test_requests_of_every_dialect(rest, legacy, operation, path, method):
    interface = A2AInterface("http://x/a", rest, legacy)
    asked = interface.request(operation, {"id": "t"})
    assert asked.path == path
    assert (asked.body or {}).get("method") == method


def test_a_tenant_and_a_slash_at_the_end():
    plain = A2AInterface("http://x/a/", rest=False, legacy=False, tenant="acme")
    assert plain.request("get", {"id": "t"}).path == "/"
    assert plain.request("get", {"id": "t"}).body["params"]["tenant"] == "acme"
    rest = replace(plain, rest=True)
    assert rest.request("get", {"id": "t"}).path == "/acme/tasks/t"


def test_the_interfaces_of_a_card():
    card = json.loads(recorded("a2a/card.json"))
    found = [(i.rest, i.legacy) for i in card_interfaces(card)]
    assert found == [(False, False), (True, False), (False, True)]
    assert choose_interface(card, "http+json").url.endswith("/rest")
    assert choose_interface(card, version="0.3").legacy


def test_the_interfaces_of_an_old_card():
    card = {
        "url": "http://x/a",
        "protocolVersion": "0.3.0",
        "additionalInterfaces": [
            {"url": "http://x/grpc", "transport": "GRPC"},
            {"url": "http://x/rest", "transport": "HTTP+JSON"},
        ],
    }
    found = [(i.url, i.rest, i.legacy) for i in card_interfaces(card)]
    assert found == [("http://x/a", False, True), ("http://x/rest", True, True)]


def test_a_card_with_no_way_that_we_know():
    card = {"supportedInterfaces": [{"url": "x:1", "protocolBinding": "GRPC"}]}
    with pytest.raises(UpstreamUnreachable) as caught:
        choose_interface(card)
    assert caught.value.code == "a2a_no_interface"


async def test_the_places_of_a_card(client):
    paths: list[str] = []

    async def script(exchange: Exchange) -> None:
        paths.append(exchange.path)
        if exchange.path.endswith(("agent.json", "mine.json")):
            await exchange.answer(200, {"name": "Old"})
        else:
            await exchange.answer(404, {})

    async with serve(script) as server:
        [model] = await backend(client, server.url).discover()
        assert model.name == "Old"
        await backend(client, f"{server.url}/mine.json").health()
    assert paths == [
        "/v1/.well-known/agent-card.json",
        "/v1/.well-known/agent.json",
        "/v1/mine.json",
    ]


async def test_a_card_that_names_a_private_host_is_refused(client):
    async def script(exchange: Exchange) -> None:
        url = f"http://localhost:{exchange.headers['host'].partition(':')[2]}/agent"
        interface = {"url": url, "protocolBinding": "JSONRPC"}
        await exchange.answer(200, {"supportedInterfaces": [interface]})

    async with serve(script) as server, new_http_client(only_public=True) as public:
        speaking = A2ABackend(client, public, make_endpoint(server.url), OWN)
        told = await hear(speaking, user_turn("hi"))
        assert [e.path for e in server.asked] == ["/v1/.well-known/agent-card.json"]
    assert told.code == "address_refused"
    assert "localhost" in told.sentence


async def test_a_host_that_only_the_card_names_gets_no_secrets(client):
    """`client` stands for the public client here, since this host is not public."""
    agent = Agent(TEXT)
    async with serve(agent) as server:
        endpoint = make_endpoint(server.url)
        endpoint = replace(endpoint, headers={"x-api-key": "sk-other-secret"})
        rules = HostRules(("agents.example",))
        told = await hear(A2ABackend(client, client, endpoint, rules), user_turn("hi"))
    assert text_of(told.events) == HELLO
    assert {"authorization", "x-api-key"}.isdisjoint(agent.asked[0].headers)


async def test_a_denied_host_is_not_contacted(client):
    agent = Agent()
    async with serve(agent) as server:
        rules = HostRules(("agents.example",), ("*",))
        speaking = A2ABackend(client, client, make_endpoint(server.url), rules)
        told = await hear(speaking, user_turn("hi"))
    assert told.code == "address_refused"
    assert agent.asked == []


def test_configuration():
    agent = A2AAgent(
        id="a", url="http://Own.lan:9/x", version=1.0, allow_hosts=["B.example"]
    )
    assert agent.version == "1.0"
    assert agent.rules == HostRules(("own.lan", "b.example"))
    with pytest.raises(ValueError, match="write host names"):
        A2AAgent(id="a", url="http://x", allow_hosts=["http://b.example"])
