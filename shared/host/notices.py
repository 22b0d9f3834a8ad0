"""What admins are told outside of a chat."""

import logging
from typing import Any

notices_log = logging.getLogger("aqueduct.notices")

# What the page opens when the toast of a "finished chat" is clicked, seen from /c/.
FUNCTIONS_PAGE = "../admin/functions"


async def notify_admins(title: str, text: str) -> None:
    """Log it, and show every admin with an open page a toast that leads to Functions.

    Open WebUI has no notice that stands outside of a chat, so this is the one of an
    answer that became ready in another chat (`+layout.svelte`, `chat:completion`).
    """
    from open_webui.models.users import Users
    from open_webui.socket.main import sio

    notices_log.error("%s: %s", title, text)
    found: Any = await Users.get_users(filter={"roles": ["admin"]})
    for admin in found["users"]:
        event = {"type": "chat:completion", "data": {}}
        event["data"] = {"done": True, "title": title, "content": text}
        await sio.emit(
            "events",
            {"chat_id": FUNCTIONS_PAGE, "message_id": "", "data": event},
            room=f"user:{admin.id}",
        )
