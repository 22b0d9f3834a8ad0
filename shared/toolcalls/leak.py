"""One leaked call, or a run of them: the grammar `opener* body closer*`.

A `Leak` reads from where a call may begin and returns when what follows is none. Behind
a wrapper it hands out each call at once; where only the surroundings tell a call from
an example (no wrapper, a fence, a list) it keeps them until it knows.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from json import JSONDecoder
from typing import Literal

from shared.toolcalls.bodies import read_body
from shared.toolcalls.bodystate import BodyState, FoundCall
from shared.toolcalls.dialects import TAG_HEAD_MARKS
from shared.toolcalls.families import (
    CLOSE_MARKS,
    INNER_OPENERS,
    OPEN_MARKS,
    OPENERS,
    closers_of,
)
from shared.toolcalls.pieces import (
    CutCall,
    Markup,
    Piece,
    RecoveredCall,
    VisibleText,
)
from shared.toolcalls.toolset import Toolset
from shared.toolcalls.window import Marks, Window

_LONGEST_INFO = 20
_FENCE_END = Marks(["```"])
_JOINTS = Marks([",", ";"])
_MINIMAX = Marks(["]<]minimax["])  # its tags begin with a bracket
_OBSERVATION = Marks(["Observation:", "Observation"])
# What goes on with a sentence, so that the call before it was an example in it.
_GOES_ON = frozenset(",.:+=*/%|&\"'!?([)}]-–—…")


# What tells a call from an example: nothing goes on with its sentence; nothing else is in
# the message; no sentence goes on behind its fence; no result follows it.
Proof = Literal["sentence", "message", "fence", "react"]


@dataclass(frozen=True, slots=True)
class Site:
    """What begins where a leak may begin: a sentence, a line, the message; thoughts."""

    sentence: bool
    line: bool
    message: bool
    thoughts: bool


class Leak:
    """Reads one run of calls from `window`, which stands where it may begin.

    `pieces` grows while `read` runs, and `done` is the offset up to which they reach.
    """

    def __init__(
        self,
        window: Window,
        tools: Toolset,
        site: Site,
        leave_out: frozenset[str],
        closers: frozenset[str],
    ) -> None:
        self.window = window
        self.pieces: list[Piece] = []
        self.done = window.offset
        self.start = window.offset
        self._reached = window.offset  # with the pieces that are kept back
        self._kept: list[Piece] = []
        self._site = site
        self._leave_out = leave_out
        self._tools = tools
        self._openers_read: list[str] = []
        self._closed: set[str] = set()
        self.closers = closers  # of wrappers that earlier calls left open
        self._no_tool = True  # the last body named none
        self._wrapped = False  # the calls stand in a wrapper
        self._sure = False  # a wrapper told that these are calls
        self._proof: Proof = "sentence"
        self._list = False  # brackets were opened
        self._open = False  # the wrapper or list has not been closed
        self._fenced = False  # nor has the fence
        self._ends = False  # the last call ends its sentence or line
        self._said: list[FoundCall] = []  # in the wrapper that is open
        self._echo: list[FoundCall] = []  # in the closed one, to be said once more

    def read(self) -> Generator[None, None, None]:
        """Read calls until there is none."""
        if (yield from self._owed_closer()) or not (yield from self._call(first=True)):
            return
        while True:
            yield from self._closers()
            alone = self._sure or (yield from self._stands_alone())
            if not (yield from self._call(first=False)):
                break
        if not self._sure and self._open:
            alone = self._starved()
        if alone or self._dangles():
            self._publish()
        if self._dangles() and self.done == self._reached:
            self._keep(Markup(self.window.cut(self._reached)))
            self._reached = self._end()
            self._publish()

    def _starved(self) -> bool:
        """Whether the text ended before the last thing that was tried could."""
        return self.window.ended and self.window.starved

    def _end(self) -> int:
        return self.window.offset + len(self.window.text) - self.window.pos

    def _dangles(self) -> bool:
        """Whether the text ended where markup of a next call had only begun."""
        rest = self.window.cut(self._reached).strip()
        return (
            self._starved() and self._no_tool and rest != "" and not rest[0].isalnum()
        )

    def _owed_closer(self) -> Generator[None, None, bool]:
        """Swallow a closer whose call was read before."""
        if not self.closers:
            return False
        mark = yield from self.window.mark(_marks_of(self.closers))
        if mark is None:
            return False
        self.closers -= {mark}
        self._keep(Markup(mark))
        self._reached = self.window.offset
        self._publish()
        return True

    def _call(self, *, first: bool) -> Generator[None, None, bool]:
        """Read one call and take it; False when there is none."""
        window = self.window
        window.starved = False
        self._no_tool = True
        if not first:
            yield from window.space()
            if (yield from window.mark(_JOINTS)) is not None:
                yield from window.space()
        openers = yield from self._openers(first)
        if openers is None:
            return False
        outer = [one for one in openers if one not in INNER_OPENERS]
        if first:
            self._proof = _needed_proof(openers, outer)
        before = self._list, self._fenced, self._open
        self._list = self._list or "[" in openers
        self._fenced = self._fenced or any(one.startswith("```") for one in openers)
        self._open = self._open or bool(openers)
        body = BodyState(
            window,
            self._tools,
            opener=next(reversed(outer or openers), None),
            strict=not (outer or (self._open and self._wrapped)),
            listed=self._list,
            first=first,
            alone=first and self._site.message,
        )
        calls = yield from read_body(body)
        if body.family in self._leave_out:
            if calls:  # or what stands in the wrapper would be found on its own
                self._keep(VisibleText(window.cut(self._reached, window.offset)))
                self._reached = window.offset
                self._publish()
            return False
        if calls:
            self._openers_read += openers
            self._wrapped = self._wrapped or bool(outer)
            if not self._is_echo(calls, bool(outer)):
                yield from self._take(calls, body)
            return True
        self._list, self._fenced, self._open = before
        self._no_tool = body.tool is None
        if window.truncated and self._starved() and body.tool is not None:
            self._keep(CutCall(body.family, window.cut(self._reached)))
            self._reached = self._end()
            self._publish()
        return False

    def _openers(self, first: bool) -> Generator[None, None, list[str] | None]:
        """The openers that stand here; None when a call may not begin with them."""
        found: list[str] = []
        while True:
            mark = yield from self.window.mark(OPEN_MARKS)
            if mark is None:
                break
            if not self._may_open(mark, first and not found):
                return None
            if mark == "```":
                info = yield from self.window.upto("\n", _LONGEST_INFO)
                if info is None or not (info.strip() or "x").isidentifier():
                    return None
            found.append(mark)
            if mark != ">>>":
                yield from self.window.space()
        if found or not self._site.thoughts:
            return found
        head = yield from self.window.mark(TAG_HEAD_MARKS, consume=False)
        return found if head == "<function=" or not first else None

    def _may_open(self, mark: str, outermost: bool) -> bool:
        rows = OPENERS[mark]
        if self._site.thoughts and not any(row.thoughts for row in rows):
            return mark == "["
        if not outermost:
            return True
        here = {"any"}
        if self._site.sentence:
            here.add("stand")
        if self._site.line:
            here.add("line")
        if self._site.message:
            here.add("start")
        return any(row.place in here for row in rows)

    def _is_echo(self, calls: list[FoundCall], wrapped: bool) -> bool:
        """Swallow calls that repeat, without an opener, those of a closed wrapper.

        LFM2 does so; nobody wants a thing to be done twice for that.
        """
        if wrapped or calls != self._echo[: len(calls)]:
            self._said += calls if wrapped or self._said else []
            self._echo = []
            return False
        del self._echo[: len(calls)]
        self._keep(Markup(self.window.cut(self._reached, self.window.offset)))
        self._reached = self.window.offset
        if self._sure:
            self._publish()
        return True

    def _take(
        self, calls: list[FoundCall], body: BodyState
    ) -> Generator[None, None, None]:
        if not body.strict and self._proof == "sentence":
            self._sure = True
        self._fenced = self._fenced or body.fenced
        sources = _sources(
            self.window.cut(self._reached, self.window.offset), len(calls)
        )
        for call, raw in zip(calls, sources, strict=True):
            self._keep(RecoveredCall(call.tool.name, call.arguments, body.family, raw))
        self._reached = self.window.offset
        self._ends = yield from self._at_sentence_end()
        if self._sure:
            self._publish()

    def _closers(self) -> Generator[None, None, None]:
        """Swallow what closes the wrapper, with the white space before it."""
        window = self.window
        while True:
            yield from window.space()
            if (closer := (yield from window.mark(CLOSE_MARKS))) is not None:
                self._open = False
                self._closed.add(closer)
                if self._said:
                    self._echo, self._said = self._said, []
            elif window.ended and CLOSE_MARKS.begins(window.text, window.pos):
                window.pos = len(window.text)
            elif self._fenced and (yield from window.mark(_FENCE_END)) is not None:
                self._fenced = self._open = False
            elif (
                self._fenced
                and window.ended
                and _FENCE_END.begins(window.text, window.pos)
            ):
                window.pos = len(window.text)
            elif (yield from self._is_stray_bracket()):
                window.pos += 1
            else:
                return
            self._keep(Markup(window.cut(self._reached, window.offset)))
            self._reached = window.offset
            if self._sure:
                self._publish()
            else:
                self._ends = yield from self._at_sentence_end()

    def _is_stray_bracket(self) -> Generator[None, None, bool]:
        """Whether a closing bracket comes that belongs to the call before it."""
        bracket = yield from self.window.peek()
        if bracket not in ("]", "}", ")"):
            return False
        cut_tag = self.window.ended and len(self.window.text) - self.window.pos > 1
        if cut_tag and _MINIMAX.begins(self.window.text, self.window.pos):
            return False
        if (yield from self.window.mark(_MINIMAX, consume=False)) is not None:
            return False
        adjacent = self.window.offset == self._reached
        if not self._open and not (adjacent and not self._sure and bracket != ")"):
            return False
        if not self._sure and bracket == "]":
            self._open = False
        return True

    def _stands_alone(self) -> Generator[None, None, bool]:
        """Whether what follows calls without a wrapper tells that they are calls."""
        window = self.window
        if self._proof == "sentence":
            return self._ends
        following = yield from window.peek()
        if self._proof == "message":
            return following == ""
        if self._proof == "fence":
            return not following.islower()
        # A model that calls stops here; in an example the result follows.
        if (yield from window.mark(_OBSERVATION)) is None:
            return True
        yield from window.space()
        return (yield from window.peek()) == ""

    def _at_sentence_end(self) -> Generator[None, None, bool]:
        char = yield from self.window.glance()
        if not char or char.isupper():
            return True
        return not (char.islower() or char.isdigit() or char in _GOES_ON)

    def left_open(self) -> frozenset[str]:
        """The closers that may still come for the calls that were read."""
        return frozenset(closers_of(self._openers_read) - self._closed | self.closers)

    def _keep(self, piece: Piece) -> None:
        self._kept.append(piece)

    def _publish(self) -> None:
        self.pieces += self._kept
        self._kept = []
        self.done = self._reached


@lru_cache(maxsize=64)
def _marks_of(closers: frozenset[str]) -> Marks:
    return Marks(closers)


def _needed_proof(openers: list[str], outer: list[str]) -> Proof:
    if outer == ["Action:"] and "```json" not in openers:
        return "react"
    if not openers or OPENERS[openers[0]][0].place == "any":
        return "sentence"
    if openers[0] == "```tool_code":
        return "fence"
    return "message" if openers[0].startswith("```") else "sentence"


def _sources(raw: str, count: int) -> list[str]:
    """`raw` cut behind each call of a `{"tool_calls": […]}` object."""
    cuts = [0]
    at = raw.find("[") + 1
    for _ in range(count - 1):
        while raw[at : at + 1] in (" ", ",", "\n", "\t"):
            at += 1
        try:
            _, at = JSONDecoder().raw_decode(raw, at)
        except ValueError:
            at += 1
        cuts.append(at)
    return [raw[a:b] for a, b in zip(cuts, [*cuts[1:], len(raw)], strict=True)]
