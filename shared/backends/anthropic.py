"""The Anthropic backend: Claude's models by the Messages API, at Anthropic or a gateway."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.backends.anthropic_messages import anthropic_body
from shared.backends.anthropic_stream import AnthropicDecoder
from shared.backends.base import DiscoveredModel, Turn
from shared.backends.event_streams import read_events
from shared.backends.http import Endpoint, get_json, open_stream
from shared.backends.payloads import events_of, load_json
from shared.errors import UpstreamBroken, UpstreamRefused
from shared.events import AgentEvent

ANTHROPIC_VERSION = "2023-06-01"
OVERLOADED_STATUS = 529
# A chat's tool rounds take seconds to minutes; so many answers may come in between.
MAX_KEPT_ANSWERS = 200
# An API that pauses again and again would go on for ever.
MAX_PAUSES = 20


@dataclass(frozen=True, slots=True)
class AnthropicBackend:
    """One model of the API behind `endpoint`.

    `kept` holds answers that called tools, by (user, chat, id of the first call):
    with its result the API wants the thinking before it back, which Open WebUI does
    not keep. It may serve several backends.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    model: str
    server_tools: Sequence[Mapping[str, Any]] = ()
    cache: bool = True
    kept: dict[tuple[str, str, str], list[dict[str, Any]]] = field(default_factory=dict)

    async def discover(self) -> list[DiscoveredModel]:
        """The models of GET /models, newest first."""
        found = await get_json(self.client, self.endpoint, "/models?limit=1000")
        entries = found.get("data") if isinstance(found, Mapping) else None
        if not isinstance(entries, list):
            raise UpstreamBroken("unreadable")
        return [
            DiscoveredModel(str(e["id"]), str(e.get("display_name") or e["id"]))
            for e in entries
            if isinstance(e, Mapping) and e.get("id")
        ]

    async def health(self) -> None:
        await self.discover()

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: an answer ends with its connection."""

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator closes the connection."""
        decoder = AnthropicDecoder()
        kept = self._kept_of(turn)
        # In a thread, as it decodes files.
        body = await asyncio.to_thread(
            anthropic_body, self.model, turn, kept, self.server_tools, self.cache
        )
        asked = list(body["messages"])
        for _ in range(MAX_PAUSES):
            async with aclosing(self._stream(body, decoder)) as events:
                async for event in events:
                    yield event
            if not decoder.paused:
                break
            said = {"role": "assistant", "content": decoder.content}
            body["messages"] = [*asked, said]
        # After a tool's result a model may have nothing to add: that is no error.
        if not decoder.told and turn.messages[-1].get("role") == "user":
            raise UpstreamBroken("empty_answer")
        if decoder.calls and (decoder.must_be_kept or body.get("thinking")):
            self._keep(turn, decoder)
        for event in decoder.finish():
            yield event

    async def _stream(
        self, body: Mapping[str, Any], decoder: AnthropicDecoder
    ) -> AsyncGenerator[AgentEvent, None]:
        opening = open_stream(self.client, self.endpoint, "/messages", body)
        async with (
            overload_told(),
            opening as (response, clock),
            aclosing(read_events(response, clock)) as messages,
        ):
            async for message in messages:
                events = events_of(decoder.feed, load_json(message.data))
                if events:  # a ping is none
                    clock.token()
                for event in events:
                    yield event
                if decoder.ended and not clock.complete:
                    clock.answer_complete()
        if not decoder.ended:
            raise UpstreamBroken("cut_short")

    def _kept_of(self, turn: Turn) -> dict[str, list[dict[str, Any]]]:
        """What is kept of this user's chat, by the ids of the calls."""
        place = (turn.user_id, turn.chat_id)
        return {key[2]: said for key, said in self.kept.items() if key[:2] == place}

    def _keep(self, turn: Turn, decoder: AnthropicDecoder) -> None:
        while len(self.kept) >= MAX_KEPT_ANSWERS:
            del self.kept[next(iter(self.kept))]
        self.kept[turn.user_id, turn.chat_id, decoder.calls[0]] = decoder.content


@asynccontextmanager
async def overload_told() -> AsyncIterator[None]:
    """The API's own status for "try again soon" has its own sentence."""
    try:
        yield
    except UpstreamRefused as error:
        if error.status == OVERLOADED_STATUS:
            error.code = "overloaded"
        raise


def anthropic_endpoint(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the API's own headers; configured ones win."""
    headers = {"anthropic-version": ANTHROPIC_VERSION}
    if endpoint.key:
        headers["x-api-key"] = endpoint.key
    configured = {name.lower(): value for name, value in endpoint.headers.items()}
    return Endpoint(
        agent=endpoint.agent,
        url=endpoint.url,
        headers={**headers, **configured},
        timeouts=endpoint.timeouts,
    )
