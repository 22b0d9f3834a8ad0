"""The unit of the memory: one exchange, a question and its answer."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

CLIP_MARK = "\n[… shortened …]\n"
# Open WebUI draws reasoning and tool cards of older answers from these blocks.
DETAILS_BLOCK = re.compile(r"<details\b[^>]*>.*?</details>\s*", re.DOTALL)
KEY_CHARS = 1_000
NOTES_OPEN = "<earlier_conversations>"
NOTES_CLOSE = "</earlier_conversations>"
NOTES_BLOCK = re.compile(
    re.escape(NOTES_OPEN) + ".*?" + re.escape(NOTES_CLOSE) + r"\s*", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a user said and what came back.

    `question_id` and `answer_id` are the ids of the two messages in their chat;
    `asked_at` is in seconds since 1970, 0 where it is not known.
    """

    chat_id: str
    question_id: str
    answer_id: str
    question: str
    answer: str
    asked_at: int = 0
    speaker: str = ""
    model: str = ""

    @property
    def digest(self) -> int:
        """A signed 64-bit number that changes with the texts and with the answer's id.

        With the id because an answer that is written again may read the same.
        """
        return stable_key(f"{self.answer_id}\0{self.question}\0{self.answer}")


@dataclass(frozen=True, slots=True)
class StoredExchange:
    """An exchange as the store holds it, with the store's own id."""

    id: int
    exchange: Exchange


def stable_key(text: str) -> int:
    """A signed 64-bit number for a text, the same in every process."""
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def question_key(text: str) -> int:
    """A number by which a question is known again, whatever its white space.

    Of a long one the head decides, for its rest may be stored shortened.
    """
    return stable_key(" ".join(text[:KEY_CHARS].split()))


def clip_text(text: str, limit: int) -> str:
    """At most `limit` characters: two thirds of them from the start, then a mark."""
    if len(text) <= limit:
        return text
    room = max(limit - len(CLIP_MARK), 0)
    head = room * 2 // 3
    tail = text[len(text) - (room - head) :] if room > head else ""
    return (text[:head] + CLIP_MARK + tail)[:limit]


def strip_notes(text: str) -> str:
    """The text without notes that were recalled into it."""
    return NOTES_BLOCK.sub("", text)


def said_text(content: object) -> str:
    """The text of a message's content: a string, or a list of typed parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = [part for part in content if isinstance(part, Mapping)]
    texts = [part.get("text") for part in parts if "text" in str(part.get("type"))]
    return "\n".join(text for text in texts if isinstance(text, str))


def readable(text: str) -> str:
    return DETAILS_BLOCK.sub("", strip_notes(text)).strip()


def visible_text(message: Mapping[str, Any]) -> str:
    """What a reader saw of a message: no reasoning, no tool cards, no notes.

    `content` comes first: it is what an edit changes. Where it is empty, the text is
    in the `output` items of type `message`, as Open WebUI 0.12 writes them.
    """
    text = readable(said_text(message.get("content")))
    if not text:
        items = message.get("output") or ()
        texts = [
            said_text(item.get("content"))
            for item in items
            if isinstance(item, Mapping) and item.get("type") == "message"
        ]
        text = readable("\n".join(filter(None, texts)))
    # No database takes a NUL or half a surrogate pair.
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def own_turns(
    messages: Iterable[Mapping[str, Any]], authors: Mapping[str, str], user_id: str
) -> list[Mapping[str, Any]]:
    """The messages without what others wrote in this chat, and its answers.

    `authors` are user ids by message id; who is not named there is this user.
    """
    own: list[Mapping[str, Any]] = []
    others = False
    for message in messages:
        if message.get("role") == "user":
            author = authors.get(str(message.get("id")), user_id)
            others = author != user_id
        if not others:
            own.append(message)
    return own


def branch_exchanges(
    messages: Iterable[Mapping[str, Any]],
    chat_id: str,
    *,
    speaker: str = "",
    max_chars: int = 12_000,
) -> list[Exchange]:
    """The finished exchanges of one branch of a chat, oldest first.

    `messages` are Open WebUI's (id, role, content, output, timestamp, model). A user
    message without an answer, and an answer that is empty, failed or is being
    written, give none.
    """
    exchanges: list[Exchange] = []
    asked: Mapping[str, Any] | None = None
    for message in messages:
        role = message.get("role")
        if role == "user":
            asked = message
        elif role == "assistant" and asked is not None:
            question, answer = visible_text(asked), visible_text(message)
            finished = message.get("done") is not False and not message.get("error")
            if question and answer and finished and asked.get("id"):
                exchanges.append(
                    Exchange(
                        chat_id=chat_id,
                        question_id=str(asked["id"]),
                        answer_id=str(message.get("id") or ""),
                        question=clip_text(question, max_chars),
                        answer=clip_text(answer, max_chars),
                        asked_at=int(asked.get("timestamp") or 0),
                        speaker=speaker,
                        model=str(message.get("model") or ""),
                    )
                )
            asked = None
    return exchanges
