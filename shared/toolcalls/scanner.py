"""Finds leaked tool calls in a model's text as it streams in.

Prose flows through with nothing held; a `Leak` reads from wherever a call may begin,
and what it gives back is scanned again from its second character on.
"""

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from shared.toolcalls.dialects import TAG_HEAD_MARKS
from shared.toolcalls.families import (
    FRAME_MARKS,
    OPEN_MARKS,
    THOUGHT_MARKS,
    THOUGHT_OPENERS,
)
from shared.toolcalls.fences import CodeTracker
from shared.toolcalls.leak import Leak, Site
from shared.toolcalls.pieces import Piece, VisibleText
from shared.toolcalls.toolset import make_toolset, name_key
from shared.toolcalls.window import Window

# Where something may begin or end: code, a marker, a bracket, a sentence.
_SPECIAL = re.compile(r"[`~\n<>\[\]{}.!?:;*…。！？：；]")
_SPECIAL_IN_FENCE = re.compile(r"[`~\n]")
_SENTENCE_ENDS = frozenset(">.!?:;*…。！？：；")
_QUOTES = frozenset("\"'“„«‘‚「『")
_CLOSING = frozenset(".!?…)]}")
_MARK_PAIRS = OPEN_MARKS.pairs | TAG_HEAD_MARKS.pairs | FRAME_MARKS.pairs
_WORD_PAIRS = {one[:2] for one in (*OPEN_MARKS.literals, "call:") if one[0].isalpha()}
# Text may be read again behind a false start, but no message can make that endless.
_MOST_READ_AGAIN = 400_000
_LONGEST_RUN = 100  # of backticks or tildes; a longer one counts as several


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
        self._pairs = self._tools.pairs
        self._code = CodeTracker()
        self._leak: Leak | None = None
        self._reading: Generator[None, None, None] | None = None
        self._held = ""  # a run of backticks or part of a tag that may go on
        self._ended = self._truncated = False
        self._sentence = True  # a sentence or line may begin here
        self._tail = ""  # the last two characters that were shown
        self._fresh = True  # the message has shown nothing yet
        self._thoughts = self._always_thoughts = reasoning
        self._depth = 0  # brackets open in the visible text
        self._closers: frozenset[str] = frozenset()  # still to come, to be swallowed
        self._read_again = 0

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain now that `text` has come."""
        if not self._tools:
            return [VisibleText(text)] if text else []
        if (
            self._leak is None
            and not self._sentence
            and not self._held
            and _SPECIAL.search(text) is None
        ):
            self._code.plain(text)
            self._tail = (self._tail + text)[-2:]
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
        if self._leak is None:
            text = self._held + text
            self._held = ""
            at, refused = 0, -1
        else:
            self._leak.window.feed(text)
            if not self._read_on(out):
                return
            text, at, refused = self._leave_leak()
        while True:
            start = self._flow(text, at, refused, out)
            if start is None:
                return
            self._enter_leak(text, start)
            if not self._read_on(out):
                return
            text, at, refused = self._leave_leak()

    def _enter_leak(self, text: str, start: int) -> None:
        window = Window(text, start)
        if self._ended:
            window.end(truncated=self._truncated)
        site = Site(
            sentence=self._sentence and not self._depth,
            line=self._code.at_line_start,
            message=self._fresh,
            thoughts=self._thoughts,
        )
        self._leak = Leak(window, self._tools, site, self._leave_out, self._closers)
        self._reading = self._leak.read()

    def _read_on(self, out: list[Piece]) -> bool:
        """Let the leak read what has come; True when it is over."""
        leak = self._leak
        if leak is None or self._reading is None:
            return True
        over = next(self._reading, self._reading) is self._reading
        if leak.pieces:
            out += leak.pieces
            leak.pieces = []
        return over

    def _leave_leak(self) -> tuple[str, int, int]:
        """The text to go on with, where, and the place that began no call (or -1)."""
        leak = self._leak
        assert leak is not None
        text = leak.window.cut(0)
        self._leak = self._reading = None
        if leak.done > leak.start:
            self._code.plain(".")
            self._closers = leak.left_open()
            self._tail = ""
            self._sentence = True
            self._fresh = False
            return text, leak.done, -1
        self._read_again += leak.window.offset - leak.start
        return text, leak.done, leak.done

    def _flow(self, text: str, at: int, refused: int, out: list[Piece]) -> int | None:
        """Pass text on until a call may begin: where, or None at the end of the text.

        At `refused` no call begins.
        """
        begin = at
        if self._read_again > _MOST_READ_AGAIN:
            self._show(text, begin, len(text), out)
            return None
        while True:
            word = self._word_at(text, at)
            if word is not None and word != refused:
                self._pass_plain(text[at:word])
                self._show(text, begin, word, out)
                return word
            pattern = _SPECIAL_IN_FENCE if self._code.in_fence else _SPECIAL
            found = pattern.search(text, at)
            if found is None:
                self._pass_plain(text[at:])
                self._show(text, begin, len(text), out)
                return None
            special = found.start()
            if special > at:
                self._pass_plain(text[at:special])
            if special != refused and self._may_begin(text, special):
                self._show(text, begin, special, out)
                begin = special
                if not self._is_quoted():
                    return special
            size = self._pass_special(text, special)
            if not size:
                self._held = text[special:]
                self._show(text, begin, special, out)
                return None
            at = special + size

    def _show(self, text: str, start: int, stop: int, out: list[Piece]) -> None:
        if stop > start:
            out.append(VisibleText(text[start:stop]))
            self._tail = (self._tail + text[max(start, stop - 2) : stop])[-2:]

    def _word_at(self, text: str, at: int) -> int | None:
        """Where a word begins that may open a call at the start of a sentence."""
        if not self._sentence or self._depth or self._thoughts or self._code.in_code:
            return None
        while text[at : at + 1] in (" ", "\t"):
            at += 1
        pair = text[at : at + 2]
        if len(pair) == 2 or self._ended:
            return at if pair in _WORD_PAIRS or name_key(pair) in self._pairs else None
        return at if pair else None

    def _may_begin(self, text: str, at: int) -> bool:
        """Whether a marker or bracket at `at` may open a call."""
        char = text[at]
        if char == "`":
            return (
                text.startswith("```", at)
                and not text.startswith("````", at)
                and (at + 3 < len(text) or self._ended)
                and self._code.at_line_start
                and not self._code.in_code
                and not self._thoughts
            )
        if char not in "<>[]{" or self._code.in_code:
            return False
        if self._thoughts and char != "<":
            return False
        if char == "{" or (char == "[" and self._sentence):
            return self._sentence and not self._depth
        pair = text[at : at + 2]
        if self._closers and any(one.startswith(pair) for one in self._closers):
            return True
        return pair in _MARK_PAIRS if len(pair) == 2 else not self._ended

    def _is_quoted(self) -> bool:
        """Whether a quotation mark was just opened: what follows is talked about."""
        before, mark = self._tail[:-1], self._tail[-1:]
        if mark not in _QUOTES:
            return False
        return mark not in "\"'" or not (before.isalnum() or before in _CLOSING)

    def _pass_plain(self, text: str) -> None:
        if text:
            self._code.plain(text)
            if not text.isspace():
                self._sentence = self._fresh = False

    def _pass_special(self, text: str, at: int) -> int:
        """Note a special character that begins no call; how much was read, 0: wait."""
        char = text[at]
        if char == "\n":
            if self._code.newline():
                self._depth = 0
            self._sentence = True
            return 1
        if char in "`~":
            return self._pass_run(text, at)
        if char in "<[" and not self._code.in_code:
            mark = THOUGHT_MARKS.match(text, at)
            if mark is not None:
                self._pass_thought(mark)
                return len(mark)
            if not self._ended and THOUGHT_MARKS.begins(text, at):
                return 0
        self._code.plain(char)
        self._sentence = char in _SENTENCE_ENDS
        self._fresh = False
        if not self._code.in_code:
            if char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth = max(0, self._depth - 1)
        return 1

    def _pass_run(self, text: str, at: int) -> int:
        end = at
        while end - at < _LONGEST_RUN and text[end : end + 1] == text[at]:
            end += 1
        if end == len(text) and end - at < _LONGEST_RUN and not self._ended:
            return 0
        self._code.run(text[at], end - at)
        self._sentence = self._fresh = False
        return end - at

    def _pass_thought(self, mark: str) -> None:
        self._code.plain(mark)
        self._sentence = True
        opens = mark in THOUGHT_OPENERS
        self._fresh = self._fresh or not opens
        self._thoughts = self._always_thoughts or opens


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
