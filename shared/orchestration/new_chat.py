"""A new chat with another model, which starts where this one is."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from shared.errors import AqueductError
from shared.host.chat_fields import chat_seen_by, message_seen_by
from shared.host.dialogs import open_in_tab
from shared.host.errands import without_errand
from shared.host.new_chats import (
    append_line,
    create_chat,
    delete_chat,
    folder_beside,
    plain_answer,
)
from shared.host.people import current_person
from shared.host.turns import (
    Answerer,
    chat_messages,
    emit_and_store,
    run_as_task,
    start_turn,
    writable_chat,
)
from shared.orchestration.buttons import join_parts, model_field, new_user_message
from shared.orchestration.desk import Desk
from shared.orchestration.forms import (
    choice_field,
    chosen_text,
    chosen_value,
    text_field,
)
from shared.orchestration.tree import answer_at, branch_to, stored_text

AS_IS, SUMMARY = "as_is", "summary"

Branch = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a new chat comes from; `stored` is None for a temporary chat."""

    stored: Any
    title: str
    branch: Branch

    def link(self, chat_id: str) -> str:
        return chat_link(self.title, chat_id) if self.stored else self.title


async def press_new_chat(desk: Desk) -> None:
    """A new chat, seeded with this branch, in which another model answers next."""
    origin = await find_origin(desk)
    picker = await desk.picker()
    seeds = {AS_IS: desk.text("seed_as_is"), SUMMARY: desk.text("seed_summary")}
    please = desk.line("please_continue")
    fields = {
        "model": model_field(desk, picker),
        "seed": choice_field(desk.text("field_seed"), seeds, AS_IS),
    }
    if desk.settings.ask_text:
        fields["text"] = text_field(
            desk.text("field_text"), desk.text("field_text_hint"), please
        )
    answers = await desk.ask(fields, ("model", "seed"))
    model_id = chosen_value(answers, "model", picker.labels)
    text = chosen_text(answers, "text") if desk.settings.ask_text else please
    names = await desk.names()
    if answers.get("seed") == SUMMARY:
        summary = await summarise(desk, origin.branch, model_id)
        line = desk.line("summary_line", **origin_fields(desk, origin, names))
        seed: Branch = []
        content = join_parts(line, summary, text)
    else:
        line = desk.line("new_chat_line", **origin_fields(desk, origin, names))
        seed, content = seeded(origin.branch), join_parts(line, text)
    if origin.stored:
        # A form and a summary take minutes: the right to write may be gone.
        await writable_chat(desk.press.chat_id, desk.person)
    title = f"{origin.title} · {names.get(model_id, model_id)}"
    chat_id = await open_chat(desk, origin, title, seed, content, model_id)
    if origin.stored:
        link = chat_link(title, chat_id)
        onward = desk.line("onward_line", link=link, next=names.get(model_id, model_id))
        await tell_onward(desk, onward)
    await desk.remember([model_id])
    # Gone meanwhile to another page: the chat stands in the sidebar.
    with contextlib.suppress(AqueductError):
        await open_in_tab(desk.press.event_call, f"/c/{chat_id}")


async def tell_onward(desk: Desk, line: str) -> None:
    """Write where it goes on into the old chat, if this user may still write to it.

    If not, because the right went while the model was set to work, the new chat stands
    all the same.
    """
    press = desk.press
    with contextlib.suppress(AqueductError):
        person = await current_person(desk.person.id)
        await writable_chat(press.chat_id, person)
        await append_line(person, press.chat_id, press.message_id, line)


async def find_origin(desk: Desk) -> Origin:
    """This branch as it is stored, or as the page sent it from a temporary chat."""
    press = desk.press
    if press.in_temporary_chat:
        branch = [
            {
                "id": str(message.get("id") or uuid4()),
                "role": message.get("role"),
                "content": message.get("content") or "",
                "done": True,
                **({"model": press.model_id} if message["role"] != "user" else {}),
            }
            for message in press.messages
            if message.get("role") in ("user", "assistant")
        ]
        if not branch:
            raise AqueductError("message_gone")
        return Origin(None, desk.text("temporary_title"), branch)
    chat = await writable_chat(press.chat_id, desk.person)
    messages = chat_messages(chat)
    answer_at(messages, press.message_id)
    branch = [
        message_seen_by(desk.person, chat, message)
        for message in branch_to(messages, press.message_id)
    ]
    return Origin(chat, str(chat.title), branch)


def origin_fields(
    desk: Desk, origin: Origin, names: Mapping[str, str]
) -> dict[str, str]:
    """What the first line of the new chat tells of the old one."""
    previous = str(origin.branch[-1].get("model") or desk.press.model_id)
    return {
        "link": origin.link(desk.press.chat_id),
        "previous": names.get(previous, previous),
    }


def seeded(branch: Branch) -> Branch:
    """The branch alone: where several models answered, the one that is on it.

    What was asked on an errand is not asked on one again.
    """
    answering = {
        message.get("parentId"): message.get("model")
        for message in branch
        if message.get("role") == "assistant"
    }
    return [
        (
            {**message, "models": [answering.get(message["id"])]}
            if message.get("role") == "user" and answering.get(message["id"])
            else {**message, "modelIdx": 0, "done": True}
        )
        for message in map(without_errand, branch)
    ]


async def open_chat(
    desk: Desk, origin: Origin, title: str, seed: Branch, content: str, model_id: str
) -> str:
    """Make the chat and let the model answer in it; nothing is left if it cannot."""
    press, old = desk.press, origin.stored
    chat_id = await create_chat(
        press.request,
        desk.person,
        title,
        [model_id],
        seed,
        like=chat_seen_by(desk.person, old) if old else None,
        folder_id=await folder_beside(desk.person, old) if old else None,
    )
    message = new_user_message(seed[-1]["id"] if seed else None, content, model_id)
    turn = replace(desk.turn(message, [Answerer(model_id)]), chat_id=chat_id)
    try:
        await start_turn(press.request, desk.person, turn)
    except BaseException:
        await delete_chat(chat_id, desk.person)
        raise
    return chat_id


async def summarise(desk: Desk, branch: Branch, model_id: str) -> str:
    """The branch in short, by the model that goes on with it.

    A task of the old chat: stopping that chat's answers stops it too.
    """
    spoken = [
        {"role": str(message["role"]), "content": stored_text(message)}
        for message in branch
    ]
    prompt = {"role": "user", "content": desk.line("summary_prompt")}
    work = plain_answer(desk.press.request, desk.person, model_id, [*spoken, prompt])
    await summary_status(desk, done=False)
    try:
        task = await run_as_task(desk.press.request, work, desk.press.chat_id)
        done, _ = await asyncio.wait({task}, timeout=desk.settings.max_seconds)
        if not done:
            task.cancel()
            raise AqueductError("time_over")
        if task.cancelled():
            raise AqueductError("cancelled")
        return str(task.result())
    finally:
        await summary_status(desk, done=True)


async def summary_status(desk: Desk, done: bool) -> None:
    """A line above the answer for as long as it is being summarised."""
    data = {"description": desk.text("summarising"), "done": done, "hidden": done}
    press = desk.press
    await emit_and_store(
        desk.person.id,
        press.chat_id,
        press.message_id,
        {"type": "status", "data": data},
    )


def chat_link(title: str, chat_id: str) -> str:
    """A link to a chat in Markdown, whatever the title holds."""
    plain = "".join(f"\\{char}" if char in "[]\\*_`<>" else char for char in title)
    return f"[{plain}](/c/{chat_id})"
