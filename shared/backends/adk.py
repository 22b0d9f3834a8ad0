"""The ADK backend: an app on the API server of Google's Agent Development Kit.

The server counts a turn and its events as one invocation. Where others follow the one
that a turn goes on from, a fork is made: a new session, given the events of the old one
as far as that invocation. Closing the connection stops a run.
"""

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from shared.backends.adk_stream import ADKDecoder, Confirmation, inline_file
from shared.backends.base import DiscoveredModel, Turn
from shared.backends.call_paths import call_paths
from shared.backends.dialogs import ApprovalRequest, Dialogs
from shared.backends.event_streams import check_is_event, read_events
from shared.backends.forgotten import answer_or_begin_anew, is_not_found
from shared.backends.http import Endpoint, call_json, get_json, open_stream
from shared.backends.payloads import events_of, load_json, must_be_object
from shared.backends.transcript import message_files, transcript
from shared.errors import UpstreamBroken, UpstreamError
from shared.events import AgentEvent, SessionState

MAX_CONFIRMATIONS = 50


@dataclass(frozen=True, slots=True)
class ADKBackend:
    """The app `app` of the server behind `endpoint`."""

    client: httpx.AsyncClient
    endpoint: Endpoint
    app: str

    async def discover(self) -> list[DiscoveredModel]:
        """The server's apps."""
        found = await get_json(self.client, self.endpoint, "/list-apps")
        if not isinstance(found, list):
            raise UpstreamBroken("unreadable")
        return [DiscoveredModel(str(name), str(name)) for name in found]

    async def health(self) -> None:
        await self.discover()

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: the server stops a run when the connection closes."""

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator closes the connection."""
        return answer_or_begin_anew(self._run_once, turn, turn.anew, is_not_found)

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        sessions = self._sessions(turn)
        session_id, continued = await self._open_session(turn, sessions)
        decoder = ADKDecoder()
        message = user_content(replace(turn, forks=not continued))
        for _ in range(MAX_CONFIRMATIONS):
            async with aclosing(
                self._stream(turn, session_id, message, decoder)
            ) as events:
                async for event in events:
                    yield event
            waiting, decoder.confirmations = decoder.confirmations, []
            if not waiting:
                break
            message = await confirmed(turn.dialogs, waiting)
        if not decoder.told:
            raise UpstreamBroken("empty_answer")
        for name, version in decoder.artifacts:
            place = f"{sessions}/{quote(session_id, safe='')}/artifacts"
            path = f"{place}/{quote(name, safe='')}/versions/{version}"
            # A file that cannot be fetched takes nothing from the answer.
            with suppress(UpstreamError):
                part = must_be_object(await get_json(self.client, self.endpoint, path))
                if data := part.get("inlineData"):
                    yield inline_file(data, name)
        for event in decoder.finish():
            yield event

    def _sessions(self, turn: Turn) -> str:
        user_id = quote(turn.user_id or "user", safe="")
        return f"/apps/{quote(self.app, safe='')}/users/{user_id}/sessions"

    async def _open_session(self, turn: Turn, sessions: str) -> tuple[str, bool]:
        """The session of a turn, and whether it knows what was said before."""
        events: list[Mapping[str, Any]] = []
        if turn.session:
            known = str(turn.session["session_id"])
            path = f"{sessions}/{quote(known, safe='')}"
            old = must_be_object(await get_json(self.client, self.endpoint, path))
            events = events_until(old, str(turn.session.get("invocation_id")))
            if events and len(events) == len(old["events"]):
                return known, True
        body = {"sessionId": str(uuid.uuid4()), "events": events}
        made = await call_json(self.client, self.endpoint, "POST", sessions, body)
        return str(must_be_object(made).get("id")), bool(events)

    async def _stream(
        self,
        turn: Turn,
        session_id: str,
        message: Mapping[str, Any],
        decoder: ADKDecoder,
    ) -> AsyncGenerator[AgentEvent, None]:
        """The events of one run."""
        request = {
            "appName": self.app,
            "userId": turn.user_id or "user",
            "sessionId": session_id,
            "newMessage": message,
            "streaming": True,
        }
        opening = open_stream(self.client, self.endpoint, "/run_sse", request)
        async with (
            opening as (response, clock),
            aclosing(read_events(response, clock)) as messages,
        ):
            async for sent in messages:
                check_is_event(sent)
                known = decoder.invocation_id
                events = events_of(decoder.feed, load_json(sent.data))
                clock.token()
                if decoder.invocation_id != known:
                    invocation = {"invocation_id": decoder.invocation_id}
                    yield SessionState({"session_id": session_id, **invocation})
                for event in events:
                    yield event


def events_until(
    session: Mapping[str, Any], invocation_id: str
) -> list[Mapping[str, Any]]:
    """A session's events to the end of this invocation; [] where it is not there."""
    events = session.get("events") or []
    ids = [event.get("invocationId") for event in events]
    if invocation_id not in ids:
        return []
    return events[: len(ids) - ids[::-1].index(invocation_id)]


def user_content(turn: Turn) -> dict[str, Any]:
    """What the agent has not heard, with the user's files, as a content of Gemini's."""
    news = turn.news()
    parts: list[dict[str, Any]] = [{"text": transcript(news)}]
    for message in news:
        for file in message_files(message) if message.get("role") == "user" else ():
            kind = {"mimeType": file.mime_type, "displayName": file.name}
            if file.inline:
                parts.append({"inlineData": {**kind, "data": file.encoded}})
            else:
                parts.append({"fileData": {**kind, "fileUri": file.url}})
    return {"role": "user", "parts": parts}


async def confirmed(dialogs: Dialogs, waiting: list[Confirmation]) -> dict[str, Any]:
    """The user's decisions about these calls, as the content that goes on."""
    parts = []
    for asked in waiting:
        detail = orjson.dumps(asked.arguments, option=orjson.OPT_INDENT_2).decode()
        paths = call_paths(asked.arguments)
        request = ApprovalRequest(asked.name, asked.name, detail, paths)
        response = {"confirmed": await dialogs.approve(request)}
        answer = {"id": asked.request_id, "name": "adk_request_confirmation"}
        parts.append({"functionResponse": {**answer, "response": response}})
    return {"role": "user", "parts": parts}
