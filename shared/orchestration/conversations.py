"""A model asks another one, in a chat that the user can open, read and go on with."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import AqueductError
from shared.host.errands import (
    Errand,
    answering_task,
    errand_turns,
    stop_everywhere,
)
from shared.host.new_chats import create_chat, delete_chat
from shared.host.own_chats import ORCHESTRATED, keep_chat_tag, own_chat
from shared.host.turns import (
    Answerer,
    NewTurn,
    StartedTurn,
    chat_messages,
    run_as_task,
    start_turn,
    stop_tasks,
    unbroken,
    wait_for_turn,
)
from shared.host.usable_models import UsableModel
from shared.orchestration.admission import admission
from shared.orchestration.answers_told import chat_answer, cite_answer
from shared.orchestration.buttons import join_parts, new_user_message
from shared.orchestration.caller import Caller
from shared.orchestration.guard import (
    next_errand,
    present_errand,
    seconds_left,
    waiting_chats,
)
from shared.orchestration.models_found import (
    best_carrier,
    carriers_of,
    named_model,
    offered_to_models,
)
from shared.orchestration.new_chat import chat_link
from shared.orchestration.tool_results import clipped, json_error

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
