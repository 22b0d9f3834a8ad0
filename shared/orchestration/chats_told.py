"""What models are told about the chats of the user they answer."""

from datetime import UTC, datetime
from typing import Any

from shared.errors import AqueductError
from shared.host.own_chats import find_own_chats, own_chat
from shared.host.turns import chat_messages
from shared.orchestration.caller import Caller
from shared.orchestration.conversations import tip_of
from shared.orchestration.guard import require_own_chat
from shared.orchestration.tool_results import clipped
from shared.orchestration.tree import branch_to, stored_text

FOUND_CHATS = 20
MOST_MESSAGES = 50


async def told_chats(caller: Caller, title: str) -> dict[str, Any]:
    """The user's chats with these words in their title, the latest first."""
    await require_own_chat(caller)
    found = await find_own_chats(caller.person, title.strip(), FOUND_CHATS + 1)
    told: dict[str, Any] = {
        "chats": [
            {
                "chat_id": chat.id,
                "title": chat.title,
                "updated": datetime.fromtimestamp(chat.updated_at, UTC).isoformat(),
                **({"orchestrated": True} if chat.orchestrated else {}),
            }
            for chat in found[:FOUND_CHATS]
        ]
    }
    if len(found) > FOUND_CHATS:
        told["more"] = "There are more; use more of the title."
    return told


async def told_messages(caller: Caller, chat_id: str, last: int) -> dict[str, Any]:
    """The last messages of a chat, on the branch that the user sees."""
    await require_own_chat(caller)
    chat = await own_chat(caller.person, chat_id)
    if chat is None:
        raise AqueductError("no_such_chat")
    branch = branch_to(chat_messages(chat), tip_of(chat) or "")
    shown = branch[-min(max(last, 1), MOST_MESSAGES) :]
    limit = caller.limits.max_chars // max(len(shown), 1)
    return {
        "chat_id": chat.id,
        "title": str(chat.title),
        "link": f"/c/{chat.id}",
        "total": len(branch),
        "messages": [
            {
                "role": message.get("role"),
                **({"model": message["model"]} if message.get("model") else {}),
                "text": clipped(stored_text(message), limit),
            }
            for message in shown
        ],
    }
