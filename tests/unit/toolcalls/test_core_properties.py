"""What holds for any text: nothing lost, nothing raised, chunks of no importance."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.toolcalls.dialects import PAIR_DIALECTS, TAG_DIALECTS
from shared.toolcalls.families import (
    CLOSE_MARKS,
    OPEN_MARKS,
    SEPARATOR_MARKS,
    THOUGHT_MARKS,
)
from shared.toolcalls.pieces import Piece, RecoveredCall, VisibleText, piece_source
from shared.toolcalls.scanner import ToolCallScanner, recover

TOOLS = [
    {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
    {"name": "now", "parameters": {"type": "object", "properties": {}}},
    {
        "type": "function",
        "function": {
            "name": "save-note",
            "parameters": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
]
MARKS = [
    mark
    for marks in (OPEN_MARKS, CLOSE_MARKS, SEPARATOR_MARKS, THOUGHT_MARKS)
    for mark in marks.literals
] + [
    mark
    for dialect in (*TAG_DIALECTS, *PAIR_DIALECTS)
    for mark in dialect.heads + dialect.params + dialect.value_ends + dialect.ends
]
WORDS = [
    "get_weather",
    "now",
    "save_note",
    "functions.",
    "unknown",
    '{"name": "get_weather", "arguments": {"city": "Oslo"}}',
    '{"name": "now", "arguments": {}}',
    '{"city": "Oslo"}',
    '"name": ',
    '"arguments": ',
    'city="Oslo"',
    "city:",
    "<arg_value>",
    '"',
    "'",
    "\\",
    "\\n",
    "\n",
    "\n\n",
    "    ",
    " ",
    "`",
    "```",
    "~~~",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ";",
    ":",
    ".",
    ">",
    "=",
    "<",
    "/",
    "&quot;",
    "Word",
    "word",
    "7",
    "é",
    "日",
    "𝄞",
]
FRAGMENTS = st.one_of(
    st.sampled_from(MARKS), st.sampled_from(WORDS), st.text(max_size=4)
)
TEXTS = st.lists(FRAGMENTS, max_size=24).map("".join)


def merged(pieces: list[Piece]) -> list[Piece]:
    found: list[Piece] = []
    for piece in pieces:
        last = found[-1] if found else None
        if isinstance(piece, VisibleText) and isinstance(last, VisibleText):
            found[-1] = VisibleText(last.text + piece.text)
        else:
            found.append(piece)
    return found


def fed(chunks: list[str], truncated: bool) -> list[Piece]:
    scanner = ToolCallScanner(TOOLS)
    pieces = [piece for chunk in chunks for piece in scanner.feed(chunk)]
    return pieces + scanner.finish(truncated=truncated)


def cut(text: str, sizes: list[int]) -> list[str]:
    chunks = []
    for size in sizes:
        chunks.append(text[:size])
        text = text[size:]
    return [*chunks, text]


@given(TEXTS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_no_character_is_lost_and_calls_fit(text: str, truncated: bool) -> None:
    pieces = recover(text, TOOLS, truncated=truncated)
    assert "".join(map(piece_source, pieces)) == text
    for piece in pieces:
        if isinstance(piece, RecoveredCall):
            assert isinstance(json.loads(piece.arguments), dict)
            assert piece.name in ("get_weather", "now", "save-note")


@given(TEXTS, st.lists(st.integers(0, 9), max_size=30), st.booleans())
@settings(max_examples=500, deadline=None)
@example('{"tool_call_id":"","tool_name":"now","parameters":{}}', [1] * 60, False)
@example('{"name":""save_note","arguments":{"text":""}}', [1] * 60, False)
@example('{"name":"&quotsave_note","arguments":{"text":""}}', [1] * 60, False)
@example('Action:save_noteAction Input:{"text":""}{nt', [1] * 60, False)
def test_chunks_do_not_matter(text: str, sizes: list[int], truncated: bool) -> None:
    whole = merged(fed([text], truncated))
    assert merged(fed(cut(text, sizes), truncated)) == whole
    assert merged(fed(list(text), truncated)) == whole


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_without_tools_all_text_is_shown(text: str) -> None:
    assert recover(text, []) == ([VisibleText(text)] if text else [])


@pytest.mark.parametrize("depth", [70, 300, 600, 950, 5000])
def test_deep_nesting_raises_nothing(depth: int) -> None:
    deep = '{"x":' * depth + "1" + "}" * depth
    for text in (
        f'<tool_call>{{"name": "save_note", "arguments": {{"text": {deep}}}}}</tool_call>',
        f"<function=save_note><parameter=tags>{deep}</parameter></function>",
        f"[save_note(text={deep})]",
        f"<|tool_call>call:save_note{{text:{deep}}}<tool_call|>",
    ):
        pieces = recover(text, TOOLS)
        assert "".join(map(piece_source, pieces)) == text
