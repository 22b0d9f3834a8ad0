"""The memory as a tool: a model asks for what it was not told."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from shared.host.valves import function_is_active, function_valves, user_function_valves
from shared.memory.notes import Note, note_heading, notes_within
from shared.memory.opening import embed_question, open_memory
from shared.memory.options import MemoryOptions, PersonalMemoryOptions, is_barred
from shared.memory.recall import Scope, recall
from shared.memory.service import (
    MemoryCall,
    in_own_chat,
    make_citations,
    proven_notes,
)
from shared.memory.texts import MEMORY_TEXTS
from shared.texts import translate

MEMORY_FILTER_ID = "conversation_memory"
LOOK_UP_SECONDS = 5.0
NOTHING_FOUND = "Nothing about this is stored of earlier conversations."
NOT_ALLOWED = "The memory may not be used in this chat."


async def memory_options() -> MemoryOptions:
    """The filter's valves: one place for all functions of the memory."""
    return MemoryOptions.model_validate(await function_valves(MEMORY_FILTER_ID))


async def personal_options(user_id: str) -> PersonalMemoryOptions:
    found = await user_function_valves(MEMORY_FILTER_ID, user_id)
    return PersonalMemoryOptions.model_validate(found)


async def look_up(
    query: str,
    user: Mapping[str, Any],
    metadata: dict[str, Any],
    model: Mapping[str, Any],
    base_url: str,
    emit: Any,
) -> str:
    """What is stored about `query`, as text for a model, under the filter's rules."""
    options = await memory_options()
    call = MemoryCall(user, metadata, model, base_url, emit, options)
    personal = await personal_options(call.user_id)
    store = await open_memory()
    allowed = (
        call.concerns_memory
        and personal.recall
        and not is_barred(options, model)
        and await function_is_active(MEMORY_FILTER_ID)
        and await in_own_chat(call)
        and not await store.is_excluded(call.user_id, call.chat_id)
    )
    if not allowed:
        return NOT_ALLOWED
    hits = await recall(
        store,
        partial(embed_question, user=user, seconds=LOOK_UP_SECONDS),
        call.user_id,
        query,
        Scope(chat_id=call.chat_id, only_chat=not personal.other_chats),
        limit=options.max_notes,
        gated=False,
    )
    notes = await proven_notes([hit.stored for hit in hits], call.user_id)
    told = notes_within(notes, options.token_budget)
    await show_looked_up(told, call)
    texts = [f"--- {note_heading(note)} ---\n{text}" for note, text in told]
    return "\n\n".join(texts) or NOTHING_FOUND


async def show_looked_up(told: list[tuple[Note, str]], call: MemoryCall) -> None:
    """A status line and a citation for each exchange."""
    if call.emit is None:
        return
    fields = {"count": len(told)}
    text = translate(MEMORY_TEXTS, "looked_up", call.language, fields)
    await call.emit({"type": "status", "data": {"description": text, "done": True}})
    for source in await make_citations(told, call):
        await call.emit({"type": "source", "data": source})
