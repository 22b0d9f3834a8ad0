"""httpx on aiohttp: what is kept of a connection, and the errors httpx would raise."""

import gzip

import httpx
import pytest

from tests.unit.backends.upstream import HEAD, holding, read_request, serve

CHUNKED = (
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
)


async def two_answers(exchange):
    """The script of a server that answers a second request on the same connection."""
    for last in (False, True):
        await exchange.send(f"{CHUNKED}3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        if not last:
            await read_request(exchange.reader, exchange.writer)


async def test_a_connection_whose_answer_was_read_is_used_again(client):
    async with serve(two_answers) as server:
        for _ in range(2):
            response = await client.post(server.url, content=b"{}")
            assert response.text == "onetwo"
    assert len(server.asked) == 1


async def test_leaving_an_answer_early_closes_the_connection(client):
    async with (
        holding(CHUNKED, "3\r\none\r\n") as server,
        client.stream("GET", server.url) as response,
    ):
        async for piece in response.aiter_bytes():
            assert piece == b"one"
            break
        await response.aclose()
        await server.wait_until_hung_up()


async def test_the_request_goes_out_as_it_was_made(client):
    async with serve(two_answers) as server:
        await client.post(
            f"{server.url}/a%20b?c=%2F", json={"ö": 1}, headers={"x-more": "this"}
        )
    [asked] = server.asked
    assert asked.path == "/v1/a%20b?c=%2F"
    assert asked.body == {"ö": 1}
    assert asked.headers["x-more"] == "this"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["user-agent"].startswith("python-httpx")


async def test_a_redirect_is_told_and_not_followed(client):
    async def script(exchange):
        await exchange.head(302, Location="http://elsewhere.invalid/")

    async with serve(script) as server:
        response = await client.get(server.url)
    assert response.status_code == 302


async def test_a_packed_body_is_unpacked_once(client):
    packed = gzip.compress(b"plain words")

    async def script(exchange):
        await exchange.head(Content_Encoding="gzip")
        await exchange.send(packed)

    async with serve(script) as server:
        assert (await client.get(server.url)).content == b"plain words"


@pytest.mark.parametrize(
    "said",
    [
        f"{CHUNKED}3\r\none\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none",
        "this is not HTTP\r\n\r\n",
        "",
    ],
    ids=["chunks", "length", "words", "nothing"],
)
async def test_an_answer_that_breaks_off(client, said):
    async def script(exchange):
        await exchange.send(said)

    async with serve(script) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(server.url)


async def test_a_read_that_takes_too_long(client):
    async with holding(HEAD) as server:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(server.url, timeout=httpx.Timeout(5.0, read=0.01))


async def test_a_header_that_would_be_two(client):
    async with holding() as server:
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(server.url, headers={"x-key": "one\r\nx-other: two"})
    assert not server.asked


async def test_a_proxy_that_does_not_answer(client, monkeypatch, unused_tcp_port):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(httpx.ProxyError):
        await client.get("http://elsewhere.invalid/")
