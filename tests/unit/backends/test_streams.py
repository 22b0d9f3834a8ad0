"""Streams over a real connection: what comes through, and what goes wrong half-way."""

import pytest

from shared.backends.base import Turn
from shared.events import Finished, SessionState, TextDelta
from tests.unit.backends.support import (
    chunk,
    sse,
    text_of,
    thoughts_of,
    usage_of,
)
from tests.unit.backends.upstream import (
    KEY,
    ask,
    saying,
    serve,
)

HELLO = sse(chunk(content="Hel"), chunk(content="lo"))
END = sse(chunk("stop"))
USAGE = sse({"choices": [], "usage": {"total_tokens": 5}})
DONE = sse("[DONE]")
PLAIN = {
    "object": "chat.completion",
    "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
}


async def test_an_answer(client):
    async with serve(saying(HELLO, END, USAGE, DONE)) as server:
        told = await ask(client, server.url)
        [asked] = server.asked
    assert text_of(told.events) == "Hello"
    assert usage_of(told.events) == {"total_tokens": 5}
    assert told.events[-1] == Finished("stop")
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body["messages"] == [{"role": "user", "content": "Hello"}]
    assert asked.body["stream"] is True


async def test_a_base_address_with_a_slash_at_its_end(client):
    async with serve(saying(HELLO, DONE)) as server:
        told = await ask(client, server.url + "/")
        assert server.asked[0].path == "/v1/chat/completions"
    assert text_of(told.events) == "Hello"


async def test_bytes_in_pieces_with_comments_between(client):
    said = b": hello\r\n\r\n" + sse(chunk(content="Grüße, 世界 🌊"), end="\r\n\r\n")
    pieces = [said[i : i + 1] for i in range(len(said))]
    async with serve(saying(*pieces, b": ping\n\n", DONE)) as server:
        told = await ask(client, server.url)
    assert text_of(told.events) == "Grüße, 世界 🌊"
    assert not told.sentence


@pytest.mark.parametrize("end", ["\n\n", "\n", ""])
async def test_done_is_understood_without_its_blank_line(client, end):
    async with serve(saying(HELLO, f"data: [DONE]{end}")) as server:
        told = await ask(client, server.url)
    assert (text_of(told.events), told.sentence) == ("Hello", "")


async def test_a_finish_reason_is_understood_without_its_blank_line(client):
    async with serve(saying(HELLO, END.strip())) as server:
        told = await ask(client, server.url)
    assert (text_of(told.events), told.sentence) == ("Hello", "")


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "text/plain"]
)
async def test_plain_json_in_place_of_a_stream(client, kind):
    async def script(exchange):
        await exchange.head(kind=kind)
        await exchange.send(sse(PLAIN).removeprefix(b"data: ").strip())

    async with serve(script) as server:
        told = await ask(client, server.url)
    assert (text_of(told.events), told.sentence) == ("Hello", "")


async def test_a_plain_answer_is_whole_without_a_finish_reason(client):
    payload = {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]}

    async def script(exchange):
        await exchange.answer(200, payload)

    async with serve(script) as server:
        told = await ask(client, server.url)
    assert (text_of(told.events), told.sentence) == ("Hello", "")


async def test_a_plain_answer_of_the_responses_api(client):
    payload = {
        "object": "response",
        "id": "r1",
        "status": "completed",
        "output": [{"type": "message", "content": [{"text": "Hello"}]}],
    }

    async def script(exchange):
        await exchange.answer(200, payload)

    async with serve(script) as server:
        told = await ask(client, server.url, api="responses")
        assert server.asked[0].path == "/v1/responses"
    assert (text_of(told.events), told.sentence) == ("Hello", "")


async def test_a_stream_of_the_responses_api(client):
    said = (
        b"event: response.output_text.delta\n"
        b'data: {"type":"response.output_text.delta","delta":"Hello"}\n\n'
        b"event: response.completed\n"
        b'data: {"type":"response.completed","response":{"id":"r1"}}\n\n'
    )
    async with serve(saying(said)) as server:
        told = await ask(client, server.url, api="responses", keep_session=True)
    assert told.events == [
        TextDelta("Hello"),
        SessionState({"response_id": "r1"}),
        Finished("stop"),
    ]


@pytest.mark.parametrize("status", [400, 404])
async def test_a_forgotten_session_starts_again_with_the_whole_history(client, status):
    async def script(exchange):
        if "previous_response_id" in exchange.body:
            await exchange.answer(
                status, {"error": {"message": "Previous response not found"}}
            )
            return
        await exchange.head()
        await exchange.send(sse({"type": "response.output_text.delta", "delta": "Hi"}))
        await exchange.send(
            sse({"type": "response.completed", "response": {"id": "r2"}})
        )

    turn = Turn(
        (
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "Again"},
        ),
        session={"response_id": "r1"},
    )
    async with serve(script) as server:
        told = await ask(
            client, server.url, api="responses", turn=turn, keep_session=True
        )
        assert [len(asked.body["input"]) for asked in server.asked] == [1, 3]
    assert text_of(told.events) == "Hi"
    assert SessionState({"response_id": "r2"}) in told.events


BROKEN_OFF = "The answer of Scout broke off: {host} closed the connection."
UNREADABLE = "Scout sent something that cannot be read; the answer ends here."
SAID_ERROR = "Scout reported an error. (no room)"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (b"", BROKEN_OFF),
        (b'data: {"choices": [{"delta": {"conte', UNREADABLE),
        (b"data: {oops}\n\n", UNREADABLE),
        (b"something else\n\n", UNREADABLE),
        (b"<html><body>Sign in</body></html>", UNREADABLE),
        (b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n', UNREADABLE),
        (b'data: {"choices": [{"delta": 5}]}\n\n', UNREADABLE),
        (b'data: {"choices": {"delta": 5}}\n\n', UNREADABLE),
        (b"data: []\n\n", UNREADABLE),
        (b"data: " + b"[" * 100_000 + b"\n\n", UNREADABLE),
        (b'data: {"error": {"message": "no room"}}\n\n', SAID_ERROR),
        (b'event: error\ndata: {"message": "no room"}\n\n', SAID_ERROR),
        (b'{"error": "no room"}\n', SAID_ERROR),
    ],
)
async def test_what_came_so_far_stays_and_the_error_follows(client, said, sentence):
    async with serve(saying(HELLO, said)) as server:
        told = await ask(client, server.url)
    assert text_of(told.events) == "Hello"
    assert told.sentence == sentence.format(host=told.host)
    assert Finished("stop") not in told.events


async def test_thoughts_and_calls_that_came_so_far_stay_too(client):
    call = {"index": 0, "id": "a", "function": {"name": "t", "arguments": "{"}}
    said = sse(chunk(reasoning="Hm"), chunk(tool_calls=[call]))
    async with serve(saying(said)) as server:
        told = await ask(client, server.url)
    assert thoughts_of(told.events) == "Hm"
    assert len(told.events) == 3
    assert told.code == "cut_short"


async def test_text_held_back_for_a_tag_is_not_lost_when_the_stream_breaks(client):
    async with serve(saying(sse(chunk(content="<thi")))) as server:
        told = await ask(client, server.url)
    assert text_of(told.events) == "<thi"
    assert told.code == "cut_short"


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity"], ids=["nan", "inf", "minus-inf"]
)
async def test_numbers_that_only_python_writes(client, number):
    """What Python's own json module sends, and reads."""
    odd = HELLO.replace(b'"index":0', f'"index":0,"logprob":{number}'.encode())
    async with serve(saying(odd, DONE)) as server:
        told = await ask(client, server.url)
    assert (text_of(told.events), told.sentence) == ("Hello", "")


async def test_an_emoji_cut_in_half_does_not_end_the_answer(client):
    """Servers in JavaScript cut strings between the halves of a surrogate pair."""
    halves = [
        b'data: {"choices":[{"delta":{"content":"A\\ud83c"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\udf0aB"}}]}\n\n',
    ]
    async with serve(saying(*halves, HELLO, DONE)) as server:
        told = await ask(client, server.url)
    text = text_of(told.events)
    assert not told.sentence
    assert text.startswith("A")
    assert text.endswith("BHello")
    assert text.encode()  # whatever stands for the halves can be sent on


async def test_a_line_of_ten_megabytes(client):
    async def script(exchange):
        await exchange.head()
        await exchange.send(HELLO)
        for _ in range(10):
            await exchange.send(b"x" * 1_000_000)
        await exchange.until_closed()

    async with serve(script) as server:
        told = await ask(client, server.url)
    assert text_of(told.events) == "Hello"
    assert told.sentence == ("Scout sent a line of over 8 MiB; the answer ends here.")


CHUNKED = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED += "Transfer-Encoding: chunked\r\n\r\n"


def as_chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def cutting(*said):
    """A server that closes in the middle of a chunked body."""

    async def script(exchange):
        for data in said:
            await exchange.send(data)

    return script


async def test_a_connection_that_is_cut(client):
    async with serve(cutting(CHUNKED, as_chunk(HELLO))) as server:
        told = await ask(client, server.url)
    assert text_of(told.events) == "Hello"
    assert told.sentence == BROKEN_OFF.format(host=told.host)


async def test_a_connection_that_is_closed_without_a_word(client):
    async with serve(cutting()) as server:
        told = await ask(client, server.url)
    assert told.sentence == BROKEN_OFF.format(host=told.host)


async def test_a_connection_that_is_cut_after_the_end_loses_nothing(client):
    async with serve(cutting(CHUNKED, as_chunk(HELLO + END))) as server:
        told = await ask(client, server.url)
    assert (text_of(told.events), told.sentence) == ("Hello", "")
    assert told.events[-1] == Finished("stop")


async def test_an_empty_answer_is_told(client):
    async def script(exchange):
        await exchange.head()
        await exchange.send(sse(chunk(finish_reason="stop"), "[DONE]"))

    async with serve(script) as server:
        told = await ask(client, server.url)
    assert told.sentence == "Scout sent an empty answer."


async def test_json_that_is_no_answer_is_told(client):
    async def script(exchange):
        await exchange.answer(200, {"detail": "Not authenticated"})

    async with serve(script) as server:
        told = await ask(client, server.url)
    assert "Not authenticated" in told.sentence
