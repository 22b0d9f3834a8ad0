"""Making a chat, and writing a line under an answer of one."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from shared.errors import AqueductError
from shared.host.turns import clean_request, emit_to_user


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
