"""The agent's own session, kept in the messages of a chat."""

import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.events import SessionState
from shared.host.chats import messages_by_id
from shared.host.secrets import server_secret
from shared.render.items import STATE_ITEM_TYPE

SESSION_NAMES = ("session_id", "thread_id", "conversation_id", "context_id")


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """Where a session belongs: it is of no use to other users, chats or agents.

    Users can change what is kept in their chats, and a copy of a shared chat holds
    its owner's sessions, while agents know only the admin's key. So what is kept has
    a seal, and what has no right one is no session.
    """

    user_id: str
    chat_id: str
    agent_id: str
    backend: str

    def sealed(self, state: SessionState) -> SessionState:
        """The state as it may be kept in a message."""
        return SessionState(state.data, self.seal_of(state.data))

    def seal_of(self, data: Mapping[str, Any]) -> str:
        """HMAC-SHA256 of place and data, in hexadecimal.

        A page that saves the chat writes 1.0 as 1, so all numbers count as floats.
        """
        place = [self.user_id, self.chat_id, self.agent_id, self.backend]
        plain = json.loads(json.dumps([STATE_ITEM_TYPE, place, data]), parse_int=float)
        text = json.dumps(plain, sort_keys=True)
        return hmac.digest(server_secret(), text.encode(), "sha256").hex()

    def holds(self, item: Mapping[str, Any]) -> bool:
        """Whether an output item is a session that we kept here."""
        if item.get("type") != STATE_ITEM_TYPE or item.get("agent") != self.agent_id:
            return False
        seal, data = item.get("seal"), item.get("data")
        if not isinstance(seal, str) or not isinstance(data, Mapping):
            return False
        return hmac.compare_digest(
            seal.encode("utf-8", "replace"), self.seal_of(data).encode()
        )


async def parent_session(
    place: SessionPlace, metadata: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, bool]:
    """The session this turn goes on from, and whether it has to fork.

    It is what the answer before the user's message left behind, so that an edit or a
    regeneration goes on from where the conversation parts.
    """
    parent_id = str((metadata.get("user_message") or {}).get("parentId") or "")
    if not parent_id:
        return None, False
    messages = await messages_by_id(place.chat_id)
    session = left_session(place, messages.get(parent_id) or {})
    if session is None:
        return None, False
    current_id = metadata.get("message_id")
    others = (
        m for m in answers_after(messages, parent_id) if m.get("id") != current_id
    )
    left = (left_session(place, message) or {} for message in others)
    return session, any(session_name(data) == session_name(session) for data in left)


def session_name(session: Mapping[str, Any]) -> Mapping[str, Any]:
    """What names a session, without what else its data tells of (a task, a state).

    Data with none of the usual names is a name as a whole.
    """
    return {k: session[k] for k in SESSION_NAMES if k in session} or session


def left_session(
    place: SessionPlace, message: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The session data in a message, if this agent left some there."""
    for item in reversed(message.get("output") or ()):
        if place.holds(item):
            return item["data"]
    return None


def answers_after(
    messages: Mapping[str, Mapping[str, Any]], parent_id: str
) -> Iterable[Mapping[str, Any]]:
    """Every answer to every user message that follows this one, in all branches.

    An agent that named the same session in one of them has moved that session on: it
    no longer ends where this turn begins. An id that is new with each answer, as a
    response's or a checkpoint's, never does.
    """
    for message in messages.values():
        asked = messages.get(str(message.get("parentId") or "")) or {}
        if str(asked.get("parentId") or "") == parent_id:
            yield message
