"""The OpenAI-compatible backend: any server with Chat Completions or Responses.

vLLM, llama.cpp, Ollama, LM Studio, gateways, and Open WebUI itself.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpx
import orjson

from shared.backends.base import DiscoveredModel, Turn
from shared.backends.forgotten import answer_or_begin_anew
from shared.backends.http import (
    Endpoint,
    SilenceClock,
    get_json,
    open_stream,
    read_bytes,
    read_to_end,
)
from shared.backends.openai_chat import ChatCompletionsDecoder, chat_completions_body
from shared.backends.openai_responses import ResponsesDecoder, responses_body
from shared.backends.payloads import (
    error_detail,
    events_of,
    load_json,
    load_lenient_json,
)
from shared.backends.sse import ServerSentEvent, SSEReader
from shared.errors import UpstreamBroken, UpstreamError, UpstreamRefused
from shared.events import AgentEvent, Finished, Usage

PLAIN_ANSWER_MIB = 64


class StreamDecoder(Protocol):
    """One API's events in, agent events out."""

    ended: bool

    def feed(self, name: str, payload: Any, raw: bytes = b"") -> list[AgentEvent]: ...

    def done(self) -> None: ...

    def held(self) -> list[AgentEvent]: ...

    def finish(self) -> list[AgentEvent]: ...


@dataclass(frozen=True, slots=True)
class OpenAIBackend:
    """An OpenAI-compatible server behind `endpoint`, and one of its models.

    `keep_session` (Responses only) lets the server keep the conversation.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    model: str
    api: Literal["chat", "responses"] = "chat"
    keep_session: bool = False

    async def discover(self) -> list[DiscoveredModel]:
        """The models of GET /models, in the server's order."""
        payload = await get_json(self.client, self.endpoint, "/models")
        entries = payload.get("data") if isinstance(payload, Mapping) else payload
        if not isinstance(entries, list):
            raise UpstreamBroken("unreadable")
        return [
            DiscoveredModel(str(entry["id"]), str(entry.get("name") or entry["id"]))
            for entry in entries
            if isinstance(entry, Mapping) and entry.get("id")
        ]

    async def health(self) -> None:
        await self.discover()

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: these servers stop when the connection closes."""

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator closes the connection."""
        if turn.anew is None:
            return self._run_once(turn)
        return answer_or_begin_anew(
            self._run_once, turn, turn.anew, is_unknown_response
        )

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        path, body, decoder = self._request(turn)
        told = turn.messages[-1].get("role") != "user"
        try:
            async with open_stream(self.client, self.endpoint, path, body) as opened:
                response, clock = opened
                if "application/json" in response.headers.get("content-type", ""):
                    payload = load_json(await read_plain_answer(response, clock))
                    check_plain_answer(payload)
                    for event in events_of(decoder.feed, "", payload):
                        told = True
                        yield event
                    decoder.done()
                else:
                    reader = AnswerReader(decoder)
                    async with aclosing(read_bytes(response, clock)) as pieces:
                        async for data in pieces:
                            for event in reader.feed(data):
                                clock.token()
                                told = True
                                yield event
                            if reader.done:
                                await read_to_end(pieces, clock)
                                break
                            if decoder.ended and not clock.complete:
                                clock.answer_complete()
                    for event in reader.finish():
                        told = True
                        yield event
            if not decoder.ended:
                raise UpstreamBroken("cut_short")
            rest = decoder.finish()
            # After a tool's result some models have nothing to add: that is no error.
            if not told and all(isinstance(e, Usage | Finished) for e in rest):
                raise UpstreamBroken("empty_answer")
        except UpstreamError:
            for event in decoder.held():
                yield event
            raise
        for event in rest:
            yield event

    def _request(self, turn: Turn) -> tuple[str, dict[str, Any], StreamDecoder]:
        if self.api == "responses":
            body = responses_body(self.model, turn, self.keep_session)
            return "/responses", body, ResponsesDecoder(self.keep_session)
        body = chat_completions_body(self.model, turn)
        return "/chat/completions", body, ChatCompletionsDecoder()


class AnswerReader:
    """The bytes of an answer's stream in, agent events out.

    `done` turns True with `[DONE]`: what follows it is nothing to us.
    """

    def __init__(self, decoder: StreamDecoder) -> None:
        self._sse = SSEReader()
        self._decoder = decoder
        self.done = False

    def feed(self, data: bytes) -> Iterator[AgentEvent]:
        """What these bytes say; raises UpstreamBroken after what came before it."""
        return self._read(self._sse.feed(data))

    def finish(self) -> Iterator[AgentEvent]:
        """What remains when the stream has ended."""
        return self._read([] if self.done else self._sse.finish())

    def _read(self, messages: list[ServerSentEvent]) -> Iterator[AgentEvent]:
        for message in messages:
            if message.data == b"[DONE]":
                self._decoder.done()
                self.done = True
                return
            yield from read_message(self._decoder, message)


def is_unknown_response(error: UpstreamError) -> bool:
    """Whether the server says that it does not have the previous response."""
    said = str(error.fields.get("detail")).lower()
    return isinstance(error, UpstreamRefused) and (
        error.status == 404 or "previous" in said
    )


def read_message(decoder: StreamDecoder, message: ServerSentEvent) -> list[AgentEvent]:
    """One message of the stream; what is not JSON makes the stream unreadable."""
    try:
        payload, raw = orjson.loads(message.data), message.data
    except orjson.JSONDecodeError:
        payload, raw = load_lenient_json(message.data), b""
    if b"\n" in raw:  # an event in several lines, not one as we would send it
        raw = b""
    return events_of(decoder.feed, message.name, payload, raw)


def check_plain_answer(payload: Any) -> None:
    """Raise UpstreamBroken for JSON at status 200 that is no answer."""
    if not isinstance(payload, Mapping) or not {"choices", "output"} & payload.keys():
        detail = error_detail(payload)
        raise UpstreamBroken("said_error" if detail else "unreadable", detail=detail)


async def read_plain_answer(response: httpx.Response, clock: SilenceClock) -> bytes:
    """The body of an upstream that answers a streaming request with plain JSON."""
    parts: list[bytes] = []
    size = 0
    async for data in read_bytes(response, clock):
        parts.append(data)
        size += len(data)
        if size > PLAIN_ANSWER_MIB * 1024 * 1024:
            raise UpstreamBroken("line_too_long", limit=PLAIN_ANSWER_MIB)
    return b"".join(parts)
