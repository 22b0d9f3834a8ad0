"""Calls that the server parsed itself, where the real arguments stayed in the text."""

import json
from collections.abc import Iterator
from json import JSONDecoder
from typing import Any

from shared.toolcalls.repair import arguments_text, strict_json
from shared.toolcalls.toolset import KnownTool, Toolset

Delta = dict[str, Any]

_NOTHING = frozenset({"", "{", "{}", "null"})
_MOST_OBJECTS = 50


class NativeCall:
    """One native call of a message, as its deltas came in."""

    def __init__(self) -> None:
        self.name = ""
        self.arguments = ""
        self.held: list[Delta] = []
        self.passed = False

    def add(self, delta: Delta) -> None:
        function = delta.get("function") or {}
        self.name += function.get("name") or ""
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            self.arguments += arguments
        elif arguments is not None:
            self.arguments += json.dumps(arguments)
        self.held.append(delta)

    def fits(self, tool: KnownTool) -> bool:
        try:
            return tool.schema.fits(strict_json(self.arguments or "{}"))
        except (ValueError, RecursionError):
            return False

    def release(self) -> list[Delta]:
        """The deltas that were held back; later ones pass at once."""
        held, self.held = self.held, []
        self.passed = True
        return held

    def with_arguments(self, arguments: str) -> Delta:
        """One delta of this call with other arguments."""
        first = self.held[0]
        function = {"name": self.name, "arguments": arguments}
        self.held = []
        self.passed = True
        return {**first, "type": "function", "function": function}


class NativeCalls:
    """The native calls of one message; those that look broken are held to its end."""

    def __init__(self, tools: Toolset) -> None:
        self._tools = tools
        self._calls: dict[int, NativeCall] = {}
        self._numbers: dict[int, int] = {}
        self._taken: set[int] = set()

    def number(self) -> int:
        """An index for a recovered call that no native call has."""
        index = len(self._taken)
        self._taken.add(index)
        return index

    def feed(self, deltas: list[Delta], *, suspicious: bool) -> list[Delta]:
        """The deltas that may go on now.

        A call of a tool that needs arguments waits until some have come; with
        `suspicious` (the text holds calls, too) until the end of the message.
        """
        passing: list[Delta] = []
        for delta in deltas:
            index = delta.get("index")
            if not isinstance(index, int):
                passing.append(delta)
                continue
            call = self._calls.setdefault(index, NativeCall())
            call.add(self._renumbered(delta, index))
            if call.passed or not self._must_wait(call, suspicious):
                passing += call.release()
        return passing

    def _renumbered(self, delta: Delta, index: int) -> Delta:
        if index not in self._numbers:
            free = index not in self._taken
            self._numbers[index] = index if free else len(self._taken)
            self._taken.add(self._numbers[index])
        return {**delta, "index": self._numbers[index]}

    def _must_wait(self, call: NativeCall, suspicious: bool) -> bool:
        tool = self._tools.find(call.name)
        if tool is None or tool.schema.fits({}):
            return False
        return suspicious or call.arguments.strip() in _NOTHING

    def held(self) -> list[tuple[NativeCall, KnownTool]]:
        """The calls that are still held back, each with its tool."""
        return [
            (call, tool)
            for call in self._calls.values()
            if call.held and (tool := self._tools.find(call.name)) is not None
        ]


def arguments_in_text(text: str, tool: KnownTool) -> str | None:
    """The JSON text of the last object in `text` that fits the tool and names one of
    its parameters; None when there is none."""
    known = tool.schema.properties.keys()
    fitting = [
        value
        for value in _objects_in(text)
        if known & value.keys() and tool.schema.fits(value)
    ]
    return arguments_text(fitting[-1]) if fitting else None


def _objects_in(text: str) -> Iterator[dict[str, Any]]:
    decoder = JSONDecoder()
    at = text.find("{")
    for _ in range(_MOST_OBJECTS):
        if at < 0:
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield value
        at = text.find("{", end)
