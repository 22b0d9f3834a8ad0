"""The body machine for bracketed values: JSON, Python arguments, key:value.

It finds where a value ends, and reads each character once; what the value means is
read when it is complete (`values`, `repair`).
"""

from collections.abc import Generator

from shared.toolcalls.families import CLOSE_MARKS
from shared.toolcalls.styles import STRING_RUN, ValueStyle
from shared.toolcalls.window import Marks, Window


def read_bracketed(
    window: Window, style: ValueStyle, *, depth: int = 0
) -> Generator[None, None, bool]:
    """Go from an opening bracket to behind its closing one.

    `depth` is the number of brackets already opened. False when the text ended or the
    wrapper of the call was closed before the last bracket was.
    """
    structural = depth == 0  # a key or value may begin here
    while True:
        text, pos = window.text, window.pos
        run = style.plain.match(text, pos)
        if run is not None:
            structural = structural and text[pos].isspace()
            window.pos = run.end()
            continue
        if pos >= len(text):
            if window.ended:
                window.starved = True
                return False
            yield
            continue
        char = text[pos]
        if char in style.brackets:
            structural = char in "{[("
            depth += 1 if structural else -1
            window.pos += 1
            if depth <= 0:
                return True
            continue
        if char in ",:=":
            structural = True
            window.pos += 1
            continue
        quote = (yield from window.mark(style.quotes)) if structural else None
        structural = False
        if quote is not None:
            if not (yield from _read_string(window, style, quote)):
                return False
        elif char == "<" and (yield from window.mark(CLOSE_MARKS, consume=False)):
            return False
        elif window.pos < len(window.text):
            window.pos += 1


def _read_string(
    window: Window, style: ValueStyle, quote: str
) -> Generator[None, None, bool]:
    """Go behind the end of a string whose opening quote was read, and space after it."""
    closing = Marks([quote]) if len(quote) > 1 else None
    inner = False  # an inner quote was opened that nobody escaped
    while True:
        if not (yield from _read_to_quote(window, style, quote, closing)):
            return False
        window.pos += len(quote)
        after = yield from window.peek()
        if after.isalnum():
            inner = quote == '"'
            continue
        yield from window.space()
        after = yield from window.peek()
        if not after or after in style.follow or not inner:
            return True
        if after == "<" and (yield from window.mark(CLOSE_MARKS, consume=False)):
            return True
        inner = False


def _read_to_quote(
    window: Window, style: ValueStyle, quote: str, closing: Marks | None
) -> Generator[None, None, bool]:
    if closing is not None and quote in style.raw_quotes:
        return (yield from window.find(closing)) is not None
    inside = STRING_RUN[quote[0]]
    while True:
        run = inside.match(window.text, window.pos)
        if run is not None:
            window.pos = run.end()
        rest = len(window.text) - window.pos
        if rest and window.text[window.pos] != "\\":
            if closing is None or (yield from window.mark(closing, consume=False)):
                return True
            window.pos += 1  # one quote inside a triple-quoted string
        elif window.ended:
            window.pos = len(window.text)
            window.starved = True
            return False
        else:
            yield
