"""One connection serves one answer after the other."""

import asyncio

import pytest

from tests.unit.backends.support import chunk, sse, text_of
from tests.unit.backends.test_aiohttp_transport import CHUNKED
from tests.unit.backends.upstream import ask, read_request, serve

ANSWER = sse(chunk(content="Hello"), chunk("stop"), "[DONE]")


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def answering(times, turns):
    """A server on one connection, whose end mark comes this many loop turns later."""

    async def script(exchange):
        for last in range(times, 0, -1):
            await exchange.send(CHUNKED)
            await exchange.send(http_chunk(ANSWER))
            for _ in range(turns):
                await asyncio.sleep(0)
            await exchange.send(http_chunk(b""))
            if last > 1:
                await read_request(exchange.reader, exchange.writer)

    return script


@pytest.mark.parametrize("turns", [0, 1, 20])
async def test_a_connection_is_used_again_after_done(client, turns):
    async with serve(answering(3, turns)) as server:
        for _ in range(3):
            told = await ask(client, server.url)
            assert text_of(told.events) == "Hello"
            assert not told.code
    assert len(server.asked) == 1


@pytest.mark.parametrize("more", [b"", b"3\r\nfoo"], ids=["silence", "half a chunk"])
async def test_an_answer_is_whole_without_its_end_mark(client, more):
    async def script(exchange):
        await exchange.send(CHUNKED)
        await exchange.send(http_chunk(ANSWER) + more)
        await exchange.until_closed()

    async with serve(script) as server:
        told = await ask(client, server.url)
    assert text_of(told.events) == "Hello"
    assert not told.code


async def test_an_answer_is_whole_when_the_server_breaks_off_after_it(client):
    async def script(exchange):
        await exchange.send(CHUNKED)
        await exchange.send(http_chunk(ANSWER))

    async with serve(script) as server:
        told = await ask(client, server.url)
    assert text_of(told.events) == "Hello"
    assert not told.code
