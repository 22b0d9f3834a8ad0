"""The body that is one JSON object: it names the tool and holds the arguments."""

import re
from collections.abc import Generator

from shared.toolcalls.bodystate import LONGEST_HEAD, BodyState, FoundCall
from shared.toolcalls.brackets import read_bracketed
from shared.toolcalls.callshapes import FIRST_KEYS, NAMING_KEYS, calls_in
from shared.toolcalls.repair import possible_values
from shared.toolcalls.styles import JSON_STYLE
from shared.toolcalls.toolset import name_key

_JSON_NAME = re.compile(r'"(?:tool_|function_)?(?:name|function)"\s*:\s*"([^"]*)("?)')
_KEY_NAME = re.compile(r'\{\s*"([^"]+)"\s*(?::\s*(?:\{|$)|$)')
# Pairs that may stand before the name.
_IDENTITY = re.compile(
    r'^(?:\s*"(?:id|type|tool_call_id|index)"\s*:\s*(?:"[^"\\]*"|\d+|null)\s*,)+'
)
# What a repair may read as something else.
_ODD = re.compile(r"[&\\]")


def read_object_call(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    """Read an object; its calls, [] when it is none."""
    state.label("json")
    start = state.window.offset
    closed = yield from _read_object(state, start)
    if closed is None:
        return []
    text = state.window.cut(start, state.window.offset)
    _note_name(state, text)
    if not closed and not state.may_close(text):
        return []
    for value in possible_values(text, close=not closed):
        if found := state.fit_all(calls_in(value, strict=state.strict)):
            return found
    return []


def _read_object(state: BodyState, start: int) -> Generator[None, None, bool | None]:
    """Go behind an object; None as soon as it can be no call.

    That only saves holding back text: the complete object would be refused as well.
    """
    reading = read_bracketed(state.window, JSON_STYLE)
    doubtful = state.first
    while True:
        try:
            next(reading)
        except StopIteration as ended:
            return bool(ended.value)
        if doubtful:
            if _is_hopeless(state, state.window.cut(start, start + LONGEST_HEAD)):
                return None
            doubtful = state.window.offset - start < LONGEST_HEAD
        yield


def _is_hopeless(state: BodyState, text: str) -> bool:
    """Whether an object that begins like `text` names no known tool."""
    inner = _IDENTITY.sub("", text[1:]).lstrip()
    if not inner:
        return False
    if inner[0] not in "\"'":
        return state.strict or not (inner[0] in "}&" or inner[0].isalpha())
    key, closed, rest = inner[1:].partition(inner[0])
    if _ODD.search(key):
        return False
    if state.strict and not closed:
        return not any(first.startswith(key) for first in FIRST_KEYS)
    if state.strict and key not in FIRST_KEYS:
        return True
    rest = rest.lstrip()
    if rest and rest[0] != ":":
        return state.strict
    value = rest[1:].lstrip()
    naming = key in NAMING_KEYS if state.strict else key == "name"
    if not naming or value[:1] not in ('"', "'"):
        return False
    name, closed, rest = value[1:].partition(value[0])
    plain = _ODD.split(name)[0]
    if plain and name_key(plain) not in state.tools.prefixes:
        return True
    if plain != name or not closed:
        return False
    return rest.lstrip()[:1] in (",", "}") and state.tools.find(name) is None


def _note_name(state: BodyState, text: str) -> None:
    """Note the tool that a complete or cut object names."""
    named = _JSON_NAME.search(text)
    keyed = None if state.strict else _KEY_NAME.match(text)
    if keyed is not None:
        state.tool = state.tools.find(keyed.group(1))
    if state.tool is None and named is not None:
        name, whole = named.groups()
        if whole:
            state.tool = state.tools.find(name)
        elif not state.strict:
            state.tool = state.tools.starting_with(name)
