"""Both APIs in one process, looked at as they stand on the wire."""

import json
from typing import Any

import httpx
import pytest

from tests.unit.demo.conftest import NOW, WEATHER

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


def body(path: str, text: str, **more: Any) -> dict[str, Any]:
    said = (
        {"messages": [{"role": "user", "content": text}]}
        if path == CHAT
        else {"input": text}
    )
    return {"model": "aqueduct-demo", **said, **more}


def events(text: str) -> list[dict[str, Any]]:
    data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(item) for item in data if item != "[DONE]"]


async def stream(client: httpx.AsyncClient, path: str, text: str, **more: Any):
    response = await client.post(path, json=body(path, text, stream=True, **more))
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    return events(response.text)


def deltas(chunks: list[dict], field: str) -> list[Any]:
    found = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    return [delta[field] for delta in found if delta.get(field)]


async def test_models_and_health(client) -> None:
    models = (await client.get("/v1/models")).json()
    assert [model["id"] for model in models["data"]] == [
        "aqueduct-demo",
        "aqueduct-demo-leaky",
    ]
    assert (await client.get("/health")).json() == {"status": "ok"}


async def test_a_streamed_chat(client) -> None:
    options = {"include_usage": True}
    chunks = await stream(client, CHAT, "what is 2+2", stream_options=options)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["created"] == int(NOW.timestamp())
    assert "calculator" in "".join(deltas(chunks, "reasoning_content"))
    assert "".join(deltas(chunks, "content")[1:]) == "🧮 `2+2` is **4**."
    opening, *fragments = deltas(chunks, "tool_calls")
    assert opening[0]["function"] == {"name": "calculator", "arguments": ""}
    arguments = "".join(f[0]["function"]["arguments"] for f in fragments)
    assert json.loads(arguments) == {"expression": "2+2"}
    assert deltas(chunks, "tool_call_id") == [opening[0]["id"]]
    assert deltas(chunks, "content")[0] == "4"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    usage = chunks[-1]["usage"]
    assert chunks[-1]["choices"] == []
    assert usage["prompt_tokens"] == 3
    assert usage["total_tokens"] == 3 + usage["completion_tokens"]


async def test_a_chat_at_once(client) -> None:
    answer = (await client.post(CHAT, json=body(CHAT, "what is 2+2"))).json()
    message = answer["choices"][0]["message"]
    assert answer["object"] == "chat.completion"
    assert message["content"] == "🧮 `2+2` is **4**."
    assert "tool_calls" not in message
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


async def test_usage_only_when_asked_for(client) -> None:
    chunks = await stream(client, CHAT, "hello")
    assert all("usage" not in chunk for chunk in chunks)


async def test_chat_cites_and_draws(client) -> None:
    chunks = await stream(client, CHAT, "How do I install it?")
    ((note, *_),) = deltas(chunks, "annotations")
    text = "".join(delta for delta in deltas(chunks, "content")[1:])
    source = note["url_citation"]
    assert text[source["start_index"] : source["end_index"]].startswith("[Quick start]")
    page = await client.get(source["url"])
    assert "run one command" in page.text
    assert (await client.get("/pyproject.toml")).status_code == 404
    ((image,),) = deltas(await stream(client, CHAT, "draw a tree"), "images")
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


async def test_chat_calls_the_tools_of_the_caller(client) -> None:
    text = "use get_weather in Paris"
    chunks = await stream(client, CHAT, text, tools=[WEATHER])
    fragments = deltas(chunks, "tool_calls")
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    answer = await client.post(CHAT, json=body(CHAT, text, tools=[WEATHER]))
    choice = answer.json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert call["id"] == fragments[0][0]["id"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    none = body(CHAT, text, tools=[WEATHER], tool_choice="none")
    answer = (await client.post(CHAT, json=none)).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    forced = body(CHAT, "hello", tools=[WEATHER], tool_choice="required")
    answer = (await client.post(CHAT, json=forced)).json()
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_leak_splits_its_markers(client) -> None:
    chunks = await stream(
        client,
        CHAT,
        "use get_weather in Paris as hermes",
        model="aqueduct-demo-leaky",
        tools=[WEATHER],
    )
    parts = deltas(chunks, "content")
    assert "<tool_call>" in "".join(parts)
    assert not any("<tool_call>" in part for part in parts)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_streamed_response(client) -> None:
    found = await stream(client, RESPONSES, "what is 2+2")
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    names = [event["type"] for event in found]
    assert names[:2] == ["response.created", "response.in_progress"]
    for name in (
        "response.reasoning_text.delta",
        "response.mcp_call_arguments.delta",
        "response.mcp_call.completed",
        "response.output_text.delta",
    ):
        assert name in names
    response = found[-1]["response"]
    assert found[-1]["type"] == "response.completed"
    assert [item["type"] for item in response["output"]] == [
        "reasoning",
        "mcp_call",
        "message",
    ]
    call = response["output"][1]
    assert (call["name"], call["output"]) == ("calculator", "4")
    assert call["server_label"] == "aqueduct-demo"
    done = [e["item"] for e in found if e["type"] == "response.output_item.done"]
    assert done == response["output"]
    answer = await client.post(RESPONSES, json=body(RESPONSES, "what is 2+2"))
    assert answer.json() == response


async def test_deltas_add_up_to_the_items(client) -> None:
    found = await stream(client, RESPONSES, "How do I install it?")
    for item in found[-1]["response"]["output"]:
        of_item = [
            e["delta"] for e in found if e.get("item_id") == item["id"] and "delta" in e
        ]
        part = item["content"][0]["text"] if "content" in item else item["arguments"]
        assert "".join(of_item) == part
    note = found[-1]["response"]["output"][-1]["content"][0]["annotations"][0]
    added = [e for e in found if e["type"] == "response.output_text.annotation.added"]
    assert added[0]["annotation"] == note


async def test_a_summary_when_asked_for(client) -> None:
    found = await stream(client, RESPONSES, "hello", reasoning={"summary": "auto"})
    names = {event["type"] for event in found}
    assert "response.reasoning_summary_text.delta" in names
    assert "response.reasoning_text.delta" not in names
    assert found[-1]["response"]["output"][0]["summary"][0]["text"]


async def test_responses_calls_the_tools_of_the_caller(client) -> None:
    tools = [{"type": "function", **WEATHER["function"]}]
    text = "use get_weather in Paris"
    found = await stream(client, RESPONSES, text, tools=tools)
    call = found[-1]["response"]["output"][-1]
    assert (call["type"], call["name"]) == ("function_call", "get_weather")
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": text}]},
        call,
        {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"},
    ]
    request = {"model": "aqueduct-demo", "input": items, "tools": tools}
    answer = (await client.post(RESPONSES, json=request)).json()
    assert "> sunny" in answer["output"][-1]["content"][0]["text"]


async def test_responses_draws_and_fails_calls(client) -> None:
    found = await stream(client, RESPONSES, "draw a tree")
    image = found[-1]["response"]["output"][-1]
    assert image["type"] == "image_generation_call"
    assert image["result"].startswith("iVBOR")
    found = await stream(client, RESPONSES, "what is 1/0")
    call = found[-1]["response"]["output"][1]
    assert (call["status"], call["output"]) == ("failed", None)
    assert "divided by zero" in call["error"]


@pytest.mark.parametrize(
    ("path", "limit"), [(CHAT, "max_tokens"), (RESPONSES, "max_output_tokens")]
)
async def test_a_token_limit_cuts_the_answer(client, path: str, limit: str) -> None:
    found = await stream(client, path, "/words 50", **{limit: 7})
    if path == CHAT:
        assert len(deltas(found, "content")) == 7
        assert found[-1]["choices"][0]["finish_reason"] == "length"
    else:
        response = found[-1]["response"]
        assert response["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize(
    ("path", "request_body"),
    [
        (CHAT, b"{not json"),
        (CHAT, b"[]"),
        (CHAT, b'{"model": "aqueduct-demo"}'),
        (CHAT, b'{"model": "aqueduct-demo", "messages": ["hello"]}'),
        (CHAT, b'{"messages": [{"role": "user"}], "tools": [{"function": {}}]}'),
        (RESPONSES, b'{"model": "aqueduct-demo", "input": []}'),
        (RESPONSES, b'{"input": "x", "previous_response_id": "resp_1"}'),
    ],
)
async def test_bad_requests(client, path: str, request_body: bytes) -> None:
    response = await client.post(path, content=request_body)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


async def test_unknown_model(client) -> None:
    response = await client.post(CHAT, json=body(CHAT, "hello", model="gpt-none"))
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


async def test_the_same_request_gets_the_same_bytes(client) -> None:
    request = body(CHAT, "How do I install it?", stream=True)
    first = await client.post(CHAT, json=request)
    second = await client.post(CHAT, json=request)
    assert first.content == second.content


async def test_the_journal_keeps_no_secrets(client) -> None:
    headers = {"authorization": "Bearer hidden-1"}
    request = body(CHAT, "hello", api_key="hidden-2")
    await client.post(CHAT, json=request, headers=headers)
    text = (await client.get("/debug/requests")).text
    assert "hidden" not in text
    (entry,) = json.loads(text)["requests"]
    assert entry["body"]["messages"] == request["messages"]
    assert (entry["status"], entry["outcome"]) == (200, "finished")
    await client.post("/debug/reset")
    assert (await client.get("/debug/requests")).json() == {"requests": []}


async def test_a_kept_conversation_is_continued(client) -> None:
    said = body(RESPONSES, "The first thing I say is plum.", store=True)
    first = (await client.post(RESPONSES, json=said)).json()
    asked = body(RESPONSES, "What did I say first?", previous_response_id=first["id"])
    second = (await client.post(RESPONSES, json=asked)).json()
    assert "plum" in second["output"][-1]["content"][0]["text"]
