"""
title: Model orchestrator
author: Aqueduct
version: 0.1.0
description: Lets a model find other models and talk to them, in chats that the user can open.
license: MIT
required_open_webui_version: 0.12.0
"""

# Aqueduct 0.1.0. Copyright (c) 2026 The Aqueduct authors.
# SPDX-License-Identifier: MIT
#
# Built from tools/model_orchestrator.py and what it uses from shared/.
# Make changes there: the next update replaces this file.
# Content hash: ededf2b8186c8ab4

import asyncio
import contextlib
import json
import logging
import math
import re
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, asynccontextmanager, contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from html import escape
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar
from uuid import uuid4
from weakref import WeakValueDictionary

import orjson
from pydantic import BaseModel, Field
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


# --- shared/host/errands.py ---

ERRAND_KEY = "aqueduct_errand"
# A token of English is about four characters; where no usage is reported.
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Errand:
    """For whom a turn is started.

    `root` is the answer to a person's message at the top, `started` when it began, in
    seconds since 1970. `depth` is 1 for what that answer starts itself. `models` are
    those on the way down, the one that is asked last; `chats` are those in which
    somebody waits for the answer. `message_id` is the answer that asks, in the last one.
    """

    root: str
    started: int
    depth: int
    models: tuple[str, ...]
    chats: tuple[str, ...]
    message_id: str

    def as_meta(self, chat_id: str) -> dict[str, Any]:
        """What a user message in this chat carries."""
        lists = {"models": list(self.models), "chats": list(self.chats)}
        return {ERRAND_KEY: {**asdict(self), **lists, "chat_id": chat_id}}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any] | None, chat_id: str) -> "Errand | None":
        found = dict((meta or {}).get(ERRAND_KEY) or {})
        if not found or found.pop("chat_id", "") != chat_id:
            return None
        tuples = {"models": tuple(found["models"]), "chats": tuple(found["chats"])}
        return cls(**{**found, **tuples})


@dataclass(frozen=True, slots=True)
class Asked:
    """For whom an answer is written: `errand` is None for a person.

    `answer_id` is the answer itself, or the one above it that was asked for by a person
    or a model, where Open WebUI has woken the model since, with the result of a
    sub-agent or by a timer. `answered_at` is when that one was begun, `begun` when the
    answer itself was; in seconds since 1970, or 0.
    """

    errand: Errand | None
    answer_id: str
    answered_at: int
    begun: int


@dataclass(frozen=True, slots=True)
class ErrandTurn:
    """A turn that was started for a root; `task_id` is empty once it has ended.

    `chats` are those above it, as in its errand.
    """

    chat_id: str
    chats: tuple[str, ...]
    asked_by: str
    tokens: int
    task_id: str


async def asked_for(chat_id: str, answer_id: str) -> Asked:
    """For whom an answer is written, and since when."""
    from open_webui.models.chats import Chats

    messages = await Chats.get_messages_map_by_chat_id(chat_id) or {}
    first_id, question = first_asked(messages, answer_id)
    times = [
        int((messages.get(each) or {}).get("timestamp") or 0)
        for each in (first_id, answer_id)
    ]
    errand = Errand.from_meta(question.get("meta"), chat_id)
    return Asked(errand, first_id, *times)


def first_asked(
    messages: Mapping[str, Mapping[str, Any]], answer_id: str
) -> tuple[str, Mapping[str, Any]]:
    """The answer and its question, above all questions that Open WebUI itself put.

    Such a question stands below the answer that set the timer, or sent a sub-agent.
    """
    seen: set[str] = set()
    while answer_id not in seen:
        seen.add(answer_id)
        answer = messages.get(answer_id) or {}
        question = messages.get(str(answer.get("parentId") or "")) or {}
        above = str(question.get("parentId") or "")
        if not (question.get("meta") or {}).get("internal") or above not in messages:
            break
        answer_id = above
    return answer_id, question


async def errand_turns(request: Any, user_id: str, errand: Errand) -> list[ErrandTurn]:
    """All turns that were started for the errand's root so far."""
    from open_webui.internal.db import get_async_db
    from open_webui.models.chat_messages import ChatMessage
    from sqlalchemy import and_, select
    from sqlalchemy.orm import aliased

    asked, answered = aliased(ChatMessage), aliased(ChatMessage)
    query = (
        select(asked, answered)
        .outerjoin(
            answered,
            and_(
                answered.chat_id == asked.chat_id,
                # The key of a row is made of both ids; a parent is the plain id.
                asked.id == answered.chat_id + "-" + answered.parent_id,
            ),
        )
        .where(
            asked.user_id == user_id,
            asked.created_at >= errand.started,
            asked.meta[(ERRAND_KEY, "root")].as_string() == errand.root,
            # A copy of a chat is nothing that was asked.
            asked.meta[(ERRAND_KEY, "chat_id")].as_string() == asked.chat_id,
        )
    )
    async with get_async_db() as session:
        rows = (await session.execute(query)).all()
    return [await errand_turn(request, question, answer) for question, answer in rows]


async def errand_turn(request: Any, question: Any, answer: Any) -> ErrandTurn:
    running = answer is not None and await is_running(
        request, question.chat_id, {"done": answer.done, "meta": answer.meta}
    )
    return ErrandTurn(
        chat_id=question.chat_id,
        chats=tuple(question.meta[ERRAND_KEY]["chats"]),
        asked_by=question.meta[ERRAND_KEY]["message_id"],
        tokens=used_tokens(question, answer),
        task_id=str(answer.meta["task_id"]) if running else "",
    )


def used_tokens(question: Any, answer: Any) -> int:
    """What a turn cost: as reported, or guessed from the lengths of both messages."""
    usage = (answer.usage if answer is not None else None) or {}
    if reported := reported_tokens(usage):
        return reported
    texts = [question.content, answer.content if answer is not None else ""]
    return sum(len(str(text or "")) for text in texts) // CHARACTERS_PER_TOKEN


def reported_tokens(usage: Mapping[str, Any]) -> int:
    """The tokens in a `usage`, by the names of chat completions or of responses."""
    if total := usage.get("total_tokens"):
        return int(total)
    names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    return sum(int(usage.get(name) or 0) for name in names)


async def is_running(request: Any, chat_id: str, message: Mapping[str, Any]) -> bool:
    """Whether an answer is being written now, on whichever worker.

    An answer that a server's end cut off is not done either.
    """
    from open_webui.tasks import list_task_ids_by_item_id

    task_id = (message.get("meta") or {}).get("task_id")
    if message.get("done") is not False or not task_id:
        return False
    return task_id in await list_task_ids_by_item_id(request.app.state.redis, chat_id)


def answering_task(metadata: Mapping[str, Any]) -> Any:
    """The task in which the model that called a tool is answering."""
    import asyncio

    from open_webui.tasks import tasks

    return tasks.get(str(metadata.get("task_id"))) or asyncio.current_task()


async def stop_everywhere(request: Any, task_ids: Sequence[str]) -> None:
    """Stop tasks on whichever worker they run, if they are not being stopped here.

    A second stop would hit Open WebUI while it saves an answer.
    """
    from open_webui.tasks import stop_task, tasks

    for task_id in task_ids:
        task = tasks.get(task_id)
        if task is not None and (task.done() or task.cancelling()):
            continue
        await stop_task(request.app.state.redis, task_id)


# --- shared/host/own_chats.py ---

ORCHESTRATED = "orchestrated"


@dataclass(frozen=True, slots=True)
class ListedChat:
    """A chat in a list; `updated_at` is in seconds since 1970."""

    id: str
    title: str
    updated_at: int
    orchestrated: bool


async def own_chat(person: Any, chat_id: str) -> Any:
    """The stored chat, or None where this user has no such chat."""
    from open_webui.models.chats import Chats

    chat = await Chats.get_chat_by_id_and_user_id(chat_id, person.id)
    return None if chat is None or (chat.meta or {}).get("internal") else chat


async def find_own_chats(person: Any, title: str, limit: int) -> list[ListedChat]:
    """Chats whose title contains these words, in any case; the latest first."""
    from open_webui.internal.db import get_async_db
    from open_webui.models.chats import Chat
    from sqlalchemy import select

    query = (
        select(Chat.id, Chat.title, Chat.updated_at, Chat.meta)
        .where(
            Chat.user_id == person.id,
            Chat.meta["internal"].as_boolean().is_not(True),
            Chat.title.icontains(title, autoescape=True),
        )
        .order_by(Chat.updated_at.desc(), Chat.id)
        .limit(limit)
    )
    async with get_async_db() as session:
        rows = (await session.execute(query)).all()
    return [
        ListedChat(row[0], str(row[1]), int(row[2]), ORCHESTRATED in (row[3] or {}))
        for row in rows
    ]


async def keep_chat_tag(person: Any, tag: str) -> None:
    """Let the user's list of chat tags hold this one, so that it can be searched for."""
    from open_webui.models.tags import Tags

    await Tags.ensure_tags_exist([tag], person.id)


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


async def public_address(base_url: str) -> str:
    """Where users reach Open WebUI; `base_url` where an admin has not said it."""
    from open_webui.models.config import Config

    return str(await Config.get("webui.url") or base_url).rstrip("/")


# --- shared/host/chat_fields.py ---

# Whom a chat is shared with does not see these (routers/chats.py).
OWNERS_FIELDS = ("params", "tool_servers", "tool_ids", "filter_ids", "variables")


def chat_seen_by(person: Any, chat: Any) -> dict[str, Any]:
    """The JSON of a stored chat, without what is its owner's alone."""
    hidden = () if chat.user_id == person.id else OWNERS_FIELDS
    return {key: value for key, value in chat.chat.items() if key not in hidden}


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


# --- shared/orchestration/orchestrator_texts.py ---

ORCHESTRATOR_TEXTS: dict[str, dict[str, str]] = {
    "asked_line": {
        "en": "({asker} asks, in {link}. This chat is “{title}”.)",
        "de": "({asker} fragt, in {link}. Dieser Chat heißt „{title}“.)",
        "es": "({asker} pregunta, en {link}. Este chat es «{title}».)",
        "fr": "({asker} demande, dans {link}. Cette conversation est « {title} ».)",
        "zh": "（{asker} 在 {link} 中提问。此对话是“{title}”。）",
    },
    "unsaved_chat": {
        "en": "a chat that is not saved",
        "de": "einem Chat, der nicht gespeichert ist",
        "es": "un chat que no está guardado",
        "fr": "une conversation non enregistrée",
        "zh": "未保存的对话",
    },
    "waiting_for_place": {
        "en": "{number} chats are running; {model} is next",
        "de": "{number} Chats laufen; {model} kommt danach",
        "es": "Hay {number} chats en curso; {model} es el siguiente",
        "fr": "{number} conversations en cours ; {model} est la suivante",
        "zh": "{number} 个对话正在进行，接下来是 {model}",
    },
    "asking": {
        "en": "Asking {model}",
        "de": "{model} wird gefragt",
        "es": "Preguntando a {model}",
        "fr": "{model} est consulté",
        "zh": "正在询问 {model}",
    },
    "started": {
        "en": "{model} answers in a chat of its own",
        "de": "{model} antwortet in einem eigenen Chat",
        "es": "{model} responde en su propio chat",
        "fr": "{model} répond dans sa propre conversation",
        "zh": "{model} 正在单独的对话中回答",
    },
    "answered": {
        "en": "{model} has answered",
        "de": "{model} hat geantwortet",
        "es": "{model} ha respondido",
        "fr": "{model} a répondu",
        "zh": "{model} 已回答",
    },
    "not_answered": {
        "en": "{model} gave no answer",
        "de": "{model} gab keine Antwort",
        "es": "{model} no dio respuesta",
        "fr": "{model} n'a pas répondu",
        "zh": "{model} 没有回答",
    },
    "stopped": {
        "en": "Stopped, with everything that was asked",
        "de": "Angehalten, mit allem, was gefragt wurde",
        "es": "Detenido, con todo lo que se preguntó",
        "fr": "Arrêté, avec tout ce qui a été demandé",
        "zh": "已停止，包括所有提问",
    },
    "collecting": {
        "en": "{number} of {total} chats have an answer",
        "de": "{number} von {total} Chats haben eine Antwort",
        "es": "{number} de {total} chats tienen respuesta",
        "fr": "{number} conversations sur {total} ont une réponse",
        "zh": "{total} 个对话中已有 {number} 个得到回答",
    },
    "talking": {
        "en": "{models} are talking",
        "de": "{models} reden miteinander",
        "es": "{models} están conversando",
        "fr": "{models} dialoguent",
        "zh": "{models} 正在对话",
    },
    "talked": {
        "en": "{models} have talked",
        "de": "{models} haben geredet",
        "es": "{models} han conversado",
        "fr": "{models} ont dialogué",
        "zh": "{models} 的对话已结束",
    },
    "tag_title": {
        "en": "Change a model's tags?",
        "de": "Tags eines Modells ändern?",
        "es": "¿Cambiar las etiquetas de un modelo?",
        "fr": "Changer les étiquettes d'un modèle ?",
        "zh": "更改模型的标签？",
    },
    "tag_add": {
        "en": "{asker} wants to add the tag `{tag}` to **{model}**.",
        "de": "{asker} möchte **{model}** den Tag `{tag}` geben.",
        "es": "{asker} quiere añadir la etiqueta `{tag}` a **{model}**.",
        "fr": "{asker} veut ajouter l'étiquette `{tag}` à **{model}**.",
        "zh": "{asker} 想给 **{model}** 添加标签 `{tag}`。",
    },
    "tag_remove": {
        "en": "{asker} wants to remove the tag `{tag}` from **{model}**.",
        "de": "{asker} möchte **{model}** den Tag `{tag}` nehmen.",
        "es": "{asker} quiere quitar la etiqueta `{tag}` de **{model}**.",
        "fr": "{asker} veut retirer l'étiquette `{tag}` de **{model}**.",
        "zh": "{asker} 想移除 **{model}** 的标签 `{tag}`。",
    },
    "graph_title": {
        "en": "Who works with whom",
        "de": "Wer mit wem arbeitet",
        "es": "Quién trabaja con quién",
        "fr": "Qui travaille avec qui",
        "zh": "模型之间的关系",
    },
    "graph_unknown": {
        "en": "no model of this name",
        "de": "kein Modell dieses Namens",
        "es": "ningún modelo con este nombre",
        "fr": "aucun modèle de ce nom",
        "zh": "没有此名称的模型",
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


# --- shared/orchestration/caller.py ---


@dataclass(frozen=True, slots=True)
class OrchestratorLimits:
    """What an admin has set; counts are for one answer to a person's message."""

    max_depth: int = 2
    max_chats: int = 12
    max_turns: int = 40
    max_parallel: int = 4
    max_seconds: int = 900
    max_tokens: int = 200_000
    max_chars: int = 8_000


@dataclass(frozen=True, slots=True)
class Caller:
    """One call of a tool, as Open WebUI tells of it.

    `person` is the user as the database has them now; `run_tool` looks them up.
    """

    request: Any
    metadata: Mapping[str, Any]
    model: Mapping[str, Any]
    limits: OrchestratorLimits
    emit: Emit | None = None
    event_call: EventCall | None = None
    person: Any = None

    @property
    def chat_id(self) -> str:
        return str(self.metadata.get("chat_id") or "")

    @property
    def message_id(self) -> str:
        """The answer that is being written."""
        return str(self.metadata.get("message_id") or "")

    @property
    def session_id(self) -> str:
        """The socket of the user's tab; empty where there is none."""
        return str(self.metadata.get("session_id") or "")

    @property
    def model_id(self) -> str:
        return str(self.model.get("id") or "")

    @property
    def language(self) -> str:
        variables = self.metadata.get("variables") or {}
        return str(variables.get("{{USER_LANGUAGE}}") or "en")

    def text(self, code: str, **fields: Any) -> str:
        """A sentence for the user, in their language."""
        return translate(ORCHESTRATOR_TEXTS, code, self.language, fields)

    async def models(self) -> dict[str, UsableModel]:
        """The models that the user may use, by id."""
        return await usable_models(self.request, self.person)

    async def status(self, code: str, done: bool, **fields: Any) -> None:
        """The line above the answer that tells what is going on."""
        if self.emit is not None:
            data = {"description": self.text(code, **fields), "done": done}
            await unbroken(self.emit({"type": "status", "data": data}))


# --- shared/orchestration/guard.py ---


async def require_own_chat(caller: Caller) -> None:
    """AqueductError unless the caller answers in a stored chat of its user's own.

    Elsewhere others would read what stands in the user's chats, what is not to be
    stored would be, and the limits of a request, which lie there, would not hold.
    """
    if await own_chat(caller.person, caller.chat_id) is None:
        raise AqueductError("not_own_chat")


async def present_errand(caller: Caller) -> Errand:
    """For whom the caller is answering: depth 0 where that is a person."""
    await require_own_chat(caller)
    asked = await asked_for(caller.chat_id, caller.message_id)
    errand, limit = asked.errand, caller.limits.max_seconds
    # An answer that began when the errand's time was over is a person's: the question
    # of a model, which they let answer anew.
    if errand is None or asked.answered_at - errand.started > limit:
        root, started = asked.answer_id, asked.answered_at
        if asked.begun - started > limit:
            # Woken when the time of what a person asked was over: a request of its own.
            root, started = caller.message_id, asked.begun
        errand = Errand(root or uuid4().hex, started or int(time.time()), 0, (), (), "")
    models = dict.fromkeys([*errand.models, caller.model_id])
    return replace(errand, models=tuple(models))


def next_errand(caller: Caller, present: Errand, model_ids: Collection[str]) -> Errand:
    """The errand of models that the caller asks; AqueductError where it may not."""
    if set(model_ids) & set(present.models):
        raise AqueductError("own_model")
    limit = caller.limits.max_depth
    if present.depth >= limit:
        raise AqueductError("too_deep", limit=limit)
    return replace(
        present,
        depth=present.depth + 1,
        models=(*present.models, *model_ids),
        chats=waiting_chats(caller, present),
        message_id=caller.message_id,
    )


def waiting_chats(caller: Caller, present: Errand) -> tuple[str, ...]:
    """The chats in which somebody waits for what the caller does now, its own last."""
    return (*present.chats, caller.chat_id)


def seconds_left(caller: Caller, errand: Errand) -> float:
    """What is left of the request's time; below zero when it is over."""
    return errand.started + caller.limits.max_seconds - time.time()


# --- shared/orchestration/admission.py ---

POLL_SECONDS = 0.5

# By chat: the root and the message that asked for a talk, and how many turns it has.
PromisedTurns = dict[str, tuple[str, str, int]]


@asynccontextmanager
async def admission(
    caller: Caller, errand: Errand, name: str, *, turns: int, new_chat: bool
) -> AsyncIterator[None]:
    """Begin the first of these turns within; it waits while too many chats run.

    AqueductError where a limit of the request is reached.
    """
    locks: WeakValueDictionary[str, asyncio.Lock] = shared_resource(
        "errand_locks", WeakValueDictionary
    )
    lock = locks.setdefault(errand.root, asyncio.Lock())
    told = False
    while True:
        async with lock:
            running = await running_chats(caller, errand, turns, new_chat)
            if running < caller.limits.max_parallel:
                yield
                return
        if not told:
            told = True
            await caller.status("waiting_for_place", False, number=running, model=name)
        await asyncio.sleep(POLL_SECONDS)


async def running_chats(
    caller: Caller, errand: Errand, turns: int, new_chat: bool
) -> int:
    """How many chats run for who asks; AqueductError where a limit is reached."""
    if seconds_left(caller, errand) <= 0:
        raise AqueductError("time_over")
    before = await unbroken(errand_turns(caller.request, caller.person.id, errand))
    talks = {
        chat_id: (asked_by, count)
        for chat_id, (root, asked_by, count) in promised_turns().items()
        if root == errand.root
    }
    promised = {chat_id: count for chat_id, (_, count) in talks.items()}
    check_limits(caller, before, promised, turns, new_chat)
    asked = [(turn.chat_id, turn.asked_by) for turn in before if turn.task_id]
    asked += [(chat_id, asked_by) for chat_id, (asked_by, _) in talks.items()]
    return len({chat_id for chat_id, asker in asked if asker == errand.message_id})


def check_limits(
    caller: Caller,
    before: Sequence[ErrandTurn],
    promised: dict[str, int],
    turns: int,
    new_chat: bool,
) -> None:
    """AqueductError where these turns would go beyond what one request may cost.

    `promised` are all turns of the talks that are held, by chat.
    """
    limits = caller.limits
    # The union of two counters keeps the larger count of each.
    taken = Counter(turn.chat_id for turn in before) | Counter(promised)
    if new_chat and len(taken) >= limits.max_chats:
        raise AqueductError("too_many_chats", limit=limits.max_chats)
    if taken.total() + turns > limits.max_turns:
        raise AqueductError("too_many_turns", limit=limits.max_turns)
    if used_up(caller, before):
        raise AqueductError("too_many_tokens", limit=limits.max_tokens)


async def has_tokens(caller: Caller, errand: Errand) -> bool:
    """Whether the request has tokens left."""
    turns = await errand_turns(caller.request, caller.person.id, errand)
    return not used_up(caller, turns)


def used_up(caller: Caller, turns: Sequence[ErrandTurn]) -> bool:
    return sum(turn.tokens for turn in turns) >= caller.limits.max_tokens


def promised_turns() -> PromisedTurns:
    """Turns of talks that are going on in this process."""
    promised: PromisedTurns = shared_resource("promised_turns", dict)
    return promised


@contextmanager
def promise(errand: Errand, chat_id: str, turns: int) -> Iterator[None]:
    """Count a talk's turns from its beginning, although they come one by one."""
    promised_turns()[chat_id] = (errand.root, errand.message_id, turns)
    try:
        yield
    finally:
        promised_turns().pop(chat_id, None)


# --- shared/json_text.py ---


def dump_json(value: Any) -> bytes:
    """JSON as UTF-8; raises TypeError for what JSON cannot hold.

    Half a character (a lone surrogate, as in undecodable file names) becomes a
    question mark, since it would end a whole turn otherwise.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


# --- shared/orchestration/tool_results.py ---

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


# --- shared/orchestration/tree.py ---

Messages = Mapping[str, Mapping[str, Any]]


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


# --- shared/orchestration/answers_told.py ---

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


async def delete_chat(chat_id: str, person: Any) -> None:
    """Take back a chat that came to nothing."""
    from open_webui.models.chats import Chats

    await Chats.delete_chat_by_id(chat_id)
    await emit_to_user(person.id, chat_id, {"type": "chat:list"})


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


def form_schema(
    fields: Mapping[str, FormField], required: tuple[str, ...]
) -> dict[str, Any]:
    return {"type": "object", "properties": dict(fields), "required": list(required)}


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


# --- shared/orchestration/buttons.py ---


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


def join_parts(*parts: str) -> str:
    """The paragraphs that are not empty."""
    return "\n\n".join(part for part in parts if part)


# --- shared/orchestration/tags.py ---

CAPABILITY_PREFIX = "cap:"
RELATION_PREFIX = "rel:"
# One word, or several joined by hyphens, in any script.
TAG_WORD = re.compile(r"[^\W_]+(-[^\W_]+)*")
TAG_WORD_LIMIT = 40
TAXONOMY_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Relation:
    """`relation` of a model to `target`, which is an id or a name as it was written."""

    relation: str
    target: str


def same_tags(tags: Iterable[str], tag: str) -> list[str]:
    """Those of the tags that are this one, in whatever case they are written."""
    wanted = tag.strip().casefold()
    return [each for each in tags if each.strip().casefold() == wanted]


def capability_in(tag: str) -> str | None:
    """The capability that a tag names, or None."""
    if not tag.casefold().startswith(CAPABILITY_PREFIX):
        return None
    return tag[len(CAPABILITY_PREFIX) :].strip() or None


def relation_in(tag: str, prefix: str = RELATION_PREFIX) -> Relation | None:
    """The relation that a tag names, or None; a target may contain colons."""
    if not tag.casefold().startswith(prefix.casefold()):
        return None
    relation, colon, target = tag[len(prefix) :].partition(":")
    if not colon or not relation.strip() or not target.strip():
        return None
    return Relation(relation.strip(), target.strip())


def capabilities_of(model: UsableModel) -> list[str]:
    return [name for tag in model.tags if (name := capability_in(tag))]


def carries_tag(model: UsableModel, tag: str) -> bool:
    """Whether a model has this tag, or the capability of this name, in any case."""
    wanted = tag.strip().casefold()
    own = {each.casefold() for each in model.tags}
    return bool(wanted) and (wanted in own or CAPABILITY_PREFIX + wanted in own)


def tag_word(text: str) -> str:
    """A capability or relation as it is written in a tag; else AqueductError."""
    word = re.sub(r"[\s_]+", "-", text.strip().casefold())
    if len(word) > TAG_WORD_LIMIT or not TAG_WORD.fullmatch(word):
        raise AqueductError("bad_tag", limit=TAG_WORD_LIMIT)
    return word


def taxonomy(models: Iterable[UsableModel]) -> dict[str, Any]:
    """How often each capability, relation and other tag occurs, most frequent first."""
    counted: dict[str, Counter[str]] = {
        "capabilities": Counter(),
        "relations": Counter(),
        "other_tags": Counter(),
    }
    untagged = total = 0
    for model in models:
        total += 1
        untagged += not model.tags
        for tag in model.tags:
            if capability := capability_in(tag):
                counted["capabilities"][capability] += 1
            elif relation := relation_in(tag):
                counted["relations"][relation.relation] += 1
            else:
                counted["other_tags"][tag] += 1
    most = {kind: in_order(found) for kind, found in counted.items()}
    return {"models": total, "untagged": untagged, **most}


def in_order(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent ones first, those that are alike by name."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0].casefold()))
    return dict(ordered[:TAXONOMY_LIMIT])


# --- shared/orchestration/models_found.py ---

CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class FoundModels:
    """`how` they match: exact, prefix, part or similar; the best kind there is."""

    how: str
    models: Sequence[UsableModel]


def offered_to_models(models: Mapping[str, UsableModel]) -> dict[str, UsableModel]:
    """The models without those that are hidden from lists."""
    return {key: model for key, model in models.items() if not model.meta.get("hidden")}


def find_models(models: Mapping[str, UsableModel], name: str) -> FoundModels:
    """The models that a name may mean, by id or name; a hidden one by its id only.

    Among a thousand models what is similar takes tens of milliseconds: call it, and
    `named_model`, in a thread.
    """
    wanted = name.strip().casefold()
    if name.strip() in models:
        return FoundModels("exact", [models[name.strip()]])
    offered = sorted(offered_to_models(models).values(), key=model_words)
    words = {model.id: model_words(model) for model in offered}
    tests = {
        "exact": lambda word: word == wanted,
        "prefix": lambda word: word.startswith(wanted),
        "part": lambda word: wanted in word,
    }
    for how, test in tests.items() if wanted else ():
        found = [model for model in offered if any(map(test, words[model.id]))]
        if found:
            return FoundModels(how, found)
    owners = {word: model for model in offered for word in words[model.id]}
    close = get_close_matches(wanted, owners, n=CANDIDATES, cutoff=0.6)
    similar = {owners[word].id: owners[word] for word in close}
    return FoundModels("similar", list(similar.values()))


def named_model(models: Mapping[str, UsableModel], name: str) -> UsableModel:
    """The one model that a name means; AqueductError with the candidates if none.

    What is merely similar is not taken for it: a message would go to the wrong model.
    """
    found = find_models(models, name)
    if len(found.models) == 1 and found.how != "similar":
        return found.models[0]
    candidates = [model.id for model in found.models[:CANDIDATES]]
    code = "unclear_model" if candidates else "no_such_model"
    raise AqueductError(code, model=name, candidates=", ".join(candidates))


def carriers_of(models: Iterable[UsableModel], tag: str) -> list[UsableModel]:
    """The models with this tag or capability, by name."""
    return sorted(
        (model for model in models if carries_tag(model, tag)), key=model_words
    )


def best_carrier(
    carriers: Sequence[UsableModel], caller: UsableModel | None
) -> UsableModel:
    """The best of several models that carry the same tag.

    First those to which the asking model has a relation; then the one with the fewest
    capabilities, since who can do one thing is there for it; then by name.
    """
    related = {
        relation.target.casefold()
        for tag in (caller.tags if caller else ())
        if (relation := relation_in(tag))
    }
    return min(
        carriers,
        key=lambda model: (
            related.isdisjoint(model_words(model)),
            len(capabilities_of(model)),
            model_words(model),
        ),
    )


def model_words(model: UsableModel) -> tuple[str, str]:
    """Name and id, for comparing and for sorting."""
    return (model.name.casefold(), model.id.casefold())


# --- shared/orchestration/new_chat.py ---


def chat_link(title: str, chat_id: str) -> str:
    """A link to a chat in Markdown, whatever the title holds."""
    plain = "".join(f"\\{char}" if char in "[]\\*_`<>" else char for char in title)
    return f"[{plain}](/c/{chat_id})"


# --- shared/orchestration/conversations.py ---

TITLE_LIMIT = 80


@dataclass(frozen=True, slots=True)
class ModelQuestion:
    """What the caller wants to say, and to whom, as its tool call puts it."""

    message: str
    model: str | None = None
    tag: str | None = None
    chat_id: str | None = None
    title: str | None = None
    background: bool = False


@dataclass(frozen=True, slots=True)
class ChatPlace:
    """The chat in which something is asked; `tip` is the message it goes below."""

    chat_id: str
    title: str
    tip: str | None
    is_new: bool


async def ask_model(caller: Caller, question: ModelQuestion) -> dict[str, Any]:
    """One turn with another model: its answer, or at once the chat to collect it from."""
    if not question.message.strip():
        raise AqueductError("empty_message")
    chat, target, errand = await unbroken(prepare_question(caller, question))
    is_new = chat is None
    async with admission(caller, errand, target.name, turns=1, new_chat=is_new):
        place, started = await begin_question(caller, errand, chat, [target], question)
    if question.background:
        return await leave_to_answer(caller, errand, place, target, started)
    return await await_answer(caller, errand, place, target, started)


async def prepare_question(
    caller: Caller, question: ModelQuestion
) -> tuple[Any, UsableModel, Errand]:
    """The chat to go on in, if any, the model to ask, and its errand."""
    present = await present_errand(caller)
    if question.chat_id in waiting_chats(caller, present):
        raise AqueductError("own_chat")
    chat = await chat_to_go_on(caller, question.chat_id)
    target = await choose_model(caller, present, question, chat)
    return chat, target, next_errand(caller, present, [target.id])


async def chat_to_go_on(caller: Caller, chat_id: str | None) -> Any:
    """The user's own chat of this id, None without one; else AqueductError."""
    if not chat_id:
        return None
    chat = await own_chat(caller.person, chat_id)
    if chat is None:
        raise AqueductError("no_such_chat")
    return chat


async def choose_model(
    caller: Caller, present: Errand, question: ModelQuestion, chat: Any
) -> UsableModel:
    """The model that is meant: by its name, by a tag, or the one of the chat."""
    models = await caller.models()
    if question.model and not question.tag:
        return await asyncio.to_thread(named_model, models, question.model)
    if question.tag and not question.model:
        offered = offered_to_models(models).values()
        askable = [model for model in offered if model.id not in present.models]
        carriers = carriers_of(askable, question.tag)
        if not carriers:
            raise AqueductError("no_carrier", tag=question.tag)
        return best_carrier(carriers, models.get(caller.model_id))
    if chat is None or question.model:
        raise AqueductError("model_or_tag")
    return model_of_chat(models, chat)


def model_of_chat(models: Mapping[str, UsableModel], chat: Any) -> UsableModel:
    """The model that answered last; AqueductError where it is gone.

    By its exact id: the one whose id or name is merely like it was never asked here.
    """
    answered = chat_messages(chat).get(tip_of(chat) or "") or {}
    last = answered.get("model") or next(iter(chat.chat.get("models") or []), "")
    if last not in models:
        raise AqueductError("model_of_chat_gone", model=str(last))
    return models[last]


def tip_of(chat: Any) -> str | None:
    """The message with which the branch that the user sees ends."""
    current_id: str | None = (chat.chat.get("history") or {}).get("currentId")
    return current_id


async def begin_question(
    caller: Caller,
    errand: Errand,
    chat: Any,
    models: Sequence[UsableModel],
    question: ModelQuestion,
) -> tuple[ChatPlace, StartedTurn]:
    """Ask the first of the models, in `chat` or in a new one for all of them.

    Stop does not come in between, which would leave half a chat; what has begun by
    then is stopped. From then on Stop of who asks ends all below, for which a task is
    left behind: the one that is asked may be done while those it has asked are not.
    """
    asking = answering_task(caller.metadata)

    async def begin() -> tuple[ChatPlace, StartedTurn]:
        place = await open_place(caller, errand, chat, models, question)
        words = question.message
        started = await start_question(caller, errand, place, models[0], words)
        await run_as_task(caller.request, stop_below(caller, errand, asking))
        return place, started

    beginning = asyncio.ensure_future(begin())
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        await asyncio.wait({beginning})
        if beginning.exception() is None:
            _, started = beginning.result()
            await unbroken(stop_tasks(caller.request, started.task_ids))
        raise


async def open_place(
    caller: Caller,
    errand: Errand,
    chat: Any,
    models: Sequence[UsableModel],
    question: ModelQuestion,
) -> ChatPlace:
    """The chat to ask in: a new one, tagged and linked to the caller's, or `chat`."""
    if chat is not None:
        # Read anew: somebody may have gone on in it while this had to wait.
        chat = await chat_to_go_on(caller, chat.id)
        return ChatPlace(chat.id, str(chat.title), tip_of(chat), is_new=False)
    names = ", ".join(model.name for model in models)
    title = one_line(question.title or "") or one_line(f"{names}: {question.message}")
    link = {
        "parent_chat_id": errand.chats[-1],
        "parent_message_id": errand.message_id,
    }
    chat_id = await create_chat(
        caller.request,
        caller.person,
        title,
        [model.id for model in models],
        [],
        meta={"tags": [ORCHESTRATED], ORCHESTRATED: link},
    )
    await keep_chat_tag(caller.person, ORCHESTRATED)
    return ChatPlace(chat_id, title, None, is_new=True)


def one_line(text: str) -> str:
    return clipped(" ".join(text.split()), TITLE_LIMIT)


async def start_question(
    caller: Caller, errand: Errand, place: ChatPlace, target: UsableModel, words: str
) -> StartedTurn:
    """Ask, and return once the model is at work; a new chat goes if it cannot be."""
    line = await asked_line(caller, place)
    message = new_user_message(place.tip, join_parts(line, words.strip()), target.id)
    turn = NewTurn(
        chat_id=place.chat_id,
        user_message=message | {"meta": errand.as_meta(place.chat_id)},
        answerers=[Answerer(target.id)],
        session_id=session_for(caller, place.chat_id),
        language=caller.language,
        # Proposed questions are for people.
        extra={"background_tasks": {}},
    )
    try:
        return await start_turn(caller.request, caller.person, turn)
    except BaseException:
        if place.is_new:
            await delete_chat(place.chat_id, caller.person)
        raise


async def asked_line(caller: Caller, place: ChatPlace) -> str:
    """The line above a question: who asks, from where, and which chat this is."""
    models = await caller.models()
    asker = models.get(caller.model_id)
    parent = await own_chat(caller.person, caller.chat_id)
    return caller.text(
        "asked_line",
        asker=asker.name if asker else caller.model_id,
        link=(
            chat_link(str(parent.title), parent.id)
            if parent
            else caller.text("unsaved_chat")
        ),
        title=place.title,
    )


def session_for(caller: Caller, chat_id: str) -> str:
    """The user's tab, for dialogs of tools; without one, a name that nobody has."""
    return caller.session_id or f"aqueduct:{chat_id}"


async def await_answer(
    caller: Caller,
    errand: Errand,
    place: ChatPlace,
    target: UsableModel,
    started: StartedTurn,
) -> dict[str, Any]:
    """The answer, once it is there. Whoever stops the caller stops the model too."""
    late: Mapping[str, Any] = {}
    try:
        await caller.status("asking", False, model=target.name)
        await wait_for_turn(caller.request, started, seconds_left(caller, errand))
    except asyncio.CancelledError:
        await unbroken(stop_tasks(caller.request, started.task_ids))
        await caller.status("stopped", True)
        raise
    except AqueductError as error:
        # Its time is over: `wait_for_turn` has stopped it.
        late = json_error(error.code, error.fields)
    look = chat_answer(caller, place.chat_id, started.message_ids[0])
    answer = await unbroken(look)
    code = "answered" if answer.status == "answered" else "not_answered"
    await caller.status(code, True, model=target.name)
    await cite_answer(caller, place.title, answer)
    return {**answer.as_json(caller, place.title, target.id), **late}


async def leave_to_answer(
    caller: Caller,
    errand: Errand,
    place: ChatPlace,
    target: UsableModel,
    started: StartedTurn,
) -> dict[str, Any]:
    """Let the model answer in the background."""
    ending = end_in_time(caller.request, started, seconds_left(caller, errand))
    await run_as_task(caller.request, ending)
    await caller.status("started", True, model=target.name)
    return {
        "chat_id": place.chat_id,
        "title": place.title,
        "link": f"/c/{place.chat_id}",
        "model": target.id,
        "status": "running",
        "next": "Call collect with this chat_id for the answer.",
    }


async def end_in_time(request: Any, started: StartedTurn, seconds: float) -> None:
    """End a turn in the background when its time is over."""
    # `wait_for_turn` stops it then.
    with contextlib.suppress(AqueductError):
        await wait_for_turn(request, started, seconds)


async def stop_below(caller: Caller, errand: Errand, asking: asyncio.Task[Any]) -> None:
    """When who asks is stopped, stop everything that was begun below, at any depth."""
    await asyncio.wait({asking}, timeout=max(seconds_left(caller, errand), 0))
    if not asking.cancelled():
        return
    turns = await errand_turns(caller.request, caller.person.id, errand)
    below = [turn for turn in turns if caller.chat_id in turn.chats]
    running = [turn.task_id for turn in below if turn.task_id]
    await stop_everywhere(caller.request, running)


# --- shared/orchestration/chats_told.py ---

FOUND_CHATS = 20
MOST_MESSAGES = 50


async def told_chats(caller: Caller, title: str) -> dict[str, Any]:
    """The user's chats with these words in their title, the latest first."""
    await require_own_chat(caller)
    found = await find_own_chats(caller.person, title.strip(), FOUND_CHATS + 1)
    told: dict[str, Any] = {
        "chats": [
            {
                "chat_id": chat.id,
                "title": chat.title,
                "updated": datetime.fromtimestamp(chat.updated_at, UTC).isoformat(),
                **({"orchestrated": True} if chat.orchestrated else {}),
            }
            for chat in found[:FOUND_CHATS]
        ]
    }
    if len(found) > FOUND_CHATS:
        told["more"] = "There are more; use more of the title."
    return told


async def told_messages(caller: Caller, chat_id: str, last: int) -> dict[str, Any]:
    """The last messages of a chat, on the branch that the user sees."""
    await require_own_chat(caller)
    chat = await own_chat(caller.person, chat_id)
    if chat is None:
        raise AqueductError("no_such_chat")
    branch = branch_to(chat_messages(chat), tip_of(chat) or "")
    shown = branch[-min(max(last, 1), MOST_MESSAGES) :]
    limit = caller.limits.max_chars // max(len(shown), 1)
    return {
        "chat_id": chat.id,
        "title": str(chat.title),
        "link": f"/c/{chat.id}",
        "total": len(branch),
        "messages": [
            {
                "role": message.get("role"),
                **({"model": message["model"]} if message.get("model") else {}),
                "text": clipped(stored_text(message), limit),
            }
            for message in shown
        ],
    }


# --- shared/orchestration/given.py ---


def given_texts(value: Any) -> list[str]:
    """A list of texts, also where it came as JSON, or as `a, b`."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = value.split(",")
    listed = value if isinstance(value, list) else [value]
    return [text for each in listed if each and (text := str(each).strip())]


def given_flag(value: Any) -> bool:
    """Yes or no, also where it came as a word."""
    if isinstance(value, str):
        return value.strip().casefold() in ("true", "yes", "1")
    return bool(value)


def given_count(value: Any, default: int) -> int:
    """A whole number; the default for what is none."""
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return default


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

# Why a turn cannot start when somebody was a moment faster.
INTERRUPTED_CODES = ("answer_running", "message_gone", "chat_gone")
# Companion of the buttons, `filters/talk_roles.py`.
ROLES_FILTER = "talk_roles"

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


# --- shared/orchestration/group_talk.py ---

LEAST_SPEAKERS = 2


@dataclass(frozen=True, slots=True)
class GroupTalk(Talk):
    """A talk of two or more, in turn; `speakers` are ids, the first one has spoken."""

    speakers: tuple[str, ...] = ()

    def pair(self, number: int) -> tuple[str, str]:
        count = len(self.speakers)
        return self.speakers[number % count], self.speakers[(number - 1) % count]

    def pair_names(self) -> dict[str, str]:
        return {each: self.name(each) for each in self.speakers}


@dataclass(frozen=True, slots=True)
class ErrandDesk(Desk):
    """A desk whose turns carry for whom they are started, within that one's limits."""

    caller: Caller
    errand: Errand

    def turn(
        self,
        user_message: Mapping[str, Any],
        answerers: Sequence[Answerer],
        **more: Any,
    ) -> NewTurn:
        meta = self.errand.as_meta(self.press.chat_id)
        # Not super(): a dataclass with slots is another class than the one here.
        return Desk.turn(self, {**user_message, "meta": meta}, answerers, **more)

    async def may_go_on(self) -> bool:
        return await has_tokens(self.caller, self.errand)


async def hold_group_talk(
    caller: Caller, names: Sequence[str], topic: str, turns: int
) -> dict[str, Any]:
    """What the models said to each other about a topic, in one chat of their own.

    The first model opens; `turns` answers follow. Stop ends it, here and there.
    """
    if not topic.strip():
        raise AqueductError("empty_message")
    speakers, errand = await unbroken(prepare_talk(caller, names))
    told = ", ".join(model.name for model in speakers)
    turns = max(turns, 1)
    question = ModelQuestion(message=topic)
    with ExitStack() as ending:
        count = turns + 1
        async with admission(caller, errand, told, turns=count, new_chat=True):
            place, started = await begin_question(
                caller, errand, None, speakers, question
            )
            ending.enter_context(promise(errand, place.chat_id, count))
        opening = await await_answer(caller, errand, place, speakers[0], started)
        if opening["status"] != "answered":
            return opening
        await caller.status("talking", False, models=told)
        await run_talk(caller, errand, place, started.message_ids[0], speakers, turns)
    await caller.status("talked", True, models=told)
    return await unbroken(talk_result(caller, place, speakers))


async def prepare_talk(
    caller: Caller, names: Sequence[str]
) -> tuple[list[UsableModel], Errand]:
    """The models that are to talk, and their common errand."""
    models = await caller.models()
    speakers = [await asyncio.to_thread(named_model, models, name) for name in names]
    ids = {model.id for model in speakers}
    if len(speakers) < LEAST_SPEAKERS or len(ids) < len(speakers):
        raise AqueductError("too_few_models")
    return speakers, next_errand(caller, await present_errand(caller), sorted(ids))


async def run_talk(
    caller: Caller,
    errand: Errand,
    place: ChatPlace,
    opening_id: str,
    speakers: Sequence[UsableModel],
    turns: int,
) -> None:
    """Let them talk, as a task of their chat: so its own Stop ends it as well."""
    ids = tuple(model.id for model in speakers)
    talk = GroupTalk(
        first=ids[0],
        second=ids[1],
        names={model.id: model.name for model in speakers},
        turns=turns,
        goal="",
        phrase="",
        speakers=ids,
    )
    desk = talk_desk(caller, errand, place, opening_id, ids[0])
    opening = await unbroken(chat_answer(caller, place.chat_id, opening_id))
    work = hold_talk(desk, talk, opening.text)
    series = run_series(caller.request, work, place.chat_id, TALK_KIND)
    starting = asyncio.ensure_future(series)
    try:
        task = await asyncio.shield(starting)
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task = await unbroken(starting)
        task.cancel()
        await unbroken(asyncio.wait({task}))
        await caller.status("stopped", True)
        raise
    if not task.cancelled() and (error := task.exception()):
        raise error


def talk_desk(
    caller: Caller, errand: Errand, place: ChatPlace, opening_id: str, first: str
) -> ErrandDesk:
    """What “Let them talk” has at hand, as if its button were pressed below the
    opening."""
    press = Press(
        button="talk",
        request=caller.request,
        user_id=caller.person.id,
        chat_id=place.chat_id,
        message_id=opening_id,
        session_id=session_for(caller, place.chat_id),
        model_id=first,
        messages=(),
        emit=silent_emit,
        event_call=no_dialog,
    )
    settings = ButtonSettings(max_seconds=max(1, int(seconds_left(caller, errand))))
    return ErrandDesk(press, settings, caller.person, caller.language, caller, errand)


async def silent_emit(event: dict[str, Any]) -> None:
    """Notices of buttons have no place here: what goes wrong is the tool's result."""


async def no_dialog(event: dict[str, Any]) -> Any:
    return {"error": "There is no form to fill in."}


async def talk_result(
    caller: Caller, place: ChatPlace, speakers: Sequence[UsableModel]
) -> dict[str, Any]:
    """What was said, clipped to the limit altogether, and how it ended."""
    chat = await own_chat(caller.person, place.chat_id)
    if chat is None:
        raise AqueductError("no_such_chat")
    messages = chat_messages(chat)
    said = [
        message
        for message in branch_to(messages, tip_of(chat) or "")
        if message.get("role") == "assistant"
    ]
    limit = caller.limits.max_chars // max(len(said), 1)
    statuses = (said[-1].get("statusHistory") or [{}]) if said else [{}]
    last = await chat_answer(caller, place.chat_id, str(tip_of(chat) or ""))
    await cite_answer(caller, place.title, last)
    return {
        "chat_id": place.chat_id,
        "title": place.title,
        "link": f"/c/{place.chat_id}",
        "models": [model.id for model in speakers],
        "ended": statuses[-1].get("description", ""),
        "said": [
            {"model": each.get("model"), "text": clipped(stored_text(each), limit)}
            for each in said
        ],
        "next": "Call chat_with_model with this chat_id to go on with one of them.",
    }


# --- shared/host/model_facts.py ---

AGENTS_PIPE_ID = "agents"
# As OpenRouter, Groq, vLLM and LM Studio name it in their lists of models.
CONTEXT_KEYS = (
    "context_length",
    "context_window",
    "max_model_len",
    "max_context_length",
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`context_size` is in tokens, None where the provider does not tell it."""

    context_size: int | None
    is_agent: bool
    base_model_id: str | None


def model_facts(request: Any, model_id: str) -> ModelFacts:
    """What is known of a model; of a workspace model, what is known of its base."""
    listed = request.app.state.MODELS
    model = listed.get(model_id) or {}
    base_id = (model.get("info") or {}).get("base_model_id")
    base = listed.get(base_id) if base_id else None
    return ModelFacts(
        context_size=told_context_size(model) or told_context_size(base or {}),
        is_agent=str(base_id or model_id).split(".")[0] == AGENTS_PIPE_ID
        and "pipe" in model,
        base_model_id=base_id,
    )


def told_context_size(model: Mapping[str, Any]) -> int | None:
    """The context size in a provider's own words about a model."""
    for place in (model, model.get("openai") or {}):
        for key in CONTEXT_KEYS:
            size = place.get(key)
            if isinstance(size, int) and size > 0:
                return size
    return None


# --- shared/orchestration/relations.py ---

GRAPH_NODES = 30
GRAPH_EDGES = 90


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A model; `known` is False for a name in a tag that is no model of this user's."""

    id: str
    name: str
    capabilities: tuple[str, ...] = ()
    known: bool = True


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """`source` and `target` are ids of nodes."""

    source: str
    relation: str
    target: str


@dataclass(frozen=True, slots=True)
class ModelGraph:
    """`cut` tells that there is more than is shown."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    cut: bool

    def as_json(self) -> dict[str, Any]:
        """For a model to read; an edge is [from, relation, to]."""
        return {
            "nodes": [node_json(node) for node in self.nodes],
            "edges": [[edge.source, edge.relation, edge.target] for edge in self.edges],
            **({"cut": True} if self.cut else {}),
        }


def node_json(node: GraphNode) -> dict[str, Any]:
    told: dict[str, Any] = {"id": node.id}
    if not node.known:
        return told | {"unknown": True}
    if node.name != node.id:
        told["name"] = node.name
    if node.capabilities:
        told["capabilities"] = list(node.capabilities)
    return told


def model_graph(models: Mapping[str, UsableModel], prefix: str) -> ModelGraph:
    """All models that have a capability or a relation, or that one points to.

    `prefix` is how tags of relations begin. A target that is none of `models` stays in
    the words of its tag: it is not told whether others have such a model.
    """
    by_name = names_to_ids(models)
    nodes: dict[str, GraphNode] = {}
    edges: dict[GraphEdge, None] = {}
    for model in models.values():
        relations = [found for tag in model.tags if (found := relation_in(tag, prefix))]
        if relations or capabilities_of(model):
            nodes[model.id] = model_node(model)
        for relation in relations:
            target_id = by_name.get(relation.target.casefold())
            if target_id is None:
                node = GraphNode(relation.target, relation.target, known=False)
            else:
                node = model_node(models[target_id])
            nodes.setdefault(node.id, node)
            edges[GraphEdge(model.id, relation.relation, node.id)] = None
    ends = Counter(end for edge in edges for end in (edge.source, edge.target))
    ordered = sorted(nodes, key=lambda node_id: -ends[node_id])
    shown = {node_id: nodes[node_id] for node_id in ordered[:GRAPH_NODES]}
    drawn = [edge for edge in edges if {edge.source, edge.target} <= shown.keys()]
    cut = len(shown) < len(nodes) or len(drawn) > GRAPH_EDGES
    return ModelGraph(tuple(shown.values()), tuple(drawn[:GRAPH_EDGES]), cut)


def model_node(model: UsableModel) -> GraphNode:
    return GraphNode(model.id, model.name, tuple(capabilities_of(model)))


def names_to_ids(models: Mapping[str, UsableModel]) -> dict[str, str]:
    """How a tag may name a model: by its id, or by a name that only one has."""
    names = [model.name.casefold() for model in models.values()]
    by_name = {
        model.name.casefold(): model.id
        for model in models.values()
        if names.count(model.name.casefold()) == 1
    }
    return by_name | {model_id.casefold(): model_id for model_id in models}


# --- shared/orchestration/relation_picture.py ---

LEAST_WIDTH = 720
LABEL_WIDTH = 220
MARGIN = 64
LEGEND_LINE = 22
DOT = 7
# How far an arrow ends before the middle of a node.
GAP = DOT + 5
# Of middle lightness, so that they stand out from white and from black.
EDGE_COLORS = ("#3f83f0", "#e07b39", "#2f9e63", "#a95fd6", "#d64f77", "#2a9fb0")

PICTURE_STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #26262b; --soft: #6b6b75; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #1c1c20; --ink: #ececf0; --soft: #a3a3ad; }
}
body { margin: 0; background: var(--ground); border-radius: 16px; }
svg { display: block; width: 100%; height: auto; font: 13px system-ui, sans-serif; }
.title { font-size: 15px; font-weight: 600; }
text { fill: var(--ink); }
.soft { fill: var(--soft); font-size: 11px; }
.dot { fill: var(--ink); }
.unknown { fill: var(--ground); stroke: var(--soft); stroke-dasharray: 3 2; }
"""
# Open WebUI sets the height of the frame when the page tells it.
HEIGHT_SCRIPT = """
const tell = () => parent.postMessage(
  { type: "iframe:height", height: document.documentElement.offsetHeight }, "*");
addEventListener("load", tell);
addEventListener("resize", tell);
"""


class Spot(NamedTuple):
    """A place in the picture, in its own units."""

    x: float
    y: float


class LineStyle(NamedTuple):
    """How arrows of a relation look: the number of their head, and `stroke`."""

    head: int
    stroke: str


def graph_page(graph: ModelGraph, title: str, unknown: str) -> str:
    """The page. `unknown` explains nodes that are no model."""
    relations = sorted({edge.relation for edge in graph.edges})
    styles = {relation: line_style(place) for place, relation in enumerate(relations)}
    radius = circle_radius(len(graph.nodes))
    width = max(LEAST_WIDTH, 2 * (radius + LABEL_WIDTH))
    middle = Spot(width / 2, MARGIN + radius + 24)
    spots = node_spots(graph.nodes, middle, radius)
    legend_top = max((spot.y for spot in spots.values()), default=0) + MARGIN
    height = legend_top + LEGEND_LINE * (len(relations) + 1)
    parts = [
        f'<text class="title" x="24" y="32">{escape(title)}</text>',
        *(arrow_head(place, color) for place, color in enumerate(EDGE_COLORS)),
        *(
            draw_edge(edge, spots, middle, styles[edge.relation])
            for edge in graph.edges
        ),
        *(draw_node(node, spots[node.id], middle, unknown) for node in graph.nodes),
        *(
            draw_legend(relation, styles[relation], legend_top + LEGEND_LINE * place)
            for place, relation in enumerate(relations)
        ),
    ]
    return (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{PICTURE_STYLE}</style></head><body>"
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img">{"".join(parts)}</svg>'
        f"<script>{HEIGHT_SCRIPT}</script></body></html>"
    )


def line_style(place: int) -> LineStyle:
    """The style of the relation at this place: a colour, and dashes after the last."""
    used, head = divmod(place, len(EDGE_COLORS))
    dashes = f' stroke-dasharray="{3 * used} 3"' if used else ""
    return LineStyle(head, f'stroke="{EDGE_COLORS[head]}"{dashes}')


def circle_radius(count: int) -> float:
    """Wide enough for two lines of text beside each of the nodes."""
    return max(90.0, count * 13.0)


def node_spots(
    nodes: tuple[GraphNode, ...], middle: Spot, radius: float
) -> dict[str, Spot]:
    """The nodes around the circle, the first one at the top."""
    turn = 2 * math.pi / max(len(nodes), 1)
    return {
        node.id: Spot(
            middle.x + radius * math.sin(turn * place),
            middle.y - radius * math.cos(turn * place),
        )
        for place, node in enumerate(nodes)
    }


def arrow_head(place: int, color: str) -> str:
    return (
        f'<marker id="head-{place}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{color}"/></marker>'
    )


def draw_edge(
    edge: GraphEdge, spots: dict[str, Spot], middle: Spot, style: LineStyle
) -> str:
    """An arrow, bent towards the middle, so that there and back are two."""
    start, end = spots[edge.source], spots[edge.target]
    side = Spot((start.y - end.y) * 0.12, (end.x - start.x) * 0.12)
    bend = Spot(
        (start.x + end.x) / 2 * 0.7 + middle.x * 0.3 + side.x,
        (start.y + end.y) / 2 * 0.7 + middle.y * 0.3 + side.y,
    )
    first, last = towards(start, bend), towards(end, bend)
    return (
        f'<path d="M{first.x:.1f} {first.y:.1f}Q{bend.x:.1f} {bend.y:.1f} '
        f'{last.x:.1f} {last.y:.1f}" fill="none" {style.stroke} stroke-width="1.8" '
        f'marker-end="url(#head-{style.head})"/>'
    )


def towards(start: Spot, end: Spot) -> Spot:
    """The place beside a node where an arrow begins or ends."""
    length = math.dist(start, end) or 1.0
    return Spot(
        start.x + (end.x - start.x) * GAP / length,
        start.y + (end.y - start.y) * GAP / length,
    )


def draw_node(node: GraphNode, spot: Spot, middle: Spot, unknown: str) -> str:
    """A dot with its name outside the circle and what it can do below."""
    aside = spot.x - middle.x
    anchor = "middle" if abs(aside) < 20 else "start" if aside > 0 else "end"
    shift = 0 if anchor == "middle" else math.copysign(DOT + 9, aside)
    above = anchor == "middle" and spot.y < middle.y
    drop = -32 if above else 26 if anchor == "middle" else 0
    x, y = spot.x + shift, spot.y + drop
    below = ", ".join(node.capabilities) if node.known else unknown
    return (
        f'<circle class="{"dot" if node.known else "dot unknown"}" cx="{spot.x:.1f}" '
        f'cy="{spot.y:.1f}" r="{DOT}"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{label(node.name)}</text>'
        f'<text class="soft" x="{x:.1f}" y="{y + 18:.1f}" text-anchor="{anchor}">'
        f"{label(below)}</text>"
    )


def label(text: str) -> str:
    return escape(text if len(text) <= 26 else text[:25] + "…")


def draw_legend(relation: str, style: LineStyle, top: float) -> str:
    return (
        f'<path d="M24 {top:.0f}h28" {style.stroke} stroke-width="3"/>'
        f'<text x="62" y="{top + 4:.0f}">{label(relation)}</text>'
    )


# --- shared/orchestration/models_told.py ---

PAGE_SIZE = 25
DESCRIPTION_LIMIT = 240


def describe_for_model(caller: Caller, model: UsableModel) -> dict[str, Any]:
    """A model in a few words; what is not known of it is left out."""
    facts = model_facts(caller.request, model.id)
    able = model.meta.get("capabilities") or {}
    told = {
        "id": model.id,
        "name": model.name,
        "description": clipped(model.description, DESCRIPTION_LIMIT),
        "tags": list(model.tags),
        "capabilities": [name for name, can in able.items() if can],
        "tools": list(model.meta.get("toolIds") or []),
        "context_size": facts.context_size,
        "agent": facts.is_agent,
        "you": model.id == caller.model_id,
    }
    return {key: value for key, value in told.items() if value or key in ("id", "name")}


async def told_models(
    caller: Caller, query: str | None, tag: str | None, page: int
) -> dict[str, Any]:
    """One page of the models that match, with their total."""
    words = (query or "").casefold().split()
    matching = sorted(
        (
            model
            for model in offered_to_models(await caller.models()).values()
            if (not tag or carries_tag(model, tag)) and has_words(model, words)
        ),
        key=model_words,
    )
    pages = max(1, -(-len(matching) // PAGE_SIZE))
    number = min(max(page, 1), pages)
    shown = matching[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
    return {
        "total": len(matching),
        "page": number,
        "pages": pages,
        "models": [describe_for_model(caller, model) for model in shown],
    }


def has_words(model: UsableModel, words: list[str]) -> bool:
    text = " ".join([model.id, model.name, model.description, *model.tags]).casefold()
    return all(word in text for word in words)


async def told_carriers(caller: Caller, tag: str) -> dict[str, Any]:
    """The models that carry a tag or capability."""
    offered = offered_to_models(await caller.models()).values()
    carriers = carriers_of(offered, tag)
    return {
        "total": len(carriers),
        "models": [describe_for_model(caller, each) for each in carriers[:PAGE_SIZE]],
    }


async def told_match(caller: Caller, name: str) -> dict[str, Any]:
    """The one model that a name means, or the candidates."""
    found = await asyncio.to_thread(find_models, await caller.models(), name)
    told = [describe_for_model(caller, each) for each in found.models[:CANDIDATES]]
    if len(found.models) == 1:
        return {"match": found.how, "model": told[0]}
    how = found.how if told else "none"
    return {"match": how, "total": len(found.models), "candidates": told}


async def told_graph(caller: Caller, prefix: str | None) -> dict[str, Any]:
    """Who is related to whom; the user sees a picture of it above the answer."""
    offered = offered_to_models(await caller.models())
    graph = model_graph(offered, prefix or RELATION_PREFIX)
    told: dict[str, Any] = graph.as_json()
    if graph.nodes and caller.emit is not None and caller.chat_id:
        page = graph_page(
            graph, caller.text("graph_title"), caller.text("graph_unknown")
        )
        await show_picture(caller.emit, page)
        told["picture"] = "The user sees the graph as a picture; do not draw it again."
    return told


async def show_picture(emit: Emit, page: str) -> None:
    await emit({"type": "embeds", "data": {"embeds": [page]}})


async def told_taxonomy(caller: Caller) -> Mapping[str, Any]:
    """How tags are spread over the models that the user may use."""
    return taxonomy(offered_to_models(await caller.models()).values())


# --- shared/host/confirmations.py ---

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


# --- shared/host/model_tags.py ---

TagsChange = Callable[[Sequence[str]], Sequence[str]]


async def may_edit_model(person: Any, model_id: str) -> bool:
    """Whether Open WebUI lets this user edit the model (routers/models.py).

    A model without an entry of its own, as a provider lists it, is for admins.
    """
    from open_webui.models.access_grants import AccessGrants
    from open_webui.models.models import Models

    if person.role == "admin":
        return True
    entry = await Models.get_model_by_id(model_id)
    if entry is None:
        return False
    return entry.user_id == person.id or await AccessGrants.has_access(
        user_id=person.id,
        resource_type="model",
        resource_id=model_id,
        permission="write",
    )


async def own_tags(model_id: str) -> list[str]:
    """The tags in the model's entry: those that can be changed."""
    from open_webui.models.models import Models

    entry = await Models.get_model_by_id(model_id)
    return tag_names(entry.meta.model_dump()) if entry else []


def tag_names(meta: Mapping[str, Any]) -> list[str]:
    return [str(tag["name"]) for tag in meta.get("tags") or []]


async def change_tags(
    request: Any, person: Any, model_id: str, change: TagsChange
) -> list[str]:
    """Change the tags in the model's entry and nothing else of it; the new tags.

    The list of models is read anew, so that the next question sees them.
    """
    from open_webui.events import EVENTS, publish_event
    from open_webui.models.models import Models
    from open_webui.utils.models import get_all_models

    if await Models.get_model_by_id(model_id) is None:
        await add_entry(request, person, model_id)
    name, tags = await write_tags(person, model_id, change)
    await publish_event(
        request,
        EVENTS.MODEL_UPDATED,
        actor=person,
        subject_id=model_id,
        data={"name": name},
    )
    await get_all_models(request, user=person)
    return tags


async def write_tags(
    person: Any, model_id: str, change: TagsChange
) -> tuple[str, list[str]]:
    """Change the tags of an entry as it is now; its name and the new tags.

    Nobody else writes it in between, which Open WebUI's own update, with a transaction
    of its own, could not promise. AqueductError `tags_not_saved` where it is gone.
    """
    from fastapi import HTTPException
    from open_webui.internal.db import get_async_db
    from open_webui.models.models import Model, ModelForm, ModelMeta, Models
    from sqlalchemy import text

    async with get_async_db() as session:
        if session.bind.dialect.name == "sqlite":
            # SQLite knows no lock on a row.
            await session.execute(text("BEGIN IMMEDIATE"))
        stored = await session.get(Model, model_id, with_for_update=True)
        if stored is None:
            raise AqueductError("tags_not_saved")
        meta = ModelMeta(**deepcopy(stored.meta or {})).model_dump()
        tags = list(change(tag_names(meta)))
        form = ModelForm(
            id=model_id,
            name=stored.name,
            base_model_id=stored.base_model_id,
            meta=ModelMeta(**meta | {"tags": [{"name": tag} for tag in tags]}),
            params=stored.params or {},
        )
        try:
            # Open WebUI's own way to write an entry together with its history.
            await Models._write_model(session, form, person.id, stored)
        except HTTPException as error:
            raise AqueductError("tags_not_saved") from error
        await session.commit()
    return str(form.name), tags


async def add_entry(request: Any, person: Any, model_id: str) -> None:
    """An entry for a model that a provider lists; it stays for admins only."""
    from open_webui.models.models import ModelForm, ModelMeta, ModelParams, Models

    name = str(request.app.state.MODELS[model_id].get("name") or model_id)
    form = ModelForm(id=model_id, name=name, meta=ModelMeta(), params=ModelParams())
    await Models.insert_new_model(form, person.id)


# --- shared/orchestration/tag_changes.py ---

MARKDOWN_SIGNS = "\\`*_[]<>"


async def add_capability(caller: Caller, name: str, capability: str) -> dict[str, Any]:
    """Give a model the tag `cap:…`."""
    model = await unbroken(editable_model(caller, name))
    return await add_tag(caller, model, CAPABILITY_PREFIX + tag_word(capability))


async def add_relation(
    caller: Caller, name: str, relation: str, target: str
) -> dict[str, Any]:
    """Give a model the tag `rel:…:…`, with the target's id."""
    model = await unbroken(editable_model(caller, name))
    models = await unbroken(caller.models())
    target_id = (await asyncio.to_thread(named_model, models, target)).id
    tag = f"{RELATION_PREFIX}{tag_word(relation)}:{target_id}"
    return await add_tag(caller, model, tag)


async def editable_model(caller: Caller, name: str) -> UsableModel:
    """The model; AqueductError where the user may not edit it, before any dialog."""
    model = await asyncio.to_thread(named_model, await caller.models(), name)
    if not await may_edit_model(caller.person, model.id):
        raise AqueductError("may_not_edit")
    return model


async def add_tag(caller: Caller, model: UsableModel, tag: str) -> dict[str, Any]:
    own = await unbroken(own_tags(model.id))
    if same_tags(own, tag):
        return unchanged(model, own)

    def added(tags: Sequence[str]) -> Sequence[str]:
        return tags if same_tags(tags, tag) else [*tags, tag]

    return await change_with_consent(caller, model, "tag_add", tag, added)


async def drop_tag(caller: Caller, name: str, tag: str) -> dict[str, Any]:
    """Take a tag from a model; nothing changes where it has none like this."""
    model = await unbroken(editable_model(caller, name))
    own = await unbroken(own_tags(model.id))
    found = same_tags(own, tag)
    if not found:
        return unchanged(model, own)

    def remaining(tags: Sequence[str]) -> Sequence[str]:
        return [each for each in tags if each not in same_tags(tags, tag)]

    return await change_with_consent(
        caller, model, "tag_remove", ", ".join(found), remaining
    )


async def change_with_consent(
    caller: Caller, model: UsableModel, code: str, tag: str, change: TagsChange
) -> dict[str, Any]:
    """Ask the user, then save; what they may do is checked once more after that."""
    asker = (await unbroken(caller.models())).get(caller.model_id)
    question = caller.text(
        code,
        asker=plain_markdown(asker.name if asker else caller.model_id),
        model=plain_markdown(model.name),
        # Between backticks, where only backticks mean anything.
        tag=tag.replace("`", "'"),
    )
    await confirm(
        caller.event_call, caller.session_id, caller.text("tag_title"), question
    )
    return await unbroken(save_tags(caller, model, change))


async def save_tags(
    caller: Caller, model: UsableModel, change: TagsChange
) -> dict[str, Any]:
    if not await may_edit_model(caller.person, model.id):
        raise AqueductError("may_not_edit")
    tags = await change_tags(caller.request, caller.person, model.id, change)
    return {"changed": True, "model": model.id, "tags": tags}


def unchanged(model: UsableModel, tags: Sequence[str]) -> dict[str, Any]:
    return {"changed": False, "model": model.id, "tags": list(tags)}


def plain_markdown(text: str) -> str:
    """A name as it is, whatever signs it holds."""
    return "".join(f"\\{char}" if char in MARKDOWN_SIGNS else char for char in text)


# --- tools/model_orchestrator.py ---


class Tools:
    """Which models are there, what they can do, and conversations with them."""

    class Valves(BaseModel):
        MAX_DEPTH: int = Field(
            default=2,
            ge=1,
            le=5,
            description="How deep models may ask models that ask models.",
        )
        MAX_CHATS: int = Field(
            default=12, ge=1, description="Most new chats for one answer."
        )
        MAX_TURNS: int = Field(
            default=40, ge=1, description="Most turns with other models for one answer."
        )
        MAX_PARALLEL: int = Field(
            default=4, ge=1, description="Most chats that one answer runs at a time."
        )
        MAX_SECONDS: int = Field(
            default=900, ge=1, description="Seconds that one answer may take."
        )
        MAX_TOKENS: int = Field(
            default=200_000,
            ge=1,
            description="Tokens that other models may use for one answer; where a "
            "provider reports none, four characters count as one.",
        )
        MAX_CHARS: int = Field(
            default=8_000,
            ge=200,
            description="Longest answer, in characters, that is handed on whole.",
        )

    def __init__(self) -> None:
        self.valves = self.Valves()

    def _caller(
        self,
        request: Request,
        metadata: dict[str, Any],
        model: dict[str, Any],
        emit: Emit | None = None,
        event_call: EventCall | None = None,
    ) -> Caller:
        limits = orchestrator_limits(self.valves)
        return Caller(request, metadata, model, limits, emit, event_call)

    async def list_models(
        self,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        query: str | None = None,
        tag: str | None = None,
        page: int = 1,
    ) -> str:
        """
        List the models that can be asked, with their tags and capabilities.

        :param query: Words that the name, description or tags must contain.
        :param tag: Only models with this tag or capability.
        :param page: Which page of the list, from 1.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_models, query, tag, given_count(page, 1))

    async def get_models_by_tag(
        self,
        tag: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
    ) -> str:
        """
        Get the models that carry a tag or have a capability.

        :param tag: A tag as in cap:artist, or just the capability, as in artist.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_carriers, tag)

    async def find_model(
        self,
        name: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
    ) -> str:
        """
        Find a model by its id or name, also when it is only roughly known.

        :param name: The id or name, or a part of it.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_match, name)

    async def discover_relationships(
        self,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_emitter__: Emit,
        prefix: str = "rel:",
    ) -> str:
        """
        Get the graph of which models work with, review or know which others. The user
        sees it as a picture.

        :param prefix: How the tags of relations begin.
        """
        caller = self._caller(__request__, __metadata__, __model__, __event_emitter__)
        return await run_step(caller, told_graph, prefix)

    async def tag_taxonomy(
        self,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
    ) -> str:
        """
        Get all capabilities, relations and tags of the models, with how many have them.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_taxonomy)

    async def add_capability_tag(
        self,
        model: str,
        capability: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_call__: EventCall | None = None,
    ) -> str:
        """
        Note that a model has a capability. The user is asked to agree first.

        :param model: The id or name of the model.
        :param capability: One word or a few, as in artist or code-review.
        """
        caller = self._caller(
            __request__, __metadata__, __model__, None, __event_call__
        )
        return await run_tool(caller, add_capability, model, capability)

    async def add_relationship_tag(
        self,
        model: str,
        relation: str,
        target: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_call__: EventCall | None = None,
    ) -> str:
        """
        Note how a model is related to another one. The user is asked to agree first.

        :param model: The id or name of the model.
        :param relation: The relation, as in works-with or reviews.
        :param target: The id or name of the other model.
        """
        caller = self._caller(
            __request__, __metadata__, __model__, None, __event_call__
        )
        return await run_tool(caller, add_relation, model, relation, target)

    async def remove_tag(
        self,
        model: str,
        tag: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_call__: EventCall | None = None,
    ) -> str:
        """
        Remove a tag from a model. The user is asked to agree first.

        :param model: The id or name of the model.
        :param tag: The whole tag, as in cap:artist or rel:works-with:luna.
        """
        caller = self._caller(
            __request__, __metadata__, __model__, None, __event_call__
        )
        return await run_tool(caller, drop_tag, model, tag)

    async def find_chats(
        self,
        title: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
    ) -> str:
        """
        Find chats of this user by their title, the latest first.

        :param title: Words of the title; an empty text finds the latest chats.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_chats, title)

    async def read_chat(
        self,
        chat_id: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        last: int = 10,
    ) -> str:
        """
        Read the last messages of a chat of this user.

        :param chat_id: The id of the chat, as find_chats or chat_with_model gave it.
        :param last: How many messages, counted from the end.
        """
        caller = self._caller(__request__, __metadata__, __model__)
        return await run_step(caller, told_messages, chat_id, given_count(last, 10))

    async def chat_with_model(
        self,
        message: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_emitter__: Emit,
        model: str | None = None,
        tag: str | None = None,
        chat_id: str | None = None,
        title: str | None = None,
        background: bool = False,
    ) -> str:
        """
        Say something to another model and get its answer. It has its own tools and
        memory, but sees nothing of this chat: tell it all it needs. Give a model or a
        tag for a new chat, and the chat_id of an earlier result for the next turn in
        the same chat. To ask several models at once, call it for each with
        background=true, then collect.

        :param message: What to say to the model.
        :param model: The id or name of the model.
        :param tag: Instead of a model, a tag or capability: the model with this tag to
            which you are related, else the one with the fewest other capabilities.
        :param chat_id: The chat to go on in; without one, a new chat begins.
        :param title: The title of a new chat.
        :param background: Return at once, and get the answer with collect.
        """
        question = ModelQuestion(
            message, model, tag, chat_id, title, given_flag(background)
        )
        caller = self._caller(__request__, __metadata__, __model__, __event_emitter__)
        return await run_tool(caller, ask_model, question)

    async def collect(
        self,
        chat_ids: list[str],
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_emitter__: Emit,
    ) -> str:
        """
        Wait for the answers in chats that were begun with background=true.

        :param chat_ids: The ids of the chats.
        """
        caller = self._caller(__request__, __metadata__, __model__, __event_emitter__)
        return await run_tool(caller, collect_answers, given_texts(chat_ids))

    async def let_models_talk(
        self,
        models: list[str],
        topic: str,
        __request__: Request,
        __metadata__: dict[str, Any],
        __model__: dict[str, Any],
        __event_emitter__: Emit,
        turns: int = 4,
    ) -> str:
        """
        Let models talk to each other about a topic, in one chat, and get what they say.
        The first one opens, then they answer one another in turn.

        :param models: The ids or names of two or more models.
        :param topic: What they are to talk about, with all they need to know.
        :param turns: How many answers follow the opening.
        """
        caller = self._caller(__request__, __metadata__, __model__, __event_emitter__)
        return await run_tool(
            caller, hold_group_talk, given_texts(models), topic, given_count(turns, 4)
        )


def orchestrator_limits(valves: Tools.Valves) -> OrchestratorLimits:
    """The valves as limits."""
    return OrchestratorLimits(
        max_depth=valves.MAX_DEPTH,
        max_chats=valves.MAX_CHATS,
        max_turns=valves.MAX_TURNS,
        max_parallel=valves.MAX_PARALLEL,
        max_seconds=valves.MAX_SECONDS,
        max_tokens=valves.MAX_TOKENS,
        max_chars=valves.MAX_CHARS,
    )
