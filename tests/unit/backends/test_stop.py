"""Stop, in every phase: the connection to the agent closes at once."""

import asyncio
import gc

import pytest

from shared.agents.answers import chat_stream
from shared.agents.tool_rounds import ToolPolicy, answer_with_tools
from shared.backends.openai import OpenAIBackend
from shared.events import Finished, TextDelta
from shared.render.items import ChatRenderer
from tests.unit.backends.support import chunk, sse
from tests.unit.backends.upstream import (
    HEAD,
    PATIENCE,
    QUESTION,
    holding,
    make_endpoint,
)
from tests.unit.guard import guarded

CALL = {"index": 0, "id": "a", "function": {"name": "t", "arguments": "{"}}
PHASES = {
    "connecting": (),
    "waiting": (HEAD,),
    "thinking": (HEAD, sse(chunk(reasoning="Hm"))),
    "text": (HEAD, sse(chunk(content="Hello"))),
    "tool": (HEAD, sse(chunk(tool_calls=[CALL]))),
    "ending": (HEAD, sse(chunk(content="Hello"), chunk("stop"))),
}
NATIVE = ToolPolicy("native", "error", 10, {})


@pytest.fixture
def quiet(caplog):
    """Nothing may be left behind that the event loop has to complain about."""
    yield
    gc.collect()
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


def backend_run(client, server):
    return OpenAIBackend(client, make_endpoint(server.url), "m").run(QUESTION)


def pipe_answer(client, server):
    """The whole way of an answer, as the pipe hands it to a chat."""
    backend = OpenAIBackend(client, make_endpoint(server.url), "m")
    events = guarded(answer_with_tools(backend.run, QUESTION, NATIVE), {})
    return chat_stream(events, ChatRenderer("scout", lambda code, _: code), None)


async def reach(server, task, seen, wanted):
    """Wait until the server is asked and its caller has seen this many pieces."""
    async with asyncio.timeout(PATIENCE):
        while not server.asked or seen.qsize() < wanted:
            assert not task.done()
            await asyncio.wait([task], timeout=0.005)


async def listen(answer, seen):
    async for piece in answer:
        seen.put_nowait(piece)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("start", [backend_run, pipe_answer])
async def test_a_cancelled_answer_closes_the_connection(client, phase, start, quiet):
    said = PHASES[phase]
    async with holding(*said) as server:
        seen: asyncio.Queue = asyncio.Queue()
        task = asyncio.create_task(listen(start(client, server), seen))
        await reach(server, task, seen, 1 if len(said) > 1 else 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.wait_until_hung_up()


@pytest.mark.parametrize("phase", ["thinking", "text", "tool"])
@pytest.mark.parametrize("start", [backend_run, pipe_answer])
async def test_a_closed_answer_closes_the_connection(client, phase, start, quiet):
    """Open WebUI closes the generator when its reader has gone away."""
    async with holding(*PHASES[phase]) as server:
        answer = start(client, server)
        async with asyncio.timeout(PATIENCE):
            await anext(answer)
        await answer.aclose()
        await server.wait_until_hung_up()


async def test_a_stop_while_the_handshake_hangs(client, quiet):
    connected, hung_up = asyncio.Event(), asyncio.Event()

    async def mute(reader, writer):
        connected.set()
        await reader.read()
        hung_up.set()
        writer.close()

    listener = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with listener, asyncio.timeout(PATIENCE):
        port = listener.sockets[0].getsockname()[1]
        endpoint = make_endpoint(f"https://127.0.0.1:{port}/v1")
        answer = OpenAIBackend(client, endpoint, "m").run(QUESTION)
        task = asyncio.create_task(listen(answer, asyncio.Queue()))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await hung_up.wait()


async def test_one_stop_leaves_the_other_answers_alone(client, quiet):
    async with holding(HEAD, sse(chunk(content="Hello"))) as held:
        stopped = backend_run(client, held)
        assert await anext(stopped) == TextDelta("Hello")
        async with holding(HEAD, sse(chunk(content="Yes"), "[DONE]")) as other:
            running = backend_run(client, other)
            assert await anext(running) == TextDelta("Yes")
            await stopped.aclose()
            assert [event async for event in running] == [Finished("stop")]
        await held.wait_until_hung_up()
