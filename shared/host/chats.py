"""Stored chats of Open WebUI."""

from collections.abc import Mapping
from typing import Any


async def stored_output(chat_id: str, message_id: str) -> list[dict[str, Any]]:
    """The output items of a stored message; empty where there is none.

    Temporary chats (`local:…`) and channels are not stored.
    """
    from open_webui.models.chats import Chats

    if not chat_id or not message_id or ":" in chat_id:
        return []
    message = await Chats.get_message_by_id_and_message_id(chat_id, message_id)
    output = message.get("output") if isinstance(message, Mapping) else None
    return [item for item in output or [] if isinstance(item, dict)]


async def messages_by_id(chat_id: str) -> dict[str, dict[str, Any]]:
    """All stored messages of a chat by id, of every branch; empty as above."""
    from open_webui.models.chats import Chats

    if not chat_id or ":" in chat_id:
        return {}
    return await Chats.get_messages_map_by_chat_id(chat_id) or {}
