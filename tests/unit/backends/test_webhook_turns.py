"""Turns with a webhook: what is sent, every form of answer, and the presets.

The answers of Dify and Flowise are written after their documentation, for lack of
these servers.
"""

from typing import Any

import orjson
import pytest

from shared.agents.kinds.webhook import WebhookAgent, make_webhook
from shared.agents.parsing import parse_agents
from shared.backends.base import Turn
from shared.backends.webhook import StopRequest, WebhookBackend
from shared.backends.webhook_mapping import AnswerMapping
from shared.events import Finished
from tests.unit.backends.recorded import hear, results_of, session_of, user_turn
from tests.unit.backends.support import calls_of, sse, text_of, usage_of
from tests.unit.backends.upstream import (
    KEY,
    Exchange,
    Told,
    make_endpoint,
    saying,
    serve,
)

PLAIN = {"request": {"q": "{prompt}"}, "answer": {"text": "text", "error": "error"}}


def backend(client, url: str, **settings: Any) -> WebhookBackend:
    agent = WebhookAgent(id="hook", url=url, **settings)
    stop = agent.stop
    return WebhookBackend(
        client,
        make_endpoint(url),
        agent.request,
        agent.answer,
        agent.format,
        StopRequest(stop.suffix, stop.request) if stop else None,
    )


async def answered(
    client, *said: bytes | str, kind: str, turn: Turn | None = None, **settings: Any
) -> tuple[Told, Exchange]:
    """One turn with a service that says this, and what it was sent."""
    async with serve(saying(*said, kind=kind)) as server:
        speaking = backend(client, server.url, **(settings or PLAIN))
        told = await hear(speaking, turn or user_turn("hi", user_id="u1"))
    return told, server.asked[0]


async def test_one_object_of_json(client):
    told, asked = await answered(
        client, '{\n  "text": "Hello"\n}', kind="application/json"
    )
    assert text_of(told.events) == "Hello"
    assert told.events[-1] == Finished()
    assert asked.body == {"q": "hi"}
    assert asked.path == "/v1"
    assert asked.headers["authorization"] == f"Bearer {KEY}"


async def test_an_object_in_each_line(client):
    said = b'{"text": "Hel"}\n\n{"text": "lo"}'
    told, _ = await answered(client, said[:20], said[20:], kind="application/x-ndjson")
    assert text_of(told.events) == "Hello"


async def test_server_sent_events(client):
    said = sse({"text": "Hel"}, {"text": "lo"}, "[DONE]", {"text": "never"})
    told, _ = await answered(client, said, kind="text/event-stream")
    assert text_of(told.events) == "Hello"


async def test_plain_text_in_any_pieces(client):
    said = "Grüße, 世界 🌊".encode()
    pieces = [said[i : i + 1] for i in range(len(said))]
    told, _ = await answered(client, *pieces, kind="text/plain; charset=utf-8")
    assert text_of(told.events) == "Grüße, 世界 🌊"


async def test_the_form_may_be_given(client):
    settings = PLAIN | {"format": "text"}
    told, _ = await answered(client, "{not json", kind="application/json", **settings)
    assert text_of(told.events) == "{not json"


async def test_a_conversation_keeps_its_ids(client):
    settings = {
        "request": {"q": "{prompt}", "mine": "{thread}", "yours": "{session}"},
        "answer": {"text": "text", "session": "id"},
    }
    answer = '{"text": "Hello", "id": "s1"}'
    told, first = await answered(client, answer, kind="application/json", **settings)
    session = session_of(told.events)
    assert first.body["yours"] == ""
    assert session == {"thread": first.body["mine"], "session": "s1"}

    turn = user_turn("a", "b", "c", session=session)
    _, asked = await answered(
        client, answer, kind="application/json", turn=turn, **settings
    )
    assert asked.body == {"q": "c", "mine": first.body["mine"], "yours": "s1"}

    fork = user_turn("a", "b", "c", session=session, forks=True)
    _, asked = await answered(
        client, answer, kind="application/json", turn=fork, **settings
    )
    assert asked.body["yours"] == ""
    assert asked.body["mine"] != first.body["mine"]
    assert "Assistant: b" in asked.body["q"]


async def test_all_that_a_request_may_hold(client):
    request = {
        name: f"{{{name}}}"
        for name in ("message", "messages", "system", "files", "user_id", "chat_id")
    }
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}
    content = [{"type": "text", "text": "see"}, image]
    messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": content},
    )
    turn = Turn(messages, user_id="u1", chat_id="c1")
    settings = PLAIN | {"request": request}
    _, asked = await answered(
        client, '{"text": "x"}', kind="application/json", turn=turn, **settings
    )
    assert asked.body == {
        "message": "see",
        "messages": list(messages),
        "system": "Be brief.",
        "files": [
            {
                "type": "file",
                "name": "image-1.png",
                "mime": "image/png",
                "data": "data:image/png;base64,QQ==",
            }
        ],
        "user_id": "u1",
        "chat_id": "c1",
    }


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        ('{"error": "Out of order"}', "application/json", "said_error"),
        ('{"message": "Workflow could not start"}', "application/json", "said_error"),
        ('{"other": 1}', "application/json", "empty_answer"),
        ("", "application/json", "empty_answer"),
        ("", "text/plain", "empty_answer"),
        ("<html>Busy", "application/json", "unreadable"),
        (b"data: {broken\n\n", "text/event-stream", "unreadable"),
    ],
)
async def test_failures(client, said, kind, code):
    told, _ = await answered(client, said, kind=kind)
    assert told.code == code
    assert told.sentence


async def test_no_secret_is_told(client):
    said = orjson.dumps({"message": f"Wrong key: {KEY}"})
    told, _ = await answered(client, said, kind="application/json")
    assert "Wrong key: •••" in told.sentence


async def test_a_refusal_is_told_with_the_services_words(client):
    async def script(exchange: Exchange) -> None:
        await exchange.answer(404, {"message": 'The webhook "x" is not registered.'})

    async with serve(script) as server:
        told = await hear(backend(client, server.url, **PLAIN), user_turn("hi"))
    assert told.code == "status_404"
    assert "is not registered" in told.sentence


async def test_a_stream_without_its_mark_of_the_end(client):
    settings = PLAIN | {"answer": {"text": "text", "done": "last"}}
    said = sse({"text": "Hel"})
    told, _ = await answered(client, said, kind="text/event-stream", **settings)
    assert (text_of(told.events), told.code) == ("Hel", "cut_short")


async def test_closing_stops_the_task_where_the_service_has_a_way(client):
    async def script(exchange: Exchange) -> None:
        if exchange.path.endswith("/stop"):
            await exchange.answer(200, {"result": "success"})
            return
        await exchange.head()
        await exchange.send(sse({"text": "Hel", "task_id": "t/1"}))
        await exchange.until_closed()

    async with serve(script) as server:
        speaking = backend(
            client,
            server.url,
            request={"q": "{prompt}"},
            answer={"text": "text", "task": "task_id"},
            stop={"suffix": "/{task}/stop", "request": {"user": "{user_id}"}},
        )
        run = speaking.run(user_turn("hi", user_id="u1"))
        async for event in run:
            if text_of([event]):
                break
        await run.aclose()
        stopped = server.asked[-1]
    assert stopped.path == "/v1/t%2F1/stop"
    assert stopped.body == {"user": "u1"}


async def test_n8n_in_a_stream(client):
    said = b"".join(
        orjson.dumps(line) + b"\n"
        for line in (
            {"type": "begin", "metadata": {"nodeName": "AI Agent"}},
            {"type": "item", "content": "Hel"},
            {"type": "item", "content": "lo"},
            {"type": "end", "metadata": {"nodeName": "AI Agent"}},
        )
    )
    told, asked = await answered(client, said, kind="application/json", preset="n8n")
    assert text_of(told.events) == "Hello"
    thread = session_of(told.events)["thread"]
    assert asked.body == {
        "action": "sendMessage",
        "sessionId": thread,
        "chatInput": "hi",
    }


@pytest.mark.parametrize(
    "said",
    ['{"output": "Hello"}', '[{"output": "Hello"}]', '{"text": "Hello"}', '[{"text": "Hello"}]'],
)  # fmt: skip
async def test_n8n_in_one_piece(client, said):
    told, _ = await answered(client, said, kind="application/json", preset="n8n")
    assert text_of(told.events) == "Hello"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"content": "No key", "metadata": {"nodeName": "Agent"}}, "No key"),
        ({"metadata": {"nodeName": "Agent"}}, "Agent"),
    ],
)
async def test_n8n_in_an_error(client, said, reason):
    lines = [{"type": "item", "content": "I will"}, {"type": "error", **said}]
    sent = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    told, _ = await answered(client, sent, kind="application/json", preset="n8n")
    assert told.code == "said_error"
    assert f"({reason})" in told.sentence


DIFY_IDS = {"conversation_id": "c1", "task_id": "t1", "message_id": "m1"}


def dify(event: str, **fields: Any) -> dict[str, Any]:
    return {"event": event, **DIFY_IDS, **fields}


async def test_dify_as_a_chat(client):
    said = sse(
        dify("message", answer="Hel"),
        dify("message", answer="lo"),
        dify("message_end", metadata={"usage": {"total_tokens": 5, "currency": "USD"}}),
    )
    told, asked = await answered(
        client, b"event: ping\n\n", said, kind="text/event-stream", preset="dify"
    )
    assert text_of(told.events) == "Hello"
    assert usage_of(told.events) == {"total_tokens": 5}
    assert session_of(told.events)["session"] == "c1"
    assert asked.body == {
        "inputs": {},
        "query": "hi",
        "response_mode": "streaming",
        "conversation_id": "",
        "user": "u1",
    }


async def test_dify_as_an_agent_with_a_tool(client):
    thought = {"id": "th1", "tool": "look", "tool_input": '{"at": "it"}'}
    said = sse(
        dify("agent_message", answer="Let me see. "),
        dify("agent_thought", **thought, observation=""),
        dify("agent_thought", **thought, observation="a thing"),
        dify("agent_message", answer="A thing."),
        dify("message", answer="Let me see. A thing."),
        dify("message_end", metadata={}),
    )
    told, _ = await answered(client, said, kind="text/event-stream", preset="dify")
    assert text_of(told.events) == "Let me see. A thing."
    assert calls_of(told.events) == [("look", '{"at":"it"}')]
    assert results_of(told.events) == [("a thing", False)]


async def test_dify_in_an_error(client):
    said = sse(dify("error", status=400, code="invalid_param", message="No such app"))
    told, _ = await answered(client, said, kind="text/event-stream", preset="dify")
    assert told.code == "said_error"
    assert "No such app" in told.sentence


def flowise(event: str, data: Any) -> bytes:
    return b"message:\n" + sse({"event": event, "data": data})


async def test_flowise_in_a_stream(client):
    used = [{"tool": "look", "toolInput": {"at": "it"}, "toolOutput": "a thing"}]
    said = (
        flowise("start", "Hel"),
        flowise("token", "Hel"),
        flowise("usedTools", used),
        flowise("token", "lo"),
        flowise("metadata", {"chatId": "c1", "sessionId": "s1"}),
        flowise("end", "[DONE]"),
    )
    told, asked = await answered(
        client, *said, kind="text/event-stream", preset="flowise"
    )
    assert text_of(told.events) == "Hello"
    assert calls_of(told.events) == [("look", '{"at":"it"}')]
    assert results_of(told.events) == [("a thing", False)]
    assert asked.body["question"] == "hi"
    assert asked.body["uploads"] == []


async def test_flowise_in_one_piece(client):
    said = '{"text": "Hello", "chatId": "c1", "usedTools": [{"tool": "look", "toolInput": {}, "toolOutput": "x"}]}'
    told, _ = await answered(client, said, kind="application/json", preset="flowise")
    assert text_of(told.events) == "Hello"
    assert results_of(told.events) == [("x", False)]


async def test_flowise_in_an_error(client):
    said = flowise("error", "No credits")
    told, _ = await answered(client, said, kind="text/event-stream", preset="flowise")
    assert "No credits" in told.sentence


def test_own_keys_go_over_those_of_a_preset():
    agent = WebhookAgent(
        id="hook",
        url="http://x",
        preset="dify",
        request={"inputs": {"lang": "de"}},
        answer={"text": "other"},
    )
    assert agent.request["inputs"] == {"lang": "de"}
    assert agent.request["query"] == "{prompt}"
    assert agent.answer.text == AnswerMapping(text="other").text
    assert agent.answer.done


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give a `request`"),
        ({"request": {"q": "{prompt}"}}, "where the `text` is"),
        (PLAIN | {"request": {"q": "{promt}"}}, "`{promt}` is none of"),
        (PLAIN | {"request": {"k": "${secret:KEY}"}}, "secrets are sent"),
        (PLAIN | {"answer": {"text": "a["}}, "is no path"),
        (PLAIN | {"answer": {"txt": "a"}}, "this key is not known"),
        ({"preset": "zapier"}, "Input should be"),
    ],
)
def test_mistakes_in_an_entry(settings, message):
    entry = {"id": "hook", "backend": "webhook", "url": "http://x", **settings}
    config = parse_agents(orjson.dumps([entry]).decode())
    assert config.agents == ()
    assert message in str(config.problems[0])


def test_an_entry_makes_a_backend(monkeypatch, client):
    monkeypatch.setattr(
        "shared.agents.kinds.webhook.shared_resource", lambda name, make: client
    )
    agent = WebhookAgent(id="hook", url="http://x", preset="dify")
    made = make_webhook(agent, "")
    assert isinstance(made, WebhookBackend)
    assert made.stop == StopRequest("/{task}/stop", {"user": "{user_id}"})


async def test_a_webhook_lists_no_models(client):
    hook = backend(client, "http://x", **PLAIN)
    assert await hook.discover() == []
    await hook.health()
    await hook.cancel({"task": "t"})
