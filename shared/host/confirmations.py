"""Asking the user before something is done."""

import asyncio

from shared.errors import AqueductError
from shared.host.dialogs import EventCall

CONFIRM_SECONDS = 240


async def confirm(
    event_call: EventCall | None, session_id: str, title: str, message: str
) -> None:
    """Return once the user has agreed in a dialog; else AqueductError.

    `message` is Markdown. Without a browser nobody can agree: `needs_browser`.
    """
    if event_call is None or not session_id:
        raise AqueductError("needs_browser")
    question = {"type": "confirmation", "data": {"title": title, "message": message}}
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            answer = await event_call(question)
    except TimeoutError:
        raise AqueductError("not_confirmed") from None
    if isinstance(answer, dict) and "error" in answer:
        raise AqueductError("needs_browser")
    if answer is not True:
        raise AqueductError("not_confirmed")
