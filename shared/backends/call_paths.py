"""Which places on a disk a tool call names, for the allow-list of permissions."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

PATH_WORDS = ("path", "file", "dir", "folder")


def call_paths(arguments: str | Mapping[str, Any]) -> tuple[str, ...]:
    """Everything in a call's arguments that is a path, or may be one.

    Rather too much than too little: an entry of the list covers a call only if it
    covers all of its paths.
    """
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return ()
    return tuple(dict.fromkeys(named_paths("", arguments)))


def named_paths(key: str, value: Any) -> Iterator[str]:
    """The paths in a value that stands under `key`."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from named_paths(str(name).lower(), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from named_paths(key, inner)
    elif isinstance(value, str) and value:
        looks_like_one = "/" in value or "\\" in value or value.startswith("~")
        if looks_like_one or any(word in key for word in PATH_WORDS):
            yield value
