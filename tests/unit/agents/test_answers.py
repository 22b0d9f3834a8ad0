"""From events to the response that Open WebUI hands on."""

import asyncio
import json
import re
from contextlib import aclosing

import pytest

from shared.agents.answers import (
    chat_stream,
    completion_stream,
    whole_completion,
)
from shared.errors import UpstreamBroken, UpstreamRefused, UpstreamSilent
from shared.events import Failed, Finished, Status, TextDelta
from shared.render.chunks import CompletionRenderer
from shared.render.items import ChatRenderer
from tests.unit.guard import guarded

PATIENCE = 10.0  # seconds until a condition that does not come about fails a test
NAMES = {"agent": "Scout", "host": "host:1"}


class Source:
    """Events, then an error where one is given; `closed` tells of its end."""

    def __init__(self, *said, error=None, wait=False) -> None:
        self.said = said
        self.error = error
        self.wait = wait
        self.closed = False

    async def events(self):
        try:
            for event in self.said:
                yield event
            if self.error:
                raise self.error
            if self.wait:
                await asyncio.Event().wait()
        finally:
            self.closed = True


def sentence(code, fields):
    return f"{code} {dict(fields)}"


def chat_renderer():
    return ChatRenderer("scout", sentence)


def completion_renderer():
    return CompletionRenderer("agents.scout", sentence)


def payloads(pieces):
    """What a stream's pieces say; each is one server-sent event."""
    said = []
    for piece in pieces:
        assert re.fullmatch(rb"data: [^\n]+\n\n", piece)
        said.append(piece[6:-2])
    assert said[-1] == b"[DONE]"
    return [json.loads(data) for data in said[:-1]]


async def guard(source):
    return [event async for event in guarded(source.events(), NAMES)]


async def test_what_goes_well_is_passed_on():
    said = [TextDelta("Hello"), Finished()]
    source = Source(*said)
    assert await guard(source) == said
    assert source.closed


async def test_an_error_of_the_server_is_the_last_thing_told():
    source = Source(TextDelta("Hel"), error=UpstreamSilent("silent_between", seconds=2))
    assert await guard(source) == [
        TextDelta("Hel"),
        Failed("silent_between", {**NAMES, "seconds": 2}),
    ]
    assert source.closed


async def test_a_failure_that_is_told_gets_the_names_for_its_sentence():
    source = Source(Failed("tool_not_allowed", {"tool": "add"}))
    assert await guard(source) == [Failed("tool_not_allowed", {**NAMES, "tool": "add"})]


async def test_a_fault_of_our_own_is_one_log_line_with_the_id_that_is_shown(caplog):
    said, failed = await guard(Source(TextDelta("Hel"), error=ZeroDivisionError("x")))
    assert said == TextDelta("Hel")
    assert failed.code == "internal"
    [record] = [r for r in caplog.records if r.name.startswith("aqueduct")]
    assert record.exc_info
    assert failed.fields["id"]
    assert failed.fields["id"] in record.getMessage()


async def test_ids_of_faults_differ():
    ids = {
        (await guard(Source(error=ZeroDivisionError())))[-1].fields["id"]
        for _ in range(3)
    }
    assert len(ids) == 3


async def test_a_stop_is_no_fault(caplog):
    source = Source(TextDelta("a"), wait=True)
    task = asyncio.create_task(guard(source))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed
    assert not caplog.records


async def test_a_chat_gets_items_one_to_a_piece():
    source = Source(TextDelta("Hello"), Finished())
    answer = chat_stream(source.events(), chat_renderer(), None)
    said = payloads([piece async for piece in answer])
    assert said[0]["type"] == "response.output_item.added"
    assert said[-1]["choices"][0]["finish_reason"] == "stop"
    assert source.closed


async def test_an_api_caller_gets_chunks_one_to_a_piece():
    source = Source(TextDelta("Hel"), TextDelta("lo"), Finished())
    answer = completion_stream(source.events(), completion_renderer())
    said = payloads([piece async for piece in answer])
    assert {chunk["object"] for chunk in said} == {"chat.completion.chunk"}
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in said)
    assert text == "Hello"


@pytest.mark.parametrize("way", ["cancel", "close"])
async def test_a_status_is_closed_when_the_answer_is_stopped(way):
    emitted = []

    async def emit(event):
        emitted.append(event)

    source = Source(Status("looking"), TextDelta("Hel"), wait=True)
    seen = asyncio.Event()

    async def listen():
        answer = chat_stream(source.events(), chat_renderer(), emit)
        async with aclosing(answer):
            async for piece in answer:
                if b"Hel" in piece:
                    seen.set()
                    if way == "close":
                        return

    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(listen())
        await seen.wait()
        if way == "cancel":
            task.cancel()
        await asyncio.wait([task])
    assert emitted == [
        {"type": "status", "data": {"description": "looking", "done": True}}
    ]
    assert source.closed


async def test_a_status_that_is_closed_already_is_not_closed_again():
    emitted = []

    async def emit(event):
        emitted.append(event)

    source = Source(Status("looking"), Failed("cut_short"))
    answer = chat_stream(source.events(), chat_renderer(), emit)
    said = payloads([piece async for piece in answer])
    assert [s["event"]["data"]["done"] for s in said if "event" in s] == [False, True]
    assert emitted == []


async def test_a_whole_answer():
    source = Source(TextDelta("Hello"), Finished())
    answer = await whole_completion(source.events(), completion_renderer(), False)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert source.closed


async def body_of(response):
    return json.loads(b"".join([piece async for piece in response.body_iterator]))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UpstreamRefused("status_429_wait", 429, seconds=17), 429),
        (UpstreamRefused("status_429", 429), 429),
        (UpstreamRefused("status_401", 401), 502),
        (UpstreamRefused("status_5xx", 500), 502),
        (UpstreamSilent("silent_first", seconds=1), 504),
        (UpstreamSilent("connect_timeout", seconds=1), 504),
        (UpstreamBroken("cut_short"), 502),
        (ZeroDivisionError(), 500),
    ],
)
async def test_an_api_caller_gets_the_status_of_the_error(error, status):
    events = guarded(Source(TextDelta("Hel"), error=error).events(), NAMES)
    answer = await whole_completion(events, completion_renderer(), in_chat=False)
    assert answer.status_code == status
    said = await body_of(answer)
    assert said["error"]["message"]
    assert said["error"]["code"]
    wait = {"retry-after": "17"} if getattr(error, "fields", {}).get("seconds") else {}
    if status == 429 and wait:
        assert answer.headers["retry-after"] == "17"
    else:
        assert "retry-after" not in answer.headers


async def test_a_chat_that_does_not_stream_gets_the_error_itself():
    events = guarded(Source(error=UpstreamBroken("cut_short")).events(), NAMES)
    answer = await whole_completion(events, completion_renderer(), in_chat=True)
    assert answer["error"]["code"] == "cut_short"
