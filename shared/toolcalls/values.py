"""A lenient reader for complete values: broken JSON, Python literals, Gemma's notation.

Written here because what ships beside Open WebUI either reads strict JSON only (json,
orjson, jiter) or evaluates Python's grammar with its own limits (ast: keywords such as
`from` are no argument names, `true` no literal). A general mender such as json-repair
would be one more thing to install, and always answers with something: it drops or
invents text where this reader gives up. Nothing is ever evaluated.
"""

import re
from typing import Any

from shared.toolcalls.styles import STRING_RUN, ValueStyle

_DEEPEST = 80
_SPACES = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_ARGUMENT = re.compile(r"\s*([^\W\d][\w.\-]*)\s*=(?!=)")
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(\n)|(.))", re.DOTALL
)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}
_LITERALS = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}


class BareWord(str):
    """A string that was written without quotes."""

    __slots__ = ()


def read_value(text: str, style: ValueStyle, *, close: bool = False) -> Any:
    """The one value that `text` holds, ValueError when it does not.

    `close` adds closing brackets that are missing at the end.
    """
    reader = _ValueReader(text, style, close)
    value = reader.value(0)
    reader.skip()
    if reader.pos < len(text):
        raise ValueError("more text after the value")
    return value


def read_arguments(
    text: str, style: ValueStyle, *, close: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments of `(…)`, ValueError when it is no such list.

    Words without quotes are read as strings: models write the members of enums so.
    """
    reader = _ValueReader(text, style, close)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    reader.expect("(")
    while not reader.closes(")"):
        name = _ARGUMENT.match(text, reader.pos)
        if name is None:
            positional.append(reader.value(1))
            if isinstance(positional[-1], BareWord):
                raise ValueError("a variable, not a value")
        else:
            reader.pos = name.end()
            named[name.group(1)] = reader.value(1)
        if not reader.comma(")"):
            break
    reader.skip()
    if reader.pos < len(text):
        raise ValueError("more text after the arguments")
    return positional, named


class _ValueReader:
    """Recursive descent over one complete text."""

    def __init__(self, text: str, style: ValueStyle, close: bool) -> None:
        self.text = text
        self.style = style
        self.close = close
        self.pos = 0

    def skip(self) -> None:
        found = _SPACES.match(self.text, self.pos)
        if found is not None:
            self.pos = found.end()

    def ended(self) -> bool:
        return self.pos >= len(self.text)

    def expect(self, char: str) -> None:
        self.skip()
        if not self.text.startswith(char, self.pos):
            raise ValueError(f"expected {char}")
        self.pos += len(char)

    def closes(self, bracket: str) -> bool:
        """Whether the closing bracket (or, when allowed, the end) comes; skips it."""
        self.skip()
        if self.text.startswith(bracket, self.pos):
            self.pos += 1
            return True
        return self.ended() and self.close

    def comma(self, bracket: str) -> bool:
        """True behind a comma, False behind the closing bracket."""
        if self.closes(bracket):
            return False
        self.expect(",")
        return True

    def value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("nested too deep")
        self.skip()
        quote = self.style.quotes.match(self.text, self.pos)
        if quote is not None:
            return self.string(quote)
        char = self.text[self.pos : self.pos + 1]
        if char and char in "{[(" and char in self.style.brackets:
            self.pos += 1
            return self.mapping(depth) if char == "{" else self.sequence(char, depth)
        return self.scalar()

    def mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self.closes("}"):
            quote = self.style.quotes.match(self.text, self.pos)
            key = self.string(quote) if quote else self.bare_key()
            self.expect(":")
            found[key] = self.value(depth + 1)
            if not self.comma("}"):
                break
        return found

    def bare_key(self) -> str:
        stop = self.text.find(":", self.pos)
        key = self.text[self.pos : stop].strip() if stop >= 0 else ""
        if not key or (not self.style.barewords and not key.isidentifier()):
            raise ValueError("expected a key")
        self.pos = stop
        return key

    def sequence(self, opening: str, depth: int) -> list[Any]:
        closing = "]" if opening == "[" else ")"
        found: list[Any] = []
        while not self.closes(closing):
            found.append(self.value(depth + 1))
            if not self.comma(closing):
                break
        return found

    def scalar(self) -> Any:
        stop = self.pos
        while stop < len(self.text) and self.text[stop] not in ",]})":
            stop += 1
        word = self.text[self.pos : stop].strip()
        if not word:
            raise ValueError("an empty value")
        self.pos = stop
        if word in _LITERALS:
            return _LITERALS[word]
        if _NUMBER.fullmatch(word):
            return int(word) if word.lstrip("+-").isdigit() else float(word)
        if self.style.barewords or (
            ")" in self.style.brackets and _DOTTED.fullmatch(word)
        ):
            return BareWord(word)
        raise ValueError("neither a literal nor a number")

    def string(self, quote: str) -> str:
        start = self.pos = self.pos + len(quote)
        raw = quote in self.style.raw_quotes
        inner = False  # see `brackets`: quotes that nobody escaped
        while True:
            if raw:
                self.pos = self.text.find(quote, self.pos)
            else:
                run = STRING_RUN[quote[0]].match(self.text, self.pos)
                self.pos = run.end() if run is not None else -1
            if self.pos < 0 or self.pos >= len(self.text):
                raise ValueError("a string without its end")
            if not self.text.startswith(quote, self.pos):
                self.pos += (
                    1  # a last backslash, or one quote in a triple-quoted string
                )
                continue
            stop = self.pos
            mark = self.pos = stop + len(quote)
            if self.text[mark : mark + 1].isalnum():
                inner = quote == '"'
                continue
            self.skip()
            if self.ended() or self.text[self.pos] in self.style.follow:
                inside = self.text[start:stop]
                return inside if raw else unescape_string(inside)
            if not inner:
                raise ValueError("text behind a string")
            inner = False
            self.pos = mark


def unescape_string(text: str) -> str:
    """Backslash escapes of JSON and Python resolved; unknown ones stay as they are."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_unescape_one, text)
    # A pair of \\u escapes is one character above U+FFFF.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescape_one(found: re.Match[str]) -> str:
    code = found.group(1) or found.group(2) or found.group(3)
    if code:
        return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else found.group()
    if found.group(4):
        return ""  # a line that goes on
    char = found.group(5)
    if char in _SHORT:
        return _SHORT[char]
    return char if char in "\"'\\/`" else found.group()
