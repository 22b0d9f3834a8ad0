"""What we ask of the browser tab in which somebody pressed a button.

The events are Open WebUI's own (`Chat.svelte`): `request:elicitation` is the form it
shows for MCP servers, drawn from a JSON schema; `execute` runs a script in the tab.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from shared.errors import AqueductError

EventCall = Callable[[dict[str, Any]], Awaitable[Any]]
Emit = Callable[[dict[str, Any]], Awaitable[None]]

# The longest that Open WebUI lets such a form stand open (socket/main.py).
FORM_SECONDS = 240
SCRIPT_SECONDS = 10

LANGUAGE_SCRIPT = (
    "try { return localStorage.getItem('locale') || navigator.language; } "
    "catch { return navigator.language; }"
)
# A click on a link is what Open WebUI's router turns into a change of page without
# loading everything anew.
OPEN_SCRIPT = (
    "const link = document.createElement('a'); link.href = {path}; "
    "document.body.append(link); link.click(); link.remove(); return true;"
)


async def run_script(event_call: EventCall, code: str) -> Any:
    """What the script returns in the tab; AqueductError without a live tab.

    A tab that meanwhile shows another chat never answers, hence the time limit.
    """
    try:
        async with asyncio.timeout(SCRIPT_SECONDS):
            answer = await event_call({"type": "execute", "data": {"code": code}})
    except TimeoutError:
        raise AqueductError("no_session") from None
    if isinstance(answer, dict) and "error" in answer:
        raise AqueductError("no_session")
    return answer


async def tab_language(event_call: EventCall) -> str:
    """The language of Open WebUI's interface in this tab, as "de-DE"."""
    return str(await run_script(event_call, LANGUAGE_SCRIPT) or "en")


async def open_in_tab(event_call: EventCall, path: str) -> None:
    """Show another page of Open WebUI in the tab."""
    await run_script(event_call, OPEN_SCRIPT.replace("{path}", json.dumps(path)))


async def ask_form(
    event_call: EventCall,
    title: str,
    message: str,
    schema: Mapping[str, Any],
    seconds: int = FORM_SECONDS,
) -> dict[str, Any]:
    """What the user put into a form; AqueductError `cancelled` when they did not.

    `schema` is a flat JSON schema of strings, numbers and choices. The form stands
    open for `seconds`, of which Open WebUI allows 60 to 240.
    """
    answer = await event_call(
        {
            "type": "request:elicitation",
            "data": {
                "mode": "form",
                "server_name": title,
                "message": message,
                "requestedSchema": dict(schema),
                "timeout_ms": seconds * 1000,
            },
        }
    )
    if not isinstance(answer, dict) or "error" in answer:
        raise AqueductError("no_answer")
    if answer.get("action") != "accept":
        raise AqueductError("cancelled")
    return dict(answer.get("content") or {})


async def show_toast(emit: Emit, kind: str, text: str) -> None:
    """A notice at the edge of the screen; `kind` is info, success, warning or error."""
    await emit({"type": "notification", "data": {"type": kind, "content": text}})
