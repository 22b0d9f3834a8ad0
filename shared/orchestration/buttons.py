"""Buttons whose work is done once the models are writing."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from shared.errors import AqueductError
from shared.host.turns import (
    Answerer,
    answer_running,
    chat_messages,
    start_turn,
    writable_chat,
)
from shared.orchestration.desk import Desk, Picker
from shared.orchestration.forms import (
    FormField,
    choice_field,
    chosen_text,
    chosen_value,
    text_field,
)
from shared.orchestration.tree import (
    answer_at,
    answering_models,
    column_models,
    question_of,
)


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
