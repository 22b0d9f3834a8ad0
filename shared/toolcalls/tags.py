"""The body machine for tagged calls: parameters in tags, their values raw text."""

from collections.abc import Collection, Generator
from dataclasses import dataclass, field

from shared.toolcalls.brackets import read_bracketed
from shared.toolcalls.dialects import TagDialect, tag_attributes
from shared.toolcalls.styles import JSON_STYLE
from shared.toolcalls.window import Window

_LONGEST_TAG = 300


@dataclass(slots=True)
class TagParameter:
    """One parameter; `start` and `stop` are offsets into the window's source."""

    attributes: dict[str, str]
    start: int
    stop: int


@dataclass(slots=True)
class TaggedBody:
    """What stood between a call's tags: parameters, or one JSON object."""

    parameters: list[TagParameter] = field(default_factory=list)
    json_span: tuple[int, int] | None = None
    closed: bool = False  # by the call's own end tag or its wrapper's
    open_value: bool = False  # the text ended in the last value


def read_tagged(
    window: Window, dialect: TagDialect, known: Collection[str]
) -> Generator[None, None, TaggedBody | None]:
    """Read from behind the call's opening tag to behind its closing one.

    `known` are the parameter names of the tool: they tell a parameter that follows
    one without its closing tag from text that looks like a tag. None when the text is
    no such body, or ends amid a value.
    """
    body = TaggedBody()
    while not body.closed:
        yield from skip_blank(window)
        literal = yield from window.mark(dialect.param_marks)
        if literal in dialect.params:
            if not (yield from _read_parameter(window, dialect, literal, body, known)):
                return None
        elif literal is not None or (
            yield from window.mark(dialect.follow_marks, consume=False)
        ):
            body.closed = True
        elif (yield from window.peek()) == "{" and not body.parameters:
            start = window.offset
            if not (yield from read_bracketed(window, JSON_STYLE)):
                return None
            body.json_span = (start, window.offset)
        else:
            ended = window.pos >= len(window.text)
            return body if ended and (body.parameters or body.json_span) else None
    return body


def skip_blank(window: Window) -> Generator[None, None, None]:
    """Skip white space, and line breaks that were escaped once too often."""
    yield from window.space()
    while (yield from window.peek()) == "\\":
        if (yield from window.upto("\\n", 0)) is None:
            return
        yield from window.space()


def _read_parameter(
    window: Window,
    dialect: TagDialect,
    literal: str,
    body: TaggedBody,
    known: Collection[str],
) -> Generator[None, None, bool]:
    header = yield from window.upto(dialect.param_end, _LONGEST_TAG)
    if header is None:
        return False
    attributes = tag_attributes(literal, _own_header(dialect, header))
    seen = {one.attributes.get("name", "").strip() for one in body.parameters}
    still_open = set(known) - seen - {attributes.get("name", "").strip()}
    start = window.offset
    stop = yield from _read_value(window, dialect, body, still_open)
    if stop is None:
        return False
    body.parameters.append(TagParameter(attributes, start, stop))
    return True


def _own_header(dialect: TagDialect, header: str) -> str:
    """The header of a parameter; of a pair it is `NAME</arg_key>` and blanks.

    A pair whose value is missing stands before the next one's key: the last key counts.
    """
    if dialect.heads:
        return header
    tag = dialect.params[0].removeprefix("<")
    return header.rpartition(f"</{tag}")[0].rpartition(tag)[2]


def _read_value(
    window: Window, dialect: TagDialect, body: TaggedBody, still_open: Collection[str]
) -> Generator[None, None, int | None]:
    """Go behind a value and its closing tag; the offset where the value ends.

    A closing tag inside the value (code, documentation) is told from the value's own
    by what follows: the next parameter, the end of the call, or the end of the text.
    """
    while True:
        literal = yield from window.find(dialect.inner_marks)
        stop = window.offset
        if literal is None:
            body.open_value = True
            return None if window.truncated or not dialect.heads else stop
        if literal in dialect.params:
            if (yield from _opens_next(window, dialect, literal, still_open)):
                return _without_line_end(window, stop)
            window.pos += len(literal)
            continue
        window.pos += len(literal)
        yield from skip_blank(window)
        own = literal in dialect.value_ends
        follow = dialect.follow_marks if own else dialect.after_marks
        follows = yield from window.mark(follow, consume=False)
        if follows is not None or not (yield from window.peek()):
            body.closed = not own
            return stop if own else _without_line_end(window, stop)


def _without_line_end(window: Window, stop: int) -> int:
    """Where a value without its closing tag ends: not with the line break before."""
    return stop - 1 if window.cut(stop - 1, stop) == "\n" else stop


def _opens_next(
    window: Window, dialect: TagDialect, literal: str, still_open: Collection[str]
) -> Generator[None, None, bool]:
    """Whether a parameter tag amid a value is the next one, the value's end missing."""
    header = yield from window.upto(
        dialect.param_end, _LONGEST_TAG, start=len(literal), consume=False
    )
    if header is None:
        return False
    attributes = tag_attributes(literal, _own_header(dialect, header))
    return attributes.get("name", "").strip() in still_open
