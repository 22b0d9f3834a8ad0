"""Tool calls that arrive in fragments, as Chat Completions streams them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.events import (
    AgentEvent,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
)
from shared.ids import new_id


@dataclass(slots=True)
class PartialToolCall:
    """A call under way."""

    call_id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    completed: bool = False


class ToolCallAssembler:
    """Merges fragments by index into calls, and tells of them as they grow.

    Servers differ: some leave `index` out, some give every call the index 0 and a
    new id, some send arguments as an object. All of these are one call each here.
    """

    def __init__(self) -> None:
        self._calls: list[PartialToolCall] = []
        self._by_index: dict[int, PartialToolCall] = {}

    def feed(self, fragments: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        """Fragments of `delta.tool_calls` in, events out."""
        events: list[AgentEvent] = []
        for fragment in fragments:
            function = fragment.get("function") or {}
            call = self._find(fragment, function)
            name = str(function.get("name") or "")
            if name and not call.name:
                call.name = name
                events.append(ToolCallStarted(call.call_id, name))
                held = "".join(call.arguments)
                if held:
                    events.append(ToolCallArgumentsDelta(call.call_id, held))
            arguments = function.get("arguments")
            if arguments is None or arguments == "":
                continue
            if not isinstance(arguments, str):
                arguments = orjson.dumps(arguments).decode()
            call.arguments.append(arguments)
            if call.name:
                events.append(ToolCallArgumentsDelta(call.call_id, arguments))
        return events

    def complete(self) -> list[AgentEvent]:
        """Every call begun so far is whole; a call without arguments has `{}`."""
        events: list[AgentEvent] = []
        for call in self._calls:
            if not call.completed and call.name:
                call.completed = True
                arguments = "".join(call.arguments).strip() or "{}"
                events.append(ToolCallCompleted(call.call_id, call.name, arguments))
        self._by_index.clear()
        return events

    def _find(
        self, fragment: Mapping[str, Any], function: Mapping[str, Any]
    ) -> PartialToolCall:
        index = fragment.get("index")
        call_id = str(fragment.get("id") or "")
        if index is None:
            same = [c for c in self._calls if not c.completed and c.call_id == call_id]
            known = same[-1] if same else None
            if known is None and not call_id and not function.get("name"):
                known = self._calls[-1] if self._calls else None
        else:
            known = self._by_index.get(index)
            if (
                known is not None
                and call_id
                and call_id != known.call_id
                and function.get("name")
            ):
                known = None
        if known is None:
            if not call_id or any(call.call_id == call_id for call in self._calls):
                call_id = new_id("call")
            known = PartialToolCall(call_id)
            self._calls.append(known)
            if index is not None:
                self._by_index[index] = known
        return known
