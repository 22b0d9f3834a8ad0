"""What the orchestrator's tools return: compact JSON, for a model to read.

Errors are JSON too, `{"error": …, "hint": …}`: what went wrong, and what to do about
it. Nothing here tells whether somebody else's chat or model exists.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec
from uuid import uuid4

from shared.errors import AqueductError
from shared.host.people import current_person
from shared.host.turns import unbroken
from shared.json_text import dump_json
from shared.orchestration.caller import Caller

Given = ParamSpec("Given")

orchestrator_log = logging.getLogger("aqueduct.model_orchestrator")

NO_SUCH_CHAT = (
    "There is no such chat.",
    "Use find_chats, or leave chat_id out to begin a new one.",
)
# Fields: see the places that raise them.
TOOL_ERRORS: Mapping[str, tuple[str, str]] = {
    "no_such_model": (
        "There is no model {model!r}.",
        "Use list_models or find_model.",
    ),
    "unclear_model": (
        "{model!r} is not exactly one model.",
        "Name one of these by its id: {candidates}.",
    ),
    "model_gone": ("There is no model {model!r}.", "Use list_models or find_model."),
    "model_of_chat_gone": (
        "The model of this chat, {model!r}, is not there any more.",
        "Name a model to go on with, or leave chat_id out to begin a new chat.",
    ),
    "no_carrier": (
        "No model that can be asked carries the tag {tag!r}.",
        "Use tag_taxonomy.",
    ),
    "model_or_tag": (
        "It is not said which model is meant.",
        "Give either model or tag, or the chat_id of a chat to go on with its model.",
    ),
    "empty_message": ("The message is empty.", "Write what the model is to answer."),
    "no_such_chat": NO_SUCH_CHAT,
    "chat_gone": NO_SUCH_CHAT,
    "chat_forbidden": NO_SUCH_CHAT,
    "answer_running": (
        "An answer is still being written in this chat.",
        "Wait for it with collect, then go on.",
    ),
    "message_gone": (
        "The chat was changed at the same moment.",
        "Try again.",
    ),
    "not_started": (
        "Open WebUI did not let the model answer{detail}.",
        "Try another model, or tell the user.",
    ),
    "chat_refused": (
        "This user may not store chats.",
        "Tell the user; conversations need a stored chat.",
    ),
    "time_over": (
        "The time for this request is over; what was running is stopped.",
        "Answer with what you have.",
    ),
    "not_own_chat": (
        "This works only in a stored chat of the user's own, not in one that is "
        "temporary, a channel or somebody else's.",
        "Tell the user to ask in a chat of their own that is kept.",
    ),
    "own_chat": (
        "In this chat somebody is waiting for your answer.",
        "Answer, or begin another chat.",
    ),
    "own_model": (
        "A model may not ask itself, nor one that is waiting for its answer.",
        "Ask another model, or answer yourself.",
    ),
    "too_deep": (
        "Models may ask models only {limit} deep, and this chat is at the bottom.",
        "Answer yourself.",
    ),
    "too_many_chats": (
        "For this request {limit} chats are the limit.",
        "Go on in a chat that you have, by its chat_id, or answer with what you have.",
    ),
    "too_many_ids": (
        "At most {limit} chats are collected at a time.",
        "Call collect for some of them, then for the others.",
    ),
    "too_many_turns": (
        "For this request {limit} turns are the limit.",
        "Answer with what you have.",
    ),
    "too_many_tokens": (
        "For this request {limit} tokens are the limit, and they are used.",
        "Answer with what you have.",
    ),
    "too_few_models": (
        "A talk needs two models or more, each once.",
        "Use list_models.",
    ),
    "bad_tag": (
        "This is no word for a tag.",
        "Use letters and digits of at most {limit} characters, joined by hyphens.",
    ),
    "may_not_edit": (
        "This user may not change the tags of this model.",
        "An admin can, in Workspace > Models.",
    ),
    "needs_browser": (
        "Tags are changed only when the user agrees in a dialog, and no page is open.",
        "Ask the user to do it in the browser.",
    ),
    "not_confirmed": (
        "The user did not agree.",
        "Do not try again unless the user asks.",
    ),
    "tags_not_saved": ("Somebody changed the model at the same moment.", "Try again."),
    "user_gone": ("This account may not use models any more.", "Stop here."),
    "internal": (
        "Something went wrong inside Aqueduct ({id} in the server's log).",
        "Tell the user.",
    ),
}


def json_result(value: Mapping[str, Any]) -> str:
    return dump_json(value).decode()


def json_error(code: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """An error and what to do about it; `detail` comes after a colon."""
    error, hint = TOOL_ERRORS[code]
    detail = str(fields.get("detail") or "")
    filled = {**fields, "detail": f": {detail}" if detail else ""}
    return {"error": error.format_map(filled), "hint": hint.format_map(filled)}


async def run_tool(
    caller: Caller,
    work: Callable[Concatenate[Caller, Given], Awaitable[Mapping[str, Any]]],
    *given: Given.args,
    **more: Given.kwargs,
) -> str:
    """What a tool returns: the result of `work` as JSON, or what went wrong."""
    try:
        user_id = str(caller.metadata.get("user_id") or "")
        person = await unbroken(current_person(user_id))
        return json_result(await work(replace(caller, person=person), *given, **more))
    except AqueductError as error:
        return json_result(json_error(error.code, error.fields))
    except Exception:  # noqa: BLE001 - the host's entry point: log it, tell it
        trace_id = uuid4().hex[:8]
        orchestrator_log.exception("A tool failed [%s]", trace_id)
        return json_result(json_error("internal", {"id": trace_id}))


async def run_step(
    caller: Caller,
    work: Callable[Concatenate[Caller, Given], Awaitable[Mapping[str, Any]]],
    *given: Given.args,
    **more: Given.kwargs,
) -> str:
    """The same for a tool that waits for nobody: Stop waits until it is through."""
    return await unbroken(run_tool(caller, work, *given, **more))


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters, with a mark where something was left out."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
