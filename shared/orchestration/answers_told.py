"""What came of a question to another model."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import AqueductError
from shared.host.errands import Errand, asked_for, is_running, stop_everywhere
from shared.host.own_chats import own_chat
from shared.host.saved_chats import public_address
from shared.host.turns import chat_messages, stored_message, unbroken
from shared.orchestration.admission import POLL_SECONDS
from shared.orchestration.caller import Caller
from shared.orchestration.guard import (
    present_errand,
    seconds_left,
    waiting_chats,
)
from shared.orchestration.tool_results import clipped, json_error
from shared.orchestration.tree import stored_text

EXCERPT_LIMIT = 400
UNANSWERED_CALLS = ("pending", "queued", "requires_approval", "in_progress")
# By status: what the caller can do about it.
NEXT_STEPS = {
    "answered": "Call chat_with_model with this chat_id to go on.",
    "running": "Call collect with this chat_id later.",
    "waiting_for_user": "The model waits for the user, who has to open the link.",
    "stopped": "It was stopped. Do not ask again unless the user wants it.",
}


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """An answer in a chat: `status` is answered, running, failed, stopped or
    waiting_for_user; `files` are addresses, of pictures mostly; `task_id` is what
    writes it."""

    chat_id: str
    message_id: str
    model_id: str
    status: str
    text: str
    files: tuple[str, ...]
    problem: str
    task_id: str

    def as_json(self, caller: Caller, title: str, model_id: str = "") -> dict[str, Any]:
        """For a model to read; clipped, with the link where the rest can be read."""
        limit = caller.limits.max_chars
        told: dict[str, Any] = {
            "chat_id": self.chat_id,
            "title": title,
            "link": f"/c/{self.chat_id}",
            "model": model_id or self.model_id,
            "status": self.status,
        }
        if self.text:
            told["answer"] = clipped(self.text, limit)
        if self.files:
            told["files"] = list(self.files)
        if len(self.text) > limit:
            told["clipped"] = f"{limit} of {len(self.text)} characters"
        if self.status == "failed":
            reason = clipped(self.problem, EXCERPT_LIMIT)
            told["error"] = f"The model gave no answer. {reason}".strip()
            told["hint"] = "Try another model, or tell the user."
        else:
            told["next"] = NEXT_STEPS[self.status]
        return told


async def chat_answer(caller: Caller, chat_id: str, message_id: str) -> ChatAnswer:
    """An answer as it is stored now."""
    message = await stored_message(chat_id, message_id)
    running = await is_running(caller.request, chat_id, message)
    text = stored_text(message) if message.get("role") == "assistant" else ""
    files = tuple(str(file.get("url")) for file in message.get("files") or [])
    return ChatAnswer(
        chat_id=chat_id,
        message_id=message_id,
        model_id=str(message.get("model") or ""),
        status=answer_status(message, bool(text.strip() or files), running),
        text=text,
        files=files,
        problem=answer_problem(message),
        task_id=str((message.get("meta") or {}).get("task_id") or ""),
    )


def answer_status(message: Mapping[str, Any], says: bool, running: bool) -> str:
    """What has become of an answer.

    `says` tells whether there are words or files. One that was stopped while its text was coming has an item that is incomplete; one
    that was stopped before is never marked as done.
    """
    if running:
        return "running"
    if message.get("error"):
        return "failed"
    if any(is_unanswered(item, message) for item in message.get("output") or []):
        return "waiting_for_user"
    if message.get("done") is False or is_incomplete(message):
        return "stopped"
    return "answered" if says else "failed"


def is_unanswered(item: Mapping[str, Any], message: Mapping[str, Any]) -> bool:
    """Whether this is a tool call that waits for the user's consent."""
    answered = {
        each.get("call_id")
        for each in message.get("output") or []
        if each.get("type") == "function_call_output"
    }
    return (
        message.get("done") is not True
        and item.get("type") == "function_call"
        and item.get("status") in UNANSWERED_CALLS
        and item.get("call_id") not in answered
    )


def is_incomplete(message: Mapping[str, Any]) -> bool:
    items = message.get("output") or []
    return any(item.get("status") == "incomplete" for item in items)


def answer_problem(message: Mapping[str, Any]) -> str:
    """The words of the error that is stored with an answer."""
    error = message.get("error")
    if isinstance(error, Mapping):
        return str(error.get("content") or error.get("message") or "")
    return error if isinstance(error, str) else ""


async def cite_answer(caller: Caller, title: str, answer: ChatAnswer) -> None:
    """Put the chat below the caller's answer, as a source that opens it."""
    if caller.emit is None or not answer.text:
        return
    address = await public_address(str(caller.request.base_url))
    url = f"{address}/c/{answer.chat_id}"
    source = {
        "source": {"id": url, "name": title, "url": url},
        "document": [clipped(answer.text, EXCERPT_LIMIT)],
        "metadata": [{"source": url, "name": title}],
    }
    await unbroken(caller.emit({"type": "source", "data": source}))


async def collect_answers(caller: Caller, chat_ids: Sequence[str]) -> dict[str, Any]:
    """The last answers of several chats, once they are all written.

    Read from the database, since another worker may be writing them. Whoever stops
    the caller stops those that a model has asked for.
    """
    present = await unbroken(present_errand(caller))
    if set(chat_ids) & set(waiting_chats(caller, present)):
        # Everybody would wait until the time is over.
        raise AqueductError("own_chat")
    wanted = list(dict.fromkeys(chat_ids))
    if len(wanted) > caller.limits.max_chats:
        raise AqueductError("too_many_ids", limit=caller.limits.max_chats)
    chats = {
        chat_id: await unbroken(own_chat(caller.person, chat_id)) for chat_id in wanted
    }
    tips = {
        chat_id: tip
        for chat_id, chat in chats.items()
        if chat is not None and (tip := last_answer_id(chat))
    }
    answers: dict[str, ChatAnswer] = {}
    try:
        await await_answers(caller, present, tips, answers)
    except asyncio.CancelledError:
        await unbroken(stop_asked(caller, answers.values()))
        await caller.status("stopped", True)
        raise
    told = []
    for chat_id, chat in chats.items():
        if chat_id in answers:
            await cite_answer(caller, str(chat.title), answers[chat_id])
            told.append(answers[chat_id].as_json(caller, str(chat.title)))
        else:
            told.append({"chat_id": chat_id, **json_error("no_such_chat", {})})
    return {"chats": told}


async def stop_asked(caller: Caller, answers: Iterable[ChatAnswer]) -> None:
    """Stop what is being written for a model; what the user has asked goes on."""
    running = [each for each in answers if each.status == "running"]
    asked = {
        each.task_id: (await asked_for(each.chat_id, each.message_id)).errand
        for each in running
    }
    stopping = [task_id for task_id, errand in asked.items() if errand]
    await stop_everywhere(caller.request, stopping)


async def await_answers(
    caller: Caller,
    errand: Errand,
    tips: Mapping[str, str],
    answers: dict[str, ChatAnswer],
) -> None:
    """Fill `answers` until none is being written, or the request's time is over."""
    told = -1
    while True:
        for chat_id, message_id in tips.items():
            if chat_id not in answers or answers[chat_id].status == "running":
                look = chat_answer(caller, chat_id, message_id)
                answers[chat_id] = await unbroken(look)
        ended = [each for each in answers.values() if each.status != "running"]
        is_over = len(ended) == len(tips) or seconds_left(caller, errand) <= 0
        if len(ended) != told or is_over:
            told = len(ended)
            await caller.status("collecting", is_over, number=told, total=len(tips))
        if is_over:
            return
        await asyncio.sleep(POLL_SECONDS)


def last_answer_id(chat: Any) -> str | None:
    """The answer with which the branch that the user sees ends; None without one."""
    current_id = (chat.chat.get("history") or {}).get("currentId")
    message = chat_messages(chat).get(current_id or "") or {}
    return current_id if message.get("role") == "assistant" else None
