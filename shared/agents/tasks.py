"""Open WebUI's own errands: titles, tags, follow-ups, search queries."""

from typing import Any

import orjson

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

    Agents wrap JSON in prose or fences, or answer in prose alone: the object is cut
    out; a bare title becomes one; anything else gives an empty answer, so that
    prose never ends up as a tag.
    """
    shape = TASK_SHAPES.get(task)
    if shape is None:
        return text.strip()
    key, empty = shape
    found = find_object(text, key)
    if found is None:
        line = text.strip().strip("`\"'*# ").strip()
        usable = isinstance(empty, str) and line and "\n" not in line
        found = {key: line if usable else empty}
    return orjson.dumps(found).decode()


def find_object(text: str, key: str) -> dict[str, Any] | None:
    """The first JSON object in the text that has this key."""
    start = text.find("{")
    while start >= 0:
        end = text.rfind("}")
        while end > start:
            try:
                value = orjson.loads(text[start : end + 1])
            except orjson.JSONDecodeError:
                end = text.rfind("}", start, end)
                continue
            if isinstance(value, dict) and key in value:
                return value
            break
        start = text.find("{", start + 1)
    return None
