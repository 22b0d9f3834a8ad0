"""A user's own chats. Those of others do not exist here, nor do internal ones."""

from dataclasses import dataclass
from typing import Any

ORCHESTRATED = "orchestrated"


@dataclass(frozen=True, slots=True)
class ListedChat:
    """A chat in a list; `updated_at` is in seconds since 1970."""

    id: str
    title: str
    updated_at: int
    orchestrated: bool


async def own_chat(person: Any, chat_id: str) -> Any:
    """The stored chat, or None where this user has no such chat."""
    from open_webui.models.chats import Chats

    chat = await Chats.get_chat_by_id_and_user_id(chat_id, person.id)
    return None if chat is None or (chat.meta or {}).get("internal") else chat


async def find_own_chats(person: Any, title: str, limit: int) -> list[ListedChat]:
    """Chats whose title contains these words, in any case; the latest first."""
    from open_webui.internal.db import get_async_db
    from open_webui.models.chats import Chat
    from sqlalchemy import select

    query = (
        select(Chat.id, Chat.title, Chat.updated_at, Chat.meta)
        .where(
            Chat.user_id == person.id,
            Chat.meta["internal"].as_boolean().is_not(True),
            Chat.title.icontains(title, autoescape=True),
        )
        .order_by(Chat.updated_at.desc(), Chat.id)
        .limit(limit)
    )
    async with get_async_db() as session:
        rows = (await session.execute(query)).all()
    return [
        ListedChat(row[0], str(row[1]), int(row[2]), ORCHESTRATED in (row[3] or {}))
        for row in rows
    ]


async def keep_chat_tag(person: Any, tag: str) -> None:
    """Let the user's list of chat tags hold this one, so that it can be searched for."""
    from open_webui.models.tags import Tags

    await Tags.ensure_tags_exist([tag], person.id)
