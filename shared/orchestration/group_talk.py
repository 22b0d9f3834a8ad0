"""Models that a model lets talk to each other, by the core of “Let them talk”."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from shared.errors import AqueductError
from shared.host.errands import Errand
from shared.host.own_chats import own_chat
from shared.host.series import run_series
from shared.host.turns import Answerer, NewTurn, chat_messages, unbroken
from shared.host.usable_models import UsableModel
from shared.orchestration.admission import admission, has_tokens, promise
from shared.orchestration.answers_told import chat_answer, cite_answer
from shared.orchestration.caller import Caller
from shared.orchestration.conversations import (
    ChatPlace,
    ModelQuestion,
    await_answer,
    begin_question,
    session_for,
    tip_of,
)
from shared.orchestration.desk import ButtonSettings, Desk, Press
from shared.orchestration.guard import (
    next_errand,
    present_errand,
    seconds_left,
)
from shared.orchestration.models_found import named_model
from shared.orchestration.talk import Talk, hold_talk
from shared.orchestration.talk_view import TALK_KIND
from shared.orchestration.tool_results import clipped
from shared.orchestration.tree import branch_to, stored_text

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
