"""Finds leaked tool calls in a model's text as it streams in.

Prose flows through with nothing held; a `Leak` reads from wherever a call may begin,
and what it gives back is scanned again from its second character on.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from shared.toolcalls.flow import TextFlow
from shared.toolcalls.leak import Leak
from shared.toolcalls.pieces import Piece, VisibleText
from shared.toolcalls.toolset import make_toolset
from shared.toolcalls.window import Window

# Text may be read again behind a false start, but no message can make that endless.
_MOST_READ_AGAIN = 400_000


class ToolCallScanner:
    """One message's scanner. Every character fed comes back in exactly one piece.

    `tools` are the request's tool specs: OpenAI's `{"type": "function", "function":
    {name, parameters}}` or bare `{name, parameters}`. `leave_out` names families that
    are not recovered. `reasoning`: the text is the model's thoughts, where only some
    families call tools.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]],
        *,
        leave_out: frozenset[str] = frozenset(),
        reasoning: bool = False,
    ) -> None:
        self._tools = make_toolset(tools)
        self._leave_out = leave_out
        self._flow = TextFlow(self._tools, thoughts=reasoning)
        self._leak: Leak | None = None
        self._reading: Generator[None, None, None] | None = None
        self._ended = self._truncated = False
        self._read_again = 0

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain now that `text` has come."""
        if not self._tools or (self._leak is None and self._flow.passes(text)):
            return [VisibleText(text)] if text else []
        out: list[Piece] = []
        self._scan(text, out)
        return out

    def finish(self, *, truncated: bool = False) -> list[Piece]:
        """The rest, at the end of the message; `truncated`: by the length limit."""
        out: list[Piece] = []
        if self._tools and not self._ended:
            self._ended = True
            self._truncated = truncated
            if self._leak is not None:
                self._leak.window.end(truncated=truncated)
            self._scan("", out)
        return out

    def _scan(self, text: str, out: list[Piece]) -> None:
        at, refused = 0, -1
        if self._leak is None:
            text = self._flow.held + text
            self._flow.held = ""
        else:
            self._leak.window.feed(text)
            if not self._read_on(self._leak, out):
                return
            text, at, refused = self._leave(self._leak)
        while True:
            if self._read_again > _MOST_READ_AGAIN:
                out += [VisibleText(text[at:])] if at < len(text) else []
                return
            start = self._flow.advance(text, at, refused, out, ended=self._ended)
            if start is None:
                return
            leak = self._enter(text, start)
            if not self._read_on(leak, out):
                return
            text, at, refused = self._leave(leak)

    def _enter(self, text: str, start: int) -> Leak:
        window = Window(text, start)
        if self._ended:
            window.end(truncated=self._truncated)
        flow = self._flow
        leak = Leak(window, self._tools, flow.site(), self._leave_out, flow.closers)
        self._leak = leak
        self._reading = leak.read()
        return leak

    def _read_on(self, leak: Leak, out: list[Piece]) -> bool:
        """Let the leak read what has come; True when it is over."""
        over = self._reading is None or next(self._reading, leak) is leak
        if leak.pieces:
            out += leak.pieces
            leak.pieces = []
        return over

    def _leave(self, leak: Leak) -> tuple[str, int, int]:
        """The text to go on with, where, and the place that began no call (or -1)."""
        self._leak = self._reading = None
        text = leak.window.cut(0)
        if leak.done > leak.start:
            self._flow.after_calls(leak.left_open())
            return text, leak.done, -1
        self._read_again += leak.window.offset - leak.start
        return text, leak.done, leak.done


def recover(
    text: str,
    tools: Sequence[Mapping[str, Any]],
    *,
    truncated: bool = False,
    leave_out: frozenset[str] = frozenset(),
    reasoning: bool = False,
) -> list[Piece]:
    """The pieces of a whole text, as streaming it in any chunks would give them."""
    scanner = ToolCallScanner(tools, leave_out=leave_out, reasoning=reasoning)
    return scanner.feed(text) + scanner.finish(truncated=truncated)
