"""Servers that say nothing, and servers that do not know when to stop."""

import asyncio

import pytest

from shared.backends.openai import OpenAIBackend
from shared.events import Finished
from tests.unit.backends.support import chunk, sse, text_of, usage_of
from tests.unit.backends.upstream import (
    HEAD,
    QUESTION,
    ask,
    holding,
    make_endpoint,
    saying,
    serve,
)

HELLO = sse(chunk(content="Hel"), chunk(content="lo"))
END = sse(chunk("stop"))
USAGE = sse({"choices": [], "usage": {"total_tokens": 5}})
DONE = sse("[DONE]")


async def test_silence_before_the_first_token(client):
    async with holding() as server:
        told = await ask(client, server.url, first_token=0.2)
        await server.wait_until_hung_up()
    assert told.sentence == "Scout did not begin to answer within 0.2 s."


async def test_headers_and_roles_are_no_token(client):
    async with holding(HEAD, sse(chunk(role="assistant", content=""))) as server:
        told = await ask(client, server.url, first_token=0.2)
        await server.wait_until_hung_up()
    assert told.code == "silent_first"


@pytest.mark.parametrize(
    "token", [chunk(content="Hello"), chunk(reasoning="Hm")], ids=["text", "thought"]
)
async def test_silence_between_tokens(client, token):
    async with holding(HEAD, sse(token)) as server:
        told = await ask(client, server.url, between_tokens=0.2)
        await server.wait_until_hung_up()
    assert told.sentence == "Scout fell silent: nothing came for 0.2 s."
    assert len(told.events) == 1


async def pinging(exchange, *said):
    """Keep-alive comments for as long as the caller listens."""
    await exchange.head()
    for data in said:
        await exchange.send(data)
    closed = asyncio.ensure_future(exchange.until_closed())
    while not closed.done():
        await exchange.send(": keep-alive\n\n")
        await asyncio.wait([closed], timeout=0.05)


async def test_comments_do_not_stand_for_the_first_token(client):
    async with serve(pinging) as server:
        told = await ask(client, server.url, first_token=0.3)
    assert told.code == "silent_first"


async def test_comments_do_not_stand_for_tokens_later_on(client):
    async with serve(lambda exchange: pinging(exchange, HELLO)) as server:
        told = await ask(client, server.url, between_tokens=0.3)
    assert (text_of(told.events), told.code) == ("Hello", "silent_between")


async def test_the_limit_of_the_first_token_is_no_limit_of_the_answer(client):
    async def script(exchange):
        await exchange.head()
        for _ in range(12):
            await exchange.send(sse(chunk(content="x")))
            await asyncio.sleep(0.1)
        await exchange.send(DONE)

    async with serve(script) as server:
        told = await ask(client, server.url, first_token=1.0)
    assert (text_of(told.events), told.sentence) == ("x" * 12, "")


async def test_a_slow_reader_is_not_taken_for_a_silent_server(client):
    async with serve(saying(HELLO, END, DONE)) as server:
        endpoint = make_endpoint(server.url, between_tokens=0.1)
        said = []
        async for event in OpenAIBackend(client, endpoint, "m").run(QUESTION):
            said.append(event)
            await asyncio.sleep(0.3)
    assert text_of(said) == "Hello"


@pytest.mark.parametrize("last", [END, DONE], ids=["finish_reason", "done"])
async def test_a_server_that_never_closes_after_its_answer(client, last):
    async with holding(HEAD, HELLO, last) as server:
        told = await ask(client, server.url, between_tokens=0.2)
        await server.wait_until_hung_up()
    assert (text_of(told.events), told.sentence) == ("Hello", "")
    assert told.events[-1] == Finished("stop")


async def test_usage_behind_the_finish_reason_is_waited_for(client):
    async with holding(HEAD, HELLO, END, USAGE) as server:
        told = await ask(client, server.url, between_tokens=0.2)
    assert usage_of(told.events) == {"total_tokens": 5}
