"""The forms that the buttons open, as JSON schemas, and what comes back."""

from collections.abc import Mapping
from typing import Any

from shared.errors import AqueductError

FormField = dict[str, Any]


def choice_field(
    title: str, options: Mapping[str, str], default: str = ""
) -> FormField:
    """One of several: `options` maps values to labels; `default` where it is one."""
    field: FormField = {
        "type": "string",
        "title": title,
        "oneOf": [{"const": value, "title": label} for value, label in options.items()],
    }
    return field | ({"default": default} if default in options else {})


def text_field(title: str, description: str = "", default: str = "") -> FormField:
    """A line of text, which may stay empty."""
    field = {"type": "string", "title": title, "description": description}
    return field | ({"default": default} if default else {})


def number_field(title: str, default: int, least: int, most: int) -> FormField:
    """A whole number from `least` to `most`."""
    return {
        "type": "integer",
        "title": title,
        "default": min(max(default, least), most),
        "minimum": least,
        "maximum": most,
    }


def form_schema(
    fields: Mapping[str, FormField], required: tuple[str, ...]
) -> dict[str, Any]:
    return {"type": "object", "properties": dict(fields), "required": list(required)}


def chosen_text(answers: Mapping[str, Any], name: str) -> str:
    """What was written; empty where nothing was."""
    return str(answers.get(name) or "").strip()


def chosen_value(
    answers: Mapping[str, Any], name: str, options: Mapping[str, str]
) -> str:
    """The chosen value; AqueductError where it is none of the options.

    The browser's word is not taken for it: anything can be sent over the socket.
    """
    value = answers.get(name)
    if not isinstance(value, str) or value not in options:
        raise AqueductError("model_gone", model=str(value or ""))
    return value


def chosen_number(answers: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """The chosen number, brought between `least` and `most`."""
    value = answers.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return least
    return int(min(max(value, least), most))
