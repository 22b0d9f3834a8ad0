"""What every body machine shares: where it reads, and what a call must be to count."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.toolcalls.families import SEPARATORS, BodyKind, family_label
from shared.toolcalls.repair import arguments_text, possible_arguments
from shared.toolcalls.toolset import KnownTool, Toolset
from shared.toolcalls.window import Window

LONGEST_HEAD = 300  # characters of a tag, or of an object before it must name its tool
_WHOLE_END = re.compile(r"""(?:["'}\]]|true|false|null|True|False|None)\s*$""")


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A known tool and the JSON text of arguments that fit it."""

    tool: KnownTool
    arguments: str


@dataclass(slots=True)
class BodyState:
    """The body that is being read.

    `opener` is the wrapper before it. `strict`: there was none, so only the plain
    shapes count; `listed`: it stands in brackets, where Python calls do; `first`: no
    call was read before it; `alone`: the message begins here, so a tool's name may be a
    line of its own. The readers note in `tool` and `family` whose body it is, and in
    `fenced` that they opened a code fence. `trusted`: the wrapper is a special
    token, which nobody types, so there is no doubt that a call was meant.
    """

    window: Window
    tools: Toolset
    opener: str | None
    strict: bool
    listed: bool = False
    first: bool = True
    alone: bool = False
    tool: KnownTool | None = None
    family: str = ""
    fenced: bool = False
    trusted: bool = False

    def label(self, body: BodyKind, separator: str | None = None) -> None:
        """Name the family by its separator, else by opener and body."""
        told = SEPARATORS.get(separator) if separator else None
        self.family = told or family_label(self.opener, body)

    def may_close(self, text: str) -> bool:
        """Whether missing brackets may be added: nothing was cut off amid a value."""
        if not self.window.starved:  # the wrapper was closed
            return True
        return not self.window.truncated and _WHOLE_END.search(text) is not None

    def find_tool(self, name: str) -> KnownTool | None:
        """The tool of a written name, blanks and quotes around it aside."""
        plain = name.strip()
        for candidate in (name, plain, plain.strip("\"'")):
            tool = self.tools.find(candidate)
            if tool is not None:
                return tool
        return None

    def fit(
        self, tool: KnownTool, arguments: object, *, as_meant: bool = True
    ) -> list[FoundCall]:
        """The call of `tool`, [] when the arguments do not fit its schema.

        Behind a special token they need not (`as_meant`): as with a server's own
        parser, the tool tells the model what is wrong with them.
        """
        fitted = tool.schema.fitted(arguments)
        if fitted is None and as_meant and self.trusted and isinstance(arguments, dict):
            fitted = arguments
        if fitted is None:
            return []
        known = tool.schema.properties.keys()
        if self.strict and fitted and known and not known & fitted.keys():
            return []
        try:
            return [FoundCall(tool, arguments_text(fitted))]
        except (ValueError, RecursionError):  # what JSON has no words for
            return []

    def fit_first(self, tool: KnownTool, readings: Iterable[Any]) -> list[FoundCall]:
        """The call with the first of several readings of its arguments that fits."""
        seen = []
        for arguments in readings:
            if found := self.fit(tool, arguments, as_meant=False):
                return found
            seen.append(arguments)
        return self.fit(tool, seen[0]) if seen else []

    def fit_all(self, calls: Iterable[tuple[str, Any]]) -> list[FoundCall]:
        """All of the calls, [] when one of them is of no known tool or does not fit."""
        fitting: list[FoundCall] = []
        for name, arguments in calls:
            tool = self.tools.find(name)
            if tool is None:
                return []
            self.tool = tool
            found = self.fit_first(tool, possible_arguments(arguments))
            if not found:
                return []
            fitting += found
        return fitting


def only_text_parameter(tool: KnownTool) -> str | None:
    """The parameter of a tool that takes one required text and nothing else."""
    names = list(tool.schema.properties)
    if len(names) != 1 or tool.required != names:
        return None
    kind = tool.schema.properties[names[0]].get("type")
    return names[0] if kind == "string" else None
