"""The AG-UI backend: pydantic-ai, CopilotKit's runtimes and others, one agent a URL.

An AG-UI agent is told the whole conversation in every run, so that an edited branch
is simply another conversation. One that keeps its threads is told only what is new.
"""

import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.backends.agui_stream import AGUIDecoder
from shared.backends.base import DiscoveredModel, Turn
from shared.backends.call_paths import call_paths
from shared.backends.dialogs import ApprovalRequest, Dialogs, UserQuestion
from shared.backends.event_streams import read_events
from shared.backends.http import Endpoint, open_stream, upstream_errors
from shared.backends.payloads import events_of, load_json
from shared.backends.transcript import message_files, message_text
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, SessionState

AGUI_DENIED = "The user did not allow this."
# An agent that asks again and again what nobody allows would go on for ever.
MAX_AGUI_RUNS = 50


@dataclass(frozen=True, slots=True)
class AGUIBackend:
    """The agent that takes runs at the address of `endpoint`.

    `keeps_threads` says that the server remembers what was said in a thread;
    `forwarded` goes into every run as `forwardedProps`.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    keeps_threads: bool = False
    forwarded: Mapping[str, Any] = field(default_factory=dict)

    async def discover(self) -> list[DiscoveredModel]:
        """None: the protocol has no list of agents."""
        return []

    async def health(self) -> None:
        """Any answer will do: the address takes nothing but runs."""
        with upstream_errors(self.endpoint):
            await self.client.get(self.endpoint.url)

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: a run ends with its connection."""

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; a further run answers each of the agent's questions."""
        session = (turn.continued if self.keeps_threads else None) or {}
        request = {
            "threadId": session.get("thread_id") or str(uuid.uuid4()),
            "tools": [agui_tool(tool) for tool in turn.tools],
            "context": [],
            "forwardedProps": dict(self.forwarded),
        }
        told = turn.news() if session else turn.messages
        decoder = AGUIDecoder(session.get("state") or {})
        resume: list[dict[str, Any]] = []
        for _ in range(MAX_AGUI_RUNS):
            again = () if self.keeps_threads and resume else [*told, *decoder.messages]
            request["messages"] = agui_messages(again)
            if resume:
                request["resume"] = resume
            async with aclosing(self._run_once(request, decoder)) as events:
                async for event in events:
                    yield event
            if not decoder.interrupts:
                break
            resume = await settle(turn.dialogs, decoder)
        last = decoder.finish()
        if not decoder.told:
            raise UpstreamBroken("empty_answer")
        for event in last:
            yield event

    async def _run_once(
        self, request: Mapping[str, Any], decoder: AGUIDecoder
    ) -> AsyncGenerator[AgentEvent, None]:
        decoder.begin_run()
        body = {**request, "runId": str(uuid.uuid4()), "state": decoder.state}
        path = "/" if self.endpoint.url.endswith("/") else ""
        async with open_stream(self.client, self.endpoint, path, body) as opened:
            response, clock = opened
            if self.keeps_threads:
                yield SessionState({"thread_id": request["threadId"]})
            async with aclosing(read_events(response, clock)) as messages:
                async for message in messages:
                    events = events_of(decoder.feed, load_json(message.data))
                    clock.token()
                    for event in events:
                        yield event
                    if decoder.ended and not clock.complete:
                        clock.answer_complete()
        if not decoder.ended:
            raise UpstreamBroken("cut_short")
        if self.keeps_threads and decoder.state:
            state = {"thread_id": request["threadId"], "state": decoder.state}
            yield SessionState(state)


def agui_tool(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tool of Chat Completions as the protocol's Tool."""
    function = spec.get("function") or spec
    return {
        "name": function.get("name"),
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {},
    }


def agui_messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chat Completions messages as the protocol's, each with an id of its own."""
    return [
        {"id": str(uuid.uuid4()), **agui_message(message)}
        for message in messages
        if message.get("role") in ("system", "developer", "user", "assistant", "tool")
    ]


def agui_message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = str(message["role"])
    text = message_text(message)
    if role == "tool":
        call_id = str(message.get("tool_call_id"))
        return {"role": role, "content": text, "toolCallId": call_id}
    if role == "assistant" and message.get("tool_calls"):
        return {"role": role, "content": text, "toolCalls": message["tool_calls"]}
    if role == "user" and (files := message_files(message)):
        texts = [{"type": "text", "text": text}] if text else []
        parts = [agui_part(file.mime_type, file.url) for file in files]
        return {"role": role, "content": [*texts, *parts]}
    return {"role": role, "content": text}


def agui_part(mime_type: str, url: str) -> dict[str, Any]:
    """An attachment, its bytes inline where we have them."""
    kind = mime_type.partition("/")[0]
    _, inline, value = url.partition(";base64,")
    source = {"type": "data" if inline else "url", "value": value or url}
    return {
        "type": kind if kind in ("image", "audio", "video") else "document",
        "source": {**source, "mimeType": mime_type},
    }


async def settle(dialogs: Dialogs, decoder: AGUIDecoder) -> list[dict[str, Any]]:
    """The `resume` entries that answer what a run stopped for."""
    return [
        {
            "interruptId": interrupt["id"],
            **await settled(dialogs, interrupt, *decoder.call_of(interrupt)),
        }
        for interrupt in decoder.interrupts
    ]


async def settled(
    dialogs: Dialogs, interrupt: Mapping[str, Any], tool: str, arguments: str
) -> dict[str, Any]:
    """The status and payload for one interrupt.

    One whose answer has a field `approved` asks for permission; any other is a
    question. A question whose answer is an object gets it in its first field.
    """
    message = str(interrupt.get("message") or interrupt.get("reason") or "")
    schema = interrupt.get("responseSchema") or {}
    fields = schema.get("properties") or {}
    if "approved" in fields or (tool and not fields):
        title = tool or message
        asked = ApprovalRequest(
            title, message or title, arguments, call_paths(arguments)
        )
        allowed = await dialogs.approve(asked)
        payload: Any = {"approved": allowed}
        if not allowed and "reason" in fields:
            payload["reason"] = AGUI_DENIED
        return {"status": "resolved", "payload": payload}
    answer = await dialogs.ask(UserQuestion(message))
    if answer is None:
        return {"status": "cancelled"}
    payload = {next(iter(fields)): answer} if fields else answer
    return {"status": "resolved", "payload": payload}
