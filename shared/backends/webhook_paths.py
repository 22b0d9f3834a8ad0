"""Paths into JSON, and requests made of a pattern: data only, nothing is ever run.

A path is a small part of JSONPath (RFC 9535): `data.choices[0].text`, `items[*].name`;
a leading `$.` may be there, and the empty path is the whole value.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

PATH_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\*|-?[0-9]+)\]")
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@lru_cache(maxsize=256)
def path_steps(path: str) -> tuple[str | int | None, ...]:
    """The keys and indices of a path, None for `[*]`; raises ValueError."""
    rest = path.removeprefix("$")
    steps: list[str | int | None] = []
    while rest:
        step = PATH_STEP.match(rest)
        if step is None:
            raise ValueError(f"`{path}` is no path such as `data.items[0].text`")
        name, index = step.groups()
        steps.append(name if name is not None else None if index == "*" else int(index))
        rest = rest[step.end() :]
    return tuple(steps)


def values_at(value: Any, path: str) -> list[Any]:
    """The values at a path, none of them null; [] where there is nothing."""
    found = [value]
    for step in path_steps(path):
        found = [below for one in found for below in step_down(one, step)]
    return [one for one in found if one is not None]


def step_down(value: Any, step: str | int | None) -> list[Any]:
    if step is None:
        return list(value) if isinstance(value, list) else []
    if isinstance(step, str):
        return [value[step]] if isinstance(value, Mapping) and step in value else []
    if isinstance(value, list) and -len(value) <= step < len(value):
        return [value[step]]
    return []


def placeholders(pattern: Any) -> set[str]:
    """The names of all `{name}` in the texts of a pattern."""
    if isinstance(pattern, str):
        return set(PLACEHOLDER.findall(pattern))
    if isinstance(pattern, Mapping):
        return {name for inner in pattern.values() for name in placeholders(inner)}
    if isinstance(pattern, list):
        return {name for inner in pattern for name in placeholders(inner)}
    return set()


def fill_in(pattern: Any, values: Mapping[str, Any]) -> Any:
    """The pattern with every `{name}` replaced by its value.

    A text that is nothing but one `{name}` becomes the value itself, which may be a
    list; inside a longer text a value stands as text. What is filled in is not
    searched again.
    """
    if isinstance(pattern, Mapping):
        return {key: fill_in(inner, values) for key, inner in pattern.items()}
    if isinstance(pattern, list):
        return [fill_in(inner, values) for inner in pattern]
    if not isinstance(pattern, str):
        return pattern
    whole = PLACEHOLDER.fullmatch(pattern)
    if whole:
        return values[whole[1]]
    return PLACEHOLDER.sub(lambda match: str(values[match[1]]), pattern)
