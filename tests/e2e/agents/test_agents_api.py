"""Agents over Open WebUI's API, as programs reach them: with the `openai` client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from devkit.demo_agent import DemoAgent
from tests.e2e.agents.answers import outcome
from tests.e2e.agents.scene import TOOL_ID
from tests.webui import WebUI

SUNNY = "It is 21 degrees and sunny in Paris."
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest_asyncio.fixture(loop_scope="session")
async def client(scene: WebUI) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{scene.url}/api",
        api_key=scene.admin_token,
        max_retries=0,
        http_client=httpx.AsyncClient(trust_env=False, timeout=60),
    ) as client:
        yield client


def asked(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def streamed(
    client: AsyncOpenAI, model: str, text: str, **more: Any
) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(
        model=model, messages=asked(text), stream=True, **more
    )
    chunks: list[ChatCompletionChunk] = []
    await collect(stream, chunks)
    return chunks


async def collect(
    stream: AsyncIterable[ChatCompletionChunk], into: list[ChatCompletionChunk]
) -> None:
    """Put chunks `into` a list that is still there when the stream fails."""
    async for chunk in stream:
        into.append(chunk)


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    return "".join(delta.content or "" for delta in deltas)


def calls_of(chunks: list[ChatCompletionChunk]) -> dict[int, tuple[str, str]]:
    """Name and arguments of each call, put together by index as clients do."""
    calls: dict[int, tuple[str, str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for part in choice.delta.tool_calls or ():
                name, arguments = calls.get(part.index, ("", ""))
                assert part.function is not None
                calls[part.index] = (
                    name + (part.function.name or ""),
                    arguments + (part.function.arguments or ""),
                )
    return calls


def finish_of(chunks: list[ChatCompletionChunk]) -> list[str]:
    return [c.finish_reason for k in chunks for c in k.choices if c.finish_reason]


async def test_agents_are_listed_as_models(client: AsyncOpenAI):
    found = {model.id async for model in client.models.list()}
    assert {"agents.demo", "agents.session", "agents.private"} <= found


@pytest.mark.parametrize("agent", ["demo", "responses", "session"])
async def test_an_answer_in_one_piece(client: AsyncOpenAI, agent: str):
    answer = await client.chat.completions.create(
        model=f"agents.{agent}", messages=asked("What is 17 × (23 + 4)?")
    )
    [choice] = answer.choices
    assert "**459**" in (choice.message.content or "")
    assert choice.message.tool_calls is None
    assert choice.finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.model == f"agents.{agent}"
    assert answer.usage is not None
    assert answer.usage.total_tokens == (
        answer.usage.prompt_tokens + answer.usage.completion_tokens
    )


@pytest.mark.parametrize("agent", ["demo", "responses", "session"])
async def test_an_answer_in_chunks(client: AsyncOpenAI, agent: str):
    chunks = await streamed(client, f"agents.{agent}", "What is 17 × (23 + 4)?")
    assert "**459**" in text_of(chunks)
    assert len([chunk for chunk in chunks if text_of([chunk])]) > 3
    assert finish_of(chunks) == ["stop"]
    assert calls_of(chunks) == {}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    thoughts = [
        (choice.delta.model_extra or {}).get("reasoning_content") or ""
        for chunk in chunks
        for choice in chunk.choices
    ]
    assert "arithmetic" in "".join(thoughts)


async def test_usage_comes_when_it_is_asked_for(client: AsyncOpenAI):
    without = await streamed(client, "agents.demo", "hello")
    assert [chunk.usage for chunk in without if chunk.usage] == []
    chunks = await streamed(
        client, "agents.demo", "hello", stream_options={"include_usage": True}
    )
    [usage] = [chunk.usage for chunk in chunks if chunk.usage]
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


async def test_nothing_but_chunks_reaches_the_caller(scene: WebUI):
    body = {"model": "agents.demo", "messages": asked("What time is it in Tokyo?")}
    with (
        scene.client() as client,
        client.stream(
            "POST", "/api/chat/completions", json={**body, "stream": True}
        ) as response,
    ):
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    *chunks, end = (line.removeprefix("data: ") for line in lines)
    assert end == "[DONE]"
    assert {json.loads(chunk)["object"] for chunk in chunks} == {
        "chat.completion.chunk"
    }


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("agent", "text"),
    [
        ("demo", "use get_weather in Paris and get_weather in Rome"),
        ("responses", "use get_weather in Paris and get_weather in Rome"),
        ("passthrough-error", "use get_weather in Paris and get_weather in Rome"),
    ],
)
async def test_the_callers_tools_are_the_callers_to_run(
    client: AsyncOpenAI, agent: str, text: str, stream: bool
):
    if stream:
        chunks = await streamed(client, f"agents.{agent}", text, tools=[WEATHER])
        calls = list(calls_of(chunks).values())
        assert finish_of(chunks) == ["tool_calls"]
    else:
        answer = await client.chat.completions.create(
            model=f"agents.{agent}", messages=asked(text), tools=[WEATHER]
        )
        called: Any = answer.choices[0].message.tool_calls
        calls = [(call.function.name, call.function.arguments) for call in called]
        assert answer.choices[0].finish_reason == "tool_calls"
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("get_weather", {"city": "Rome"}),
    ]


async def test_the_callers_results_reach_the_agent(client: AsyncOpenAI):
    messages = asked("use get_weather in Paris")
    answer = await client.chat.completions.create(
        model="agents.demo", messages=messages, tools=[WEATHER]
    )
    called: Any = answer.choices[0].message
    result = {"tool_call_id": called.tool_calls[0].id, "content": SUNNY}
    messages += [called.model_dump(), {"role": "tool", **result}]
    answer = await client.chat.completions.create(
        model="agents.demo", messages=messages, tools=[WEATHER]
    )
    assert SUNNY in (answer.choices[0].message.content or "")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_open_webuis_tools_run_for_a_caller(client: AsyncOpenAI, stream: bool):
    model, text = "agents.execute-error", "use get_weather in Paris"
    extra = {"tool_ids": [TOOL_ID]}
    if stream:
        chunks = await streamed(client, model, text, extra_body=extra)
        assert calls_of(chunks) == {}
        assert finish_of(chunks) == ["stop"]
        said = text_of(chunks)
    else:
        answer = await client.chat.completions.create(
            model=model, messages=asked(text), extra_body=extra
        )
        assert answer.choices[0].message.tool_calls is None
        said = answer.choices[0].message.content or ""
    assert SUNNY in said


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("syntax", ["hermes", "qwen3_coder", "llama3_json", "pythonic"])
async def test_a_leaked_call_reaches_the_caller_as_a_call(
    client: AsyncOpenAI, syntax: str, stream: bool
):
    text = f"use get_weather in Paris as {syntax}"
    if stream:
        chunks = await streamed(client, "agents.leaking", text, tools=[WEATHER])
        calls, said = list(calls_of(chunks).values()), text_of(chunks)
        assert finish_of(chunks) == ["tool_calls"]
    else:
        answer = await client.chat.completions.create(
            model="agents.leaking", messages=asked(text), tools=[WEATHER]
        )
        message: Any = answer.choices[0].message
        calls = [(c.function.name, c.function.arguments) for c in message.tool_calls]
        said = message.content or ""
        assert answer.choices[0].finish_reason == "tool_calls"
    [(name, arguments)] = calls
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Paris"})
    assert said.strip() == "I will ask `get_weather` for that."


async def test_busy_is_a_rate_limit_with_its_time(client: AsyncOpenAI):
    with pytest.raises(openai.RateLimitError) as raised:
        await client.chat.completions.create(
            model="agents.demo", messages=asked("/fail 429")
        )
    assert raised.value.response.headers["retry-after"] == "7"
    assert "Please try again in 7 s" in raised.value.message


@pytest.mark.parametrize(
    ("agent", "text", "status", "sentence"),
    [
        ("demo", "/fail 401", 502, "did not accept its key (401)"),
        ("demo", "/fail 404", 502, "does not know this model or address (404)"),
        ("demo", "/fail 500", 502, "has a fault on its own side (500)"),
        ("demo", "/break cut", 502, "broke off"),
        ("gone", "hello", 502, "refuses connections"),
        ("impatient", "/silent first", 504, "did not begin to answer within 1.5 s"),
        ("faulty", "hello", 500, "Something went wrong inside Aqueduct"),
    ],
)
async def test_a_failure_has_a_status_and_a_sentence(
    client: AsyncOpenAI, agent: str, text: str, status: int, sentence: str
):
    with pytest.raises(openai.APIStatusError) as raised:
        await client.chat.completions.create(
            model=f"agents.{agent}", messages=asked(text)
        )
    assert raised.value.status_code == status
    assert sentence in raised.value.message


async def test_a_failure_in_the_middle_of_a_stream(client: AsyncOpenAI):
    stream = await client.chat.completions.create(
        model="agents.demo", messages=asked("/break stream"), stream=True
    )
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as raised:
        await collect(stream, chunks)
    assert text_of(chunks).startswith("This message holds nothing but commands")
    assert "Demo agent reported an error" in raised.value.message


async def test_closing_the_stream_ends_the_agents_work(
    client: AsyncOpenAI, demo: DemoAgent
):
    stream = await client.chat.completions.create(
        model="agents.demo", messages=asked("/words 900 /slow 0.05"), stream=True
    )
    async for chunk in stream:
        if text_of([chunk]):
            break
    assert demo.requests()[0]["outcome"] == "running"
    await stream.close()
    assert await outcome(demo) == "cancelled"
