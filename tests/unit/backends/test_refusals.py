"""What a user reads when an agent's server is not there or does not want to."""

import asyncio
import email.utils
import json
import re
import socket
import time

import pytest

from shared.backends.http import Endpoint
from shared.backends.openai import OpenAIBackend
from tests.unit.backends.support import sse
from tests.unit.backends.upstream import (
    AGENT,
    KEY,
    ask,
    saying,
    serve,
)


def refusing(status, payload, **headers):
    async def script(exchange):
        await exchange.answer(status, payload, **headers)

    return script


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]  # bound and not listening: nobody else's, refused


async def test_connection_refused(client, free_port):
    told = await ask(client, f"http://127.0.0.1:{free_port}/v1")
    assert told.sentence == (
        f"Scout cannot be reached: 127.0.0.1:{free_port} refuses connections."
    )


async def test_unknown_host(client):
    told = await ask(client, "http://nowhere.invalid:81/v1")
    assert told.sentence == (
        "Scout cannot be reached: the host name of nowhere.invalid:81 is not known."
    )


async def test_a_certificate_nobody_trusts(client, self_signed):
    async with serve(saying(), self_signed) as server:
        told = await ask(client, server.url)
    assert told.sentence == (
        f"Scout cannot be reached safely: {told.host} showed no valid certificate."
    )


async def test_https_to_a_server_that_speaks_plainly(client):
    async def plain(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        told = await ask(client, f"https://127.0.0.1:{port}/v1")
    assert told.code == "tls_failed"


async def test_a_server_that_never_shakes_hands(client):
    async def mute(reader, writer):
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        told = await ask(client, f"https://127.0.0.1:{port}/v1", connect=0.2)
    assert told.sentence == (
        f"Scout cannot be reached: 127.0.0.1:{port} did not answer within 0.2 s."
    )


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "http:///v1",
    ],
)
async def test_an_address_that_cannot_be_used(client, url):
    told = await ask(client, url)
    assert told.sentence.startswith(f"The address of {AGENT} cannot be used.")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "Scout did not accept its key (401). An administrator has to check it."),
        (403, "Scout does not allow this (403)."),
        (404, "{host} does not know this model or address (404)."),
        (429, "Scout is busy (429). Please try again in a minute."),
        (500, "Scout has a fault on its own side (500). Please try again later."),
        (503, "Scout has a fault on its own side (503). Please try again later."),
        (
            302,
            "{host} says that its address has changed (302). An administrator has to correct it.",
        ),
        (422, "Scout refused the request (422)."),
    ],
)
@pytest.mark.parametrize("words", ["", "no room"])
async def test_each_status_has_its_own_sentence(client, status, sentence, words):
    payload = {"error": {"message": words}} if words else {}
    async with serve(refusing(status, payload)) as server:
        told = await ask(client, server.url)
    expected = sentence.format(host=told.host)
    assert told.sentence == (f"{expected} ({words})" if words else expected)
    assert told.events == []


async def test_when_to_try_again_in_seconds(client):
    async with serve(refusing(429, {}, Retry_After="17")) as server:
        told = await ask(client, server.url)
    assert told.sentence == "Scout is busy (429). Please try again in 17 s."


async def test_when_to_try_again_as_a_date(client):
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    async with serve(refusing(429, {}, Retry_After=date)) as server:
        told = await ask(client, server.url)
    seconds = re.search(r"try again in (\d+) s", told.sentence)
    assert seconds
    assert 3000 < int(seconds[1]) <= 3600


async def test_a_date_that_has_passed_means_now(client):
    date = "Mon, 01 Jan 2001 00:00:00 GMT"
    async with serve(refusing(429, {}, Retry_After=date)) as server:
        told = await ask(client, server.url)
    assert "try again in 0 s" in told.sentence


async def test_a_page_of_html_is_not_quoted(client):
    async def script(exchange):
        await exchange.head(502, "text/html")
        await exchange.send("<html><h1>Bad gateway</h1></html>")

    async with serve(script) as server:
        told = await ask(client, server.url)
    assert told.sentence == (
        "Scout has a fault on its own side (502). Please try again later."
    )


async def test_a_server_that_says_too_much_is_clipped(client):
    async with serve(refusing(500, {"error": {"message": "x" * 5000}})) as server:
        told = await ask(client, server.url)
    assert "x" * 300 + "…)" in told.sentence
    assert len(told.sentence) < 500


ECHO = f"Incorrect API key provided: {KEY}. See our site."


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
async def test_a_key_that_is_echoed_is_hidden(client, status):
    async with serve(refusing(status, {"error": {"message": ECHO}})) as server:
        told = await ask(client, server.url)
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert "Incorrect API key provided: •••." in told.sentence


@pytest.mark.parametrize("before", range(270, 300, 5))
async def test_a_key_at_the_edge_of_a_long_message_is_hidden(client, before):
    message = "x" * (before - 1) + " " + KEY + "y" * 100
    async with serve(refusing(401, {"error": {"message": message}})) as server:
        told = await ask(client, server.url)
    assert KEY[:4] not in told.sentence


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
async def test_a_key_echoed_inside_a_stream_is_hidden(client, api, kind):
    payload = {"error": {"message": ECHO}}
    said = sse(payload) if kind == "text/event-stream" else json.dumps(payload)
    async with serve(saying(said, kind=kind)) as server:
        told = await ask(client, server.url, api=api)
    assert told.code == "said_error"
    assert KEY not in told.sentence


@pytest.mark.parametrize("value", ["token-0123456789", "Bearer token-0123456789"])
async def test_the_value_of_a_header_that_is_echoed_is_hidden(client, value):
    payload = {"detail": "The token token-0123456789 has expired"}
    async with serve(refusing(401, payload)) as server:
        endpoint = Endpoint(AGENT, server.url, headers={"Authorization": value})
        backend = OpenAIBackend(client, endpoint, "m")
        with pytest.raises(Exception, match="status_401") as refused:
            await backend.discover()
    assert "0123456789" not in str(refused.value)


async def test_no_secret_is_in_what_an_endpoint_prints():
    endpoint = Endpoint(
        AGENT, "https://me:hunter2@host:1/v1", KEY, headers={"X-Key": "header-secret"}
    )
    printed = f"{endpoint!r} {endpoint} {endpoint.host}"
    assert KEY not in printed
    assert "header-secret" not in printed
    assert "hunter2" not in printed


async def test_no_secret_is_logged(client, caplog, free_port):
    caplog.set_level("DEBUG")
    payload = {"error": {"message": ECHO}}
    async with serve(refusing(401, payload)) as server:
        await ask(client, server.url)
    async with serve(saying(sse(payload))) as server:
        await ask(client, server.url)
    await ask(client, f"http://127.0.0.1:{free_port}/v1")
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("aqueduct")]
    assert len(ours) == 3
    assert KEY not in "\n".join(ours)
