"""Text that arrives in pieces, read by small generators.

A reading method `yield`s when it needs more text and goes on when more was fed, so
a body machine is written as straight code and still scans each character once: what
lies behind `pos` is dropped from view and only its source is kept. Every method
decides by the characters alone, never by where the pieces were cut.
"""

import re
from collections.abc import Generator, Iterable

_SPACE_RUN = re.compile(r"\s*")


class Marks:
    """A set of literal markers that is searched and matched longest first."""

    def __init__(self, literals: Iterable[str]) -> None:
        ordered = sorted(set(literals), key=lambda one: (-len(one), one))
        self.literals = tuple(ordered)
        self.regex = re.compile("|".join(map(re.escape, ordered)))
        self.prefixes = {one[:n] for one in ordered for n in range(1, len(one))}
        self.pairs = {one[:2] for one in ordered}
        self.longest = max(map(len, ordered))
        self._leads = re.compile(
            "[" + re.escape("".join({o[0] for o in ordered})) + "]"
        )
        self._by_pair: dict[str, list[str]] = {}
        for one in ordered:
            self._by_pair.setdefault(one[:2], []).append(one)

    def match(self, text: str, pos: int) -> str | None:
        """The longest marker that stands at `pos`."""
        for one in self._by_pair.get(text[pos : pos + 2], ()):
            if text.startswith(one, pos):
                return one
        lead = text[pos : pos + 1]
        return lead if lead in self._by_pair else None

    def begins(self, text: str, pos: int) -> bool:
        """Whether `text` ends, after `pos`, amid a marker that begins there."""
        return len(text) - pos < self.longest and text[pos:] in self.prefixes

    def tail(self, text: str, pos: int) -> int:
        """Where a marker that is not complete yet begins at the end of `text`."""
        start = max(pos, len(text) - self.longest + 1)
        for lead in self._leads.finditer(text, start):
            if text[lead.start() :] in self.prefixes:
                return lead.start()
        return len(text)


class Window:
    """The unread end of a growing text, and the source of all of it.

    Offsets count from the first character the window was opened on; `pos` is an
    index into `text`, the part that is still in view.
    """

    __slots__ = ("_base", "_parts", "ended", "pos", "starved", "text", "truncated")

    def __init__(self, text: str, pos: int) -> None:
        self.text = text
        self.pos = pos
        self.ended = False
        self.truncated = False
        self.starved = False  # a reader wanted more when the text had ended
        self._base = 0
        self._parts = [text]

    @property
    def offset(self) -> int:
        """How many characters lie before the reading position."""
        return self._base + self.pos

    def feed(self, chunk: str) -> None:
        """Append `chunk` and drop from view what has been read."""
        self._parts.append(chunk)
        self.text = self.text[self.pos :] + chunk
        self._base += self.pos
        self.pos = 0

    def end(self, *, truncated: bool) -> None:
        """No more text comes."""
        self.ended = True
        self.truncated = truncated

    def cut(self, start: int, stop: int | None = None) -> str:
        """The source between two offsets."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0][start:stop]

    def space(self) -> Generator[None, None, None]:
        """Skip white space."""
        while True:
            found = _SPACE_RUN.match(self.text, self.pos)
            if found is not None:
                self.pos = found.end()
            if self.pos < len(self.text):
                return
            if self.ended:
                self.starved = True
                return
            yield

    def peek(self) -> Generator[None, None, str]:
        """The next character, "" at the end."""
        while self.pos >= len(self.text):
            if self.ended:
                self.starved = True
                return ""
            yield
        return self.text[self.pos]

    def glance(self) -> Generator[None, None, str]:
        """The next character behind blanks, "" at the end; nothing is read."""
        ahead = 0
        while True:
            while self.text[self.pos + ahead : self.pos + ahead + 1] in (" ", "\t"):
                ahead += 1
            if self.pos + ahead < len(self.text):
                return self.text[self.pos + ahead]
            if self.ended:
                return ""
            yield

    def mark(
        self, marks: Marks, *, consume: bool = True
    ) -> Generator[None, None, str | None]:
        """The longest of `marks` that stands here, None when there is none."""
        while True:
            rest = len(self.text) - self.pos
            if (
                rest < marks.longest
                and not self.ended
                and (not rest or self.text[self.pos :] in marks.prefixes)
            ):
                yield
                continue
            found = marks.match(self.text, self.pos)
            if (self.ended and self.text[self.pos :] in marks.prefixes) or not rest:
                self.starved = True
            if found is not None and consume:
                self.pos += len(found)
            return found

    def find(self, marks: Marks) -> Generator[None, None, str | None]:
        """Go to the next of `marks` (not over it); None and at the end if none comes."""
        while True:
            found = marks.regex.search(self.text, self.pos)
            if found is not None:
                self.pos = found.start()
                return (yield from self.mark(marks, consume=False))
            if self.ended:
                self.pos = len(self.text)
                self.starved = True
                return None
            self.pos = marks.tail(self.text, self.pos)
            yield

    def upto(
        self, literal: str, limit: int, *, start: int = 0, consume: bool = True
    ) -> Generator[None, None, str | None]:
        """The text before `literal`, which must come within `limit` characters.

        Reading begins `start` characters ahead; the literal is skipped, too. None, and
        nothing read, when it does not come.
        """
        while True:
            begin = self.pos + start
            found = self.text.find(literal, begin, begin + limit + len(literal))
            if found >= 0:
                text = self.text[begin:found]
                if consume:
                    self.pos = found + len(literal)
                return text
            if len(self.text) - begin >= limit + len(literal):
                return None
            if self.ended:
                self.starved = True
                return None
            yield
