"""Whose a saved chat is, what stands in it, and how to link to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ChatOwner:
    """A saved chat's owner and title."""

    user_id: str
    title: str


def is_saved_chat(chat_id: str | None) -> bool:
    """Whether this is neither a temporary chat, nor a channel, nor no chat at all."""
    from open_webui.utils.chat_id import is_saved_chat_id

    return bool(is_saved_chat_id(chat_id))


async def chat_owners(chat_ids: Sequence[str]) -> dict[str, ChatOwner]:
    """Owner and title of those of these chats that exist, in one query."""
    from open_webui.internal.db import get_async_db
    from open_webui.models.chats import Chat
    from sqlalchemy import select

    if not chat_ids:
        return {}
    query = select(Chat.id, Chat.user_id, Chat.title).where(Chat.id.in_(chat_ids))
    async with get_async_db() as session:
        rows = (await session.execute(query)).all()
    return {row[0]: ChatOwner(str(row[1]), str(row[2] or "")) for row in rows}


async def chats_from(after: str, limit: int) -> list[tuple[str, str]]:
    """Ids and owners of people's chats by id, from above `after`; no internal ones."""
    from open_webui.internal.db import get_async_db
    from open_webui.models.chats import Chat
    from sqlalchemy import select

    query = (
        select(Chat.id, Chat.user_id)
        .where(Chat.id > after, Chat.meta["internal"].as_boolean().is_not(True))
        .order_by(Chat.id)
        .limit(limit)
    )
    async with get_async_db() as session:
        return [(row[0], row[1]) for row in (await session.execute(query)).all()]


async def count_chats() -> int:
    from open_webui.internal.db import get_async_db
    from open_webui.models.chats import Chat
    from sqlalchemy import func, select

    async with get_async_db() as session:
        return int(await session.scalar(select(func.count()).select_from(Chat)) or 0)


async def current_branch(chat_id: str) -> list[dict[str, Any]]:
    """The messages of a chat that its owner sees now, oldest first."""
    from open_webui.models.chats import Chats
    from open_webui.utils.misc import get_message_list

    chat = await Chats.get_chat_by_id(chat_id)
    messages = await Chats.get_messages_map_by_chat_id(chat_id)
    if chat is None or not messages:
        return []
    history = (chat.chat or {}).get("history") or {}
    current = getattr(chat, "current_message_id", None) or history.get("currentId")
    branch = get_message_list(messages, current)
    return [message | {"id": message.get("id")} for message in branch or ()]


async def message_authors(chat_id: str) -> dict[str, str]:
    """Who wrote each message of a chat, as far as Open WebUI has noted it."""
    from open_webui.internal.db import get_async_db
    from open_webui.models.chat_messages import ChatMessage
    from sqlalchemy import select

    query = select(ChatMessage.id, ChatMessage.user_id).where(
        ChatMessage.chat_id == chat_id
    )
    async with get_async_db() as session:
        rows = (await session.execute(query)).all()
    # Rows are named after chat and message.
    return {row[0].removeprefix(f"{chat_id}-"): str(row[1]) for row in rows if row[1]}


async def stored_history(chat_id: str) -> dict[str, Any]:
    """A chat's `messages` by id, linked by `parentId`, and its `currentId`, the message
    it ends with; without messages where the chat is gone.
    """
    from open_webui.models.chats import Chats

    chat = await Chats.get_chat_by_id(chat_id)
    history = (chat.chat.get("history") or {}) if chat else {}
    return {
        "messages": history.get("messages") or {},
        "currentId": history.get("currentId"),
    }


async def public_address(base_url: str) -> str:
    """Where users reach Open WebUI; `base_url` where an admin has not said it."""
    from open_webui.models.config import Config

    return str(await Config.get("webui.url") or base_url).rstrip("/")


async def compaction_is_on() -> bool:
    """Whether Open WebUI itself shortens long chats."""
    from open_webui.models.config import Config

    return bool(await Config.get("chat.context_compaction.enable"))
