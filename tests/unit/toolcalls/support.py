"""What the tool-call tests share: a set of tools, and one way to check a text.

A test states what a user would notice, in order: prose is shown, a call runs, a cut
call becomes a notice. `assert_read` scans the text in every chunking, asserts that all
agree, and that no character is lost.
"""

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.toolcalls.pieces import CutCall, Markup, RecoveredCall, VisibleText
from shared.toolcalls.scanner import ToolCallScanner, recover

Spec = dict[str, Any]
Chunker = Callable[[str], list[str]]

TOKEN = re.compile(r"\s*\w{1,5}|\s*[^\w\s]{1,2}|\s+")


@dataclass(frozen=True)
class Call:
    """A call that must be recovered: its tool's name and its arguments."""

    name: str
    arguments: Mapping[str, Any]


CUT = CutCall("", "")  # stands in a list of expectations for any cut call


def call(name: str, /, **arguments: Any) -> Call:
    return Call(name, arguments)


def tool(name: str, required: Sequence[str] = (), /, **properties: Any) -> Spec:
    """An OpenAI tool spec; a property is a type's name or a whole schema."""
    schemas = {
        key: {"type": value} if isinstance(value, str) else value
        for key, value in properties.items()
    }
    parameters = {
        "type": "object",
        "properties": schemas,
        "required": list(required),
    }
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Runs {name}.",
            "parameters": parameters,
        },
    }


STRINGS = {"type": "array", "items": {"type": "string"}}

TOOLS = [
    tool(
        "get_weather",
        ["city"],
        city="string",
        unit={"type": "string", "enum": ["celsius", "fahrenheit"]},
        days="integer",
    ),
    tool(
        "search",
        ["query"],
        query="string",
        limit="integer",
        tags=STRINGS,
        filters="object",
    ),
    tool("bash", ["command"], command="string"),
    tool("python", ["code"], code="string"),
    tool("read_file", ["path"], path="string", offset="integer"),
    tool("calculator", ["expression"], expression="string"),
    tool("add", ["a", "b"], a="number", b="number"),
    tool("get_time"),
    tool(
        "set_light",
        ["on"],
        on="boolean",
        level="number",
        room={"type": ["string", "null"]},
    ),
]


def in_threes(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def in_tokens(text: str) -> list[str]:
    """Pieces of about the size a model's tokens have."""
    return TOKEN.findall(text)


def at_random(text: str, seed: int = 7) -> list[str]:
    """Pieces of 0 to 12 characters; the same for the same text and seed."""
    dice = random.Random(f"{seed}:{text}")
    chunks = []
    at = 0
    while at < len(text):
        size = dice.randint(0, 12)
        chunks.append(text[at : at + size])
        at += size
    return chunks


CHUNKINGS: dict[str, Chunker] = {
    "whole": lambda text: [text],
    "characters": list,
    "threes": in_threes,
    "tokens": in_tokens,
    "random": at_random,
}


def merge(pieces: Iterable[Any]) -> list[Any]:
    """Join what a chunk boundary may have parted: neighbouring text or markup."""
    merged: list[Any] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, VisibleText) and isinstance(last, VisibleText):
            merged[-1] = VisibleText(last.text + piece.text)
        elif isinstance(piece, Markup) and isinstance(last, Markup):
            merged[-1] = Markup(last.raw + piece.raw)
        elif isinstance(piece, RecoveredCall) or source(piece):
            merged.append(piece)  # calls of one list share the source of the first
    return merged


def source(piece: Any) -> str:
    """The characters of the input that a piece stands for."""
    return piece.text if isinstance(piece, VisibleText) else piece.raw


def scan(
    chunks: Iterable[str],
    tools: Sequence[Spec],
    truncated: bool = False,
    **options: Any,
) -> list[Any]:
    scanner = ToolCallScanner(tools, **options)
    pieces = [piece for chunk in chunks for piece in scanner.feed(chunk)]
    pieces += scanner.finish(truncated=truncated)
    return merge(pieces)


def scan_every_way(
    text: str, tools: Sequence[Spec], truncated: bool = False, **options: Any
) -> list[Any]:
    """The pieces of a text, the same whichever way it is chunked."""
    results = {
        label: scan(chunk(text), tools, truncated, **options)
        for label, chunk in CHUNKINGS.items()
    }
    if not options:
        results["recover"] = merge(recover(text, tools, truncated=truncated))
    first = results["whole"]
    assert "".join(source(piece) for piece in first) == text
    for label, pieces in results.items():
        assert pieces == first, f"{label} differs from whole"
    return first


def story(pieces: Iterable[Any]) -> list[Any]:
    """What a user notices, in order; white space in prose is made even.

    Wrapper markup vanishes, and with it the border between two pieces of prose.
    """
    told: list[Any] = []
    for piece in pieces:
        if isinstance(piece, RecoveredCall):
            told.append(Call(piece.name, json.loads(piece.arguments)))
        elif isinstance(piece, CutCall):
            told.append(CUT)
        elif isinstance(piece, VisibleText):
            if told and isinstance(told[-1], str):
                told[-1] += piece.text
            else:
                told.append(piece.text)
    even = [" ".join(part.split()) if isinstance(part, str) else part for part in told]
    return [part for part in even if part != ""]


def canonical(value: Any) -> str:
    """Equal texts for values equal as JSON: 1 is 1.0, but neither true nor "1"."""

    def even(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: even(item) for key, item in part.items()}
        if isinstance(part, list):
            return [even(item) for item in part]
        whole = isinstance(part, float) and part.is_integer()
        return int(part) if whole else part

    return json.dumps(even(value), sort_keys=True)


def assert_read(
    text: str,
    *expected: str | Call | CutCall,
    tools: Sequence[Spec] = TOOLS,
    truncated: bool = False,
    **options: Any,
) -> None:
    """Assert that a text tells exactly the expected story, in every chunking."""
    told = story(scan_every_way(text, tools, truncated, **options))
    assert told == list(expected)
    assert_same_types(told, expected)


def assert_calls(
    text: str,
    *expected: Call,
    hidden: Sequence[str] = (),
    tools: Sequence[Spec] = TOOLS,
    **options: Any,
) -> None:
    """Assert the calls only, and that some markup is not shown.

    For texts whose prose a parser may fairly show or not, as a thought is.
    """
    pieces = scan_every_way(text, tools, **options)
    told = [part for part in story(pieces) if not isinstance(part, str)]
    assert told == list(expected)
    assert_same_types(told, expected)
    shown = "".join(piece.text for piece in pieces if isinstance(piece, VisibleText))
    assert [mark for mark in hidden if mark in shown] == []


def assert_same_types(told: Sequence[Any], expected: Sequence[Any]) -> None:
    """For Python, true equals 1; for a tool it does not."""
    for got, wanted in zip(told, expected, strict=True):
        if isinstance(wanted, Call):
            assert canonical(got.arguments) == canonical(wanted.arguments)


def assert_untouched(
    text: str,
    *,
    tools: Sequence[Spec] = TOOLS,
    truncated: bool = False,
    **options: Any,
) -> None:
    """Assert that a text comes through as it is, in every chunking."""
    assert scan_every_way(text, tools, truncated, **options) == [VisibleText(text)]
