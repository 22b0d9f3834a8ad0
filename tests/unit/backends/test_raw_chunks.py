"""What an API caller gets of an upstream's own chunks: all that nobody has to change."""

import asyncio
import gc
from contextlib import aclosing

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.agents.answers import completion_stream
from shared.backends.openai import OpenAIBackend
from shared.backends.openai_chat import ChatCompletionsDecoder
from shared.events import ReasoningDelta, TextDelta
from shared.render.chunks import CompletionRenderer
from tests.unit.backends.support import PROPERTY, sse
from tests.unit.backends.upstream import (
    HEAD,
    PATIENCE,
    QUESTION,
    holding,
    make_endpoint,
    saying,
    serve,
)

HEAD_OF_CHUNK = {"id": "theirs-1", "created": 7, "model": "theirs"}


def theirs(finish_reason=None, *, more=None, **delta):
    """An upstream's chunk, with something in it that we know nothing of."""
    choice = {"index": 0, "delta": delta, "logprobs": {"content": [1]}}
    choice["finish_reason"] = finish_reason
    kind = {"object": "chat.completion.chunk"}
    return {**HEAD_OF_CHUNK, **kind, "choices": [choice], **(more or {})}


def api_answer(client, server):
    """The whole way of an answer, as the pipe hands it to an API caller."""
    backend = OpenAIBackend(client, make_endpoint(server.url), "m")
    renderer = CompletionRenderer("agents.scout", lambda code, _: code)
    return completion_stream(backend.run(QUESTION), renderer)


async def answered(client, *said):
    """The pieces that a caller gets from a server that says this."""
    async with serve(saying(*said)) as server:
        return [piece async for piece in api_answer(client, server)]


def payload(piece):
    assert piece.startswith(b"data: ")
    assert piece.endswith(b"\n\n")
    assert piece.count(b"\n") == 2
    return orjson.loads(piece[6:])


async def test_text_and_thoughts_go_as_they_came(client):
    said = [
        sse(theirs(role="assistant", content="")),
        sse(theirs(reasoning_content="Hm")),
        sse(theirs(content="Hel")),
        sse(theirs(content="lo")),
    ]
    begin, *pieces, end, done = await answered(
        client, *said, sse(theirs("stop"), "[DONE]")
    )
    assert pieces == said[1:]
    assert payload(begin)["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert payload(end)["choices"][0]["finish_reason"] == "stop"
    for ours in (begin, end):
        assert HEAD_OF_CHUNK.items() <= payload(ours).items()
    assert done == b"data: [DONE]\n\n"


async def test_an_error_after_raw_chunks_is_told(client):
    *_, last, done = await answered(client, sse(theirs(content="Hello")))
    assert payload(last)["error"]["code"] == "cut_short"
    assert done == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "said",
    [
        theirs(content="a", reasoning_content="b"),
        theirs(reasoning="b"),
        theirs("stop", content="a"),
        theirs(content=[{"type": "text", "text": "a"}]),
        theirs(content="a", refusal="no"),
        theirs(content="a", tool_calls=[{"index": 0, "function": {"name": "t"}}]),
        theirs(content="a", more={"object": "something else"}),
        theirs(content="a", more={"choices": theirs(content="a")["choices"] * 2}),
        theirs(content="a", more={"choices": [{"message": {"content": "a"}}]}),
        theirs(content="<think>"),
        theirs(role="tool", tool_call_id="x", content="a"),
    ],
)
def test_what_has_to_change_is_not_raw(said):
    events = ChatCompletionsDecoder().feed("", said, orjson.dumps(said))
    assert not any(getattr(event, "raw", b"") for event in events)


@pytest.mark.parametrize(
    "line",
    [
        b'data: {"object": "chat.completion.chunk",\ndata: "choices": '
        b'[{"delta": {"content": "a"}}]}\n\n',
        b'data: {"object": "chat.completion.chunk", "n": NaN, "choices": '
        b'[{"delta": {"content": "a"}}]}\n\n',
    ],
    ids=["several lines", "no strict JSON"],
)
async def test_a_chunk_that_others_could_not_read_is_written_anew(client, line):
    pieces = await answered(client, line, sse(theirs("stop"), "[DONE]"))
    deltas = [payload(piece)["choices"][0]["delta"] for piece in pieces[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == "a"


words = st.sampled_from(["<think>", "<thi", "nk>", "</think>", "</th", "a", " ", ""])
deltas = st.lists(
    st.builds(lambda parts: {"content": "".join(parts)}, st.lists(words, max_size=3))
    | st.builds(lambda text: {"reasoning_content": text}, words),
    max_size=8,
)


@PROPERTY
@given(deltas)
def test_a_caller_reads_the_same_text_either_way(said):
    def read(raw):
        decoder = ChatCompletionsDecoder()
        renderer = CompletionRenderer("agents.scout", lambda code, _: code)
        chunks = [theirs(**delta) for delta in said]
        events = [e for c in chunks for e in decoder.feed("", c, raw(c))]
        pieces = [p for e in [*events, *decoder.finish()] for p in renderer.stream(e)]
        read = [payload(piece)["choices"][0]["delta"] for piece in pieces]
        kinds = ("content", "reasoning_content")
        return ["".join(delta.get(kind) or "" for delta in read) for kind in kinds]

    assert read(orjson.dumps) == read(lambda chunk: b"")


def test_raw_makes_no_other_event():
    assert TextDelta("a", b"{}") == TextDelta("a")
    assert "{}" not in repr(ReasoningDelta("a", b"{}"))


@pytest.mark.parametrize("phase", [(HEAD,), (HEAD, sse(theirs(content="Hello")))])
async def test_a_cancelled_answer_closes_the_connection(client, phase):
    pieces: asyncio.Queue = asyncio.Queue()

    async def listen(server):
        async with aclosing(api_answer(client, server)) as answer:
            async for piece in answer:
                pieces.put_nowait(piece)

    async with holding(*phase) as server, asyncio.timeout(PATIENCE):
        task = asyncio.create_task(listen(server))
        for _ in phase[1:]:
            await pieces.get()
        while not server.asked:
            await asyncio.wait([task], timeout=0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.wait_until_hung_up()


@pytest.mark.parametrize("way", ["closed", "dropped"])
async def test_an_answer_nobody_reads_closes_the_connection(client, way):
    """A caller that hangs up: Open WebUI closes its generators or forgets them."""
    async with holding(HEAD, sse(theirs(content="Hello"))) as server:
        answer = api_answer(client, server)
        await anext(answer)
        if way == "closed":
            await answer.aclose()
        del answer
        gc.collect()
        await server.wait_until_hung_up()
