"""The LangGraph backend: a graph on a LangGraph Server, one thread for each chat.

Every answer is kept with the checkpoint it ended in, and a turn begins at the
checkpoint of the message it answers to. So an edit or a regeneration forks inside the
thread, and what was said on the other branch is not heard on this one.
"""

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from shared.backends.addresses import path_part
from shared.backends.base import DiscoveredModel, Turn
from shared.backends.cancelling import run_cancel
from shared.backends.event_streams import check_is_event, read_events
from shared.backends.forgotten import answer_or_begin_anew, is_not_found
from shared.backends.http import Endpoint, call_json, get_json, open_stream
from shared.backends.langgraph_humans import (
    interrupt_question,
    resume_value,
    settle_interrupts,
)
from shared.backends.langgraph_stream import GraphInterrupt, LangGraphDecoder
from shared.backends.listing_pages import ENTRIES_A_PAGE, Entries, all_entries
from shared.backends.payloads import events_of, load_json, must_be_object
from shared.backends.transcript import message_text
from shared.errors import UpstreamBroken, UpstreamError, UpstreamRefused
from shared.events import AgentEvent, SessionState, TextDelta

STREAM_MODES = ("messages-tuple", "updates")
# A graph that asks again and again what nobody allows would go on for ever.
MAX_INTERRUPTS = 50


@dataclass(slots=True)
class GraphRun:
    """A turn under way: its thread, and the run to cancel on Stop."""

    thread_id: str
    decoder: LangGraphDecoder = field(default_factory=LangGraphDecoder)
    run_id: str = ""

    @property
    def session(self) -> dict[str, Any]:
        return {"thread_id": self.thread_id, "run_id": self.run_id}


@dataclass(frozen=True, slots=True)
class LangGraphBackend:
    """An assistant (or graph) of the server behind `endpoint`.

    `config` and `context` go into every run as they are.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    assistant: str
    config: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)

    async def discover(self) -> list[DiscoveredModel]:
        """The assistants; those that the server made itself go by their graph's id."""

        async def next_page(known: Entries) -> Any:
            order = {"sort_by": "created_at", "sort_order": "asc"}
            page = {"limit": ENTRIES_A_PAGE, "offset": len(known), **order}
            place = "/assistants/search"
            return await call_json(self.client, self.endpoint, "POST", place, page)

        found = await all_entries(next_page, "assistant_id", self.endpoint.agent)
        return list(map(found_assistant, found))

    async def health(self) -> None:
        await get_json(self.client, self.endpoint, "/ok")

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Interrupt the run `run_id` of `thread_id`, unless it has ended already."""
        thread_id, run_id = (
            path_part(str(session[name])) for name in ("thread_id", "run_id")
        )
        path = f"/threads/{thread_id}/runs/{run_id}/cancel"
        with suppress(UpstreamRefused):
            query = "?wait=true&action=interrupt"
            await call_json(self.client, self.endpoint, "POST", path + query)

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; on closing it the server is told to stop."""
        return answer_or_begin_anew(self._run_once, turn, turn.anew, is_not_found)

    async def _continued(self, turn: Turn) -> dict[str, Any] | None:
        """The session to go on with, its checkpoint known; None begins a thread."""
        if not turn.session:
            return None
        session = dict(turn.session)
        if session.get("checkpoint_id") and not session.get("waiting"):
            return session
        # A graph resumes a checkpoint only once: whoever answers its question anew
        # would get what the first answer brought. A stopped answer has no checkpoint
        # yet, and models do not go on from calls that were left without results.
        state = await self._state(session)
        if state is None or (not session.get("waiting") and leaves_calls_open(state)):
            return None
        return {**session, "checkpoint_id": state["checkpoint"]["checkpoint_id"]}

    async def _state(self, session: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The thread as `run_id` left it; None where that cannot be known.

        Another branch of the chat may have gone on in the same thread meanwhile.
        """
        with suppress(UpstreamError):
            path = f"/threads/{path_part(session['thread_id'])}/state"
            found = await get_json(self.client, self.endpoint, path)
            state = must_be_object(found)
            if (state.get("metadata") or {}).get("run_id") == session.get("run_id"):
                return state
        return None

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        turn = replace(turn, session=await self._continued(turn))
        thread_id, body = first_run(turn)
        run = GraphRun(thread_id)
        ended = False
        try:
            async with aclosing(self._answer(turn, run, body)) as events:
                async for event in events:
                    yield event
            ended = True
        finally:
            if not ended and run.run_id:
                await run_cancel(self.cancel(run.session))

    async def _answer(
        self, turn: Turn, run: GraphRun, body: dict[str, Any]
    ) -> AsyncGenerator[AgentEvent, None]:
        """The first run, and one more for each time that the graph asks a human."""
        decoder = run.decoder
        waiting: list[GraphInterrupt] = []
        for _ in range(MAX_INTERRUPTS):
            async with aclosing(self._stream(run, body)) as events:
                async for event in events:
                    yield event
            waiting, decoder.interrupts = decoder.interrupts, []
            if not waiting:
                break
            resume = await settle_interrupts(turn.dialogs, waiting)
            if resume is None:
                # Then the question is the answer, and what the user says next resumes.
                yield TextDelta(interrupt_question(waiting[0].value).message)
                break
            body = {"command": {"resume": resume}, "if_not_exists": "reject"}
        if not (decoder.told or waiting):
            raise UpstreamBroken("empty_answer")
        session = run.session
        if waiting:
            session["waiting"] = [interrupt.interrupt_id for interrupt in waiting]
        if state := await self._state(session):
            session["checkpoint_id"] = state["checkpoint"]["checkpoint_id"]
        yield SessionState(session)
        for event in decoder.finish():
            yield event

    async def _stream(
        self, run: GraphRun, body: Mapping[str, Any]
    ) -> AsyncGenerator[AgentEvent, None]:
        """The events of one run."""
        path = f"/threads/{path_part(run.thread_id)}/runs/stream"
        request = {
            "assistant_id": self.assistant,
            "stream_mode": STREAM_MODES,
            "on_disconnect": "cancel",
            "multitask_strategy": "enqueue",
            **body,
        }
        if self.config:
            request["config"] = self.config
        if self.context:
            request["context"] = self.context
        async with open_stream(self.client, self.endpoint, path, request) as opened:
            response, clock = opened
            place = response.headers.get("content-location", "")
            run.run_id = place.partition("/runs/")[2].partition("/")[0]
            yield SessionState(run.session)
            async with aclosing(read_events(response, clock)) as messages:
                async for message in messages:
                    check_is_event(message)
                    payload = load_json(message.data)
                    events = events_of(run.decoder.feed, message.name, payload)
                    run.run_id = run.decoder.run_id or run.run_id
                    clock.token()
                    for event in events:
                        yield event


def found_assistant(entry: Mapping[str, Any]) -> DiscoveredModel:
    made_by_server = (entry.get("metadata") or {}).get("created_by") == "system"
    model_id = str(entry.get("graph_id" if made_by_server else "assistant_id"))
    return DiscoveredModel(model_id, str(entry.get("name") or model_id))


def leaves_calls_open(state: Mapping[str, Any]) -> bool:
    """Whether the last message is one of the model's that calls tools."""
    values = state.get("values")
    messages = values.get("messages") if isinstance(values, Mapping) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, Mapping) and bool(last.get("tool_calls"))


def first_run(turn: Turn) -> tuple[str, dict[str, Any]]:
    """The thread of a turn, and what its first run is told."""
    session = turn.session
    if session is None:
        body = {"input": graph_input(turn.messages), "if_not_exists": "create"}
        return str(uuid.uuid4()), body
    news = replace(turn, forks=False).news()
    body = {"checkpoint_id": session["checkpoint_id"], "if_not_exists": "reject"}
    if waiting := session.get("waiting"):
        said = message_text(news[-1]) if news else ""
        body["command"] = {"resume": resume_value(dict.fromkeys(waiting, said))}
    else:
        body["input"] = graph_input(news)
    return str(session["thread_id"]), body


def graph_input(messages: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
    """The state a graph begins with: the messages that people and the agent wrote."""
    spoken = ("system", "user", "assistant")
    return {
        "messages": [
            {"role": message["role"], "content": message.get("content") or ""}
            for message in messages
            if message.get("role") in spoken
        ]
    }
