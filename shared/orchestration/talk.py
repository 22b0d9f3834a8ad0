"""Two models that talk to each other, turn by turn, in one chat."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from shared.errors import AqueductError
from shared.host.chat_fields import show_instead
from shared.host.saved_chats import stored_history
from shared.host.series import is_global_filter, run_series
from shared.host.turns import (
    STOP_GRACE,
    Answerer,
    StartedTurn,
    emit_and_store,
    emit_to_user,
    start_turn,
    stop_tasks,
    stored_message,
    unbroken,
    wait_for_turn,
)
from shared.host.usable_models import direct_model
from shared.orchestration.buttons import (
    join_parts,
    model_field,
    new_user_message,
    stored_messages,
)
from shared.orchestration.desk import Desk
from shared.orchestration.forms import (
    chosen_number,
    chosen_text,
    chosen_value,
    number_field,
    text_field,
)
from shared.orchestration.talk_view import TALK_KEY, TALK_KIND
from shared.orchestration.tree import answer_at, newest_end, stored_text

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
