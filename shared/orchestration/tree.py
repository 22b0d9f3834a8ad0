"""Places in a chat's tree of messages: {id: message}, linked by `parentId`."""

from collections.abc import Collection, Mapping
from typing import Any

from shared.errors import AqueductError

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
