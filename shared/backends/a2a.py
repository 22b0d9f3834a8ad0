"""The A2A backend: an agent that a card describes, by JSON-RPC or HTTP+JSON.

We write and read the protocol ourselves instead of with `a2a-sdk`: its dialects differ
in a few names, while the library would have to be installed, brings protobuf and
Google's client core along, and would go around our own connections, time limits,
checks of addresses and error sentences.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx

from shared.backends.a2a_stream import A2ADecoder
from shared.backends.a2a_wire import (
    A2AInterface,
    Operation,
    choose_interface,
    unwrap_result,
)
from shared.backends.addresses import HostRules
from shared.backends.base import DiscoveredModel, Turn
from shared.backends.cancelling import run_cancel
from shared.backends.dialogs import UserQuestion
from shared.backends.event_streams import read_events
from shared.backends.http import (
    Endpoint,
    call_json,
    get_json,
    open_stream,
    upstream_errors,
)
from shared.backends.openai import read_plain_answer
from shared.backends.payloads import events_of, load_json, must_be_object
from shared.backends.transcript import TurnFile, message_files, transcript
from shared.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamRefused,
    UpstreamSilent,
    UpstreamUnreachable,
)
from shared.events import AgentEvent, Finished, SessionState, TextDelta

CARD_PATHS = ("/.well-known/agent-card.json", "/.well-known/agent.json")
MAX_QUESTIONS = 50
# How often in a row the agent may be out of reach while its task is watched.
MAX_FAILURES = 4
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class A2AConnection:
    """An agent that can be spoken with: its interface, and the way to it."""

    client: httpx.AsyncClient
    endpoint: Endpoint
    interface: A2AInterface
    streaming: bool

    async def call(
        self, operation: Operation, params: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The result of a short operation."""
        asked = self.interface.request(operation, params)
        answer = await call_json(
            self.client, self.endpoint, asked.method, asked.path, asked.body
        )
        return unwrap_result(answer)

    async def results(
        self, operation: Operation, params: Mapping[str, Any]
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """The results of a stream, or the one of an answer in plain JSON."""
        asked = self.interface.request(operation, params)
        opening = open_stream(
            self.client, self.endpoint, asked.path, asked.body, asked.method
        )
        async with opening as (response, clock):
            if "application/json" in response.headers.get("content-type", ""):
                plain = await read_plain_answer(response, clock)
                yield unwrap_result(load_json(plain))
                return
            async with aclosing(read_events(response, clock)) as messages:
                async for message in messages:
                    clock.token()
                    yield unwrap_result(load_json(message.data))


@dataclass(frozen=True, slots=True)
class A2ABackend:
    """The agent whose card is at `endpoint`, or in the usual places below it.

    `public_client` connects to nothing private: it is for hosts that only the card
    names. `binding` and `version` limit the interfaces, as in `choose_interface`.
    """

    client: httpx.AsyncClient
    public_client: httpx.AsyncClient
    endpoint: Endpoint
    rules: HostRules
    binding: str = ""
    version: str = ""

    async def discover(self) -> list[DiscoveredModel]:
        """A card describes one agent."""
        card = await self._card()
        return [DiscoveredModel("agent", str(card.get("name") or "agent"))]

    async def health(self) -> None:
        await self._card()

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Cancel the task `task_id`."""
        await cancel_task(await self._connect(), str(session["task_id"]))

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; on closing it the task is cancelled."""
        connection = await self._connect()
        task_id = str((turn.continued or {}).get("task_id") or "")
        if task_id and not await still_waits(connection, task_id):
            # Another branch answered its question, or the agent forgot the task.
            turn = replace(turn, session=None)
        with upstream_errors(connection.endpoint):
            async with aclosing(run_task(connection, A2ADecoder(), turn)) as events:
                async for event in events:
                    yield event

    async def _card(self) -> Mapping[str, Any]:
        """The agent's card: at the address itself where that names a file."""
        places = ("",) if self.endpoint.url.endswith(".json") else CARD_PATHS
        for place in places:
            try:
                card = await get_json(self.client, self.endpoint, place)
            except UpstreamRefused as error:
                if error.status == 404 and place != places[-1]:
                    continue
                raise
            return must_be_object(card)
        raise UpstreamBroken("unreadable")

    async def _connect(self) -> A2AConnection:
        """The way to the agent. A host that only the card names gets no secrets."""
        card = await self._card()
        interface = choose_interface(card, self.binding, self.version)
        if self.rules.denies(interface.url):
            host = replace(self.endpoint, url=interface.url).host
            raise UpstreamUnreachable("address_refused", host=host)
        trusted = self.rules.trusts(interface.url)
        endpoint = replace(
            self.endpoint,
            url=interface.url,
            key=self.endpoint.key if trusted else "",
            headers={
                **(self.endpoint.headers if trusted else {}),
                **interface.headers,
            },
        )
        client = self.client if trusted else self.public_client
        streaming = bool((card.get("capabilities") or {}).get("streaming"))
        return A2AConnection(client, endpoint, interface, streaming)


async def run_task(
    connection: A2AConnection, decoder: A2ADecoder, turn: Turn
) -> AsyncGenerator[AgentEvent, None]:
    """A turn from the user's message to its end, the task cancelled on the way out."""
    answered = False
    try:
        async with aclosing(answer_turn(connection, decoder, turn)) as events:
            async for event in events:
                yield event
        answered = True
    finally:
        if not answered and decoder.task_id and decoder.unfinished:
            await run_cancel(cancel_task(connection, decoder.task_id))


async def still_waits(connection: A2AConnection, task_id: str) -> bool:
    """Whether a task has a question that nobody answered yet."""
    with suppress(UpstreamError):
        decoder = A2ADecoder()
        read_result(decoder, await connection.call("get", {"id": task_id}))
        return decoder.waiting
    return False


async def cancel_task(connection: A2AConnection, task_id: str) -> None:
    """Cancel a task, unless it has ended already."""
    with suppress(UpstreamRefused, UpstreamBroken):
        await connection.call("cancel", {"id": task_id})


async def answer_turn(
    connection: A2AConnection, decoder: A2ADecoder, turn: Turn
) -> AsyncGenerator[AgentEvent, None]:
    """The agent's answer; whenever it asks something, the user is asked."""
    message = await asyncio.to_thread(first_message, connection.interface, turn)
    for _ in range(MAX_QUESTIONS):
        async with aclosing(follow_task(connection, decoder, message)) as events:
            async for event in events:
                yield event
        if not decoder.waiting:
            break
        question = decoder.said
        reply = await turn.dialogs.ask(UserQuestion(question))
        if reply is None:
            # Then the question is the answer, and what the user says next goes on.
            yield TextDelta(f"\n\n{question}" if decoder.told else question)
            break
        message = connection.interface.message(
            reply, (), decoder.context_id, decoder.task_id
        )
        decoder.go_on()
    if not decoder.told and not decoder.waiting:
        raise UpstreamBroken("empty_answer")
    if decoder.waiting:
        yield SessionState(
            {"context_id": decoder.context_id, "task_id": decoder.task_id}
        )
    yield Finished()


def first_message(interface: A2AInterface, turn: Turn) -> dict[str, Any]:
    """The user's message; an agent that was not there gets the whole branch with it."""
    session = turn.continued or {}
    news = turn.news()
    files: list[TurnFile] = []
    for message in news:
        if message.get("role") == "user":
            files += message_files(message)
    return interface.message(
        transcript(news),
        files,
        str(session.get("context_id", "")),
        str(session.get("task_id", "")),
    )


async def follow_task(
    connection: A2AConnection, decoder: A2ADecoder, message: Mapping[str, Any]
) -> AsyncGenerator[AgentEvent, None]:
    """Send a message and follow its task to the end, also past a lost stream."""
    operation: Operation = "stream" if connection.streaming else "send"
    try:
        async with aclosing(
            connection.results(operation, {"message": message})
        ) as results:
            async for result in results:
                for event in read_result(decoder, result):
                    yield event
    except UpstreamError as error:
        if decoder.ended or not (decoder.task_id and lost(error)):
            raise
    if decoder.ended:
        return
    if not decoder.task_id:
        raise UpstreamBroken("cut_short")
    async with aclosing(watch_task(connection, decoder)) as events:
        async for event in events:
            yield event


async def watch_task(
    connection: A2AConnection, decoder: A2ADecoder
) -> AsyncGenerator[AgentEvent, None]:
    """Catch up with a task again and again until it has ended."""
    limit = connection.endpoint.timeouts.between_tokens
    loop = asyncio.get_running_loop()
    heard = loop.time()
    failures = 0
    while loop.time() - heard <= limit:
        try:
            async with aclosing(catch_up(connection, decoder)) as events:
                async for event in events:
                    heard = loop.time()
                    yield event
            failures = 0
        except UpstreamError as error:
            failures += 1
            if decoder.ended or failures > MAX_FAILURES or not lost(error):
                raise
        if decoder.ended:
            return
        await asyncio.sleep(PAUSE_SECONDS)
    raise UpstreamSilent("silent_between", seconds=limit)


async def catch_up(
    connection: A2AConnection, decoder: A2ADecoder
) -> AsyncGenerator[AgentEvent, None]:
    """What was missed of a task, and then its stream, where it can be attached to."""
    params = {"id": decoder.task_id}
    for event in read_result(decoder, await connection.call("get", params)):
        yield event
    if decoder.ended or not connection.streaming:
        return
    try:
        async with aclosing(connection.results("subscribe", params)) as results:
            async for result in results:
                for event in read_result(decoder, result):
                    yield event
    except UpstreamError:
        # Whatever kept us from listening, the task can be looked at again.
        if decoder.ended:
            raise


def read_result(decoder: A2ADecoder, result: Mapping[str, Any]) -> list[AgentEvent]:
    """The events of a result, after the session's id when that comes to be known."""
    known = decoder.context_id
    events = events_of(decoder.feed, result)
    if decoder.context_id and not known:
        return [SessionState({"context_id": decoder.context_id}), *events]
    return events


def lost(error: UpstreamError) -> bool:
    """Whether a connection broke, while the task may well go on."""
    return error.code == "cut_short" or isinstance(error, UpstreamUnreachable)
