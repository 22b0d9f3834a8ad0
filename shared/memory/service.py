"""What the memory does before and after an answer."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from shared.host.dialogs import Emit
from shared.host.saved_chats import (
    chat_owners,
    compaction_is_on,
    is_saved_chat,
    message_authors,
    public_address,
)
from shared.memory.exchanges import (
    NOTES_OPEN,
    StoredExchange,
    branch_exchanges,
    own_turns,
)
from shared.memory.notes import (
    Note,
    note_heading,
    notes_block,
    notes_within,
    with_notes,
)
from shared.memory.opening import (
    embed_question,
    in_background,
    log_once,
    open_memory,
    request_indexing,
)
from shared.memory.options import MemoryOptions, PersonalMemoryOptions, is_barred
from shared.memory.recall import Scope, recall
from shared.memory.texts import MEMORY_TEXTS
from shared.memory.window import (
    keep_last,
    last_user_content,
    last_user_text,
    shown_questions,
)
from shared.texts import translate

PAUSE_FILTER_ID = "memory_pause"
RECALL_TOOL_ID = "recall"
# Where one turn's inlet leaves what the same turn's requests and outlet take up.
NOTES_KEY = "aqueduct_memory_notes"
CITATIONS_KEY = "aqueduct_memory_citations"
# Of the time a recall may take, what the question's vector may take of it. A slow
# embedding server then costs the vectors, not the recall.
EMBEDDING_SHARE = 0.6

memory_service_log = logging.getLogger("aqueduct.memory.service")


@dataclass(frozen=True, slots=True)
class MemoryCall:
    """One turn of one user, as Open WebUI tells a filter of it."""

    user: Mapping[str, Any]
    metadata: dict[str, Any]
    model: Mapping[str, Any]
    base_url: str
    emit: Emit | None
    options: MemoryOptions

    @property
    def user_id(self) -> str:
        return str(self.user.get("id") or "")

    @property
    def chat_id(self) -> str:
        return str(self.metadata.get("chat_id") or "")

    @property
    def language(self) -> str:
        variables = self.metadata.get("variables") or {}
        return str(variables.get("{{USER_LANGUAGE}}") or "en")

    @property
    def personal(self) -> PersonalMemoryOptions:
        """The user's own switches; Open WebUI hands them over as an object."""
        valves = self.user.get("valves")
        if isinstance(valves, Mapping):
            return PersonalMemoryOptions.model_validate(valves)
        return PersonalMemoryOptions.model_validate(valves or {}, from_attributes=True)

    @property
    def question_id(self) -> str:
        message = self.metadata.get("user_message") or {}
        return str(self.metadata.get("user_message_id") or message.get("id") or "")

    @property
    def is_of_a_chat(self) -> bool:
        """Not of a temporary chat, an API call or a subagent's errand."""
        return (
            bool(self.user_id)
            and is_saved_chat(self.chat_id)
            and not self.metadata.get("internal")
        )

    @property
    def is_paused(self) -> bool:
        return PAUSE_FILTER_ID in (self.metadata.get("filter_ids") or ())

    @property
    def concerns_memory(self) -> bool:
        """Of a chat that is not paused."""
        return self.is_of_a_chat and not self.is_paused

    @property
    def may_recall(self) -> bool:
        """As far as switches say; the chat itself may be somebody else's or left out."""
        barred = is_barred(self.options, self.model)
        return self.concerns_memory and self.personal.recall and not barred


async def before_answer(body: dict[str, Any], call: MemoryCall) -> dict[str, Any]:
    """The body with its history cut, if so set; notes wait for `with_recalled_notes`.

    They are told no sooner because what comes between, searching the web and files,
    searches for the text of the user's message. The history is cut only in a turn that
    recalls, for what is cut could not come back in any other.
    """
    leave_out_unremembered(call)
    if not call.may_recall:
        return body
    try:
        async with asyncio.timeout(call.options.max_wait_ms / 1000):
            if not await in_own_chat(call) or await in_excluded_chat(call):
                return body
            messages = await cut_history(body.get("messages") or [], call)
            told = await told_notes(messages, call)
            citations = await make_citations(told, call)
    except TimeoutError:
        memory_service_log.warning(
            "Recall took over %d ms and is left out", call.options.max_wait_ms
        )
        return body
    if told:
        can_look_up = RECALL_TOOL_ID in (call.metadata.get("tool_ids") or ())
        call.metadata[NOTES_KEY] = notes_block(told, can_look_up)
        call.metadata[CITATIONS_KEY] = citations
        cite_at_the_end(call)
        await say_recalled(len(told), call)
    return body | {"messages": messages}


def leave_out_unremembered(call: MemoryCall) -> None:
    """Keep a turn that is paused, or of who is not remembered, out for good.

    A later answer in the same chat stores its whole branch. Asked for before the
    answer, because a stopped one has no outlet, and after it, as switches may have
    changed or the first try failed.
    """
    unwanted = call.is_paused or not call.personal.remember
    if call.is_of_a_chat and unwanted and call.question_id:
        in_background("leaving a question out", skip_question(call))


async def skip_question(call: MemoryCall) -> None:
    store = await open_memory()
    await store.skip(call.user_id, [call.question_id])


async def in_own_chat(call: MemoryCall) -> bool:
    """Whether the chat is this user's; one that is not saved yet is.

    In a chat that somebody else shares for going on together, notes and their
    citations would be saved into that person's chat.
    """
    owner = (await chat_owners([call.chat_id])).get(call.chat_id)
    return owner is None or owner.user_id == call.user_id


async def in_excluded_chat(call: MemoryCall) -> bool:
    """Whether the user left this chat out; then the question stays out for good."""
    store = await open_memory()
    excluded = await store.is_excluded(call.user_id, call.chat_id)
    if excluded and call.question_id:
        in_background("leaving a question out", skip_question(call))
    return excluded


def with_recalled_notes(
    body: dict[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The body with the turn's notes on its last user message, in each round once."""
    block = metadata.get(NOTES_KEY)
    messages = body.get("messages") or []
    if not block or NOTES_OPEN in last_user_content(messages):
        return body
    return body | {"messages": with_notes(messages, block)}


async def cut_history(
    messages: Sequence[Mapping[str, Any]], call: MemoryCall
) -> list[dict[str, Any]]:
    """The last exchanges only, unless Open WebUI shortens chats itself.

    All of them where nothing could be recalled of what is cut: for who is not
    remembered, and in a chat of which nothing is stored yet.
    """
    keep = call.options.keep_exchanges if call.personal.remember else 0
    whole, cut = keep_last(messages, 0), keep_last(messages, keep)
    if len(cut) == len(whole):
        return whole
    if await compaction_is_on():
        log_once(
            "compaction",
            "keep_exchanges is %d, but Open WebUI's own compaction is on: "
            "the history is left to that",
            keep,
        )
        return whole
    store = await open_memory()
    stored = await store.listing(call.user_id, call.chat_id, limit=1)
    return cut if stored else whole


async def told_notes(
    messages: Sequence[Mapping[str, Any]], call: MemoryCall
) -> list[tuple[Note, str]]:
    """What is worth telling, within the budget and in order of time."""
    store = await open_memory()
    scope = Scope(
        chat_id=call.chat_id,
        only_chat=not call.personal.other_chats,
        shown=shown_questions(messages),
    )
    seconds = call.options.max_wait_ms / 1000 * EMBEDDING_SHARE
    hits = await recall(
        store,
        partial(embed_question, user=call.user, seconds=seconds),
        call.user_id,
        last_user_text(messages),
        scope,
        limit=call.options.max_notes,
    )
    notes = await proven_notes([hit.stored for hit in hits], call.user_id)
    return notes_within(notes, call.options.token_budget)


async def proven_notes(stored: Sequence[StoredExchange], user_id: str) -> list[Note]:
    """Those whose chat exists and is this user's: what is deleted is never told."""
    owners = await chat_owners(list({one.exchange.chat_id for one in stored}))
    return [
        Note(one, owner.title)
        for one in stored
        if (owner := owners.get(one.exchange.chat_id)) and owner.user_id == user_id
    ]


async def make_citations(
    told: Sequence[tuple[Note, str]], call: MemoryCall
) -> list[dict[str, Any]]:
    """A `source` for each note, whose link opens the chat."""
    address = await public_address(call.base_url) if told else ""
    return [citation(note, text, address) for note, text in told]


def citation(note: Note, text: str, address: str) -> dict[str, Any]:
    """The part after # is there because Open WebUI shows one entry an address."""
    exchange = note.stored.exchange
    url = f"{address}/c/{exchange.chat_id}#{exchange.question_id}"
    name = note_heading(note)
    metadata = {
        "source": url,
        "name": name,
        "external": True,
        "exchange": str(note.stored.id),
    }
    return {
        "source": {"id": url, "name": name, "url": url, "type": "aqueduct_memory"},
        "document": [text],
        "metadata": [metadata],
    }


async def say_recalled(count: int, call: MemoryCall) -> None:
    if call.emit is None:
        return
    code = "recalled_one" if count == 1 else "recalled"
    text = translate(MEMORY_TEXTS, code, call.language, {"count": count})
    await call.emit({"type": "status", "data": {"description": text, "done": True}})


async def cite(call: MemoryCall) -> None:
    """Show what was recalled, once a turn."""
    for source in call.metadata.pop(CITATIONS_KEY, ()):
        if call.emit is not None:
            await call.emit({"type": "source", "data": source})


def cite_at_the_end(call: MemoryCall) -> None:
    """Show it even if no outlet is called, as after Stop: when the turn's task ends."""

    def cite_what_is_left(_: asyncio.Task[Any]) -> None:
        if CITATIONS_KEY in call.metadata:
            in_background("citing", cite(call))

    if (turn := asyncio.current_task()) is not None:
        turn.add_done_callback(cite_what_is_left)


async def after_answer(body: Mapping[str, Any], call: MemoryCall) -> None:
    """Show what was recalled, and store the turn in the background.

    Citations come after the answer because Open WebUI numbers sources in the order of
    their coming, and a model's [1] must go on meaning the first of its own.
    """
    leave_out_unremembered(call)
    if not call.concerns_memory:
        return
    await cite(call)
    if call.personal.remember:
        in_background("storing an exchange", store_branch(body, call))


async def store_branch(body: Mapping[str, Any], call: MemoryCall) -> None:
    """Store what is new or changed in the branch of the chat that was answered.

    The whole branch is looked at, so that an edit, and what an earlier failure lost,
    is made good by the next answer. Other branches are dropped; who goes back to one
    has it stored again with its next answer.
    """
    messages = list(body.get("messages") or ())
    if messages:
        model = {"model": str(body.get("model") or "")}
        messages[-1] = model | messages[-1]
    owner = (await chat_owners([call.chat_id])).get(call.chat_id)
    if owner is None or owner.user_id != call.user_id:
        return
    own = own_turns(messages, await message_authors(call.chat_id), call.user_id)
    exchanges = branch_exchanges(
        own,
        call.chat_id,
        speaker=str(call.user.get("name") or ""),
        max_chars=call.options.max_chars,
    )
    if not exchanges:
        return
    if await in_excluded_chat(call):
        return
    store = await open_memory()
    await store.save(call.user_id, exchanges)
    # What the user has since worded anew is no longer what they said.
    branch = [str(one.get("id")) for one in own if one.get("role") == "user"]
    await store.keep_only(call.user_id, call.chat_id, branch)
    request_indexing(store)
