"""
title: Continue with
author: Aqueduct
version: 0.1.0
description: Buttons that continue a conversation with another model, in the same chat or a new one.
license: MIT
required_open_webui_version: 0.12.0
"""

# Aqueduct 0.1.0. Copyright (c) 2026 The Aqueduct authors.
# SPDX-License-Identifier: MIT
#
# Built from actions/continue_with.py and what it uses from shared/.
# Make changes there: the next update replaces this file.
# Content hash: faa6206542866528

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import Any, Literal, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, Field, field_validator
from redis.exceptions import RedisError
from starlette.requests import Request

# --- shared/errors.py ---


class AqueductError(Exception):
    """An error a user is told of: `code` names the sentence, `fields` fill it."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.code = code
        self.fields: Mapping[str, Any] = fields

    def __repr__(self) -> str:
        fields = ", ".join(f"{key}={value!r}" for key, value in self.fields.items())
        return f"{type(self).__name__}({self.code}: {fields})"

    __str__ = __repr__


# --- shared/host/dialogs.py ---

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


# --- shared/host/people.py ---

RECENT_KEY = "aqueduct"
RECENT_LIMIT = 8


async def current_person(user_id: str) -> Any:
    """The user as the database has them now; AqueductError when they are gone."""
    from open_webui.models.users import Users

    person = await Users.get_user_by_id(user_id)
    if person is None or person.role not in ("user", "admin"):
        raise AqueductError("user_gone")
    return person


def person_settings(person: Any) -> dict[str, Any]:
    """What the user has set in the interface: the model's `system`, `params` …"""
    return dict(person.settings.ui or {}) if person.settings else {}


def recent_models(person: Any) -> list[str]:
    """Ids of the models this user chose last in a picker of ours, newest first."""
    stored = person.settings.model_dump() if person.settings else {}
    recent = (stored.get(RECENT_KEY) or {}).get("recent_models") or []
    return [str(model_id) for model_id in recent]


async def remember_models(person: Any, chosen: list[str]) -> None:
    """Put the chosen models at the front of the user's recent ones."""
    from open_webui.models.users import Users

    kept = list(dict.fromkeys([*chosen, *recent_models(person)]))[:RECENT_LIMIT]
    await Users.update_user_settings_by_id(
        person.id, {RECENT_KEY: {"recent_models": kept}}
    )


# --- shared/host/chat_fields.py ---

# Whom a chat is shared with does not see these (routers/chats.py).
OWNERS_FIELDS = ("params", "tool_servers", "tool_ids", "filter_ids", "variables")


def chat_seen_by(person: Any, chat: Any) -> dict[str, Any]:
    """The JSON of a stored chat, without what is its owner's alone."""
    hidden = () if chat.user_id == person.id else OWNERS_FIELDS
    return {key: value for key, value in chat.chat.items() if key not in hidden}


def message_seen_by(
    person: Any, chat: Any, message: Mapping[str, Any]
) -> dict[str, Any]:
    """A message of a stored chat, without what Open WebUI notes of it for its author."""
    is_own = (message.get("user_id") or chat.user_id) == person.id
    return {key: value for key, value in message.items() if is_own or key != "meta"}


async def keep_selected_models(chat: Any) -> None:
    """Give the chat back its selected models, as they were when `chat` was read.

    The completion handler takes the models that answer for the user's selection.
    """
    from open_webui.models.chats import Chats

    if "models" in chat.chat:
        kept = {"models": chat.chat["models"]}
        await Chats.update_chat_by_id(chat.id, kept, touch=False)


async def restore_columns(
    chat_id: str, question_id: str, models: Sequence[str]
) -> None:
    """Give a question back its models, one for each column of answers."""
    from open_webui.models.chats import Chats

    question = await Chats.get_message_by_id_and_message_id(chat_id, question_id)
    # Open WebUI would make a question anew that was deleted meanwhile.
    if question and list(question.get("models") or []) != list(models):
        await Chats.upsert_message_to_chat_by_id_and_message_id(
            chat_id, question_id, {"models": list(models)}
        )


async def show_instead(chat_id: str, shown_id: str, message_id: str) -> None:
    """Let the chat end with another message, if it is shown up to `shown_id` now."""
    from open_webui.models.chats import Chats

    async with Chats._chat_transaction(chat_id) as (_, chat):
        stored = dict(chat.chat or {}) if chat else {}
        history = dict(stored.get("history") or {})
        if history.get("currentId") != shown_id:
            return
        if message_id in history["messages"]:
            history["currentId"] = message_id
            chat.chat = {**stored, "history": history}
            chat.current_message_id = message_id


# --- shared/host/usable_models.py ---


@dataclass(frozen=True, slots=True)
class UsableModel:
    """A model of the server as one user sees it."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    meta: Mapping[str, Any]


async def usable_models(request: Any, person: Any) -> dict[str, UsableModel]:
    """All models this user may use, by id; hidden ones too, as they can be called."""
    from open_webui.utils.models import get_all_models

    state = request.app.state
    if not state.MODELS:
        await get_all_models(request, user=person)
    return await allowed_models(list(dict(state.MODELS.items()).values()), person)


async def usable_model(request: Any, person: Any, model_id: str) -> UsableModel | None:
    """One model, or None where it is gone or not for this user."""
    found = request.app.state.MODELS.get(model_id)
    return (await allowed_models([found], person)).get(model_id) if found else None


def direct_model(request: Any) -> UsableModel | None:
    """The model of a direct connection, whose answer an action was called for.

    Such a model is known to the user's browser only; the server cannot call it.
    """
    if not getattr(request.state, "direct", False):
        return None
    return describe_model(request.state.model)


async def allowed_models(
    models: list[dict[str, Any]], person: Any
) -> dict[str, UsableModel]:
    from open_webui.utils.models import get_filtered_models

    return {
        model["id"]: describe_model(model)
        for model in await get_filtered_models(models, person)
        if (model.get("pipeline") or {}).get("type") != "filter"
    }


def describe_model(model: Mapping[str, Any]) -> UsableModel:
    """A model of Open WebUI's list in our words; its tags come in two forms."""
    meta = (model.get("info") or {}).get("meta") or {}
    tags = [*(meta.get("tags") or []), *(model.get("tags") or [])]
    names = (tag.get("name") if isinstance(tag, dict) else tag for tag in tags)
    return UsableModel(
        id=str(model["id"]),
        name=str(model.get("name") or model["id"]),
        description=str(meta.get("description") or ""),
        tags=tuple(dict.fromkeys(str(name) for name in names if name)),
        meta=meta,
    )


# --- shared/host/completion_form.py ---

# Kinds of attachments that travel beside the messages; pictures travel in them.
DOCUMENT_KINDS = ("doc", "text", "note", "chat", "collection", "folder")


async def completion_form(
    person: Any,
    chat: Mapping[str, Any],
    user_message: Mapping[str, Any],
    model: UsableModel,
    language: str,
    more_system: str = "",
) -> dict[str, Any]:
    """What one model needs to answer `user_message` of a stored chat.

    The model's own tools, filters and features, the parameters and system prompt of
    the chat (or the user's), the files of the chat and of the message. `chat` is the
    stored chat's JSON, `more_system` is added to its system prompt. Open WebUI reads
    the messages themselves from its database.
    """
    settings = person_settings(person)
    params = {
        **(settings.get("params") or {}),
        **{k: v for k, v in (chat.get("params") or {}).items() if v is not None},
    }
    own_system = params.get("system") or settings.get("system")
    system = "\n\n".join(part for part in (own_system, more_system) if part)
    features = await default_features(model, settings)
    form: dict[str, Any] = {
        "model": model.id,
        "stream": params.get("stream_response", True),
        "params": params,
        "messages": [{"role": "system", "content": system}] if system else [],
        "files": turn_files(chat, user_message) or None,
        "tool_ids": list(model.meta.get("toolIds") or settings.get("tools") or []),
        "skill_ids": model.meta.get("skillIds") or None,
        "filter_ids": list(model.meta.get("defaultFilterIds") or []),
        "terminal_id": model.meta.get("terminalId") or None,
        "features": features,
        "variables": {
            "{{USER_NAME}}": person.name,
            "{{USER_EMAIL}}": person.email,
            "{{USER_LANGUAGE}}": language,
        },
        "background_tasks": {
            "follow_up_generation": settings.get("autoFollowUps", True)
        },
    }
    return {key: value for key, value in form.items() if value is not None}


async def default_features(
    model: UsableModel, settings: Mapping[str, Any]
) -> dict[str, bool]:
    """Features that are on for this model without being asked for in the chat."""
    from open_webui.models.config import Config

    switches = {
        "web_search": "web.search.enable",
        "image_generation": "image_generation.enable",
        "code_interpreter": "code_interpreter.enable",
    }
    able = model.meta.get("capabilities") or {}
    features = {
        feature: True
        for feature in model.meta.get("defaultFeatureIds") or []
        if able.get(feature)
        and feature in switches
        and await Config.get(switches[feature])
    }
    memory = settings.get("memory")
    if memory is None:
        defaults = await Config.get("ui.default_interface_settings") or {}
        memory = defaults.get("memory")
    if memory:
        features["memory"] = True
    return features


def turn_files(
    chat: Mapping[str, Any], user_message: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The documents of the chat and of the message, each once."""
    files = list(chat.get("files") or [])
    for file in user_message.get("files") or []:
        is_picture = str(file.get("content_type") or "").startswith("image/")
        kind = file.get("type")
        if kind in DOCUMENT_KINDS or (kind == "file" and not is_picture):
            files.append(file)
    return [file for i, file in enumerate(files) if file not in files[:i]]


# --- shared/host/turns.py ---

# A task that is told to stop ends at once; this is for one that hangs in its end.
STOP_SECONDS = 10
STOP_GRACE = 1

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Answerer:
    """A model that answers. `column` is its place among answers side by side."""

    model_id: str
    column: int = 0
    message_id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, slots=True)
class NewTurn:
    """What is to happen in a chat.

    `user_message` is a new one (`id`, `parentId`, `role`, `content`, `models`) or the
    one that is `stored` and answered once more. `system` is added to the system prompt,
    `extra` are further keys of the completion request; `session_id` is the socket of the
    tab for dialogs of tools.
    """

    chat_id: str
    user_message: Mapping[str, Any]
    answerers: Sequence[Answerer]
    session_id: str
    stored: bool = False
    language: str = "en"
    system: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartedTurn:
    """Answers on their way, and the tasks that write them."""

    chat_id: str
    message_ids: tuple[str, ...]
    task_ids: tuple[str, ...]


def clean_request(request: Any) -> Request:
    """The same HTTP request without what Open WebUI noted on it for another turn.

    Headers, cookies and the login stay: tools reach services with them.
    """
    state = {
        name: getattr(request.state, name)
        for name in ("token", "enable_api_keys")
        if hasattr(request.state, name)
    }
    return Request({**request.scope, "state": state})


async def writable_chat(chat_id: str, person: Any) -> Any:
    """The stored chat, if this user may write to it; else AqueductError."""
    from open_webui.models.chats import Chats

    chat = await Chats.get_chat_by_id(chat_id)
    if chat is None:
        raise AqueductError("chat_gone")
    if not await Chats.get_accessible_chat_by_id(chat_id, person, permission="write"):
        raise AqueductError("chat_forbidden")
    return chat


def chat_messages(chat: Any) -> dict[str, dict[str, Any]]:
    """The messages of a stored chat by id: a tree by `parentId` and `childrenIds`."""
    return (chat.chat.get("history") or {}).get("messages") or {}


async def answer_running(request: Any, chat: Any) -> bool:
    """Whether a model is writing in this chat.

    Titles and follow-ups also run as tasks of the chat, but belong to answers that
    are done; an answer that a server's end cut off is not done, but has no task.
    """
    from open_webui.tasks import list_task_ids_by_item_id

    running = set(await list_task_ids_by_item_id(request.app.state.redis, chat.id))
    return any(
        message.get("done") is False
        and (message.get("meta") or {}).get("task_id") in running
        for message in chat_messages(chat).values()
    )


async def start_turn(request: Any, person: Any, turn: NewTurn) -> StartedTurn:
    """Insert the turn and let the models answer; returns once they are at work.

    AqueductError where the chat is gone, is not this user's to write to, where an
    answer is being written in it or a model is not this user's; the tree then is as
    it was. So it is when this is cancelled.
    """
    # A cancellation between the first look and the last task would leave half a turn.
    starting = asyncio.ensure_future(begin_turn(request, person, turn))
    try:
        _, started = await unbroken(starting)
    except asyncio.CancelledError:
        if starting.exception() is None:
            chat, _ = starting.result()
            await unbroken(withdraw_turn(request, person, chat, turn))
        raise
    return started


async def begin_turn(
    request: Any, person: Any, turn: NewTurn
) -> tuple[Any, StartedTurn]:
    """Write the turn and start every model, or take all of it back.

    Gives the chat as it was before, too.
    """
    chat = await writable_chat(turn.chat_id, person)
    models = [
        await require_model(request, person, answerer.model_id)
        for answerer in turn.answerers
    ]
    if await answer_running(request, chat):
        raise AqueductError("answer_running")
    if turn.stored and turn.user_message["id"] not in chat_messages(chat):
        # Open WebUI would put a question that was deleted meanwhile back.
        raise AqueductError("message_gone")
    await insert_turn(person, turn)
    task_ids: list[str] = []
    try:
        for answerer, model in zip(turn.answerers, models, strict=True):
            task_ids += await run_answerer(request, person, chat, turn, answerer, model)
    except BaseException:
        await withdraw_turn(request, person, chat, turn)
        raise
    await keep_selected_models(chat)
    ids = tuple(answerer.message_id for answerer in turn.answerers)
    return chat, StartedTurn(turn.chat_id, ids, tuple(task_ids))


async def require_model(request: Any, person: Any, model_id: str) -> UsableModel:
    """The model; AqueductError where it is gone or not for this user, alike."""
    model = await usable_model(request, person, model_id)
    if model is None:
        raise AqueductError("model_gone", model=model_id)
    return model


async def insert_turn(person: Any, turn: NewTurn) -> None:
    """Write the turn into the tree and show it in all tabs.

    The tabs must know the messages before the first words arrive, as they drop
    events of messages that they do not know.
    """
    from fastapi import HTTPException
    from open_webui.models.chats import Chats
    from open_webui.socket.main import get_user_id_from_session_pool

    try:
        inserted = await Chats.insert_chat_turn(
            turn.chat_id, person, dict(turn.user_message), answer_entries(turn)
        )
    except HTTPException as error:
        # The parent was deleted meanwhile, or the right to write was withdrawn.
        raise AqueductError("message_gone") from error
    messages = {
        message_id: {key: value for key, value in message.items() if key != "meta"}
        for message_id, message in inserted["messages"].items()
    }
    answers = {answerer.message_id for answerer in turn.answerers}
    before = {key: value for key, value in messages.items() if key not in answers}
    current_id = inserted["currentId"]
    # A tab stays on its branch when a question opens another one, but follows an
    # answer to a question that it knows. The tab that asked is to follow.
    if get_user_id_from_session_pool(turn.session_id) == person.id:
        for shown in (before, messages):
            await show_messages(person, turn, shown, current_id, turn.session_id)
    await show_messages(person, turn, messages, current_id, f"chat:{turn.chat_id}")


async def show_messages(
    person: Any,
    turn: NewTurn,
    messages: Mapping[str, Any],
    current_id: str,
    room: str,
) -> None:
    """Add messages to what tabs show: of one session, or of all that show the chat.

    This is the event `chat:messages` of Open WebUI's own emitter, which has no way
    to reach a single tab (socket/main.py).
    """
    from open_webui.socket.main import sio

    data = {"messages": dict(messages), "currentId": current_id}
    event = {
        "chat_id": turn.chat_id,
        "message_id": current_id,
        "user_id": person.id,
        "shared": True,
        "data": {"type": "chat:messages", "data": data},
    }
    await sio.emit("events", event, room=room)


def answer_entries(turn: NewTurn) -> list[dict[str, Any]]:
    """The answers as Open WebUI's completion request names them."""
    return [
        {
            "model_id": answerer.model_id,
            "message_id": answerer.message_id,
            "modelIdx": answerer.column,
        }
        for answerer in turn.answerers
    ]


async def run_answerer(
    request: Any,
    person: Any,
    chat: Any,
    turn: NewTurn,
    answerer: Answerer,
    model: UsableModel,
) -> list[str]:
    """Set one model to work on its answer; the ids of Open WebUI's tasks.

    One request for each model, as each has tools and filters of its own.
    """
    from fastapi import HTTPException

    seen = chat_seen_by(person, chat)
    form = await completion_form(
        person, seen, turn.user_message, model, turn.language, turn.system
    )
    form |= {
        "chat_id": turn.chat_id,
        "session_id": turn.session_id,
        "parent_id": turn.user_message.get("parentId"),
        "user_message": dict(turn.user_message),
        "message_ids": [
            entry
            for entry in answer_entries(turn)
            if entry["message_id"] == answerer.message_id
        ],
        **turn.extra,
    }
    handler = request.app.state.CHAT_COMPLETION_HANDLER
    try:
        started = await handler(clean_request(request), form, user=person)
    except HTTPException as error:
        raise AqueductError("not_started", detail=str(error.detail)) from error
    return list(started["task_ids"])


async def withdraw_turn(request: Any, person: Any, chat: Any, turn: NewTurn) -> None:
    """Take back what was inserted: the answers, and a user message that is new.

    A stored question gets its columns back. `chat` is the chat as it was before.
    """
    from open_webui.models.chats import Chats

    if turn.stored:
        question_id = str(turn.user_message["id"])
        models = chat_messages(chat)[question_id].get("models") or []
        await restore_columns(turn.chat_id, question_id, models)
    answers = [answerer.message_id for answerer in turn.answerers]
    stored = [await stored_message(turn.chat_id, answer) for answer in answers]
    task_ids = [(message.get("meta") or {}).get("task_id") for message in stored]
    await stop_tasks(request, [each for each in task_ids if each], STOP_GRACE)
    # Deleting a message deletes the answers below it.
    for message_id in answers if turn.stored else [turn.user_message["id"]]:
        await Chats.delete_message_from_chat_by_id_and_message_id(
            turn.chat_id, message_id
        )
    await keep_selected_models(chat)
    await emit_to_user(person.id, turn.chat_id, {"type": "chat:reload"})


async def emit_to_user(
    user_id: str, chat_id: str, event: dict[str, Any], message_id: str = ""
) -> None:
    """Send an event of a chat to all tabs of a user; nothing of it is stored."""
    from open_webui.socket.main import get_event_emitter

    about = {"user_id": user_id, "chat_id": chat_id, "message_id": message_id}
    emit = await get_event_emitter(about, update_db=False)
    await emit(event)


async def emit_and_store(
    user_id: str, chat_id: str, message_id: str, event: dict[str, Any]
) -> None:
    """Send an event of a message and let Open WebUI keep it, as it does a status."""
    from open_webui.socket.main import get_event_emitter

    about = {"user_id": user_id, "chat_id": chat_id, "message_id": message_id}
    emit = await get_event_emitter(about, update_db=True)
    await emit(event)


async def run_as_task(request: Any, work: Any, chat_id: str | None = None) -> Any:
    """Run a coroutine as a task of Open WebUI; with a chat, its Stop button ends it."""
    from open_webui.tasks import create_task

    _, task = await create_task(request.app.state.redis, work, id=chat_id)
    return task


async def wait_for_turn(request: Any, turn: StartedTurn, seconds: float) -> bool:
    """Wait until the answers are written or failed; False where one was stopped.

    AqueductError `time_over` after `seconds`; the answers then are stopped.
    """
    from open_webui.tasks import tasks

    running = {tasks[task_id] for task_id in turn.task_ids if task_id in tasks}
    if not running:
        return True
    _, late = await asyncio.wait(running, timeout=max(seconds, 0))
    if late:
        await stop_tasks(request, turn.task_ids)
        raise AqueductError("time_over")
    return not any(task.cancelled() for task in running)


async def stop_tasks(request: Any, task_ids: Sequence[str], grace: float = 0.0) -> None:
    """Stop tasks, as the Stop button does, and wait until they have ended.

    With Redis it only sends word of a stop, hence the waiting: a task that still ends
    would write its answer again after it was deleted. `grace` are seconds in which they
    may then end by themselves: who stops us mostly sends word to them too, and a second
    stop would hit Open WebUI while it saves the answer, which keeps its SQLite locked.
    """
    from open_webui.tasks import stop_task, tasks

    running = {tasks[task_id]: task_id for task_id in task_ids if task_id in tasks}
    if running and grace and request.app.state.redis is not None:
        await asyncio.wait(running, timeout=grace)
    for task, task_id in running.items():
        if not task.done() and not task.cancelling():
            await stop_task(request.app.state.redis, task_id)
    if running:
        await asyncio.wait(running, timeout=STOP_SECONDS)


async def unbroken(work: Awaitable[Found]) -> Found:
    """Let a step come to its end before a cancellation counts, or a second one.

    One that hits a look into the database, or a write, keeps Open WebUI's SQLite locked.
    """
    step = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not step.done():
        try:
            await asyncio.wait({step})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return step.result()


async def stored_message(chat_id: str, message_id: str) -> dict[str, Any]:
    """A message as it is stored now; empty where it is gone."""
    from open_webui.models.chats import Chats

    message = await Chats.get_message_by_id_and_message_id(chat_id, message_id)
    return dict(message or {})


# --- shared/orchestration/choice.py ---

TAG_PREFIX = "tag:"


def offered_models(
    models: Mapping[str, UsableModel], rule: str
) -> dict[str, UsableModel]:
    """The models that a rule lets through, hidden ones left out.

    An empty rule means all of them; otherwise it lists ids and tags, as in
    `gpt-5, tag:writing`, and a model needs to match one of these.
    """
    wanted = [part.strip() for part in rule.split(",") if part.strip()]
    tags = {
        part.removeprefix(TAG_PREFIX).strip().lower()
        for part in wanted
        if part.startswith(TAG_PREFIX)
    }
    return {
        model.id: model
        for model in models.values()
        if not model.meta.get("hidden")
        and (
            not wanted
            or model.id in wanted
            or tags.intersection(tag.lower() for tag in model.tags)
        )
    }


def in_picker_order(
    models: Iterable[UsableModel],
    current_id: str,
    recent: Sequence[str],
    answered: Collection[str] = (),
) -> list[UsableModel]:
    """Last chosen first, then those that share most tags with the current model.

    Models that have `answered` already come after the others, the current model last;
    models that are otherwise alike are in the order of their names.
    """
    listed = list(models)
    current_tags = {
        tag.lower() for model in listed if model.id == current_id for tag in model.tags
    }
    rank = {model_id: place for place, model_id in enumerate(recent)}

    def place(model: UsableModel) -> tuple[bool, bool, int, int, str, str]:
        shared_tags = current_tags.intersection(tag.lower() for tag in model.tags)
        return (
            model.id == current_id,
            model.id in answered,
            rank.get(model.id, len(rank)),
            -len(shared_tags),
            model.name.casefold(),
            model.id,
        )

    return sorted(listed, key=place)


def picker_labels(models: Sequence[UsableModel]) -> dict[str, str]:
    """A label for each id: the name, with the id where two have the same name."""
    names = [model.name for model in models]
    return {
        model.id: (
            model.name if names.count(model.name) == 1 else f"{model.name} ({model.id})"
        )
        for model in models
    }


# --- shared/orchestration/forms.py ---

FormField = dict[str, Any]


def choice_field(
    title: str, options: Mapping[str, str], default: str = ""
) -> FormField:
    """One of several: `options` maps values to labels; `default` where it is one."""
    field: FormField = {
        "type": "string",
        "title": title,
        "oneOf": [{"const": value, "title": label} for value, label in options.items()],
    }
    return field | ({"default": default} if default in options else {})


def text_field(title: str, description: str = "", default: str = "") -> FormField:
    """A line of text, which may stay empty."""
    field = {"type": "string", "title": title, "description": description}
    return field | ({"default": default} if default else {})


def number_field(title: str, default: int, least: int, most: int) -> FormField:
    """A whole number from `least` to `most`."""
    return {
        "type": "integer",
        "title": title,
        "default": min(max(default, least), most),
        "minimum": least,
        "maximum": most,
    }


def form_schema(
    fields: Mapping[str, FormField], required: tuple[str, ...]
) -> dict[str, Any]:
    return {"type": "object", "properties": dict(fields), "required": list(required)}


def chosen_text(answers: Mapping[str, Any], name: str) -> str:
    """What was written; empty where nothing was."""
    return str(answers.get(name) or "").strip()


def chosen_value(
    answers: Mapping[str, Any], name: str, options: Mapping[str, str]
) -> str:
    """The chosen value; AqueductError where it is none of the options.

    The browser's word is not taken for it: anything can be sent over the socket.
    """
    value = answers.get(name)
    if not isinstance(value, str) or value not in options:
        raise AqueductError("model_gone", model=str(value or ""))
    return value


def chosen_number(answers: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """The chosen number, brought between `least` and `most`."""
    value = answers.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return least
    return int(min(max(value, least), most))


# --- shared/orchestration/lines.py ---

CHAT_LINES: dict[str, dict[str, str]] = {
    "handover_line": {
        "en": "(The answer above is by {previous}.)",
        "de": "(Die Antwort oben ist von {previous}.)",
        "es": "(La respuesta anterior es de {previous}.)",
        "fr": "(La réponse ci-dessus est de {previous}.)",
        "zh": "（上面的回答来自 {previous}。）",
    },
    "please_continue": {
        "en": "Please continue.",
        "de": "Bitte mach weiter.",
        "es": "Continúa, por favor.",
        "fr": "Continue, s'il te plaît.",
        "zh": "请继续。",
    },
    "opinion_line": {
        "en": "The answer above is by another model. Give your own answer to the question.",
        "de": "Die Antwort oben ist von einem anderen Modell. Gib deine eigene Antwort auf die Frage.",
        "es": "La respuesta anterior es de otro modelo. Da tu propia respuesta a la pregunta.",
        "fr": "La réponse ci-dessus est d'un autre modèle. Donne ta propre réponse à la question.",
        "zh": "上面的回答来自另一个模型。请给出你自己的回答。",
    },
    "talk_line": {
        "en": "({speaker} answers {listener}, turn {number} of {turns}.)",
        "de": "({speaker} antwortet {listener}, Runde {number} von {turns}.)",
        "es": "({speaker} responde a {listener}, turno {number} de {turns}.)",
        "fr": "({speaker} répond à {listener}, tour {number} sur {turns}.)",
        "zh": "（{speaker} 回应 {listener}，第 {number} 轮，共 {turns} 轮。）",
    },
    "talk_goal": {
        "en": "Goal: {goal}",
        "de": "Ziel: {goal}",
        "es": "Objetivo: {goal}",
        "fr": "But : {goal}",
        "zh": "目标：{goal}",
    },
    "talk_phrase": {
        "en": "When you have nothing more to say, write: {phrase}",
        "de": "Wenn du nichts mehr zu sagen hast, schreibe: {phrase}",
        "es": "Cuando no tengas nada más que decir, escribe: {phrase}",
        "fr": "Quand tu n'as plus rien à dire, écris : {phrase}",
        "zh": "没有更多要说的时候，请写：{phrase}",
    },
    "talk_system": {
        "en": "You are {speaker}, in a conversation with {listener}. What the user says last are the words of {listener}: answer them.",
        "de": "Du bist {speaker} und sprichst mit {listener}. Was der Nutzer zuletzt sagt, sind die Worte von {listener}: antworte darauf.",
        "es": "Eres {speaker} y conversas con {listener}. Lo último que dice el usuario son las palabras de {listener}: respóndele.",
        "fr": "Tu es {speaker} et tu parles avec {listener}. Ce que l'utilisateur dit en dernier sont les mots de {listener} : réponds-y.",
        "zh": "你是 {speaker}，正在与 {listener} 对话。用户最后说的是 {listener} 的话，请回应。",
    },
    "new_chat_line": {
        "en": "(Continued from {link}. The answer above is by {previous}.)",
        "de": "(Fortsetzung von {link}. Die Antwort oben ist von {previous}.)",
        "es": "(Continuación de {link}. La respuesta anterior es de {previous}.)",
        "fr": "(Suite de {link}. La réponse ci-dessus est de {previous}.)",
        "zh": "（接自 {link}。上面的回答来自 {previous}。）",
    },
    "summary_line": {
        "en": "(Continued from {link}, with {previous}. What was said there, in short:)",
        "de": "(Fortsetzung von {link}, mit {previous}. Was dort gesagt wurde, in Kürze:)",
        "es": "(Continuación de {link}, con {previous}. Lo que se dijo allí, en breve:)",
        "fr": "(Suite de {link}, avec {previous}. Ce qui y fut dit, en bref :)",
        "zh": "（接自 {link}，当时与 {previous} 对话。内容摘要：）",
    },
    "onward_line": {
        "en": "*Continued in {link}, with {next}.*",
        "de": "*Fortgesetzt in {link}, mit {next}.*",
        "es": "*Continúa en {link}, con {next}.*",
        "fr": "*Se poursuit dans {link}, avec {next}.*",
        "zh": "*已在 {link} 中与 {next} 继续。*",
    },
    "summary_prompt": {
        "en": "Summarise this conversation for somebody who has to continue it: what was asked, what was found or decided, what is still open. Keep names, numbers and code. Write the summary only.",
        "de": "Fasse dieses Gespräch für jemanden zusammen, der es fortsetzen soll: was gefragt wurde, was gefunden oder entschieden wurde, was offen ist. Behalte Namen, Zahlen und Code bei. Schreibe nur die Zusammenfassung.",
        "es": "Resume esta conversación para quien deba continuarla: qué se preguntó, qué se encontró o decidió, qué queda pendiente. Conserva nombres, números y código. Escribe solo el resumen.",
        "fr": "Résume cette conversation pour quelqu'un qui doit la poursuivre : ce qui a été demandé, trouvé ou décidé, et ce qui reste ouvert. Garde les noms, les nombres et le code. N'écris que le résumé.",
        "zh": "请为接手的人总结这段对话：问了什么，发现或决定了什么，还有什么没有解决。保留名称、数字和代码。只写摘要。",
    },
}


# --- shared/orchestration/texts.py ---

BUTTON_TEXTS: dict[str, dict[str, str]] = {
    "continue_title": {
        "en": "Continue with another model",
        "de": "Mit einem anderen Modell fortsetzen",
        "es": "Continuar con otro modelo",
        "fr": "Continuer avec un autre modèle",
        "zh": "换一个模型继续",
    },
    "continue_message": {
        "en": "The other model answers next in this chat.",
        "de": "Das andere Modell antwortet als nächstes in diesem Chat.",
        "es": "El otro modelo responde a continuación en este chat.",
        "fr": "L'autre modèle répond ensuite dans cette conversation.",
        "zh": "另一个模型将在此对话中接着回答。",
    },
    "opinion_title": {
        "en": "Second opinion",
        "de": "Zweite Meinung",
        "es": "Segunda opinión",
        "fr": "Deuxième avis",
        "zh": "第二意见",
    },
    "opinion_message": {
        "en": "Another model answers the same question, beside this answer.",
        "de": "Ein anderes Modell beantwortet dieselbe Frage, neben dieser Antwort.",
        "es": "Otro modelo responde a la misma pregunta, junto a esta respuesta.",
        "fr": "Un autre modèle répond à la même question, à côté de cette réponse.",
        "zh": "另一个模型回答同一个问题，与此回答并列。",
    },
    "compare_title": {
        "en": "Compare",
        "de": "Vergleichen",
        "es": "Comparar",
        "fr": "Comparer",
        "zh": "比较",
    },
    "compare_message": {
        "en": "Further models answer the same question, side by side.",
        "de": "Weitere Modelle beantworten dieselbe Frage, nebeneinander.",
        "es": "Otros modelos responden a la misma pregunta, lado a lado.",
        "fr": "D'autres modèles répondent à la même question, côte à côte.",
        "zh": "其他模型并排回答同一个问题。",
    },
    "talk_title": {
        "en": "Let them talk",
        "de": "Miteinander reden lassen",
        "es": "Que conversen",
        "fr": "Les laisser dialoguer",
        "zh": "让它们对话",
    },
    "talk_message": {
        "en": "Another model answers this one, and so on in turns. Stop ends it at any time.",
        "de": "Ein anderes Modell antwortet diesem, und so weiter im Wechsel. Stopp beendet es jederzeit.",
        "es": "Otro modelo responde a este, y así por turnos. Detener lo termina en cualquier momento.",
        "fr": "Un autre modèle répond à celui-ci, et ainsi de suite à tour de rôle. Arrêter y met fin à tout moment.",
        "zh": "另一个模型回应此模型，依次轮流。随时可以停止。",
    },
    "new_chat_title": {
        "en": "Continue in a new chat",
        "de": "In einem neuen Chat fortsetzen",
        "es": "Continuar en un chat nuevo",
        "fr": "Continuer dans une nouvelle conversation",
        "zh": "在新对话中继续",
    },
    "new_chat_message": {
        "en": "The conversation up to this answer goes along; the two chats are linked.",
        "de": "Das Gespräch bis zu dieser Antwort geht mit; beide Chats sind verknüpft.",
        "es": "La conversación hasta esta respuesta se lleva; ambos chats quedan enlazados.",
        "fr": "La conversation jusqu'à cette réponse suit ; les deux sont reliées.",
        "zh": "到此回答为止的对话会带过去，两个对话互相链接。",
    },
    "field_model": {
        "en": "Model",
        "de": "Modell",
        "es": "Modelo",
        "fr": "Modèle",
        "zh": "模型",
    },
    "field_model_number": {
        "en": "Model {number}",
        "de": "Modell {number}",
        "es": "Modelo {number}",
        "fr": "Modèle {number}",
        "zh": "模型 {number}",
    },
    "field_text": {
        "en": "What to say",
        "de": "Was gesagt wird",
        "es": "Qué decirle",
        "fr": "Que lui dire",
        "zh": "要说的话",
    },
    "field_text_hint": {
        "en": "If empty, only the hand-over is sent.",
        "de": "Wenn leer, wird nur die Übergabe gesendet.",
        "es": "Si está vacío, solo se envía el traspaso.",
        "fr": "Si vide, seul le passage de relais est envoyé.",
        "zh": "留空则只发送交接说明。",
    },
    "field_turns": {
        "en": "Turns (2 to {limit})",
        "de": "Runden (2 bis {limit})",
        "es": "Turnos (2 a {limit})",
        "fr": "Tours (2 à {limit})",
        "zh": "轮数（2 到 {limit}）",
    },
    "field_goal": {
        "en": "Goal (optional)",
        "de": "Ziel (freiwillig)",
        "es": "Objetivo (opcional)",
        "fr": "But (facultatif)",
        "zh": "目标（可选）",
    },
    "field_phrase": {
        "en": "Stop phrase (optional)",
        "de": "Schlusswort (freiwillig)",
        "es": "Frase final (opcional)",
        "fr": "Mot de la fin (facultatif)",
        "zh": "结束语（可选）",
    },
    "field_phrase_hint": {
        "en": "It ends early when both have written this, one after the other. With a goal: [DONE]",
        "de": "Es endet früher, wenn beide dies nacheinander geschrieben haben. Bei einem Ziel: [DONE]",
        "es": "Termina antes si ambos lo escriben, uno tras otro. Con un objetivo: [DONE]",
        "fr": "Cela finit plus tôt quand les deux l'ont écrit, l'un après l'autre. Avec un but : [DONE]",
        "zh": "双方先后写出此语时提前结束。有目标时默认：[DONE]",
    },
    "field_seed": {
        "en": "What goes along",
        "de": "Was mitgeht",
        "es": "Qué se lleva",
        "fr": "Ce qui suit",
        "zh": "带过去的内容",
    },
    "seed_as_is": {
        "en": "The conversation as it is",
        "de": "Das Gespräch, wie es ist",
        "es": "La conversación tal cual",
        "fr": "La conversation telle quelle",
        "zh": "完整对话",
    },
    "seed_summary": {
        "en": "A summary of it",
        "de": "Eine Zusammenfassung",
        "es": "Un resumen",
        "fr": "Un résumé",
        "zh": "对话摘要",
    },
    "talk_status": {
        "en": "Turn {number} of {turns}",
        "de": "Runde {number} von {turns}",
        "es": "Turno {number} de {turns}",
        "fr": "Tour {number} sur {turns}",
        "zh": "第 {number} 轮，共 {turns} 轮",
    },
    "talk_finished": {
        "en": "Turn {number} of {turns}: the talk is over",
        "de": "Runde {number} von {turns}: Das Gespräch ist beendet",
        "es": "Turno {number} de {turns}: la charla terminó",
        "fr": "Tour {number} sur {turns} : le dialogue est fini",
        "zh": "第 {number} 轮，共 {turns} 轮：对话结束",
    },
    "talk_agreed": {
        "en": "Turn {number} of {turns}: both are done",
        "de": "Runde {number} von {turns}: Beide sind fertig",
        "es": "Turno {number} de {turns}: ambos han terminado",
        "fr": "Tour {number} sur {turns} : les deux ont terminé",
        "zh": "第 {number} 轮，共 {turns} 轮：双方已完成",
    },
    "talk_stopped": {
        "en": "Stopped at turn {number} of {turns}",
        "de": "Angehalten in Runde {number} von {turns}",
        "es": "Detenido en el turno {number} de {turns}",
        "fr": "Arrêté au tour {number} sur {turns}",
        "zh": "停止于第 {number} 轮，共 {turns} 轮",
    },
    "talk_interrupted": {
        "en": "Ended at turn {number} of {turns}: the chat went on elsewhere",
        "de": "Beendet in Runde {number} von {turns}: Der Chat ging anderswo weiter",
        "es": "Terminó en el turno {number} de {turns}: el chat siguió por otra parte",
        "fr": "Fini au tour {number} sur {turns} : la conversation a continué ailleurs",
        "zh": "第 {number} 轮（共 {turns} 轮）结束：对话已在别处继续",
    },
    "talk_late": {
        "en": "Ended at turn {number} of {turns}: the time is over",
        "de": "Beendet in Runde {number} von {turns}: Die Zeit ist um",
        "es": "Terminó en el turno {number} de {turns}: se acabó el tiempo",
        "fr": "Fini au tour {number} sur {turns} : le temps est écoulé",
        "zh": "第 {number} 轮（共 {turns} 轮）结束：时间已到",
    },
    "talk_limited": {
        "en": "Ended at turn {number} of {turns}: the tokens for it are used up",
        "de": "Beendet in Runde {number} von {turns}: Die Tokens dafür sind verbraucht",
        "es": "Terminó en el turno {number} de {turns}: se agotaron los tokens",
        "fr": "Fini au tour {number} sur {turns} : les jetons prévus sont épuisés",
        "zh": "第 {number} 轮（共 {turns} 轮）结束：可用的 token 已用完",
    },
    "talk_failed": {
        "en": "Ended at turn {number} of {turns}: no answer came",
        "de": "Beendet in Runde {number} von {turns}: Es kam keine Antwort",
        "es": "Terminó en el turno {number} de {turns}: no llegó respuesta",
        "fr": "Fini au tour {number} sur {turns} : aucune réponse n'est venue",
        "zh": "第 {number} 轮（共 {turns} 轮）结束：没有收到回答",
    },
    "summarising": {
        "en": "Summarising the conversation",
        "de": "Das Gespräch wird zusammengefasst",
        "es": "Resumiendo la conversación",
        "fr": "Résumé de la conversation en cours",
        "zh": "正在总结对话",
    },
    "temporary_title": {
        "en": "Temporary chat",
        "de": "Temporärer Chat",
        "es": "Chat temporal",
        "fr": "Conversation temporaire",
        "zh": "临时对话",
    },
}


# --- shared/texts.py ---


class _Fields(dict[str, Any]):
    """Fields of a template: a missing one is left out, never an error."""

    def __missing__(self, key: str) -> str:
        return ""


def translate(
    table: Mapping[str, Mapping[str, str]],
    code: str,
    language: str,
    fields: Mapping[str, Any],
) -> str:
    """The sentence `code` of a table {code: {language: template}}.

    `language` is a BCP 47 tag such as "de-DE"; English where there is no
    translation. A `{detail}` that is empty takes its colon and brackets with it.
    """
    templates = table[code]
    template = templates.get(language.split("-")[0].lower()) or templates["en"]
    detail = str(fields.get("detail") or "")
    filled = _Fields(fields)
    filled["detail"] = f" ({detail})" if detail else ""
    for key, value in fields.items():
        if isinstance(value, float):
            filled[key] = f"{value:g}"
    return template.format_map(filled)


# --- shared/orchestration/desk.py ---


@dataclass(frozen=True, slots=True)
class Press:
    """One press of a button, as Open WebUI reports it."""

    button: str
    request: Any
    user_id: str
    chat_id: str
    message_id: str
    session_id: str
    model_id: str
    messages: Sequence[Mapping[str, Any]]
    emit: Emit
    event_call: EventCall

    @property
    def in_temporary_chat(self) -> bool:
        """Whether only the browser knows this chat: `local:…`, never stored."""
        return ":" in self.chat_id


@dataclass(frozen=True, slots=True)
class ButtonSettings:
    """What an admin and the user have set.

    `lines` replaces lines by their code; `default_models` are ids or names by button.
    """

    buttons: Sequence[str] = ()
    offered: str = ""
    max_compared: int = 3
    max_turns: int = 10
    max_seconds: int = 600
    show_first_answer: bool = False
    lines: Mapping[str, str] = field(default_factory=dict)
    default_models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ask_text: bool = True
    talk_turns: int = 4


@dataclass(frozen=True, slots=True)
class Desk:
    """One press being worked on."""

    press: Press
    settings: ButtonSettings
    person: Any
    language: str

    def text(self, code: str, **fields: Any) -> str:
        """A sentence of the interface, in the user's language."""
        return translate(BUTTON_TEXTS, code, self.language, fields)

    def line(self, code: str, **fields: Any) -> str:
        """A line that goes into a chat: the admin's own where there is one."""
        own = self.settings.lines.get(code)
        table = {code: {"en": own}} if own else CHAT_LINES
        return translate(table, code, self.language, fields)

    async def toast(self, kind: str, code: str, **fields: Any) -> None:
        await show_toast(self.press.emit, kind, self.text(code, **fields))

    async def names(self) -> dict[str, str]:
        """The name of every model this user may use, by id."""
        models = await usable_models(self.press.request, self.person)
        return {model.id: model.name for model in models.values()}

    async def picker(self, answered: Collection[str] = ()) -> "Picker":
        """The models to choose from; AqueductError where there is none.

        Models that have `answered` the question are proposed after the others.
        """
        usable = await usable_models(self.press.request, self.person)
        models = in_picker_order(
            offered_models(usable, self.settings.offered).values(),
            self.press.model_id,
            recent_models(self.person),
            answered,
        )
        if not models:
            raise AqueductError("no_models")
        wanted = self.settings.default_models.get(self.press.button) or ()
        preset = [
            model.id
            for named in wanted
            for model in models
            if named in (model.id, model.name)
        ]
        suggested = dict.fromkeys([*preset, *(model.id for model in models)])
        return Picker(models, picker_labels(models), list(suggested))

    async def ask(
        self, fields: Mapping[str, FormField], required: tuple[str, ...]
    ) -> dict[str, Any]:
        """The answers to this button's form, as the user gave them."""
        button = self.press.button
        return await ask_form(
            self.press.event_call,
            self.text(f"{button}_title"),
            self.text(f"{button}_message"),
            form_schema(fields, required),
        )

    def turn(
        self,
        user_message: Mapping[str, Any],
        answerers: Sequence[Answerer],
        *,
        stored: bool = False,
        system: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> NewTurn:
        """A turn in this chat, asked for from this tab."""
        return NewTurn(
            chat_id=self.press.chat_id,
            user_message=user_message,
            answerers=answerers,
            session_id=self.press.session_id,
            stored=stored,
            language=self.language,
            system=system,
            extra=extra or {},
        )

    async def may_go_on(self) -> bool:
        """Whether a talk may have one more turn: a person has agreed on their number."""
        return True

    async def remember(self, chosen: Sequence[str]) -> None:
        await remember_models(self.person, list(chosen))


@dataclass(frozen=True, slots=True)
class Picker:
    """Models to choose from; `suggested` are their ids, the likeliest first."""

    models: Sequence[UsableModel]
    labels: Mapping[str, str]
    suggested: Sequence[str]


# --- shared/orchestration/faces.py ---

# 24 x 24, strokes only: Open WebUI inverts SVG icons where the screen is dark.
ICON_FRAME = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" '
    'stroke="#666" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round">'
    '<path d="{path}"/></svg>'
)
ICON_PATHS = {
    "continue": "M4 6h10M4 12h7M4 18h7M15 12l5 3-5 3z",
    "opinion": "M3 4h10v8H8l-3 3v-3H3zM16 9h5v8h-2v3l-3-3h-5v-2",
    "compare": "M4 4h4v16H4zM10 4h4v16h-4zM16 4h4v16h-4z",
    "talk": "M4 8h14M15 5l3 3-3 3M20 16H6M9 13l-3 3 3 3",
    "new_chat": "M12 5H5v14h14v-7M14 4h6v6M20 4l-9 9",
}
BUTTON_NAMES = {
    "continue": "Continue with…",
    "opinion": "Second opinion",
    "compare": "Compare",
    "talk": "Let them talk",
    "new_chat": "Continue in a new chat",
}


def button_face(button: str) -> dict[str, str]:
    """One entry of an action's `actions`, as Open WebUI reads it."""
    svg = ICON_FRAME.format(path=ICON_PATHS[button])
    return {
        "id": button,
        "name": BUTTON_NAMES[button],
        "icon_url": f"data:image/svg+xml,{quote(svg)}",
    }


# --- shared/host/resources.py ---

STATE_KEY = "aqueduct"

Resource = TypeVar("Resource")


def shared_resource(name: str, make: Callable[[], Resource]) -> Resource:
    """The server-wide object of this name, made on first use.

    Call it in the event loop only: there, nothing runs between look-up and store.
    """
    from open_webui.main import app

    kept: dict[str, Any] | None = getattr(app.state, STATE_KEY, None)
    if kept is None:
        kept = {}
        setattr(app.state, STATE_KEY, kept)
    if name not in kept:
        kept[name] = make()
    return kept[name]


# --- shared/host/claims.py ---

# So long a chat stays claimed when its worker has died.
CLAIM_SECONDS = 60
RENEWAL_SECONDS = 10
# Both only for whom the key still belongs to: a claim may have run out. A Redis that
# was started anew knows of none.
RENEW_CLAIM = (
    "local holder = redis.call('get', KEYS[1]) "
    "if not holder or holder == ARGV[1] then "
    "redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2]) end"
)
RELEASE_CLAIM = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then "
    "return redis.call('del', KEYS[1]) end return 0"
)


@asynccontextmanager
async def claimed(request: Any, name: str) -> AsyncIterator[None]:
    """Hold `name` alone; AqueductError `busy` when somebody else has it.

    With several workers the claim lies in Open WebUI's Redis. There it runs out unless
    it is renewed, so that a worker that dies does not keep it.
    """
    redis = getattr(request.app.state, "redis", None)
    if redis is None:
        held: set[str] = shared_resource("claims", set)
        if name in held:
            raise AqueductError("busy")
        held.add(name)
        try:
            yield
        finally:
            held.discard(name)
        return
    key, token = f"aqueduct:claim:{name}", uuid4().hex
    if not await redis.set(key, token, nx=True, ex=CLAIM_SECONDS):
        raise AqueductError("busy")
    released = asyncio.Event()
    renewing = asyncio.create_task(renew_claim(redis, key, token, released))
    try:
        yield
    finally:
        # Not cancelled: a renewal on its way would come after the release.
        released.set()
        await renewing
        # Out of reach, it runs out by itself.
        with contextlib.suppress(RedisError):
            await redis.eval(RELEASE_CLAIM, 1, key, token)


async def renew_claim(
    redis: Any, key: str, token: str, released: asyncio.Event
) -> None:
    """Keep a claim from running out, until it is released."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RENEWAL_SECONDS):
                await released.wait()
        if released.is_set():
            return
        # The next time may do.
        with contextlib.suppress(RedisError):
            await redis.eval(RENEW_CLAIM, 1, key, token, CLAIM_SECONDS * 1000)


# --- shared/orchestration/tree.py ---

Messages = Mapping[str, Mapping[str, Any]]


def answer_at(messages: Messages, message_id: str) -> Mapping[str, Any]:
    """The finished answer under which a button was pressed; else AqueductError."""
    message = messages.get(message_id)
    if message is None or message.get("role") != "assistant":
        raise AqueductError("message_gone")
    if message.get("done") is False and not message.get("content"):
        raise AqueductError("answer_running")
    return message


def question_of(messages: Messages, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user's message that an answer answers; AqueductError without one."""
    question = messages.get(str(answer.get("parentId") or ""))
    if question is None or question.get("role") != "user":
        raise AqueductError("no_question")
    return question


def column_models(messages: Messages, question: Mapping[str, Any]) -> list[str]:
    """The model of each column of answers to a question, as Open WebUI draws them."""
    stored = [str(model) for model in question.get("models") or []]
    if stored:
        return stored
    first = (messages.get(child) for child in question.get("childrenIds") or [])
    return [str(message.get("model")) for message in first if message][:1]


def answering_models(messages: Messages, question: Mapping[str, Any]) -> set[str]:
    """The models that have answered a question."""
    return {
        str(messages[child].get("model"))
        for child in question.get("childrenIds") or []
        if child in messages
    }


def branch_to(messages: Messages, message_id: str) -> list[Mapping[str, Any]]:
    """The messages from the first one to this one."""
    branch: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    next_id = message_id
    while next_id in messages and next_id not in seen:
        seen.add(next_id)
        branch.append(messages[next_id])
        next_id = str(messages[next_id].get("parentId") or "")
    return branch[::-1]


def newest_end(messages: Messages, known: Collection[str]) -> str | None:
    """The newest message that is not known and has nothing below it."""
    ends = [
        message_id
        for message_id, message in messages.items()
        if message_id not in known and not message.get("childrenIds")
    ]
    return max(ends, key=lambda end: messages[end].get("timestamp") or 0, default=None)


def stored_text(message: Mapping[str, Any]) -> str:
    """The words of a message: of its output items, or its plain content."""
    texts = [
        "".join(str(part.get("text") or "") for part in item.get("content") or [])
        for item in message.get("output") or []
        if item.get("type") == "message"
    ]
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text") or "") for part in content)
    return "\n".join(text for text in texts if text.strip()) or str(content or "")


# --- shared/orchestration/buttons.py ---


async def press_continue(desk: Desk) -> None:
    """Another model goes on after this answer, as the next turn."""
    answer = answer_at(await stored_messages(desk), desk.press.message_id)
    picker = await desk.picker()
    fields = {"model": model_field(desk, picker)}
    please = desk.line("please_continue")
    if desk.settings.ask_text:
        fields["text"] = text_field(
            desk.text("field_text"), desk.text("field_text_hint"), please
        )
    answers = await desk.ask(fields, ("model",))
    model_id = chosen_value(answers, "model", picker.labels)
    text = chosen_text(answers, "text") if desk.settings.ask_text else please
    names = await desk.names()
    previous = str(answer.get("model") or desk.press.model_id)
    handover = desk.line(
        "handover_line",
        previous=names.get(previous, previous),
        next=names.get(model_id, model_id),
    )
    content = join_parts(handover, text)
    message = new_user_message(desk.press.message_id, content, model_id)
    await start_turn(
        desk.press.request, desk.person, desk.turn(message, [Answerer(model_id)])
    )
    await desk.remember([model_id])


async def press_opinion(desk: Desk) -> None:
    """Another model answers the same question, beside this answer."""
    messages = await stored_messages(desk)
    answer = answer_at(messages, desk.press.message_id)
    question = question_of(messages, answer)
    picker = await desk.picker(answering_models(messages, question))
    answers = await desk.ask({"model": model_field(desk, picker)}, ("model",))
    model_id = chosen_value(answers, "model", picker.labels)
    # Read anew: a form may stand open for minutes.
    messages = await stored_messages(desk)
    answer = answer_at(messages, desk.press.message_id)
    question = question_of(messages, answer)
    extra: dict[str, Any] = {}
    if desk.settings.show_first_answer:
        # Open WebUI's own way to show a model an answer without storing a message.
        extra["regeneration_message_id"] = desk.press.message_id
        extra["regeneration_prompt"] = desk.line("opinion_line")
    answerer = Answerer(model_id, int(answer.get("modelIdx") or 0))
    turn = desk.turn(question, [answerer], stored=True, extra=extra)
    await start_turn(desk.press.request, desk.person, turn)
    await desk.remember([model_id])


async def press_compare(desk: Desk) -> None:
    """Further models answer the same question, in columns beside this answer."""
    chat = await chat_at_rest(desk)
    messages = chat_messages(chat)
    answer = answer_at(messages, desk.press.message_id)
    question = question_of(messages, answer)
    # Open WebUI lets nobody else give a question the columns it is drawn with.
    if (question.get("user_id") or chat.user_id) != desk.person.id:
        raise AqueductError("others_question")
    picker = await desk.picker(answering_models(messages, question))
    chosen = await ask_for_models(desk, picker)
    # Read anew: a form may stand open for minutes.
    messages = chat_messages(await chat_at_rest(desk))
    question = question_of(messages, answer)
    columns = column_models(messages, question)
    answerers = [
        Answerer(model_id, len(columns) + place)
        for place, model_id in enumerate(chosen)
    ]
    question = {**question, "models": [*columns, *chosen]}
    turn = desk.turn(question, answerers, stored=True)
    await start_turn(desk.press.request, desk.person, turn)
    await desk.remember(chosen)


async def ask_for_models(desk: Desk, picker: Picker) -> list[str]:
    """Two or more different models; AqueductError where fewer are chosen."""
    names = [f"model_{number + 1}" for number in range(desk.settings.max_compared)]
    fields = {
        name: model_field(desk, picker, number) for number, name in enumerate(names)
    }
    answers = await desk.ask(fields, tuple(names[:2]))
    chosen = {
        chosen_value(answers, name, picker.labels): None
        for name in names
        if name in names[:2] or answers.get(name)
    }
    if len(chosen) < 2:
        raise AqueductError("pick_different")
    return list(chosen)


async def stored_messages(desk: Desk) -> Mapping[str, Mapping[str, Any]]:
    """The tree of this chat; AqueductError where nothing can be added to it now."""
    return chat_messages(await chat_at_rest(desk))


async def chat_at_rest(desk: Desk) -> Any:
    """This chat as it is stored; AqueductError where nothing can be added to it now."""
    if desk.press.in_temporary_chat:
        raise AqueductError("temporary_chat")
    chat = await writable_chat(desk.press.chat_id, desk.person)
    if await answer_running(desk.press.request, chat):
        raise AqueductError("answer_running")
    return chat


def new_user_message(
    parent_id: str | None, content: str, model_id: str
) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "parentId": parent_id,
        "childrenIds": [],
        "role": "user",
        "content": content,
        "models": [model_id],
    }


def model_field(desk: Desk, picker: Picker, number: int | None = None) -> FormField:
    """A choice of models; with a number, one of several, the third being optional."""
    if number is None:
        return choice_field(
            desk.text("field_model"), picker.labels, picker.suggested[0]
        )
    suggested = picker.suggested[number : number + 1] if number < 2 else []
    return choice_field(
        desk.text("field_model_number", number=number + 1),
        picker.labels,
        suggested[0] if suggested else "",
    )


def join_parts(*parts: str) -> str:
    """The paragraphs that are not empty."""
    return "\n\n".join(part for part in parts if part)


# --- shared/host/errands.py ---

ERRAND_KEY = "aqueduct_errand"


def without_errand(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message that is to stand in another chat."""
    meta = {k: v for k, v in (message.get("meta") or {}).items() if k != ERRAND_KEY}
    return {**message, "meta": meta} if "meta" in message else dict(message)


# --- shared/host/new_chats.py ---


async def create_chat(
    request: Any,
    person: Any,
    title: str,
    model_ids: Sequence[str],
    messages: Sequence[Mapping[str, Any]],
    like: Mapping[str, Any] | None = None,
    folder_id: str | None = None,
    meta: Mapping[str, Any] | None = None,
) -> str:
    """Store a new chat of this user; its id.

    `messages` are one branch, oldest first, with their ids; they are linked here.
    `like` is the JSON of a chat whose files and parameters it takes over. `meta` is
    kept beside the chat, where Open WebUI keeps its tags.
    AqueductError where the user may not store chats.
    """
    from fastapi import HTTPException
    from open_webui.events import EVENTS, publish_event
    from open_webui.models.chats import ChatForm, Chats

    chat_id = str(uuid4())
    history = linked_history(messages)
    chat = {
        "id": chat_id,
        "title": title,
        "models": list(model_ids),
        "params": dict((like or {}).get("params") or {}),
        "files": list((like or {}).get("files") or []),
        "history": history,
        "messages": list(history["messages"].values()),
        "tags": [],
        "timestamp": int(time.time() * 1000),
    }
    form = ChatForm(chat=chat, folder_id=folder_id)
    try:
        stored = await Chats.insert_new_chat(
            chat_id, person.id, form, internal_meta=dict(meta or {})
        )
    except HTTPException as error:
        raise AqueductError("chat_refused") from error
    if stored is None:
        raise AqueductError("chat_refused")
    await publish_event(
        request,
        EVENTS.CHAT_CREATED,
        actor=person,
        subject_id=chat_id,
        data={"title": title},
    )
    await emit_to_user(person.id, chat_id, {"type": "chat:list"})
    return chat_id


def linked_history(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One branch as Open WebUI stores it: {messages: {id: …}, currentId}."""
    ids = [str(message["id"]) for message in messages]
    linked: dict[str, dict[str, Any]] = {}
    for place, message in enumerate(messages):
        linked[ids[place]] = {
            **message,
            "parentId": ids[place - 1] if place else None,
            "childrenIds": ids[place + 1 : place + 2],
        }
    return {"messages": linked, "currentId": ids[-1] if ids else None}


async def folder_beside(person: Any, chat: Any) -> str | None:
    """The folder of a stored chat, for another chat of this user; None where they may
    not put any there."""
    from open_webui.utils.access_control.folders import has_folder_write_access

    if not chat.folder_id or chat.user_id != person.id:
        return None
    allowed = await has_folder_write_access(person.id, chat.folder_id)
    return str(chat.folder_id) if allowed else None


async def delete_chat(chat_id: str, person: Any) -> None:
    """Take back a chat that came to nothing."""
    from open_webui.models.chats import Chats

    await Chats.delete_chat_by_id(chat_id)
    await emit_to_user(person.id, chat_id, {"type": "chat:list"})


async def append_line(person: Any, chat_id: str, message_id: str, line: str) -> None:
    """Write a line of Markdown under a stored answer, and show it in open tabs."""
    from open_webui.models.chats import Chats

    async with Chats.edit_message_output(chat_id, message_id) as message:
        if message is None:
            return
        if message.get("output"):
            message["output"].append(
                {
                    "type": "message",
                    "id": f"msg_{uuid4().hex}",
                    "status": "completed",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": line}],
                }
            )
        message["content"] = f"{message.get('content') or ''}\n\n{line}".strip()
        shown = {key: value for key, value in message.items() if key != "meta"}
    await emit_to_user(
        person.id,
        chat_id,
        {"type": "chat:messages", "data": {"messages": {message_id: shown}}},
        message_id,
    )


async def plain_answer(
    request: Any, person: Any, model_id: str, messages: Sequence[Mapping[str, str]]
) -> str:
    """What a model answers, outside any chat; AqueductError where nothing comes.

    `messages` are {role, content} with plain text.
    """
    from fastapi import HTTPException

    form = {"model": model_id, "stream": False, "messages": [*map(dict, messages)]}
    handler = request.app.state.CHAT_COMPLETION_HANDLER
    try:
        answer = await handler(clean_request(request), form, user=person)
    except HTTPException as error:
        raise AqueductError("no_summary", detail=str(error.detail)) from error
    choices = answer.get("choices") if isinstance(answer, dict) else None
    text = choices[0].get("message", {}).get("content") if choices else ""
    if not text:
        raise AqueductError("no_summary")
    return str(text)


# --- shared/orchestration/new_chat.py ---

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


# --- shared/orchestration/notices.py ---

BUTTON_NOTICES: dict[str, dict[str, str]] = {
    "busy": {
        "en": "This chat is busy: a choice is open, or models are talking in it.",
        "de": "Dieser Chat ist belegt: Eine Auswahl ist offen, oder Modelle reden darin.",
        "es": "Este chat está ocupado: hay una elección abierta o modelos conversando.",
        "fr": "Cette conversation est occupée : un choix est ouvert ou des modèles y parlent.",
        "zh": "此对话正忙：有未完成的选择，或模型正在对话。",
    },
    "cancelled": {
        "en": "Cancelled: nothing was sent.",
        "de": "Abgebrochen: Es wurde nichts gesendet.",
        "es": "Cancelado: no se envió nada.",
        "fr": "Annulé : rien n'a été envoyé.",
        "zh": "已取消：没有发送任何内容。",
    },
    "no_session": {
        "en": "The page is no longer connected. Reload it and try again.",
        "de": "Die Seite ist nicht mehr verbunden. Lade sie neu und versuche es noch einmal.",
        "es": "La página ya no está conectada. Recárgala e inténtalo de nuevo.",
        "fr": "La page n'est plus connectée. Recharge-la et réessaie.",
        "zh": "页面已断开连接。请刷新后重试。",
    },
    "no_answer": {
        "en": "No choice was made in time: nothing was sent.",
        "de": "Es wurde nicht rechtzeitig gewählt: Es wurde nichts gesendet.",
        "es": "No se eligió a tiempo: no se envió nada.",
        "fr": "Aucun choix n'a été fait à temps : rien n'a été envoyé.",
        "zh": "未及时选择：没有发送任何内容。",
    },
    "switched_off": {
        "en": "This button is switched off.",
        "de": "Dieser Knopf ist abgeschaltet.",
        "es": "Este botón está desactivado.",
        "fr": "Ce bouton est désactivé.",
        "zh": "此按钮已停用。",
    },
    "user_gone": {
        "en": "This account may not use chats any more.",
        "de": "Dieses Konto darf keine Chats mehr benutzen.",
        "es": "Esta cuenta ya no puede usar chats.",
        "fr": "Ce compte ne peut plus utiliser les conversations.",
        "zh": "此账户不能再使用对话。",
    },
    "chat_gone": {
        "en": "This chat no longer exists.",
        "de": "Diesen Chat gibt es nicht mehr.",
        "es": "Este chat ya no existe.",
        "fr": "Cette conversation n'existe plus.",
        "zh": "此对话已不存在。",
    },
    "chat_forbidden": {
        "en": "You may read this chat, but not write to it.",
        "de": "Du darfst diesen Chat lesen, aber nicht hineinschreiben.",
        "es": "Puedes leer este chat, pero no escribir en él.",
        "fr": "Tu peux lire cette conversation, mais pas y écrire.",
        "zh": "你可以阅读此对话，但不能写入。",
    },
    "others_question": {
        "en": "Somebody else asked this question: only they can compare its answers.",
        "de": "Diese Frage hat jemand anderes gestellt: Nur diese Person kann vergleichen.",
        "es": "Otra persona hizo esta pregunta: solo ella puede comparar las respuestas.",
        "fr": "Quelqu'un d'autre a posé cette question : lui seul peut comparer.",
        "zh": "这个问题是别人提的：只有提问者才能比较回答。",
    },
    "message_gone": {
        "en": "This message is no longer in the chat. Reload the page.",
        "de": "Diese Nachricht steht nicht mehr im Chat. Lade die Seite neu.",
        "es": "Este mensaje ya no está en el chat. Recarga la página.",
        "fr": "Ce message n'est plus dans la conversation. Recharge la page.",
        "zh": "此消息已不在对话中。请刷新页面。",
    },
    "no_question": {
        "en": "This answer has no question to ask again.",
        "de": "Zu dieser Antwort gibt es keine Frage, die man noch einmal stellen kann.",
        "es": "Esta respuesta no tiene una pregunta que repetir.",
        "fr": "Cette réponse n'a pas de question à reposer.",
        "zh": "此回答没有可以重新提出的问题。",
    },
    "answer_running": {
        "en": "An answer is still being written in this chat. Wait for it, or stop it.",
        "de": "In diesem Chat wird noch geantwortet. Warte ab, oder halte die Antwort an.",
        "es": "Aún se está escribiendo una respuesta en este chat. Espera o detenla.",
        "fr": "Une réponse est en cours dans cette conversation. Attends ou arrête-la.",
        "zh": "此对话中仍有回答正在生成。请等待或停止。",
    },
    "no_models": {
        "en": "There is no model to choose from.",
        "de": "Es gibt kein Modell zur Auswahl.",
        "es": "No hay ningún modelo que elegir.",
        "fr": "Il n'y a aucun modèle à choisir.",
        "zh": "没有可选的模型。",
    },
    "model_gone": {
        "en": "The model {model} is not available to you.",
        "de": "Das Modell {model} steht dir nicht zur Verfügung.",
        "es": "El modelo {model} no está disponible para ti.",
        "fr": "Le modèle {model} n'est pas à ta disposition.",
        "zh": "你无法使用模型 {model}。",
    },
    "direct_model": {
        "en": "{model} comes over a connection of your browser, so the server cannot let it talk.",
        "de": "{model} kommt über eine Verbindung deines Browsers; der Server kann es nicht reden lassen.",
        "es": "{model} llega por una conexión de tu navegador; el servidor no puede hacerlo conversar.",
        "fr": "{model} passe par une connexion de ton navigateur ; le serveur ne peut pas le faire dialoguer.",
        "zh": "{model} 来自你浏览器的连接，服务器无法让它参与对话。",
    },
    "pick_different": {
        "en": "Choose at least two different models.",
        "de": "Wähle mindestens zwei verschiedene Modelle.",
        "es": "Elige al menos dos modelos distintos.",
        "fr": "Choisis au moins deux modèles différents.",
        "zh": "请至少选择两个不同的模型。",
    },
    "temporary_chat": {
        "en": "A temporary chat is not stored, so nothing can be added to it here. “Continue in a new chat” works.",
        "de": "Ein temporärer Chat wird nicht gespeichert, daher lässt sich hier nichts anfügen. „In einem neuen Chat fortsetzen“ geht.",
        "es": "Un chat temporal no se guarda, así que aquí no se puede añadir nada. «Continuar en un chat nuevo» funciona.",
        "fr": "Une conversation temporaire n'est pas enregistrée : rien ne peut y être ajouté. « Continuer dans une nouvelle conversation » fonctionne.",
        "zh": "临时对话不会保存，无法在此添加内容。可以使用“在新对话中继续”。",
    },
    "chat_refused": {
        "en": "You may not create a stored chat here.",
        "de": "Du darfst hier keinen gespeicherten Chat anlegen.",
        "es": "Aquí no puedes crear un chat guardado.",
        "fr": "Tu ne peux pas créer de conversation enregistrée ici.",
        "zh": "你不能在此创建保存的对话。",
    },
    "no_summary": {
        "en": "No summary came, so no new chat was made.{detail}",
        "de": "Es kam keine Zusammenfassung, daher gibt es keinen neuen Chat.{detail}",
        "es": "No llegó ningún resumen, así que no se creó el chat.{detail}",
        "fr": "Aucun résumé n'est venu ; la conversation n'a pas été créée.{detail}",
        "zh": "没有得到摘要，因此没有创建新对话。{detail}",
    },
    "time_over": {
        "en": "It took too long and was stopped.",
        "de": "Es dauerte zu lange und wurde angehalten.",
        "es": "Tardó demasiado y se detuvo.",
        "fr": "C'était trop long et a été arrêté.",
        "zh": "耗时过长，已停止。",
    },
    "not_started": {
        "en": "The model could not be started.{detail}",
        "de": "Das Modell ließ sich nicht starten.{detail}",
        "es": "No se pudo iniciar el modelo.{detail}",
        "fr": "Le modèle n'a pas pu être lancé.{detail}",
        "zh": "无法启动模型。{detail}",
    },
    "internal": {
        "en": "Something went wrong inside Aqueduct. The server log has it under {id}.",
        "de": "In Aqueduct ging etwas schief. Im Serverprotokoll steht es unter {id}.",
        "es": "Algo falló dentro de Aqueduct. Está en el registro del servidor como {id}.",
        "fr": "Une erreur s'est produite dans Aqueduct. Elle figure au journal sous {id}.",
        "zh": "Aqueduct 内部出错，服务器日志编号 {id}。",
    },
}


# --- shared/host/saved_chats.py ---


async def stored_history(chat_id: str) -> dict[str, Any]:
    """A chat's `messages` by id, linked by `parentId`, and its `currentId`, the message
    it ends with; without messages where the chat is gone.
    """
    from open_webui.models.chats import Chats

    chat = await Chats.get_chat_by_id(chat_id)
    history = (chat.chat.get("history") or {}) if chat else {}
    return {
        "messages": history.get("messages") or {},
        "currentId": history.get("currentId"),
    }


# --- shared/host/series.py ---


async def run_series(
    request: Any, work: Coroutine[Any, Any, None], chat_id: str, kind: str
) -> asyncio.Task[None]:
    """Run a coroutine as a task of this chat, named after its kind."""
    from open_webui.tasks import create_task

    task_id = f"{kind}-{uuid4()}"
    redis = request.app.state.redis
    _, task = await create_task(redis, work, id=chat_id, task_id=task_id)
    return task


async def is_global_filter(filter_id: str) -> bool:
    """Whether this filter is at work for all models."""
    from open_webui.models.functions import Functions

    return (filter_id, True) in await Functions.get_active_filter_ids()


# --- shared/orchestration/talk_view.py ---

# What the line above a turn carries, beside Open WebUI's own keys of a user message:
# {"speaker": id of the model that answers it, "names": {id: name}}.
TALK_KEY = "talk"
# The kind of the tasks that hold talks, see `shared/host/series.py`.
TALK_KIND = "aqueduct-talk"


# --- shared/orchestration/talk.py ---

LEAST_TURNS = 2
# Why a turn cannot start when somebody was a moment faster.
INTERRUPTED_CODES = ("answer_running", "message_gone", "chat_gone")
# Companion of the buttons, `filters/talk_roles.py`.
ROLES_FILTER = "talk_roles"
DONE_PHRASE = "[DONE]"
# Turns in which the goal is told: the first one of each model.
TOLD_TURNS = 2


@dataclass(frozen=True, slots=True)
class Talk:
    """What was agreed for a talk. `first` has spoken already, `second` answers."""

    first: str
    second: str
    names: dict[str, str]
    turns: int
    goal: str
    phrase: str

    def pair(self, number: int) -> tuple[str, str]:
        """Who speaks in a turn, counted from 1, and to whom."""
        if number % 2:
            return self.second, self.first
        return self.first, self.second

    def name(self, model_id: str) -> str:
        return self.names.get(model_id, model_id)

    def pair_names(self) -> dict[str, str]:
        return {each: self.name(each) for each in (self.first, self.second)}

    def says_done(self, text: str) -> bool:
        return bool(self.phrase) and self.phrase.casefold() in text.casefold()

    def line(self, desk: Desk, number: int) -> str:
        """What stands above a turn: who speaks, and at first the goal."""
        speaker, listener = self.pair(number)
        lines = [
            desk.line(
                "talk_line",
                speaker=self.name(speaker),
                listener=self.name(listener),
                number=number,
                turns=self.turns,
            )
        ]
        if self.goal and number <= TOLD_TURNS:
            lines.append(desk.line("talk_goal", goal=self.goal))
        if self.phrase and number <= TOLD_TURNS:
            lines.append(desk.line("talk_phrase", phrase=self.phrase))
        return join_parts(*lines)


async def press_talk(desk: Desk) -> None:
    """This model and another one talk; returns when the talk is over.

    The talk is a task of the chat, so Stop ends it, in this tab, in another one and
    after a reload; the press stays open meanwhile, so no second one interferes.
    """
    answer = answer_at(await stored_messages(desk), desk.press.message_id)
    first = str(answer.get("model") or desk.press.model_id)
    await require_speaker(desk, first)
    talk = await ask_for_talk(desk, first)
    await desk.remember([talk.second])
    work = hold_talk(desk, talk, stored_text(answer))
    task = await run_series(desk.press.request, work, desk.press.chat_id, TALK_KIND)
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()):
        raise error


async def require_speaker(desk: Desk, model_id: str) -> None:
    """AqueductError where the model whose answer this is cannot speak again."""
    direct = direct_model(desk.press.request)
    if direct is not None and direct.id == model_id:
        raise AqueductError("direct_model", model=direct.name)
    if model_id not in await desk.names():
        raise AqueductError("model_gone", model=model_id)


async def ask_for_talk(desk: Desk, first: str) -> Talk:
    """What the user wants: with whom, how long, to what end."""
    picker = await desk.picker()
    limit = desk.settings.max_turns
    fields = {
        "model": model_field(desk, picker),
        "turns": number_field(
            desk.text("field_turns", limit=limit),
            desk.settings.talk_turns,
            LEAST_TURNS,
            limit,
        ),
        "goal": text_field(desk.text("field_goal")),
        "phrase": text_field(desk.text("field_phrase"), desk.text("field_phrase_hint")),
    }
    answers = await desk.ask(fields, ("model", "turns"))
    goal = chosen_text(answers, "goal")
    return Talk(
        first=first,
        second=chosen_value(answers, "model", picker.labels),
        names=await desk.names(),
        turns=chosen_number(answers, "turns", LEAST_TURNS, limit),
        goal=goal,
        # A goal is of little use to models that cannot say it is reached.
        phrase=chosen_text(answers, "phrase") or (DONE_PHRASE if goal else ""),
    )


@dataclass(slots=True)
class Thread:
    """Where a talk stands in its chat: its last answer, and all messages it knows."""

    tip: str
    known: set[str]

    def add(self, *message_ids: str) -> None:
        self.known.update(message_ids)
        self.tip = message_ids[-1]


async def hold_talk(desk: Desk, talk: Talk, first_words: str) -> None:
    """Turn after turn, until the last one or a reason to end before."""
    deadline = time.monotonic() + desk.settings.max_seconds
    messages = (await unbroken(stored_history(desk.press.chat_id)))["messages"]
    thread = Thread(desk.press.message_id, set(messages))
    words, was_done, shown = first_words, False, 1
    for number in range(1, talk.turns + 1):
        try:
            if not await unbroken(desk.may_go_on()):
                await talk_status(desk, talk, thread.tip, shown, "talk_limited")
                return
            started = await speak(desk, talk, number, thread, words)
            shown = number
            code, words = await listen(desk, talk, number, thread, started, deadline)
            is_done = talk.says_done(words)
            if code == "talk_status" and is_done and was_done:
                code = "talk_agreed"
            elif code == "talk_status" and number == talk.turns:
                code = "talk_finished"
            if code == "talk_status":
                await talk_status(desk, talk, thread.tip, number, code)
        except asyncio.CancelledError:
            was_stopped = await unbroken(is_undisturbed(desk, thread))
            code = "talk_stopped" if was_stopped else "talk_interrupted"
            await end_early(desk, talk, thread, shown, code)
            raise
        except AqueductError as error:
            if number == 1:
                raise
            interrupted = error.code in INTERRUPTED_CODES
            code = "talk_interrupted" if interrupted else "talk_failed"
            await end_early(desk, talk, thread, shown, code)
            if interrupted:
                return
            raise
        if code != "talk_status":
            await talk_status(desk, talk, thread.tip, number, code)
            return
        was_done = is_done


async def end_early(
    desk: Desk, talk: Talk, thread: Thread, number: int, code: str
) -> None:
    """Tell why the talk ends here; tabs that follow it then show the chat as it is."""
    await talk_status(desk, talk, thread.tip, number, code)
    if code == "talk_interrupted":
        await unbroken(show_what_came(desk, thread))


async def show_what_came(desk: Desk, thread: Thread) -> None:
    """Let all tabs show what somebody wrote into the talk.

    A turn that began at the very moment is shown in its place.
    """
    chat_id = desk.press.chat_id
    messages = (await stored_history(chat_id))["messages"]
    if came := newest_end(messages, thread.known):
        await show_instead(chat_id, thread.tip, came)
    await emit_to_user(desk.person.id, chat_id, {"type": "chat:reload"})


async def is_undisturbed(desk: Desk, thread: Thread) -> bool:
    """Whether the talk's last answer is there, and nothing that others wrote.

    What the user looks at meanwhile is of no matter, although the chat keeps it.
    """
    messages = (await stored_history(desk.press.chat_id))["messages"]
    return thread.tip in messages and messages.keys() <= thread.known


async def speak(
    desk: Desk, talk: Talk, number: int, thread: Thread, words: str
) -> StartedTurn:
    """Start one turn: a short line for the reader, the other's words for the model."""
    speaker, listener = talk.pair(number)
    message = new_user_message(thread.tip, talk.line(desk, number), speaker)
    message[TALK_KEY] = {"speaker": speaker, "names": talk.pair_names()}
    extra: dict[str, Any] = {"background_tasks": {}}
    if not await unbroken(is_global_filter(ROLES_FILTER)):
        # Then at least the last words come as the user's, said once more.
        extra["regeneration_prompt"] = words
    system = desk.line(
        "talk_system", speaker=talk.name(speaker), listener=talk.name(listener)
    )
    turn = desk.turn(message, [Answerer(speaker)], system=system, extra=extra)
    if number > 1 and not await unbroken(is_undisturbed(desk, thread)):
        raise AqueductError("answer_running")
    started = await start_turn(desk.press.request, desk.person, turn)
    thread.add(message["id"], *started.message_ids)
    return started


async def listen(
    desk: Desk,
    talk: Talk,
    number: int,
    thread: Thread,
    started: StartedTurn,
    deadline: float,
) -> tuple[str, str]:
    """How a turn ended, as a code of a status, and its words.

    `talk_status` is the code of a turn after which the talk may go on.
    """
    try:
        await talk_status(desk, talk, thread.tip, number, "talk_status", done=False)
        finished = await wait_for_turn(
            desk.press.request, started, deadline - time.monotonic()
        )
    except asyncio.CancelledError:
        # Stop has also stopped the answer; somebody's message has not.
        was_stopped = await unbroken(is_undisturbed(desk, thread))
        grace = STOP_GRACE if was_stopped else 0
        await stop_tasks(desk.press.request, started.task_ids, grace)
        raise
    except AqueductError:
        return "talk_late", ""
    message = await unbroken(stored_message(started.chat_id, thread.tip))
    words = stored_text(message)
    if not finished:
        return "talk_stopped", words
    if message.get("error") or not words.strip():
        return "talk_failed", words
    return "talk_status", words


async def talk_status(
    desk: Desk,
    talk: Talk,
    message_id: str,
    number: int,
    code: str,
    done: bool = True,
) -> None:
    """The line above an answer that counts the turns."""
    data: dict[str, Any] = {
        "description": desk.text(code, number=number, turns=talk.turns),
        "done": done,
    }
    event = {"type": "status", "data": data}
    await unbroken(
        emit_and_store(desk.person.id, desk.press.chat_id, message_id, event)
    )


# --- shared/orchestration/service.py ---

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


# --- actions/continue_with.py ---


Button = Literal["continue", "opinion", "compare", "talk", "new_chat"]
ALL_BUTTONS: tuple[Button, ...] = ("continue", "opinion", "compare", "talk", "new_chat")
OWN_LINE = "Empty: Aqueduct's own, in the user's language."


class Action:
    """Five buttons under an answer; each hands the conversation to other models."""

    class Valves(BaseModel):
        BUTTONS: list[Button] = Field(
            default=list(ALL_BUTTONS),
            description="The buttons that are offered.",
            json_schema_extra={
                "input": {
                    "type": "multiselect",
                    "options": [
                        {"value": button, "label": BUTTON_NAMES[button]}
                        for button in ALL_BUTTONS
                    ],
                }
            },
        )
        MODELS: str = Field(
            default="",
            description="Models to choose from: ids and tags, as in `gpt-5, tag:writing`. "
            "Empty: all that the user may use.",
        )
        MAX_COMPARED: int = Field(
            default=3, ge=2, le=6, description="Most models that Compare asks at once."
        )
        MAX_TURNS: int = Field(
            default=10, ge=2, le=100, description="Most turns of Let them talk."
        )
        MAX_SECONDS: int = Field(
            default=900,
            ge=1,
            description="Seconds that Let them talk, or a summary, may take altogether.",
        )
        SHOW_FIRST_ANSWER: bool = Field(
            default=False, description="Show the first answer to a second opinion."
        )
        HANDOVER_LINE: str = Field(
            default="",
            description="Line before what Continue with says; knows {previous} and "
            "{next}. " + OWN_LINE,
        )
        PLEASE_CONTINUE: str = Field(
            default="", description="What Continue with proposes to say. " + OWN_LINE
        )
        TALK_LINE: str = Field(
            default="",
            description="Line above each turn of Let them talk; knows {speaker}, "
            "{listener}, {number}, {turns}. " + OWN_LINE,
        )
        NEW_CHAT_LINE: str = Field(
            default="",
            description="Line in a new chat about where it comes from; knows {link} and "
            "{previous}. " + OWN_LINE,
        )
        SUMMARY_PROMPT: str = Field(
            default="", description="How a summary is asked for. " + OWN_LINE
        )
        priority: int = Field(
            default=0, description="Place among the buttons of other actions."
        )

        @field_validator(
            "HANDOVER_LINE",
            "PLEASE_CONTINUE",
            "TALK_LINE",
            "NEW_CHAT_LINE",
            "SUMMARY_PROMPT",
        )
        @classmethod
        def can_be_filled(cls, line: str) -> str:
            """Refuse a line with a brace too many, as it could never be written."""
            list(Formatter().parse(line))
            return line

        def model_post_init(self, context: Any, /) -> None:
            # Open WebUI asks for `actions` without handing over the valves, but reads
            # the priority from the stored ones just before (utils/models.py).
            Action.offered = tuple(self.BUTTONS)

    class UserValves(BaseModel):
        CONTINUE_MODEL: str = Field(
            default="",
            description="Id or name of the model that Continue with proposes.",
        )
        OPINION_MODEL: str = Field(
            default="",
            description="Id or name of the model that Second opinion proposes.",
        )
        COMPARE_MODELS: str = Field(
            default="",
            description="Ids or names of the models that Compare proposes: a, b, c.",
        )
        TALK_MODEL: str = Field(
            default="",
            description="Id or name of the model that Let them talk proposes.",
        )
        NEW_CHAT_MODEL: str = Field(
            default="",
            description="Id or name of the model that Continue in a new chat proposes.",
        )
        ASK_TEXT: bool = Field(
            default=True, description="Let me write what is said to the other model."
        )
        TALK_TURNS: int = Field(
            default=4, ge=2, description="Turns that Let them talk proposes."
        )

    # The buttons that the stored valves offer, see `Valves.model_post_init`.
    offered: tuple[str, ...] = ALL_BUTTONS

    def __init__(self) -> None:
        self.valves = self.Valves()

    @property
    def actions(self) -> list[dict[str, str]]:
        """The buttons, as Open WebUI puts them under each answer."""
        return [button_face(button) for button in ALL_BUTTONS if button in self.offered]

    async def action(
        self,
        body: dict[str, Any],
        __id__: str,
        __user__: dict[str, Any],
        __request__: Request,
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]],
        __event_call__: Callable[[dict[str, Any]], Awaitable[Any]],
    ) -> None:
        """Take a press of one of the buttons; the work goes on in the background."""
        press = Press(
            button=__id__,
            request=__request__,
            user_id=str(__user__["id"]),
            chat_id=str(body.get("chat_id") or ""),
            message_id=str(body.get("id") or ""),
            session_id=str(body.get("session_id") or ""),
            model_id=str(body.get("model") or ""),
            messages=body.get("messages") or [],
            emit=__event_emitter__,
            event_call=__event_call__,
        )
        valves = self.valves
        own = __user__.get("valves") or self.UserValves()
        await handle_press(press, button_settings(valves, own))


def button_settings(valves: Action.Valves, own: Action.UserValves) -> ButtonSettings:
    """The valves of admin and user in one."""
    return ButtonSettings(
        buttons=tuple(valves.BUTTONS),
        offered=valves.MODELS,
        max_compared=valves.MAX_COMPARED,
        max_turns=valves.MAX_TURNS,
        max_seconds=valves.MAX_SECONDS,
        show_first_answer=valves.SHOW_FIRST_ANSWER,
        lines={
            "handover_line": valves.HANDOVER_LINE,
            "please_continue": valves.PLEASE_CONTINUE,
            "talk_line": valves.TALK_LINE,
            "new_chat_line": valves.NEW_CHAT_LINE,
            "summary_prompt": valves.SUMMARY_PROMPT,
        },
        default_models={
            "continue": [own.CONTINUE_MODEL],
            "opinion": [own.OPINION_MODEL],
            "compare": [part.strip() for part in own.COMPARE_MODELS.split(",")],
            "talk": [own.TALK_MODEL],
            "new_chat": [own.NEW_CHAT_MODEL],
        },
        ask_text=own.ASK_TEXT,
        talk_turns=own.TALK_TURNS,
    )
