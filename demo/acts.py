"""What the demo agent can do in one answer, and the answer as a whole.

The planner writes acts; a renderer turns them into the wire shapes of one API. Acts
are plain data, so the same answer can be sent as a stream or as one document.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Citation:
    """A source of the text from `start` up to `end` (characters, end exclusive)."""

    url: str
    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Think:
    """Reasoning, shown apart from the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Text of the answer. `fine` text is sent in bits of a few characters, as a model
    does whose tool-call markers are not single tokens."""

    text: str
    citations: tuple[Citation, ...] = ()
    fine: bool = False


@dataclass(frozen=True, slots=True)
class OwnCall:
    """A tool the agent ran itself, with what the tool answered."""

    name: str
    arguments: dict[str, Any]
    output: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool which the caller offered; the caller runs it."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image the agent made, as the bytes of a PNG file."""

    png: bytes


Act = Think | Say | OwnCall | Call | Picture


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of words, which stand for tokens here."""

    prompt: int
    answer: int
    reasoning: int

    @property
    def total(self) -> int:
        return self.prompt + self.answer


@dataclass(frozen=True, slots=True)
class Reply:
    """Everything a renderer needs for one answer.

    `digest` is a hash of the request, from which all ids are made: the same request
    gets the same ids. `created` is in Unix seconds. `reasoning_field` names the field
    which carries reasoning in Chat Completions.
    """

    digest: str
    model: str
    created: int
    acts: tuple[Act, ...]
    usage: Usage
    truncated: bool = False
    include_usage: bool = False
    summarize: bool = False
    reasoning_field: str = "reasoning_content"

    @property
    def calls(self) -> bool:
        """Whether the caller has tools to run before the answer can go on."""
        return any(isinstance(act, Call) for act in self.acts)


def pieces(text: str, fine: bool = False) -> Iterator[str]:
    """Cut `text` into what is sent at once: words, or bits of four characters.

    Long words are cut as well, so that text without spaces streams too.
    """
    if fine:
        yield from re.findall(r"(?s).{1,4}", text)
        return
    for word in re.findall(r"\S+\s*|\s+", text):
        if len(word) <= 16:
            yield word
        else:
            yield from re.findall(r"(?s).{1,4}", word)


def count_words(text: str) -> int:
    """The demo's token count: words between white space."""
    return len(text.split())


def count_usage(prompt: int, acts: tuple[Act, ...]) -> Usage:
    """Usage of an answer to a prompt of `prompt` words; reasoning is in the answer."""
    reasoning = sum(count_words(act.text) for act in acts if isinstance(act, Think))
    said = sum(count_words(act.text) for act in acts if isinstance(act, Say))
    calls = sum(2 for act in acts if isinstance(act, Call | OwnCall))
    return Usage(prompt, reasoning + said + calls, reasoning)


def truncate(acts: tuple[Act, ...], limit: int) -> tuple[tuple[Act, ...], bool]:
    """Keep at most `limit` pieces of thought and text, as a token limit does.

    Returns the kept acts and whether anything was cut off.
    """
    kept: list[Act] = []
    limit = max(limit, 0)
    for act in acts:
        if not isinstance(act, Think | Say):
            kept.append(act)
            continue
        parts = list(pieces(act.text, isinstance(act, Say) and act.fine))
        if len(parts) > limit:
            kept.append(_shorten(act, "".join(parts[:limit])))
            return tuple(kept), True
        limit -= len(parts)
        kept.append(act)
    return tuple(kept), False


def _shorten(act: Think | Say, text: str) -> Act:
    if isinstance(act, Think):
        return Think(text)
    cited = tuple(source for source in act.citations if source.end <= len(text))
    return replace(act, text=text, citations=cited)
