"""What is deleted in Open WebUI is forgotten; what was there before is indexed."""

import logging
from typing import Any

from shared.memory.housekeeping import keep_house

log = logging.getLogger("aqueduct.housekeeping")


class Event:
    """Keeps the conversation memory in step with Open WebUI's chats."""

    async def event(self, event: dict[str, Any], __event_name__: str) -> None:
        """Called by Open WebUI for every event there is."""
        try:
            await keep_house(__event_name__, event)
        except Exception:
            log.exception("The memory could not follow %s", __event_name__)
