"""Calls inside a model's thoughts, where they come in fields of their own."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from shared.toolcalls.pieces import Piece, RecoveredCall, VisibleText
from shared.toolcalls.scanner import ToolCallScanner

# Thoughts are scanned for the families that call there (auto), for all (on), or not.
ThoughtScan = Literal["auto", "on", "off"]

_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")


class ThoughtStream:
    """Reads the thoughts of one choice.

    `calls` are those found so far. With `waits`, a model that goes on to answer had
    only thought of calling: `take_back` returns the calls' text to the thoughts.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]],
        leave_out: frozenset[str],
        scan: ThoughtScan,
    ) -> None:
        self.calls: list[RecoveredCall] = []
        self.waits = scan == "auto"
        self._taken: list[str] = []  # the source of the calls, markup included
        self._field = _THOUGHT_FIELDS[0]
        self._scanner: ToolCallScanner | None = None
        if scan != "off":
            self._scanner = ToolCallScanner(
                tools, leave_out=leave_out, reasoning=scan == "auto"
            )

    def read(self, delta: dict[str, Any]) -> None:
        """Take the calls out of a chunk's thoughts."""
        if self._scanner is None:
            return
        for key in _THOUGHT_FIELDS:
            text = delta.get(key)
            if isinstance(text, str) and text:
                self._field = key
                del delta[key]
                self._show(delta, self._scanner.feed(text))

    def end(self, delta: dict[str, Any], *, truncated: bool) -> None:
        """Release what is held."""
        if self._scanner is not None:
            self._show(delta, self._scanner.finish(truncated=truncated))

    def take_back(self, delta: dict[str, Any]) -> None:
        """Show the calls as the thoughts they were."""
        self._think(delta, "".join(self._taken))
        self._taken = []
        self.calls = []

    def _show(self, delta: dict[str, Any], pieces: list[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, VisibleText):
                self._think(delta, piece.text)
                continue
            self._taken.append(piece.raw)
            if isinstance(piece, RecoveredCall):
                self.calls.append(piece)

    def _think(self, delta: dict[str, Any], text: str) -> None:
        if text:
            delta[self._field] = delta.get(self._field, "") + text
