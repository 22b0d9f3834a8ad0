"""A real server, met with the official client and with plain httpx."""

import json
import signal
import subprocess
import sys

import httpx
import openai
import pytest

from demo.server import create_app
from tests.unit.demo.conftest import WEATHER
from tests.unit.demo.test_apis import CHAT, RESPONSES, body

HEADERS = {"authorization": "Bearer open"}


@pytest.fixture
async def official(live: str):
    async with openai.AsyncOpenAI(
        base_url=f"{live}/v1", api_key="open", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def plain(live: str):
    async with httpx.AsyncClient(base_url=live, headers=HEADERS, timeout=10) as client:
        await client.post("/debug/reset")
        yield client


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


async def test_the_key_is_checked(live: str, official) -> None:
    models = [model.id async for model in official.models.list()]
    assert models == ["aqueduct-demo", "aqueduct-demo-leaky"]
    async with openai.AsyncOpenAI(base_url=f"{live}/v1", api_key="wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


async def test_official_client_streams_a_chat(official) -> None:
    stream = await official.chat.completions.create(
        model="aqueduct-demo",
        messages=user("what is 6 * 7"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    said = [c.choices[0].delta for c in chunks if c.choices]
    text = "".join(d.content or "" for d in said if d.role != "tool")
    assert text == "🧮 `6 * 7` is **42**."
    assert any(getattr(delta, "reasoning_content", None) for delta in said)
    assert chunks[-1].usage.total_tokens > 0


async def test_official_client_runs_a_tool(official) -> None:
    messages = user("use get_weather in Paris then get_weather in Rome")
    for weather in ("sunny", "rainy"):
        answer = await official.chat.completions.create(
            model="aqueduct-demo", messages=messages, tools=[WEATHER]
        )
        message = answer.choices[0].message
        call = message.tool_calls[0]
        result = {"role": "tool", "tool_call_id": call.id, "content": weather}
        messages += [message.model_dump(exclude_none=True), result]
    answer = await official.chat.completions.create(
        model="aqueduct-demo", messages=messages, tools=[WEATHER]
    )
    assert "> sunny" in answer.choices[0].message.content
    assert "> rainy" in answer.choices[0].message.content


async def test_official_client_streams_a_response(official) -> None:
    async with official.responses.stream(
        model="aqueduct-demo", input="what is 6 * 7"
    ) as stream:
        names = {event.type async for event in stream}
        final = await stream.get_final_response()
    assert "response.mcp_call.completed" in names
    assert final.output_text == "🧮 `6 * 7` is **42**."
    assert [item.type for item in final.output] == ["reasoning", "mcp_call", "message"]
    assert final.usage.output_tokens > 0


async def test_official_client_runs_a_tool_in_responses(official) -> None:
    tools = [{"type": "function", "strict": None, **WEATHER["function"]}]
    items = user("use get_weather in Paris")
    first = await official.responses.create(
        model="aqueduct-demo", input=items, tools=tools
    )
    call = first.output[-1]
    assert json.loads(call.arguments) == {"city": "Paris"}
    result = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": "sunny",
    }
    second = await official.responses.create(
        model="aqueduct-demo", input=[*items, *first.output, result], tools=tools
    )
    assert "> sunny" in second.output_text


async def test_official_client_sees_the_errors(official) -> None:
    ask = official.chat.completions.create
    with pytest.raises(openai.RateLimitError) as limited:
        await ask(model="aqueduct-demo", messages=user("/fail 429"))
    assert limited.value.response.headers["retry-after"] == "7"
    stream = await ask(
        model="aqueduct-demo", messages=user("/break stream"), stream=True
    )
    with pytest.raises(openai.APIError, match="broke off"):
        async for _ in stream:
            pass


async def receive(
    client: httpx.AsyncClient,
    path: str,
    text: str,
    received: bytearray,
    patience: float = 10,
) -> None:
    """Stream an answer into `received`, so that it survives an error."""
    request = body(path, text, stream=True)
    async with client.stream("POST", path, json=request, timeout=patience) as response:
        async for chunk in response.aiter_raw():
            received += chunk


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_break_cut_drops_the_connection(plain, path: str) -> None:
    received = bytearray()
    with pytest.raises(httpx.RemoteProtocolError):
        await receive(plain, path, "/break cut", received)
    assert received
    assert not received.endswith(b"\n")
    entries = (await plain.get("/debug/requests")).json()["requests"]
    assert entries[-1]["outcome"] == "cut"


async def test_text_comes_while_it_is_made(plain) -> None:
    request = body(CHAT, "/silent middle", stream=True)
    received = b""
    async with plain.stream("POST", CHAT, json=request) as response:
        async for chunk in response.aiter_raw():
            received += chunk
            if b"commands " in received:
                break
        entries = (await plain.get("/debug/requests")).json()["requests"]
        assert entries[-1]["outcome"] == "running"
    assert b"fountain" not in received


@pytest.mark.parametrize(
    "command", ["/silent first", "/silent middle", "/slow 60", "/silent first /plain"]
)
async def test_notices_that_the_client_left(plain, command: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await receive(plain, CHAT, command, bytearray(), patience=0.3)
    entry = await last_entry_with(plain, "cancelled")
    assert entry["ended"] > entry["started"]


async def last_entry_with(plain: httpx.AsyncClient, outcome: str) -> dict:
    """Ask until the last request has this outcome; the journal is all there is to
    see of it from outside."""
    for _ in range(500):
        entry = (await plain.get("/debug/requests")).json()["requests"][-1]
        if entry["outcome"] == outcome:
            return entry
    raise AssertionError(entry)


async def test_split_cuts_characters_apart(plain) -> None:
    received = bytearray()
    await receive(plain, CHAT, "hello /split", received)
    text = received.decode()
    entries = (await plain.get("/debug/requests")).json()["requests"]
    assert entries[-1]["chunks"] > text.count("data: ") * 10


def test_a_taken_port_is_one_clear_line(live: str) -> None:
    command = [sys.executable, "-m", "demo", "--port", live.rpartition(":")[2]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "Cannot listen" in ended.stderr


def test_ends_cleanly_with_a_stream_open() -> None:
    command = [sys.executable, "-m", "demo"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        assert process.stderr
        address = process.stdout.readline().strip()
        request = body(CHAT, "/silent middle", stream=True)
        with httpx.stream("POST", address + CHAT, json=request) as response:
            next(response.iter_raw())
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 0
        assert process.stderr.read() == ""


async def test_debug_is_off_unless_asked_for() -> None:
    transport = httpx.ASGITransport(create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://d") as client:
        assert (await client.get("/debug/requests")).status_code == 404
