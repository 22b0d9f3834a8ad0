"""What is remembered: shown, searched, exported and forgotten by whom it concerns."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from shared.host.chats import messages_by_id
from shared.host.dialogs import run_script, show_toast, tab_language
from shared.host.saved_chats import count_chats, is_saved_chat
from shared.memory.base import MemoryStore
from shared.memory.exchanges import StoredExchange, clip_text
from shared.memory.housekeeping import BACKFILL_STATE
from shared.memory.looking_up import LOOK_UP_SECONDS
from shared.memory.opening import embed_question, open_memory
from shared.memory.recall import Scope, recall
from shared.memory.texts import MEMORY_TEXTS
from shared.memory.wording import day_of
from shared.texts import translate

LISTED = 100
SEARCH_HITS = 20
LABEL_CHARS = 70
SHOWN_CHARS = 600
EXPORT_PAGE = 200
# The dialogs end when one is cancelled; this ends them if none ever is.
MOST_DIALOGS = 200

START_EXPORT = "window.aqueductExport = []; return true;"
ADD_TO_EXPORT = "window.aqueductExport.push(...{page}); return true;"
SAVE_EXPORT = """
const text = JSON.stringify(window.aqueductExport, null, 2);
const link = document.createElement('a');
link.href = URL.createObjectURL(new Blob([text], {type: 'application/json'}));
link.download = 'conversation-memory.json';
link.click();
URL.revokeObjectURL(link.href);
delete window.aqueductExport;
return true;
"""


@dataclass(frozen=True, slots=True)
class Inspection:
    """One press of the button: whose memory it is, and the tab to ask in."""

    store: MemoryStore
    user: Mapping[str, Any]
    chat_id: str
    used: Sequence[int]
    event_call: Callable[[dict[str, Any]], Awaitable[Any]]
    emit: Callable[[dict[str, Any]], Awaitable[None]]
    language: str

    @property
    def user_id(self) -> str:
        return str(self.user["id"])

    def say(self, code: str, **fields: Any) -> str:
        return translate(MEMORY_TEXTS, code, self.language, fields)

    async def toast(self, code: str, **fields: Any) -> None:
        await show_toast(self.emit, "info", self.say(code, **fields))

    async def choose(self, message: str, options: Mapping[str, str]) -> str:
        """The key of the chosen option; "" where the dialog was cancelled."""
        answer = await self.event_call(
            {
                "type": "input",
                "data": {
                    "title": self.say("title"),
                    "message": message,
                    "placeholder": self.say("choose"),
                    "type": "select",
                    "input": {
                        "type": "select",
                        "options": [
                            {"value": value, "label": label}
                            for value, label in options.items()
                        ],
                    },
                    "value": next(iter(options)),
                },
            }
        )
        return answer if isinstance(answer, str) and answer in options else ""

    async def ask_text(self, message: str) -> str:
        data = {"title": self.say("search"), "message": message, "placeholder": message}
        answer = await self.event_call({"type": "input", "data": data})
        return answer.strip() if isinstance(answer, str) else ""

    async def confirm(self, title: str, message: str) -> bool:
        data = {"title": title, "message": message}
        answer = await self.event_call({"type": "confirmation", "data": data})
        # Open WebUI's dialog confirms with what was last put into an input dialog, if
        # anything was; cancelled it gives False, and a lost tab an error as a dict.
        return answer is True or isinstance(answer, str)


def used_ids(messages: Sequence[Mapping[str, Any]], message_id: str) -> list[int]:
    """Ids of the exchanges that an answer's citations name."""
    return [
        int(metadata["exchange"])
        for message in messages
        if message.get("id") == message_id
        for source in message.get("sources") or ()
        if (source.get("source") or {}).get("type") == "aqueduct_memory"
        for metadata in source.get("metadata") or ()
        if str(metadata.get("exchange", "")).isdigit()
    ]


async def inspect_memory(
    body: Mapping[str, Any], user: Mapping[str, Any], event_call: Any, emit: Any
) -> None:
    """Show a menu, do what is chosen, and show it again until it is cancelled."""
    inspection = Inspection(
        store=await open_memory(),
        user=user,
        chat_id=str(body.get("chat_id") or ""),
        used=used_ids(body.get("messages") or (), str(body.get("id"))),
        event_call=event_call,
        emit=emit,
        language=await tab_language(event_call),
    )
    if not is_saved_chat(inspection.chat_id):
        await inspection.toast("no_saved_chat")
        return
    for _ in range(MOST_DIALOGS):
        chosen = await show_menu(inspection)
        if not chosen:
            return
        await MENU_ACTIONS[chosen](inspection)


async def show_menu(see: Inspection) -> str:
    """What is known, in a sentence, and what can be done about it."""
    used = await see.store.fetch(see.user_id, see.used)
    here = await see.store.listing(see.user_id, see.chat_id)
    everything = await see.store.count(see.user_id)
    excluded = await see.store.is_excluded(see.user_id, see.chat_id)
    lines = [see.say("summary", used=len(used), here=len(here), all=everything)]
    if excluded:
        lines.append(see.say("chat_is_excluded"))
    if see.user.get("role") == "admin":
        state = await see.store.state(BACKFILL_STATE) or {}
        done, total = state.get("done", 0), await count_chats()
        lines.append(see.say("backfill_progress", done=done, total=max(done, total)))
    options = {
        "show_used": see.say("show_used", count=len(used)) if used else "",
        "show_here": see.say("show_here", count=len(here)) if here else "",
        "search": see.say("search") if everything else "",
        "export": see.say("export") if everything else "",
        "forget_here": see.say("forget_here") if here else "",
        "forget_all": see.say("forget_all") if everything else "",
        "include" if excluded else "exclude": see.say(
            "include" if excluded else "exclude"
        ),
    }
    return await see.choose("\n\n".join(lines), {k: v for k, v in options.items() if v})


async def show_used(see: Inspection) -> None:
    await browse(see, await see.store.fetch(see.user_id, see.used))


async def show_here(see: Inspection) -> None:
    await browse(see, await see.store.listing(see.user_id, see.chat_id))


async def search_memory(see: Inspection) -> None:
    query = await see.ask_text(see.say("search_prompt"))
    if not query:
        return
    hits = await recall(
        see.store,
        partial(embed_question, user=see.user, seconds=LOOK_UP_SECONDS),
        see.user_id,
        query,
        Scope(),
        limit=SEARCH_HITS,
        gated=False,
    )
    await browse(see, [hit.stored for hit in hits])


async def browse(see: Inspection, found: Sequence[StoredExchange]) -> None:
    """Show exchanges one by one, and forget the one that is confirmed."""
    left = {str(one.id): one for one in found[-LISTED:]}
    if not left:
        await see.toast("nothing_found")
    while left:
        labels = {key: exchange_label(one) for key, one in left.items()}
        chosen = await see.choose(see.say("choose"), labels)
        if not chosen:
            return
        text = f"{exchange_quote(left[chosen])}\n\n*{see.say('forget_hint')}*"
        if await see.confirm(see.say("forget_question"), text):
            count = await see.store.forget(see.user_id, [int(chosen)])
            # Copies of it in other chats are gone as well.
            stay = await see.store.fetch(see.user_id, [one.id for one in left.values()])
            left = {str(one.id): one for one in left.values() if one in stay}
            await see.toast("forgotten", count=count)


def exchange_label(stored: StoredExchange) -> str:
    exchange = stored.exchange
    question = " ".join(exchange.question.split())[:LABEL_CHARS]
    return " · ".join(filter(None, (day_of(exchange.asked_at), question)))


def exchange_quote(stored: StoredExchange) -> str:
    """Date, question and answer as Markdown, shortened for a dialog."""
    exchange = stored.exchange
    asked = clip_text(exchange.question, SHOWN_CHARS)
    answered = clip_text(exchange.answer, SHOWN_CHARS)
    return "\n\n".join(
        [
            day_of(exchange.asked_at),
            f"**{exchange.speaker or 'User'}:** {asked}",
            f"**{exchange.model or 'Assistant'}:** {answered}",
        ]
    )


async def export_memory(see: Inspection) -> None:
    """Save everything as a JSON file in the browser; no copy stays on the server."""
    await run_script(see.event_call, START_EXPORT)
    after = count = 0
    while page := await see.store.listing(see.user_id, limit=EXPORT_PAGE, after=after):
        rows = json.dumps([asdict(one.exchange) for one in page])
        await run_script(see.event_call, ADD_TO_EXPORT.replace("{page}", rows))
        after, count = page[-1].id, count + len(page)
    await run_script(see.event_call, SAVE_EXPORT)
    await see.toast("exported", count=count)


async def forget_chat(see: Inspection) -> None:
    here = await see.store.listing(see.user_id, see.chat_id, limit=1_000_000)
    question = see.say("forget_many_question", count=len(here))
    if await see.confirm(see.say("forget_here"), question):
        ids = [one.id for one in here]
        count = await see.store.forget(see.user_id, ids)
        await see.toast("forgotten", count=count)


async def forget_everything(see: Inspection) -> None:
    count = await see.store.count(see.user_id)
    question = see.say("forget_many_question", count=count)
    if await see.confirm(see.say("forget_all"), question):
        count = 0
        while page := await see.store.listing(see.user_id, limit=EXPORT_PAGE):
            count += await see.store.forget(see.user_id, [one.id for one in page])
        await see.toast("forgotten", count=count)


async def exclude_chat(see: Inspection) -> None:
    here = await see.store.listing(see.user_id, see.chat_id, limit=1_000_000)
    said = (await messages_by_id(see.chat_id)).items()
    questions = [key for key, one in said if one.get("role") == "user"]
    await see.store.exclude(see.user_id, see.chat_id, True)
    # Of what is not stored yet too, so that a copy of this chat does not tell it.
    await see.store.skip(see.user_id, questions)
    await see.store.forget(see.user_id, [one.id for one in here])
    await see.toast("chat_is_excluded")


async def include_chat(see: Inspection) -> None:
    await see.store.exclude(see.user_id, see.chat_id, False)


MENU_ACTIONS: dict[str, Callable[[Inspection], Awaitable[None]]] = {
    "show_used": show_used,
    "show_here": show_here,
    "search": search_memory,
    "export": export_memory,
    "forget_here": forget_chat,
    "forget_all": forget_everything,
    "exclude": exclude_chat,
    "include": include_chat,
}
