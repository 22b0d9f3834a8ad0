"""What is deleted in Open WebUI is forgotten; what was there before is indexed."""

import logging
from typing import Any

from shared.agents.workspace_care import keep_workspaces
from shared.memory.housekeeping import keep_house

log = logging.getLogger("aqueduct.housekeeping")


class Event:
    """Keeps the conversation memory and the agents' folders in step with the chats."""

    async def event(self, event: dict[str, Any], __event_name__: str) -> None:
        """Called by Open WebUI for every event there is."""
        for keep in (keep_house, keep_workspaces):
            try:
                await keep(__event_name__, event)
            except Exception:
                log.exception("%s could not follow %s", keep.__name__, __event_name__)
