"""The folders that coding agents work in go when their chats are deleted."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.agents.kinds.programs import WORKSPACES
from shared.backends.workspace_removal import (
    chats_with_workspaces,
    remove_workspaces,
    remove_workspaces_of,
)
from shared.host.database import data_folder
from shared.host.saved_chats import chat_owners

CHATS_A_QUERY = 500
# Events that do not say which chats were deleted with their subject.
UNNAMED_CHATS = ("chat.deleted_all", "folder.deleted", "user.deleted")


async def keep_workspaces(name: str, event: Mapping[str, Any]) -> None:
    """Do what an event of Open WebUI asks for (its `event` and `subject`)."""
    root = data_folder() / WORKSPACES
    subject = str((event.get("subject") or {}).get("id") or "")
    if name == "chat.deleted":
        await asyncio.to_thread(remove_workspaces, root, [subject])
    if name == "user.deleted":
        await asyncio.to_thread(remove_workspaces_of, root, subject)
    if name in UNNAMED_CHATS:
        await remove_orphaned_workspaces(root)


async def remove_orphaned_workspaces(root: Path) -> None:
    """Remove the workspaces of all chats that Open WebUI does not have."""
    chats = sorted(await asyncio.to_thread(chats_with_workspaces, root))
    for start in range(0, len(chats), CHATS_A_QUERY):
        some = chats[start : start + CHATS_A_QUERY]
        owners = await chat_owners(some)
        gone = [chat_id for chat_id in some if chat_id not in owners]
        await asyncio.to_thread(remove_workspaces, root, gone)
