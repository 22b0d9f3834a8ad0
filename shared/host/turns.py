"""Starting a turn in a stored chat: the one place where this suite does it.

A turn is a user message and one empty answer for each model, written to the chat's
tree in one step; Open WebUI's own completion handler then fills the answers, with the
models' filters and tools, as tasks that its Stop button ends.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from starlette.requests import Request

from shared.errors import AqueductError
from shared.host.chat_fields import (
    chat_seen_by,
    keep_selected_models,
    restore_columns,
)
from shared.host.completion_form import completion_form
from shared.host.usable_models import UsableModel, usable_model

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
