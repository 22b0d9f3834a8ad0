"""What the commands do to an answer, in one process."""

import json

import httpx
import pytest

from demo.delivery import BIG_LINE
from demo.faults import Faults, read_faults
from tests.unit.demo.test_apis import CHAT, RESPONSES, body, deltas, events


async def raw(client: httpx.AsyncClient, path: str, text: str) -> bytes:
    return (await client.post(path, json=body(path, text, stream=True))).content


def test_reads_commands_out_of_a_message() -> None:
    faults, text, commands = read_faults("/slow 0.2 what is /think 30 2+2 /split")
    assert faults == Faults(slow=0.2, think=30, split=True)
    assert text.split() == ["what", "is", "2+2"]
    assert commands == "`/slow 0.2`, `/think 30`, `/split`"


@pytest.mark.parametrize(
    "text", ["see /usr/slow", "the path/plain", "/fail 418", "/slowly", "/break glass"]
)
def test_other_slashes_are_no_commands(text: str) -> None:
    assert read_faults(text) == (Faults(), text, "")


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_fail(client, path: str, status: int) -> None:
    response = await client.post(path, json=body(path, f"hi /fail {status}"))
    assert response.status_code == status
    assert response.json()["error"]["message"]
    assert response.headers.get("retry-after") == ("7" if status == 429 else None)


async def test_words_and_think(client) -> None:
    found = events((await raw(client, CHAT, "/words 300 /think 40")).decode())
    assert len(deltas(found, "content")) == 300
    assert len(deltas(found, "reasoning_content")) == 40


@pytest.mark.parametrize("name", ["reasoning", "thinking", "reasoning_content"])
async def test_reasoning_field(client, name: str) -> None:
    found = events((await raw(client, CHAT, f"hello /reasoning {name}")).decode())
    assert "greeting" in "".join(deltas(found, name))


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_plain(client, path: str) -> None:
    response = await client.post(path, json=body(path, "hello /plain", stream=True))
    assert response.headers["content-type"] == "application/json"
    assert "demo agent" in json.dumps(response.json())


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_split_changes_nothing_but_the_writes(client, path: str) -> None:
    text = (await raw(client, path, "hello /split")).decode()
    joined = "".join(
        deltas(events(text), "content")
        if path == CHAT
        else [e["delta"] for e in events(text) if "output_text.delta" in e["type"]]
    )
    assert joined.endswith("äöü ß – 日本語 – 🙂")


async def test_keepalive(client) -> None:
    data = await raw(client, CHAT, "hello /keepalive")
    assert data.count(b": keep-alive\n\n") == data.count(b"data: ")


async def test_break_stream(client) -> None:
    chat = events((await raw(client, CHAT, "/break stream")).decode())
    assert len(deltas(chat[:-1], "content")) > 10
    assert chat[-1]["error"]["type"] == "server_error"
    found = events((await raw(client, RESPONSES, "/break stream")).decode())
    assert [event["type"] for event in found[-2:]] == ["error", "response.failed"]
    numbers = [event["sequence_number"] for event in found]
    assert numbers == list(range(len(found)))
    assert found[-1]["response"]["error"]["code"] == "server_error"


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_break_garbage_goes_on(client, path: str) -> None:
    data = await raw(client, path, "/break garbage")
    garbage = b"data: }{ this is not JSON\n\n"
    assert data.count(garbage) == 1
    assert data.replace(garbage, b"") != data
    assert b"fountain" in data.partition(garbage)[2]


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_break_utf8(client, path: str) -> None:
    data = await raw(client, path, "/break utf8")
    with pytest.raises(UnicodeDecodeError):
        data.decode()
    assert events(data.decode(errors="replace"))


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
async def test_break_big(client, path: str) -> None:
    lines = (await raw(client, path, "/break big")).splitlines()
    big = [line for line in lines if len(line) > BIG_LINE]
    assert len(big) == 1
    assert json.loads(big[0][6:])["choices"] == []


@pytest.mark.parametrize(
    ("fault", "mark"),
    [("stream", b'"error"'), ("garbage", b"not JSON"), ("utf8", b"\xff\xfe")],
)
async def test_faults_of_answers_that_are_not_streamed(client, fault, mark) -> None:
    response = await client.post(CHAT, json=body(CHAT, f"/break {fault}"))
    assert response.status_code == 200
    assert mark in response.content
