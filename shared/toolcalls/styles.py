"""How the values of a leaked call may be written: JSON, Python, or Gemma's own."""

import re
from dataclasses import dataclass, field

from shared.toolcalls.window import Marks


@dataclass(frozen=True)
class ValueStyle:
    """The strings and brackets of one notation.

    A quote opens a string only where a value or key may begin, and closes it only
    when one of `follow` (or the end) comes next. Both are true of any well-formed
    text, and they hold a string together whose inner quotes were never escaped.
    """

    quotes: Marks
    brackets: str
    follow: str
    raw_quotes: frozenset[str] = frozenset()  # strings without backslash escapes
    barewords: bool = False  # words without quotes are strings
    plain: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        leads = "".join(sorted({quote[0] for quote in self.quotes.literals}))
        special = re.escape(self.brackets + leads + ",:=<")
        object.__setattr__(self, "plain", re.compile(rf"[^\s{special}]+|\s+"))


JSON_STYLE = ValueStyle(quotes=Marks(['"', "'"]), brackets="{}[]", follow=",:]}")
PYTHON_STYLE = ValueStyle(
    quotes=Marks(['"""', "'''", '"', "'"]), brackets="{}[]()", follow=",:]})"
)
GEMMA_STYLE = ValueStyle(
    quotes=Marks(['<|"|>', "<escape>", '"', "'"]),
    brackets="{}[]",
    follow=",:]}",
    raw_quotes=frozenset({'<|"|>', "<escape>"}),
    barewords=True,
)

# What may stand in a string before a quote or a single last backslash.
STRING_RUN = {
    '"': re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]++|\\.)*+", re.DOTALL),
}
