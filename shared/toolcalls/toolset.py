"""The tools of a request: found by the names that models write for them."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from shared.toolcalls.schema import SchemaFit


class KnownTool:
    """A tool of the request: its name and its parameter schema."""

    def __init__(self, name: str, parameters: Mapping[str, Any]) -> None:
        self.name = name
        self.parameters = parameters

    @cached_property
    def schema(self) -> SchemaFit:
        return SchemaFit(self.parameters)

    @property
    def required(self) -> list[str]:
        return list(self.parameters.get("required") or ())


class Toolset:
    """The known tools, with every prefix of their names for reading in a stream."""

    def __init__(self, tools: Sequence[KnownTool]) -> None:
        self.tools = tuple(tools)
        self._exact = {tool.name: tool for tool in tools}
        self._by_key: dict[str, KnownTool | None] = {}
        for tool in tools:
            key = name_key(tool.name)
            # Two tools that differ only in spelling are found by exact name only.
            self._by_key[key] = None if key in self._by_key else tool
        written = [
            prefix + key for key in self._by_key for prefix in ("", "functions.")
        ]
        self.prefixes = {name[:n] for name in written for n in range(1, len(name) + 1)}
        self.pairs = frozenset(name[:2] for name in written)

    def __bool__(self) -> bool:
        return bool(self.tools)

    def find(self, name: str) -> KnownTool | None:
        """The tool called `name`: exactly, or but for case, `functions.`, `-` and `_`."""
        if name in self._exact:
            return self._exact[name]
        key = name_key(name)
        return self._by_key.get(key) or self._by_key.get(key.removeprefix("functions."))

    def starting_with(self, part: str) -> KnownTool | None:
        """A tool whose name may be what `part` began to spell."""
        key = name_key(part).removeprefix("functions.")
        return next(
            (t for t in self.tools if key and name_key(t.name).startswith(key)), None
        )

    def by_arguments(self, arguments: object) -> KnownTool | None:
        """The only tool that takes `arguments`, all of them by name."""
        if not isinstance(arguments, dict) or not arguments:
            return None
        found = [
            tool
            for tool in self.tools
            if arguments.keys() <= tool.schema.properties.keys()
            and tool.schema.fits(arguments)
        ]
        return found[0] if len(found) == 1 else None


def name_key(name: str) -> str:
    """A name as it is compared: without case, `-` as `_`."""
    return name.casefold().replace("-", "_")


def make_toolset(specs: Sequence[Mapping[str, Any]]) -> Toolset:
    """The toolset of OpenAI tool specs, or of bare `{name, parameters}` objects."""
    functions = []
    for spec in specs:
        function = spec.get("function", spec)
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            functions.append([function["name"], function.get("parameters") or {}])
    return _cached_toolset(json.dumps(functions, default=str))


@lru_cache(maxsize=64)
def _cached_toolset(functions: str) -> Toolset:
    # A scanner is made per message; its schemas are compiled once for all of them.
    return Toolset(
        [KnownTool(name, schema) for name, schema in json.loads(functions) if name]
    )
