"""Saved messages without leaked markup; nothing is executed from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.toolcalls.pieces import CutCall, RecoveredCall, VisibleText
from shared.toolcalls.scanner import recover

_POSSIBLE_MARKUP = ("<", "[", "{", "to=", "Action")


def clean_text(
    text: str, tools: Sequence[Mapping[str, Any]], leave_out: frozenset[str]
) -> str:
    """`text` without the leaked calls of known tools; itself when there are none."""
    if not any(mark in text for mark in _POSSIBLE_MARKUP):
        return text
    pieces = recover(text, tools, leave_out=leave_out)
    if not any(isinstance(piece, RecoveredCall | CutCall) for piece in pieces):
        return text
    kept = [piece.text for piece in pieces if isinstance(piece, VisibleText)]
    return "".join(kept).rstrip()


def clean_messages(
    messages: Sequence[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    leave_out: frozenset[str],
) -> None:
    """Clean the content and the output items of an assistant's messages in place."""
    for message in messages:
        if message.get("role") != "assistant":
            continue
        content = message.get("content")
        if isinstance(content, str):
            message["content"] = clean_text(content, tools, leave_out)
        for item in message.get("output") or ():
            if isinstance(item, dict) and item.get("type") == "message":
                _clean_parts(item.get("content"), tools, leave_out)


def append_text(message: dict[str, Any], text: str) -> None:
    """Add text that a broken stream left behind to a message and its output."""
    if not text:
        return
    message["content"] = (message.get("content") or "") + text
    output = message.get("output")
    if not isinstance(output, list):
        return
    part = {"type": "output_text", "text": text}
    last = output[-1] if output else None
    if isinstance(last, dict) and last.get("type") == "message":
        last["content"] = [*(last.get("content") or ()), part]
    else:
        output.append({"type": "message", "role": "assistant", "content": [part]})


def _clean_parts(
    parts: object, tools: Sequence[Mapping[str, Any]], leave_out: frozenset[str]
) -> None:
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            part["text"] = clean_text(part["text"], tools, leave_out)
