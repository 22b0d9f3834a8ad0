"""Open WebUI's own tasks: titles, tags, follow-ups, search queries."""

import json
from typing import Any

import orjson

MAX_TASK_CHARS = 20_000

# Task -> the key of the JSON object it asks for, and an empty value of its type.
TASK_SHAPES: dict[str, tuple[str, str | list[str]]] = {
    "title_generation": ("title", ""),
    "tags_generation": ("tags", []),
    "follow_up_generation": ("follow_ups", []),
    "query_generation": ("queries", []),
    "image_prompt_generation": ("prompt", ""),
    "autocomplete_generation": ("text", ""),
}


def shape_task_answer(task: str, text: str) -> str:
    """The agent's answer in the JSON shape that the task asked for.

    Agents wrap JSON in prose or fences, or answer in prose alone: the value is cut
    out; a bare title becomes one; anything else gives an empty answer, so that
    prose never ends up as a tag.
    """
    shape = TASK_SHAPES.get(task)
    if shape is None:
        return text.strip()
    key, empty = shape
    found = find_object(text, key)
    value = found.get(key)
    if isinstance(empty, list):
        items = value if isinstance(value, list) else []
        value = [item for item in items if isinstance(item, str)]
    elif not isinstance(value, str):
        line = text.strip().strip("`\"'*# ").strip()
        value = "" if "\n" in line or line.startswith(("{", "[")) else line
    return orjson.dumps({**found, key: value}).decode()


def find_object(text: str, key: str) -> dict[str, Any]:
    """The first JSON object of the text that has this key, or an empty one."""
    decoder = json.JSONDecoder()
    text = text[:MAX_TASK_CHARS]
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if key in value:
                return value
        start = text.find("{", end)
    return {}
