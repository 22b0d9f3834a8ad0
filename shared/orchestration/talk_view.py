"""A talk as each of its models hears it.

Open WebUI keeps the words of both as answers, and would tell each model that all of
them are its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from shared.orchestration.tree import stored_text

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
