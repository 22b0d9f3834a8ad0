"""The button "What do you remember here?" under an answer."""

from collections.abc import Awaitable, Callable
from typing import Any

from shared.errors import AqueductError
from shared.host.dialogs import show_toast
from shared.memory.inspector import inspect_memory

ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' "
    "fill='none' stroke='%23666' stroke-width='1.7' stroke-linecap='round' "
    "stroke-linejoin='round'%3E%3Cpath d='M5 4h11l3 3v13H5zM9 9h6M9 13h6M9 17h3'/%3E"
    "%3C/svg%3E"
)


class Action:
    """Shows what is remembered, and lets its owner export and delete it."""

    def __init__(self) -> None:
        self.icon = ICON

    async def action(
        self,
        body: dict[str, Any],
        __user__: dict[str, Any],
        __event_call__: Callable[[dict[str, Any]], Awaitable[Any]],
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Dialogs in the tab in which the button was pressed."""
        try:
            await inspect_memory(body, __user__, __event_call__, __event_emitter__)
        except AqueductError as error:
            # The tab went away in the middle of a dialog.
            await show_toast(__event_emitter__, "warning", error.code)
