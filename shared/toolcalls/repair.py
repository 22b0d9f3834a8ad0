"""What a leaked value may mean, plainest reading first.

The caller takes the first reading that fits the tool's schema, so a repair can never
turn into a call what the tool would not accept.
"""

import html
import json
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from shared.toolcalls.styles import JSON_STYLE, ValueStyle
from shared.toolcalls.values import read_value, unescape_string

_UNREADABLE_TEXT = (ValueError, RecursionError)


def strict_json(text: str) -> Any:
    """The JSON value of `text`; NaN and infinities are no JSON."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def possible_values(
    text: str,
    style: ValueStyle = JSON_STYLE,
    *,
    close: bool = False,
    decode: bool = False,
) -> Iterator[Any]:
    """Readings of `text`, each repair only when the plainer ones did not satisfy.

    As is; HTML entities; trailing commas, single quotes, Python literals, raw line
    breaks and unescaped quotes in strings; with `decode`, quotes escaped once too
    often; with `close`, because the message or the wrapper ended, missing closers.
    """
    plain = html.unescape(text)
    steps: list[Callable[[], Any]] = [
        lambda: strict_json(text),
        lambda: strict_json(plain),
        lambda: read_value(text, style),
        lambda: read_value(plain, style),
    ]
    if decode:
        steps.append(lambda: read_value(unescape_string(text), style))
    if close:
        steps.append(lambda: read_value(text, style, close=True))
    seen: list[Any] = []
    for step in steps:
        try:
            value = step()
            known = value in seen
        except _UNREADABLE_TEXT:
            continue
        if not known:
            seen.append(value)
            yield value


def possible_arguments(value: object) -> Iterator[Any]:
    """Readings of a call's arguments: none is {}, text may be JSON encoded twice."""
    if value is None or value == "":
        yield {}
    elif isinstance(value, str):
        yield from possible_values(value, decode=True)
    else:
        yield value


def arguments_text(arguments: dict[str, Any]) -> str:
    """`arguments` as JSON text that every later encoder accepts."""
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair can be escaped but not encoded.
    return text if _encodes(text) else json.dumps(arguments, allow_nan=False)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
