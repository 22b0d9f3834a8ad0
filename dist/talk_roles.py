"""
title: Talk roles
author: Aqueduct
version: 0.1.0
description: Companion of Continue with: two models that talk see their own words as theirs, the other's as yours.
license: MIT
required_open_webui_version: 0.12.0
"""

# Aqueduct 0.1.0. Copyright (c) 2026 The Aqueduct authors.
# SPDX-License-Identifier: MIT
#
# Built from filters/talk_roles.py and what it uses from shared/.
# Make changes there: the next update replaces this file.
# Content hash: e30ded030c1be0c8

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import Request

# --- shared/host/saved_chats.py ---


def is_saved_chat(chat_id: str | None) -> bool:
    """Whether this is neither a temporary chat, nor a channel, nor no chat at all."""
    from open_webui.utils.chat_id import is_saved_chat_id

    return bool(is_saved_chat_id(chat_id))


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


async def stop_series(request: Any, chat_id: str, kind: str) -> None:
    """Stop what runs as this kind in a chat, on whatever worker of the server.

    Without Redis, returns when it has ended; with Redis, when the word is sent.
    """
    from open_webui.tasks import list_task_ids_by_item_id, stop_task

    redis = request.app.state.redis
    for task_id in await list_task_ids_by_item_id(redis, chat_id):
        if task_id.startswith(f"{kind}-"):
            await stop_task(redis, task_id)


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


# --- shared/orchestration/talk_view.py ---

# What the line above a turn carries, beside Open WebUI's own keys of a user message:
# {"speaker": id of the model that answers it, "names": {id: name}}.
TALK_KEY = "talk"
# The kind of the tasks that hold talks, see `shared/host/series.py`.
TALK_KIND = "aqueduct-talk"

ChatMessage = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Utterance:
    """A message of a request: a part of the answer of `author`, or of no answer.

    `announces` is the model whose turn in the talk begins with this line.
    """

    message: ChatMessage
    author: str = ""
    announces: str = ""


def as_heard(
    listener: str,
    names: Mapping[str, str],
    messages: Sequence[ChatMessage],
    branch: Sequence[ChatMessage],
) -> list[dict[str, Any]]:
    """The messages of a request, in the roles they have for the model `listener`.

    Its own answers stay the assistant's, tool calls included. What other models said
    becomes the user's, without their tool calls and the lines above; user messages that
    then stand side by side become one. `messages` are the request's, as Open WebUI made
    them from `branch`, the stored messages, oldest first; what Open WebUI summarised is
    missing in them. `names` are models' names by id.
    """
    heard: list[dict[str, Any]] = []
    utterances = utterances_of(messages, branch)
    for author, group in groupby(utterances, key=lambda said: said.author):
        said = [
            each
            for each in group
            if each.announces in ("", listener) or each is utterances[-1]
        ]
        if author in ("", listener):
            heard += [dict(each.message) for each in said]
        elif words := spoken_words([each.message for each in said]):
            if heard and heard[-1]["role"] == "user":
                words = f"{names.get(author, author)}:\n{words}"
            heard.append({"role": "user", "content": words})
    return merged_user_messages(heard)


def utterances_of(
    messages: Sequence[ChatMessage], branch: Sequence[ChatMessage]
) -> list[Utterance]:
    """Whose words each message of a request is, which the request no longer says.

    Read from the end, what stands between two questions is the answer that is stored
    between them.
    """
    stored = list(branch)
    utterances: list[Utterance] = []
    author = ""
    for message in reversed(messages):
        if stored and is_question(message, stored[-1]):
            talk = stored.pop().get(TALK_KEY) or {}
            utterances.append(Utterance(message, announces=talk.get("speaker", "")))
            author = ""
            while stored and stored[-1].get("role") != "user":
                author = str(stored.pop().get("model") or "")
        else:
            is_answer = message.get("role") in ("assistant", "tool")
            utterances.append(Utterance(message, author if is_answer else ""))
    return utterances[::-1]


def is_question(message: ChatMessage, stored: ChatMessage) -> bool:
    """Whether a request's message is this stored one of the user.

    Open WebUI puts a list of attached files before it, and words of a skill in it.
    """
    if message.get("role") != "user" or stored.get("role") != "user":
        return False
    skills = (stored.get("meta") or {}).get("skills_create") or {}
    texts = (stored_text(stored), str(skills.get("expanded_text") or "\0"))
    return heard_text(message).endswith(texts)


def heard_text(message: ChatMessage) -> str:
    """The text of a request's message, without its pictures."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return str(content or "")


def spoken_words(messages: Sequence[ChatMessage]) -> str:
    """What an answer says, without the work of its tools."""
    texts = (
        heard_text(message)
        for message in messages
        if message.get("role") == "assistant"
    )
    return "\n\n".join(text for text in texts if text.strip())


def merged_user_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages with neighbours of the user joined: many models want turns."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        if merged and merged[-1]["role"] == message["role"] == "user":
            joined = joined_content(merged[-1]["content"], message["content"])
            merged[-1] = {**merged[-1], "content": joined}
        else:
            merged.append(dict(message))
    return merged


def joined_content(before: str | list[Any], after: str | list[Any]) -> str | list[Any]:
    """Two contents in one: text, or parts where one of them has pictures."""
    if isinstance(before, str) and isinstance(after, str):
        return f"{before}\n\n{after}"
    parts = [
        [{"type": "text", "text": content}] if isinstance(content, str) else content
        for content in (before, after)
    ]
    return [*parts[0], *parts[1]]


# --- shared/orchestration/talk_service.py ---


async def meet_request(
    request: Any, metadata: Mapping[str, Any], messages: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The messages as the model that answers hears them.

    Only those of a talk change. A request that is not the talk's next turn ends the
    talk in its chat: somebody else has spoken.
    """
    chat_id = str(metadata.get("chat_id") or "")
    if not is_saved_chat(chat_id):
        return messages
    question = metadata.get("user_message") or {}
    talk = question.get(TALK_KEY)
    if talk is None:
        await stop_series(request, chat_id, TALK_KIND)
        return messages
    tree = (await stored_history(chat_id))["messages"]
    answer = tree[str(metadata["message_id"])]
    if tree[question["id"]]["childrenIds"] != [answer["id"]]:
        await stop_series(request, chat_id, TALK_KIND)
    branch = branch_to(tree, question["id"])
    return as_heard(answer["model"], talk.get("names") or {}, messages, branch)


# --- filters/talk_roles.py ---


log = logging.getLogger("aqueduct.talk_roles")


class Filter:
    """Looks at every request; touches those of a talk, and ends a talk for others."""

    class Valves(BaseModel):
        priority: int = Field(
            default=-100,
            description="Before filters that read the conversation, such as a memory.",
        )

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def inlet(
        self, body: dict[str, Any], __metadata__: dict[str, Any], __request__: Request
    ) -> dict[str, Any]:
        """The body in the roles of the talk; of any other message, as it came."""
        try:
            body["messages"] = await meet_request(
                __request__, __metadata__, body["messages"]
            )
        except Exception:
            # Whatever fails here, the message still goes to its model.
            log.exception("The roles of a talk could not be set")
        return body
