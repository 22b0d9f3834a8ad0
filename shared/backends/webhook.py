"""The webhook backend: any HTTP service that answers a POST with JSON, SSE or text.

What is asked and where the answer is comes from the configuration: n8n, Dify, Flowise
and home-made services differ in little else.
"""

import codecs
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from shared.backends.base import DiscoveredModel, Turn
from shared.backends.cancelling import run_cancel
from shared.backends.event_streams import read_events
from shared.backends.http import (
    Endpoint,
    SilenceClock,
    call_json,
    open_stream,
    read_bytes,
    upstream_errors,
)
from shared.backends.openai import PLAIN_ANSWER_MIB
from shared.backends.payloads import error_detail, events_of, load_json
from shared.backends.sse import LineBuffer
from shared.backends.transcript import message_files, message_text, transcript
from shared.backends.webhook_mapping import AnswerMapping, WebhookDecoder
from shared.backends.webhook_paths import fill_in
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, SessionState, TextDelta

# What a request may name in braces; docs/agent-backends.md explains each.
REQUEST_VALUES = (
    "prompt",
    "message",
    "messages",
    "system",
    "files",
    "thread",
    "session",
    "task",
    "user_id",
    "chat_id",
)


@dataclass(frozen=True, slots=True)
class StopRequest:
    """How to stop an answer: a POST to the address with `suffix` behind it."""

    suffix: str
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebhookBackend:
    """A service at `endpoint`; `request` is the JSON to send, with {names} in it.

    `form` says how it answers: "json" (one object, or one in each line), "sse",
    "text", or "" to tell by the content type.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    request: Mapping[str, Any]
    mapping: AnswerMapping
    form: str = ""
    stop: StopRequest | None = None

    async def discover(self) -> list[DiscoveredModel]:
        """A webhook is one agent and cannot tell of others."""
        return []

    async def health(self) -> None:
        """Nothing can be asked without running the flow behind it."""

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Stop `task`, given the values of its request, where there is a way to."""
        if self.stop is None:
            return
        quoted = {key: quote(str(value), safe="") for key, value in session.items()}
        path = str(fill_in(self.stop.suffix, quoted))
        body = fill_in(self.stop.request, session)
        await call_json(self.client, self.endpoint, "POST", path, body)

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing it closes the connection, or stops the task."""
        values = request_values(turn)
        decoder = WebhookDecoder(self.mapping)
        ended = False
        try:
            with upstream_errors(self.endpoint):
                async with aclosing(self._answer(values, decoder)) as events:
                    async for event in events:
                        yield event
            ended = True
        finally:
            if not ended and decoder.task:
                await run_cancel(self.cancel({**values, "task": decoder.task}))

    async def _answer(
        self, values: Mapping[str, Any], decoder: WebhookDecoder
    ) -> AsyncGenerator[AgentEvent, None]:
        body = fill_in(self.request, values)
        session = {"thread": values["thread"], "session": values["session"]}
        last: Any = None
        async with open_stream(self.client, self.endpoint, "", body) as opened:
            response, clock = opened
            yield SessionState(session)
            if self._is_text(response):
                async with aclosing(read_text(response, clock)) as texts:
                    async for event in texts:
                        decoder.told = True
                        yield event
            else:
                reading = self._payloads(response, clock)
                async with aclosing(reading) as payloads:
                    async for name, payload in payloads:
                        last = payload
                        for event in events_of(decoder.feed, payload, name):
                            clock.token()
                            yield event
                        if decoder.ended:
                            break
        if not decoder.told:
            detail = error_detail(last)
            raise UpstreamBroken(
                "said_error" if detail else "empty_answer", detail=detail
            )
        if decoder.session and decoder.session != session["session"]:
            yield SessionState({**session, "session": decoder.session})
        for event in decoder.finish():
            yield event

    def _is_text(self, response: httpx.Response) -> bool:
        kind = response.headers.get("content-type", "").partition(";")[0]
        by_type = kind.startswith("text/") and kind != "text/event-stream"
        return self.form == "text" or (not self.form and by_type)

    async def _payloads(
        self, response: httpx.Response, clock: SilenceClock
    ) -> AsyncGenerator[tuple[str, Any], None]:
        """The names and values of an answer's events; one with no name for plain JSON."""
        kind = response.headers.get("content-type", "")
        if self.form == "sse" or (not self.form and "event-stream" in kind):
            async with aclosing(read_events(response, clock)) as events:
                async for event in events:
                    if event.data == b"[DONE]":
                        return
                    yield event.name, load_json(event.data)
            if self.mapping.done:
                # The end has a mark of its own, and it did not come.
                raise UpstreamBroken("cut_short")
            return
        async with aclosing(read_json_lines(response, clock)) as values:
            async for value in values:
                yield "", value


def request_values(turn: Turn) -> dict[str, Any]:
    """What can stand in a request.

    `prompt` is what the service has not heard: the new message, or the whole branch
    as one text where a conversation begins. `thread` is our id of the conversation,
    `session` the one the service gave, "" before.
    """
    session = turn.continued or {}
    users = [m for m in turn.messages if m.get("role") == "user"]
    systems = [m for m in turn.messages if m.get("role") == "system"]
    last = users[-1] if users else {}
    return {
        "prompt": transcript(turn.news()),
        "message": message_text(last),
        "messages": list(turn.messages),
        "system": "\n\n".join(map(message_text, systems)),
        "files": [
            {"type": "file", "name": f.name, "mime": f.mime_type, "data": f.url}
            for f in message_files(last)
        ],
        "thread": session.get("thread") or str(uuid.uuid4()),
        "session": session.get("session", ""),
        "task": "",
        "user_id": turn.user_id,
        "chat_id": turn.chat_id,
    }


async def read_text(
    response: httpx.Response, clock: SilenceClock
) -> AsyncGenerator[AgentEvent, None]:
    """A body that is the answer itself, in UTF-8, as it arrives."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async with aclosing(read_bytes(response, clock)) as body:
        async for data in body:
            if text := decoder.decode(data):
                clock.token()
                yield TextDelta(text)
    if text := decoder.decode(b"", final=True):
        yield TextDelta(text)


async def read_json_lines(
    response: httpx.Response, clock: SilenceClock
) -> AsyncGenerator[Any, None]:
    """One JSON value in each line, or a single one over several lines."""
    lines = LineBuffer()
    rest: list[bytes] = []
    size = 0
    async with aclosing(read_bytes(response, clock)) as body:
        async for data in body:
            for line in lines.feed(data):
                if not rest and (value := whole_json(line)) is not None:
                    yield value
                elif line.strip():
                    size += len(line)
                    rest.append(line)
                if size > PLAIN_ANSWER_MIB * 1024 * 1024:
                    raise UpstreamBroken("line_too_long", limit=PLAIN_ANSWER_MIB)
    rest += lines.finish()
    if whole := b"\n".join(rest).strip():
        yield load_json(whole)


def whole_json(line: bytes) -> Any | None:
    """The value of a line that is JSON by itself, else None."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
