"""The agent's own session, kept in the messages of a chat."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.host.chats import messages_by_id
from shared.render.items import STATE_ITEM_TYPE

SESSION_NAMES = ("session_id", "thread_id", "conversation_id", "context_id")


async def parent_session(
    agent_id: str, metadata: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, bool]:
    """The session this turn goes on from, and whether it has to fork.

    It is what the answer before the user's message left behind, so that an edit or a
    regeneration goes on from where the conversation parts.
    """
    parent_id = str((metadata.get("user_message") or {}).get("parentId") or "")
    if not parent_id:
        return None, False
    messages = await messages_by_id(str(metadata.get("chat_id") or ""))
    session = left_session(agent_id, messages.get(parent_id) or {})
    if session is None:
        return None, False
    current_id = metadata.get("message_id")
    others = (
        m for m in answers_after(messages, parent_id) if m.get("id") != current_id
    )
    left = (left_session(agent_id, message) or {} for message in others)
    return session, any(session_name(data) == session_name(session) for data in left)


def session_name(session: Mapping[str, Any]) -> Mapping[str, Any]:
    """What names a session, without what else its data tells of (a task, a state).

    Data with none of the usual names is a name as a whole.
    """
    return {k: session[k] for k in SESSION_NAMES if k in session} or session


def left_session(agent_id: str, message: Mapping[str, Any]) -> dict[str, Any] | None:
    """The session data in a message, if this agent left some there."""
    for item in reversed(message.get("output") or ()):
        if item.get("type") == STATE_ITEM_TYPE and item.get("agent") == agent_id:
            return item.get("data")
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
