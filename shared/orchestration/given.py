"""Arguments as models give them: Open WebUI hands them over unchecked."""

import json
from typing import Any


def given_texts(value: Any) -> list[str]:
    """A list of texts, also where it came as JSON, or as `a, b`."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = value.split(",")
    listed = value if isinstance(value, list) else [value]
    return [text for each in listed if each and (text := str(each).strip())]


def given_flag(value: Any) -> bool:
    """Yes or no, also where it came as a word."""
    if isinstance(value, str):
        return value.strip().casefold() in ("true", "yes", "1")
    return bool(value)


def given_count(value: Any, default: int) -> int:
    """A whole number; the default for what is none."""
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return default
