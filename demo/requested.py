"""Which of the caller's tools a message asks for, and with what arguments.

"use get_weather in Paris and get_weather in Rome then use send_mail to Ann" gives two
rounds: two calls at once, and one more when their results are there.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from demo.acts import Call
from demo.conversation import Conversation, OfferedTool

# Words in the names of tools which say nothing about what the tool is for.
COMMON = (
    "add call create current delete do edit execute fetch find get list make my new "
    "query read run search send set show the to tool update view write"
)
QUESTION = re.compile(r"^\s*(how|why|explain|what (is|are) an?)\b", re.IGNORECASE)
ASKS_BY_NAME = re.compile(
    r"\b(?:use|call|run|invoke|try)\s+(?:the\s+)?(?:tool\s+)?`?([a-z]\w*_\w+)`?"
    r"|\b(?:use|call|run|invoke|try)\s+(?:the\s+)?`?(?!unknown\b)(\w+)`?\s+tool\b"
    r"|\btool\s+`?(\w+_\w+)`?"
    r"|\bunknown\s+tool\s+`?(\w+)`?",
    re.IGNORECASE,
)

# "use the unknown tool NAME" calls a tool which nobody offered.
UNKNOWN = re.compile(r"\bunknown\s+tool\s+`?(\w+)`?", re.IGNORECASE)


def requested_rounds(conversation: Conversation, text: str) -> list[list[Call]]:
    """The rounds of calls which `text` asks for, first to last; often none."""
    tools, choice = [*conversation.tools], conversation.tool_choice
    if unknown := UNKNOWN.search(text):
        tools.append(OfferedTool(unknown.group(1), "", {}))
    if not tools or choice == "none":
        return []
    rounds = _named_rounds(tools, text)
    if not rounds and (described := _described(tools, text)):
        rounds = [[Call(described.name, arguments(described, text))]]
    if not rounds and choice != "auto":
        forced = next((tool for tool in tools if tool.name == choice), tools[0])
        rounds = [[Call(forced.name, arguments(forced, text))]]
    return rounds


def asked_tool(text: str) -> str | None:
    """The name of a tool which `text` asks for, offered or not."""
    found = ASKS_BY_NAME.search(text)
    return next((name for name in found.groups() if name), None) if found else None


def arguments(tool: OfferedTool, text: str) -> dict[str, Any]:
    """Arguments for `tool` out of `text`, as far as its schema can be met.

    JSON in the text is taken as it is, then `key=value` pairs; what is still missing
    and required is filled from quoted words, numbers, and what follows "in" or "for".
    """
    if given := _json_object(text):
        return given
    properties = tool.parameters.get("properties") or {}
    required = tool.parameters.get("required") or list(properties)[:1]
    values = {
        key: _convert(value.strip("\"'"), properties[key])
        for key, value in re.findall(r"(\w+)=(\"[^\"]*\"|'[^']*'|\S+)", text)
        if key in properties
    }
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text)
    phrases = _phrases(text)
    for key in required:
        if key not in values and key in properties:
            values[key] = _fill(properties[key], text, phrases, numbers)
    return values


def _named_rounds(tools: Sequence[OfferedTool], text: str) -> list[list[Call]]:
    rounds: list[list[Call]] = []
    for step in re.split(r"\bthen\b|;", text):
        found = [
            (match.start(), match.end(), tool)
            for tool in tools
            for match in re.finditer(rf"(?<!\w){re.escape(tool.name)}(?!\w)", step)
            # A tool whose name is an ordinary word must be asked for in so many words.
            if "_" in tool.name or asked_tool(step) == tool.name
        ]
        found.sort(key=lambda item: item[0])
        ends = [start for start, _, _ in found[1:]] + [len(step)]
        parts = [
            (tool, step[end:stop])
            for (_, end, tool), stop in zip(found, ends, strict=False)
        ]
        if any("without arguments" in part for _, part in parts):
            # The first try is wrong on purpose; the second heeds the answer to it.
            rounds.append([Call(tool.name, {}) for tool, _ in parts])
            parts = [(t, p.replace("without arguments", "")) for t, p in parts]
        if parts:
            rounds.append([Call(t.name, arguments(t, p)) for t, p in parts])
    return rounds


def _described(tools: Sequence[OfferedTool], text: str) -> OfferedTool | None:
    """The tool whose name is spelled out in a request; none for a question."""
    if QUESTION.match(text):
        return None
    said = set(re.findall(r"\w+", text.lower()))
    for tool in tools:
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-]", " ", tool.name).lower()
        telling = set(spaced.split()) - set(COMMON.split())
        if telling and telling <= said:
            return tool
    return None


def _json_object(text: str) -> dict[str, Any] | None:
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        found = json.loads(text[start : end + 1])
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _phrases(text: str) -> list[str]:
    """What could be the value of a text argument, most likely first."""
    quoted = re.findall(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+)'", text)
    phrases = ["".join(groups) for groups in quoted]
    after = re.split(r"\b(?:in|for|at|of|with|about|on|to|from)\b", text)
    rest = after[1:] or [text]
    first = [re.split(r"[,;!?\n]|\.\s", part)[0] for part in rest]
    tidy = [re.sub(r"\s+", " ", part).strip(" .,:`'\"") for part in first]
    tidy = [re.sub(r"(\s+(as \w+|and|use|call))+$", "", part) for part in tidy]
    return phrases + [part for part in tidy if part]


def _fill(
    schema: dict[str, Any], text: str, phrases: list[str], numbers: list[str]
) -> Any:
    """A value of the schema's type; takes what it uses from the lists."""
    if schema.get("enum"):
        said = text.lower()
        options = schema["enum"]
        return next((o for o in options if str(o).lower() in said), options[0])
    match schema.get("type"):
        case "integer" | "number" if numbers:
            return _convert(numbers.pop(0), schema)
        case "integer" | "number":
            return 1
        case "boolean":
            return not re.search(r"\b(no|not|without|false)\b", text, re.IGNORECASE)
        case "array":
            return [_fill(schema.get("items") or {}, text, phrases, numbers)]
        case "object":
            return {}
        case _:
            return phrases.pop(0) if phrases else "demo"


def _convert(value: str, schema: dict[str, Any]) -> Any:
    match schema.get("type"):
        case "integer" if re.fullmatch(r"-?\d+(?:\.\d+)?", value):
            return int(float(value))
        case "number" if re.fullmatch(r"-?\d+(?:\.\d+)?", value):
            return float(value) if "." in value else int(value)
        case "boolean":
            return value.lower() in ("true", "yes", "1")
        case "array" | "object":
            return _json_value(value)
        case _:
            return value


def _json_value(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return [value]
