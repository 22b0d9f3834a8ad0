"""Turns with the Messages API: requests, tool rounds, pauses and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.agents.kinds.anthropic import AnthropicAgent
from shared.backends.anthropic import (
    MAX_KEPT_ANSWERS,
    AnthropicBackend,
    anthropic_endpoint,
)
from shared.backends.anthropic_messages import anthropic_body
from shared.backends.base import Turn
from shared.backends.http import Endpoint
from tests.unit.backends.recorded import hear, recorded, user_turn
from tests.unit.backends.support import sse, text_of, usage_of
from tests.unit.backends.test_anthropic_decoder import block, call, end, text
from tests.unit.backends.upstream import (
    KEY,
    Exchange,
    make_endpoint,
    saying,
    serve,
)

THINKING = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


class Api:
    """The API, answering with these streams in turn."""

    def __init__(self, *streams: bytes) -> None:
        self.streams = list(streams)
        self.asked: list[Exchange] = []

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.append(exchange)
        await exchange.head()
        await exchange.send(self.streams.pop(0))


def backend(client, url: str, **fields: Any) -> AnthropicBackend:
    endpoint = anthropic_endpoint(make_endpoint(url))
    return AnthropicBackend(client, endpoint, "claude", **fields)


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The request for a turn of these messages."""
    kept = more.pop("kept", {})
    options = {k: more.pop(k) for k in ("cache", "server_tools") if k in more}
    options.setdefault("cache", False)
    return anthropic_body("claude", Turn(tuple(messages), **more), kept, **options)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def called(call_id: str = "t1", arguments: str = "{}", content: str = "") -> dict:
    """An assistant message with one call."""
    function = {"name": "f", "arguments": arguments}
    calls = [{"id": call_id, "type": "function", "function": function}]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(call_id: str = "t1", content: str = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


async def test_a_whole_turn(client):
    api = Api(recorded("anthropic/text.sse"))
    async with serve(api) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("a", "b", "c"))
    assert text_of(told.events).startswith("Hello from the scripted model.")
    [asked] = api.asked
    assert asked.path == "/v1/messages"
    assert asked.headers["x-api-key"] == KEY
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in asked.headers
    assert asked.body["stream"] is True
    assert asked.body["max_tokens"] == 8192
    roles = [message["role"] for message in asked.body["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_configured_headers_win():
    given = {"Anthropic-Version": "2030-01-01", "anthropic-beta": "x"}
    endpoint = anthropic_endpoint(Endpoint("a", "http://x", "k", given))
    headers = endpoint.request_headers()
    assert headers["anthropic-version"] == "2030-01-01"
    assert headers["anthropic-beta"] == "x"


def test_parameters_in_the_apis_names():
    params = {
        "max_completion_tokens": 50,
        "temperature": 0.2,
        "stop": "END",
        "reasoning_effort": "high",
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "seed": 4,
        "service_tier": "auto",
    }
    request = body(user("hi"), params=params, tools=(TOOL,))
    assert request["max_tokens"] == 50
    assert request["temperature"] == 0.2
    assert request["stop_sequences"] == ["END"]
    assert request["output_config"] == {"effort": "high"}
    choice = {"type": "any", "disable_parallel_tool_use": True}
    assert request["tool_choice"] == choice
    assert request["service_tier"] == "auto"
    assert not {"seed", "stop", "max_completion_tokens"} & request.keys()
    schema = {"type": "object"}
    assert request["tools"] == [
        {"name": "f", "description": "", "input_schema": schema}
    ]


@pytest.mark.parametrize(
    ("wanted", "choice"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        (
            {"type": "function", "function": {"name": "f"}},
            {"type": "tool", "name": "f"},
        ),
    ],
)
def test_a_choice_of_tools(wanted, choice):
    request = body(user("hi"), params={"tool_choice": wanted}, tools=(TOOL,))
    assert request["tool_choice"] == choice


def test_thinking_gets_room_and_no_sampling():
    request = body(user("hi"), params={**THINKING, "temperature": 0.2})
    assert request["max_tokens"] == 8192 + 2000
    assert "temperature" not in request


def test_results_of_a_round_stand_in_one_message_with_what_follows():
    both = called("t1", '{"a": 1}')
    both["tool_calls"] += called("t2", "no JSON")["tool_calls"]
    request = body(
        {"role": "system", "content": "Be short."},
        {"role": "system", "content": ""},
        user("do"),
        both,
        result("t1", "one"),
        result("t2", ""),
        user("and?"),
    )
    assert request["system"] == [{"type": "text", "text": "Be short."}]
    _, assistant, answer = request["messages"]
    assert [part["input"] for part in assistant["content"]] == [{"a": 1}, {}]
    assert [part["type"] for part in answer["content"]] == [
        "tool_result",
        "tool_result",
        "text",
    ]
    assert answer["content"][1]["content"] == "(no output)"


def test_an_answer_that_is_continued_does_not_end_in_white_space():
    request = body(user("hi"), {"role": "assistant", "content": "Once upon "})
    assert request["messages"][-1]["content"][0]["text"] == "Once upon"


def test_attachments():
    def file(name: str, url: str) -> dict[str, Any]:
        return {"type": "file", "file": {"filename": name, "file_data": url}}

    parts = [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        file("a.pdf", "data:application/pdf;base64,aGk="),
        file("a.txt", "data:text/plain;base64,aGk="),
        file("a.zip", "data:application/zip;base64,aGk="),
    ]
    [message] = body(user(parts))["messages"]
    inline = {"type": "base64", "data": "aGk="}
    plain = {"type": "text", "media_type": "text/plain", "data": "hi"}
    assert message["content"] == [
        {"type": "image", "source": {**inline, "media_type": "image/png"}},
        {
            "type": "image",
            "source": {"type": "url", "url": "https://example.org/a.png"},
        },
        {"type": "document", "source": {**inline, "media_type": "application/pdf"}},
        {"type": "document", "source": plain, "title": "a.txt"},
        {"type": "text", "text": "(A file that cannot be read: a.zip.)"},
        {"type": "text", "text": "See:"},
    ]


def test_what_stays_the_same_is_marked_for_the_cache():
    turn = user_turn("a", "b", "c", "d", "e")
    system = {"role": "system", "content": "Be short."}
    request = body(system, *turn.messages, tools=(TOOL, TOOL), cache=True)
    assert request["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert ["cache_control" in tool for tool in request["tools"]] == [False, True]
    marked = ["cache_control" in m["content"][-1] for m in request["messages"]]
    assert marked == [False, False, True, False, True]
    assert "cache_control" not in str(body(system, *turn.messages))


async def test_thoughts_before_a_call_come_back_with_its_result(client):
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    deltas = (
        {"type": "thinking_delta", "thinking": "Hm."},
        {"type": "signature_delta", "signature": "s"},
    )
    first = sse(*block(thought, *deltas), *call("f", index=1), *end("tool_use"))
    api = Api(first, sse(*text("Done."), *end()))
    kept: dict[tuple[str, str, str], Any] = {}
    async with serve(api) as upstream:
        asked = user_turn("do", params=THINKING)
        await hear(backend(client, upstream.url, kept=kept), asked)
        # Open WebUI's next request; the backend is another object.
        further = asked.with_messages(called("id_f"), result("id_f"))
        told = await hear(backend(client, upstream.url, kept=kept), further)
    assert text_of(told.events) == "Done."
    request = api.asked[1].body
    assert request["thinking"] == THINKING["thinking"]
    signed = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    assert request["messages"][1]["content"][0] == signed


@pytest.mark.parametrize("other", [{"user_id": "other"}, {"chat_id": "other"}])
async def test_thoughts_stay_in_their_chat(client, other):
    secret = {"type": "thinking", "thinking": "Secret.", "signature": "s"}
    api = Api(sse(*text("Done."), *end()))
    async with serve(api) as upstream:
        kept = {("user", "chat", "id_f"): [secret]}
        asked = user_turn("do", params=THINKING, user_id="user", chat_id="chat")
        asked = asked.with_messages(called("id_f"), result("id_f"))
        turn = replace(asked, **other)
        await hear(backend(client, upstream.url, kept=kept), turn)
    assert "Secret." not in str(api.asked[0].body)


def test_without_the_thoughts_a_round_does_not_think():
    request = body(user("do"), called(), result(), params=THINKING)
    assert "thinking" not in request
    earlier = body(user("do"), called(), result(), user("so?"), params=THINKING)
    assert "thinking" in earlier


async def test_only_the_latest_answers_are_kept(client):
    kept = {("", "", str(number)): [] for number in range(MAX_KEPT_ANSWERS)}
    stream = sse(*call("f"), *end("tool_use"))
    async with serve(saying(stream)) as upstream:
        asked = user_turn("do", params=THINKING)
        await hear(backend(client, upstream.url, kept=kept), asked)
    assert len(kept) == MAX_KEPT_ANSWERS
    assert ("", "", "0") not in kept
    assert ("", "", "id_f") in kept


async def test_a_pause_goes_on(client):
    counts = {"output_tokens": 2}
    search = call("web_search", '{"query":"x"}', kind="server_tool_use")
    api = Api(
        sse(*search, *end("pause_turn", **counts)),
        sse({"type": "message_start", "message": {}}, *text("Found."), *end(**counts)),
    )
    tools = ({"type": "web_search_20250305", "name": "web_search"},)
    async with serve(api) as upstream:
        asked = backend(client, upstream.url, server_tools=tools)
        told = await hear(asked, user_turn("search"))
    assert text_of(told.events) == "Found."
    assert usage_of(told.events) == {"output_tokens": 4}
    first, second = (exchange.body for exchange in api.asked)
    assert first["tools"][0]["name"] == "web_search"
    assert second["messages"][-1]["role"] == "assistant"
    assert second["messages"][-1]["content"][0]["input"] == {"query": "x"}


@pytest.mark.parametrize(
    ("status", "kind", "sentence"),
    [
        (529, "overloaded_error", "Scout is overloaded. Please try again in a minute."),
        (401, "authentication_error", "Scout did not accept its key (401)."),
        (400, "invalid_request_error", "Scout refused the request (400)."),
        (500, "api_error", "Scout has a fault on its own side (500)."),
    ],
)
async def test_a_refusal(client, status, kind, sentence):
    async def refuse(exchange: Exchange) -> None:
        said = {"type": kind, "message": f"because of {KEY}"}
        await exchange.answer(status, {"type": "error", "error": said})

    async with serve(refuse) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert told.sentence.startswith(sentence)
    assert "because of •••" in told.sentence


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (sse(*text("Hi")), "cut_short"),
        (sse(*end()), "empty_answer"),
        (sse("no JSON"), "unreadable"),
        (sse({"type": "content_block_stop", "index": 7}), "unreadable"),
        (sse(*text("Hi"), {"type": "error", "error": {"message": "x"}}), "said_error"),
        (b'{"error": {"message": "no such model"}}', "said_error"),
    ],
)
async def test_a_failure_is_told(client, stream, code):
    async with serve(saying(stream)) as upstream:
        told = await hear(backend(client, upstream.url), user_turn("hi"))
    assert told.code == code


async def test_the_models_are_listed(client):
    async def models(exchange: Exchange) -> None:
        named = {"id": "claude-x", "display_name": "Claude X"}
        await exchange.answer(200, {"data": [named, {"id": "claude-y"}, {}]})

    async with serve(models) as upstream:
        found = await backend(client, upstream.url).discover()
    assert [(m.id, m.name) for m in found] == [
        ("claude-x", "Claude X"),
        ("claude-y", "claude-y"),
    ]


@pytest.mark.parametrize(
    ("keys", "mistake"),
    [
        ({}, "give a `model`"),
        ({"model": "m", "session": True}, "keeps no sessions"),
        ({"model": "m", "server_tools": [{"type": "x"}]}, "needs a `type`"),
    ],
)
def test_a_mistake_in_an_entry(keys, mistake):
    with pytest.raises(ValueError, match=mistake):
        AnthropicAgent(id="a", backend="anthropic", **keys)


def test_the_address_may_be_left_out():
    agent = AnthropicAgent(id="a", backend="anthropic", model="m")
    assert agent.place == "api.anthropic.com"
