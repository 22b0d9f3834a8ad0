"""Which body machine reads a call: told by the first characters behind its opener."""

from collections.abc import Generator

from shared.toolcalls.bodystate import BodyState, FoundCall
from shared.toolcalls.dialects import TAG_HEAD_MARKS
from shared.toolcalls.namedcalls import read_named_call, read_relaxed_call
from shared.toolcalls.objects import read_object_call
from shared.toolcalls.taggedcalls import read_tagged_call
from shared.toolcalls.window import Marks

_RELAXED_MARKS = Marks(["call:"])
_MOST_OPENERS = 4
_TOKEN_STARTS = ("<|", "<｜", "]<]")  # how special tokens begin


def read_body(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    """The calls of the body that begins here, [] when it is none of a known tool."""
    state.trusted = any(start in (state.opener or "") for start in _TOKEN_STARTS)
    for _ in range(_MOST_OPENERS):
        found = yield from _read_one(state)
        if found is not None:
            return found
    return []


def _read_one(state: BodyState) -> Generator[None, None, list[FoundCall] | None]:
    head = yield from state.window.mark(TAG_HEAD_MARKS)
    if head is not None:
        state.strict = False
        return (yield from read_tagged_call(state, head))
    if (yield from state.window.mark(_RELAXED_MARKS)) is not None:
        return (yield from read_relaxed_call(state))
    if (yield from state.window.peek()) == "{":
        return (yield from read_object_call(state))
    return (yield from read_named_call(state))
