"""The kept window: which turns of a long chat still go to the model."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.memory.exchanges import question_key, said_text, strip_notes

TurnMessages = Sequence[Mapping[str, Any]]


def last_user_content(messages: TurnMessages) -> str:
    """The text of the last user message, with all that was put around it."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return said_text(message.get("content"))
    return ""


def last_user_text(messages: TurnMessages) -> str:
    """What the user says now."""
    return strip_notes(last_user_content(messages)).strip()


def shown_questions(messages: TurnMessages) -> set[int]:
    """Keys of the questions that the model sees in full anyway."""
    return {
        question_key(strip_notes(said_text(message.get("content"))).strip())
        for message in messages
        if message.get("role") == "user"
    }


def keep_last(messages: TurnMessages, exchanges: int) -> list[dict[str, Any]]:
    """System messages and the last `exchanges` exchanges with the present message.

    An exchange begins with a user message and is kept or dropped with all its
    answers, tool calls and their results. 0 keeps everything.
    """
    starts = [i for i, m in enumerate(messages) if m.get("role") == "user"]
    if not exchanges or len(starts) <= exchanges + 1:
        return [dict(message) for message in messages]
    first = starts[-exchanges - 1]
    return [
        dict(message)
        for i, message in enumerate(messages)
        if i >= first or message.get("role") in ("system", "developer")
    ]
