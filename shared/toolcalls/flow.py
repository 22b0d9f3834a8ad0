"""The visible text around calls: passed on at once, up to where a call may begin."""

import re

from shared.toolcalls.dialects import TAG_HEAD_MARKS
from shared.toolcalls.families import (
    FRAME_ENDS,
    FRAME_MARKS,
    OPEN_MARKS,
    OPENERS,
    THOUGHT_MARKS,
    THOUGHT_OPENERS,
)
from shared.toolcalls.fences import CodeTracker
from shared.toolcalls.leak import Site
from shared.toolcalls.pieces import Markup, Piece, VisibleText
from shared.toolcalls.toolset import Toolset, name_key
from shared.toolcalls.window import Marks

# Where something may begin or end: code, a marker, a bracket, a sentence.
_SPECIAL = re.compile(r"[`~\n<>\[\]{}.!?:;*…。！？：；]")
_SPECIAL_IN_FENCE = re.compile(r"[`~\n]")
_SENTENCE_ENDS = frozenset(">.!?:;*…。！？：；")
_QUOTES = frozenset("\"'“„«‘‚「『")
_BEFORE_CLOSING_QUOTE = frozenset(".!?…)]}")
_MARK_PAIRS = OPEN_MARKS.pairs | TAG_HEAD_MARKS.pairs
_WORD_PAIRS = {one[:2] for one in (*OPEN_MARKS.literals, "call:") if one[0].isalpha()}
_HTML_MARKS = Marks(["<code>", "</code>", "<pre>", "</pre>"])
_TAIL = 24
# A tool's result, or a line of a Python session.
_RESULT = re.compile(
    r"(?:Observation:|<\|?tool_(?:response|output)\|?>|>>> |In \[\d+\]:)\s*$"
)
# Openers of families that only talk about calls in their thoughts.
_NOT_IN_THOUGHTS = tuple(
    opener
    for opener, rows in OPENERS.items()
    if opener[0] == "<" and not any(row.thoughts for row in rows)
)
_TAG_MARKS = (OPEN_MARKS, TAG_HEAD_MARKS)
_WORD_INITIALS = {pair[0] for pair in _WORD_PAIRS}
_BLANKS = re.compile(r"[ \t]*")
_LONGEST_RUN = 100  # of backticks or tildes; a longer one counts as several


class TextFlow:
    """Follows what is shown, to tell where a call may begin and where it cannot.

    `held` is the end of the text that is not passed on yet: a run of backticks, or a
    tag that may go on. `closers` are those of wrappers whose calls were read.
    """

    def __init__(self, tools: Toolset, *, thoughts: bool) -> None:
        self.held = ""
        self.closers: frozenset[str] = frozenset()
        self._name_pairs = tools.pairs
        self._name_initials = {pair[0] for pair in tools.pairs}
        self._code = CodeTracker()
        self._sentence = True  # a sentence or line may begin here
        self._fresh = True  # the message has shown nothing yet
        self._framed = False  # the message is in a format that frames all of it
        self._thoughts = self._always_thoughts = thoughts
        self._depth = 0  # brackets open in the visible text
        self._talk = False  # this paragraph talks about markers
        self._tail = ""  # the last characters that were shown
        self._html_code = False  # in an HTML element of code, or behind a lone tag

    def passes(self, text: str) -> bool:
        """Whether nothing in `text` can matter; it is then passed on as it is."""
        if self._sentence or self.held or _SPECIAL.search(text) is not None:
            return False
        self._code.plain(text)
        self._tail = (self._tail + text)[-_TAIL:]
        return True

    def site(self) -> Site:
        """Where the text stands now."""
        return Site(
            sentence=self._sentence and not self._depth,
            line=self._code.at_line_start,
            message=self._fresh,
            thoughts=self._thoughts,
        )

    def after_calls(self, closers: frozenset[str]) -> None:
        """The text goes on behind calls that left `closers` to come."""
        self.closers = closers
        self._code.plain(".")
        self._tail = ""
        self._sentence = self._framed = True
        self._fresh = False

    def advance(
        self, text: str, at: int, refused: int, out: list[Piece], *, ended: bool
    ) -> int | None:
        """Show text from `at` on until a call may begin: where, or None at its end.

        At `refused` no call begins. What cannot be told yet is left in `held`.
        """
        begin = at
        while True:
            if self._sentence:
                word = _behind_blanks(text, at)
                self._pass_plain(text[at:word])
                at = word
                if at != refused and self._word_begins(text, at, ended):
                    self._show(text, begin, at, out)
                    return at
            deaf = self._code.in_fence and not self._thoughts
            pattern = _SPECIAL_IN_FENCE if deaf else _SPECIAL
            found = pattern.search(text, at)
            special = len(text) if found is None else found.start()
            self._pass_plain(text[at:special])
            if found is None:
                self._show(text, begin, special, out)
                return None
            if special != refused and self._may_begin(text, special, ended):
                self._show(text, begin, special, out)
                begin = special
                if not self._is_quoted():
                    return special
                if not ended and _is_marker_part(text, special):
                    self.held = text[special:]
                    return None
                self._talk = self._talk or _is_marker(text, special)
            size = self._frame_size(text, special, ended)
            if size:
                self._show(text, begin, special, out)
                out.append(Markup(text[special : special + size]))
                begin = at = special + size
                continue
            if size is not None:
                size = self._pass_special(text, special, ended)
            if not size:
                self.held = text[special:]
                self._show(text, begin, special, out)
                return None
            at = special + size

    def _show(self, text: str, start: int, stop: int, out: list[Piece]) -> None:
        if stop > start:
            out.append(VisibleText(text[start:stop]))
            self._tail = (self._tail + text[max(start, stop - _TAIL) : stop])[-_TAIL:]

    # Where a call may begin

    def _word_begins(self, text: str, at: int, ended: bool) -> bool:
        """Whether the word at the start of a sentence may open a call."""
        if self._depth or self._thoughts or self._no_calls():
            return False
        pair = text[at : at + 2]
        if len(pair) == 2 or ended:
            return pair in _WORD_PAIRS or name_key(pair) in self._name_pairs
        return pair in _WORD_INITIALS or name_key(pair) in self._name_initials

    def _no_calls(self) -> bool:
        return self._talk or self._code.in_code or self._html_code

    def _may_begin(self, text: str, at: int, ended: bool) -> bool:
        """Whether a marker or bracket at `at` may open a call."""
        char = text[at]
        if self._no_calls() or (self._thoughts and char != "<"):
            return False
        if char == "`":
            whole_run = at + 3 < len(text) or ended
            fence = text.startswith("```", at) and not text.startswith("````", at)
            return fence and whole_run and self._code.at_line_start
        if char not in "<>[]{":
            return False
        if char in "{[" and self._sentence and not self._depth:
            return True
        if char == "{":
            return False
        pair = text[at : at + 2]
        if self.closers and any(one.startswith(pair) for one in self.closers):
            return True
        return pair in _MARK_PAIRS if len(pair) == 2 else not ended

    def _is_quoted(self) -> bool:
        """Whether what follows is quoted: in quotation marks, a result, a session."""
        if _RESULT.search(self._tail) is not None:
            return True
        if self._thoughts and self._tail.rstrip().endswith(_NOT_IN_THOUGHTS):
            return True
        before, mark = self._tail[-2:-1], self._tail[-1:]
        if mark not in _QUOTES:
            return False
        closing = before.isalnum() or before in _BEFORE_CLOSING_QUOTE
        return mark not in "\"'" or not closing

    def _frame_size(self, text: str, at: int, ended: bool) -> int | None:
        """The length of a frame's marker at `at`, 0: there is none, None: wait."""
        if not (self._fresh or self._framed) or self._code.in_code:
            return 0
        if not ended and FRAME_MARKS.begins(text, at):
            return None
        mark = FRAME_MARKS.match(text, at)
        if mark is None or (mark in FRAME_ENDS and not self._framed):
            return 0
        self._framed = self._sentence = True
        return len(mark)

    # What the text was

    def _pass_plain(self, text: str) -> None:
        if text:
            self._code.plain(text)
            if not text.isspace():
                self._sentence = self._fresh = False

    def _pass_special(self, text: str, at: int, ended: bool) -> int:
        """Note a special character that begins no call; how much was read, 0: wait."""
        char = text[at]
        if char == "\n":
            if self._code.newline():
                self._depth = 0
                self._talk = False
                self._html_code = False
            self._sentence = True
            return 1
        if char in "`~":
            return self._pass_run(text, at, ended)
        if char in "<[" and (self._thoughts or not self._code.in_code):
            if not ended and THOUGHT_MARKS.begins(text, at):
                return 0
            if not ended and _HTML_MARKS.begins(text, at):
                return 0
            if (html := _HTML_MARKS.match(text, at)) is not None:
                self._html_code = not html.startswith("</")
            mark = THOUGHT_MARKS.match(text, at)
            if mark is not None:
                self._pass_thought(mark)
                return len(mark)
        self._code.plain(char)
        self._sentence = char in _SENTENCE_ENDS
        self._fresh = False
        if not self._code.in_code:
            if char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth = max(0, self._depth - 1)
        return 1

    def _pass_run(self, text: str, at: int, ended: bool) -> int:
        end = at
        while end - at < _LONGEST_RUN and text[end : end + 1] == text[at]:
            end += 1
        if end == len(text) and end - at < _LONGEST_RUN and not ended:
            return 0
        self._code.run(text[at], end - at)
        self._sentence = self._fresh = False
        return end - at

    def _pass_thought(self, mark: str) -> None:
        # Code that a thought left open ends with it, and what it talked about.
        self._code = CodeTracker()
        self._talk = False
        self._sentence = True
        opens = mark in THOUGHT_OPENERS
        self._fresh = self._fresh or not opens
        self._thoughts = self._always_thoughts or opens


def _behind_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks is not None else at


def _is_marker(text: str, at: int) -> bool:
    return text[at] == "<" and any(one.match(text, at) for one in _TAG_MARKS)


def _is_marker_part(text: str, at: int) -> bool:
    return text[at] == "<" and any(one.begins(text, at) for one in _TAG_MARKS)
