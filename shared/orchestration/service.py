"""From a button to its work: everything apart from the valves."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

from shared.errors import AqueductError
from shared.host.claims import claimed
from shared.host.dialogs import show_toast, tab_language
from shared.host.people import current_person
from shared.host.turns import run_as_task
from shared.orchestration.buttons import press_compare, press_continue, press_opinion
from shared.orchestration.desk import ButtonSettings, Desk, Press
from shared.orchestration.new_chat import press_new_chat
from shared.orchestration.notices import BUTTON_NOTICES
from shared.orchestration.talk import press_talk
from shared.texts import translate

button_log = logging.getLogger("aqueduct.continue_with")

BUTTONS: Mapping[str, Callable[[Desk], Awaitable[None]]] = {
    "continue": press_continue,
    "opinion": press_opinion,
    "compare": press_compare,
    "talk": press_talk,
    "new_chat": press_new_chat,
}

# Not failures: what the user did, or is told for information only.
MILD_CODES = ("cancelled", "no_answer", "busy", "answer_running", "temporary_chat")


async def handle_press(press: Press, settings: ButtonSettings) -> None:
    """Work on a press of a button as a task of its own; returns at once.

    The form waits for a person, and the page would wait for it; and when an action's
    request ends late, the page saves its whole copy of the chat over the tree.
    """
    await run_as_task(press.request, work_on_press(press, settings))


async def work_on_press(press: Press, settings: ButtonSettings) -> None:
    """Do what the button says; whatever goes wrong is told in one notice."""
    language = request_language(press)
    try:
        if press.button not in settings.buttons:
            raise AqueductError("switched_off")
        # A press while another one is worked on in this chat, by a double click or
        # in a second tab, is refused: the turns would mix.
        async with claimed(press.request, f"chat:{press.chat_id}"):
            language = await tab_language(press.event_call)
            person = await current_person(press.user_id)
            await BUTTONS[press.button](Desk(press, settings, person, language))
    except AqueductError as error:
        kind = "info" if error.code in MILD_CODES else "error"
        text = translate(BUTTON_NOTICES, error.code, language, error.fields)
        await show_toast(press.emit, kind, text)
    except Exception:  # noqa: BLE001 - the host's entry point: log it, tell it
        trace_id = uuid4().hex[:8]
        button_log.exception("Button %s failed [%s]", press.button, trace_id)
        text = translate(BUTTON_NOTICES, "internal", language, {"id": trace_id})
        await show_toast(press.emit, "error", text)


def request_language(press: Press) -> str:
    """The browser's language, for as long as the tab has not told its own."""
    accepted = press.request.headers.get("accept-language", "")
    return accepted.split(",")[0].split(";")[0].strip() or "en"
