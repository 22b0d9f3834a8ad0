"""The Letta backend: agents with a memory of their own on a Letta server.

Each chat is a conversation of its own with the agent: the memory blocks are the
agent's, but what is said in one chat is not in the history of another. An edited or
regenerated message begins a new conversation with the branch replayed.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import httpx

from shared.backends.addresses import path_part
from shared.backends.base import DiscoveredModel, Turn
from shared.backends.call_paths import call_paths
from shared.backends.cancelling import run_cancel
from shared.backends.dialogs import ApprovalRequest
from shared.backends.event_streams import read_events
from shared.backends.forgotten import answer_or_begin_anew
from shared.backends.http import Endpoint, call_json, get_json, open_stream
from shared.backends.letta_stream import CONFLICT_STATUS, LettaCall, LettaDecoder
from shared.backends.listing_pages import ENTRIES_A_PAGE, Entries, all_entries
from shared.backends.payloads import events_of, load_json
from shared.backends.transcript import message_files, message_text, transcript
from shared.errors import UpstreamBroken, UpstreamError, UpstreamRefused
from shared.events import AgentEvent, SessionState

LETTA_DENIED = "The user did not allow this."
LETTA_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
LOST_STATUSES = (404, CONFLICT_STATUS)
MAX_LETTA_RUNS = 50
# Calls that Open WebUI is running right now, on the whole server.
MAX_PENDING_CALLS = 500


@dataclass(slots=True)
class LettaTurn:
    """A turn under way: where it is told, and what."""

    conversation_id: str
    messages: list[dict[str, Any]]
    client_tools: list[dict[str, Any]] = field(default_factory=list)
    decoder: LettaDecoder = field(default_factory=LettaDecoder)

    @property
    def offered(self) -> set[str]:
        return {tool["name"] for tool in self.client_tools}


@dataclass(frozen=True, slots=True)
class LettaBackend:
    """One agent of the server behind `endpoint`.

    `isolated` are the labels of memory blocks that each conversation gets a copy of.
    With `one_history` all chats of all users go into the agent's own history.
    `pending` says which conversation waits for the result of a call that Open WebUI
    runs, as (user, chat, call), and what was answered to other calls; it may serve
    several backends.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    agent_id: str
    isolated: tuple[str, ...] = ()
    one_history: bool = False
    pending: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    async def discover(self) -> list[DiscoveredModel]:
        """The server's agents."""

        async def next_page(known: Entries) -> Any:
            path = f"/v1/agents/?limit={ENTRIES_A_PAGE}"
            if known:
                path += f"&after={quote(str(known[-1]['id']), safe='')}"
            return await get_json(self.client, self.endpoint, path)

        found = await all_entries(next_page, "id", self.endpoint.agent)
        return [
            DiscoveredModel(str(agent["id"]), str(agent.get("name") or agent["id"]))
            for agent in found
        ]

    async def health(self) -> None:
        await get_json(self.client, self.endpoint, "/v1/health/")

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Cancel the run `run_id`, unless it has ended already."""
        path = f"/v1/agents/{self.agent_id}/messages/cancel"
        body = {"run_ids": [session["run_id"]]}
        with suppress(UpstreamRefused):
            await call_json(self.client, self.endpoint, "POST", path, body)

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; on closing it the server is told to stop."""
        anew = None
        if not self.one_history and (turn.continued or letta_results(turn)):
            anew = replace(turn, session=None, messages=letta_words(turn.messages))
        return answer_or_begin_anew(self._run_once, turn, anew, is_lost)

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        under_way = await self._begin(turn)
        if not self.one_history:
            yield SessionState({"conversation_id": under_way.conversation_id})
        ended = False
        try:
            async with aclosing(self._answer(turn, under_way)) as events:
                async for event in events:
                    yield event
            ended = True
        finally:
            run_id = under_way.decoder.run_id
            if not ended and run_id:
                await run_cancel(self.cancel({"run_id": run_id}))

    async def _begin(self, turn: Turn) -> LettaTurn:
        """Where this turn is told, and what: results of calls, or what is new."""
        tools = [letta_tool(tool) for tool in turn.tools]
        results = letta_results(turn)
        first = results[0]["tool_call_id"] if results else ""
        if waiting := self.pending.pop((turn.user_id, turn.chat_id, first), None):
            answers = {"type": "approval", "approvals": [*waiting["said"], *results]}
            return LettaTurn(waiting["conversation_id"], [answers], tools)
        messages = letta_words(turn.messages)
        if self.one_history:
            known = replace(turn, messages=messages, session={}, forks=False)
            return LettaTurn("", letta_messages(known.news()), tools)
        if turn.continued:
            news = replace(turn, messages=messages).news()
            conversation_id = str(turn.continued["conversation_id"])
            return LettaTurn(conversation_id, letta_messages(news), tools)
        return LettaTurn(
            await self._new_conversation(), letta_messages(messages), tools
        )

    async def _new_conversation(self) -> str:
        body = {"isolated_block_labels": list(self.isolated) or None}
        path = f"/v1/conversations/?agent_id={self.agent_id}"
        made = await call_json(self.client, self.endpoint, "POST", path, body)
        return str(made["id"])

    async def _answer(
        self, turn: Turn, under_way: LettaTurn
    ) -> AsyncGenerator[AgentEvent, None]:
        """The first run, and one more for each time that the agent asks us."""
        decoder = under_way.decoder
        for_us: list[LettaCall] = []
        for _ in range(MAX_LETTA_RUNS):
            async with aclosing(self._stream(under_way)) as events:
                async for event in events:
                    yield event
            for event in decoder.end_run():
                yield event
            if not decoder.waiting:
                break
            said = []
            for call in decoder.waiting:
                if call.name in under_way.offered:
                    continue
                answer = await letta_permission(turn, call)
                if not answer["approve"]:
                    yield decoder.denied(call, LETTA_DENIED)
                said.append(answer)
            for_us = [c for c in decoder.waiting if c.name in under_way.offered]
            if for_us:
                key = (turn.user_id, turn.chat_id, for_us[0].call_id)
                self._expect(key, under_way.conversation_id, said)
                break
            under_way.messages = [{"type": "approval", "approvals": said}]
        if not decoder.told:
            raise UpstreamBroken("empty_answer")
        for event in decoder.finish(for_us):
            yield event

    def _expect(
        self,
        key: tuple[str, str, str],
        conversation_id: str,
        said: list[dict[str, Any]],
    ) -> None:
        """Remember who waits for the result of a call, and of those beside it."""
        while len(self.pending) >= MAX_PENDING_CALLS:
            del self.pending[next(iter(self.pending))]
        waiting = {"conversation_id": conversation_id, "said": said}
        self.pending[key] = waiting

    async def _stream(self, under_way: LettaTurn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one run."""
        decoder = under_way.decoder
        decoder.begin_run()
        path = f"/v1/conversations/{path_part(under_way.conversation_id)}/messages"
        if self.one_history:
            path = f"/v1/agents/{self.agent_id}/messages/stream"
        body: dict[str, Any] = {
            "messages": under_way.messages,
            "streaming": True,
            "stream_tokens": True,
            "include_pings": True,
        }
        if under_way.client_tools:
            body["client_tools"] = under_way.client_tools
        async with open_stream(self.client, self.endpoint, path, body) as opened:
            response, clock = opened
            async with aclosing(read_events(response, clock)) as messages:
                async for message in messages:
                    if message.data == b"[DONE]":
                        clock.answer_complete()
                        continue
                    events = events_of(decoder.feed, load_json(message.data))
                    if events:  # a ping is none
                        clock.token()
                    for event in events:
                        yield event


def is_lost(error: UpstreamError) -> bool:
    """Whether a conversation is gone, or waits for an answer it will never get."""
    return isinstance(error, UpstreamRefused) and error.status in LOST_STATUSES


async def letta_permission(turn: Turn, call: LettaCall) -> dict[str, Any]:
    """What the user says to a call that the agent may not make by itself."""
    arguments = call.whole_arguments
    asked = ApprovalRequest(call.name, call.name, arguments, call_paths(arguments))
    allowed = await turn.dialogs.approve(asked)
    said = {"type": "approval", "tool_call_id": call.call_id, "approve": allowed}
    return said if allowed else {**said, "reason": LETTA_DENIED}


def letta_results(turn: Turn) -> list[dict[str, Any]]:
    """The results at the end of a turn's messages, as the server takes them."""
    results: list[dict[str, Any]] = []
    for message in reversed(turn.messages):
        if message.get("role") != "tool":
            break
        result = {
            "type": "tool",
            "tool_call_id": str(message.get("tool_call_id")),
            "tool_return": message_text(message),
            "status": "success",
        }
        results.insert(0, result)
    return results


def letta_words(messages: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """What was said, without tool calls and their results."""
    return tuple(
        message
        for message in messages
        if message.get("role") != "tool" and not message.get("tool_calls")
    )


def letta_messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One message of the user: what is new, with the branch before it where there is.

    Pictures are sent; of other files the agent learns only the name.
    """
    told = list(messages)
    parts: list[dict[str, Any]] = []
    names: list[str] = []
    for file in (file for message in told for file in message_files(message)):
        if file.mime_type in LETTA_PICTURES and file.inline:
            source = {"type": "base64", "media_type": file.mime_type}
            source["data"] = file.encoded
            parts.append({"type": "image", "source": source})
        else:
            names.append(file.name)
    texts = [transcript(told), *(f"(A file that cannot be read: {n}.)" for n in names)]
    text = "\n\n".join(text for text in texts if text)
    if not parts:
        return [{"role": "user", "content": text}]
    said = [{"type": "text", "text": text}] if text else []
    return [{"role": "user", "content": [*said, *parts]}]


def letta_tool(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tool of Chat Completions as a client-side tool."""
    function = spec.get("function") or spec
    return {
        "name": str(function.get("name")),
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {"type": "object"},
    }
