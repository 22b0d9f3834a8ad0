"""Which text is code: fences, inline code and indented blocks, told as it streams in.

CommonMark's rules (spec 0.31, sections 4.4, 4.5, 6.1) as far as a stream allows: inline
code lasts until its closing run or the end of the paragraph.
"""

# What may stand before a fence on its line: blanks, quote and list markers.
_FENCE_PREFIX = " \t>-*+0123456789.)"


class CodeTracker:
    """Follows a message; `in_code` tells whether its next character is code."""

    __slots__ = (
        "_after_blank",
        "_blank",
        "_closing",
        "_fence",
        "_indent",
        "_info",
        "_inline",
        "_prefix",
        "_written",
    )

    def __init__(self) -> None:
        self._fence = ""  # the run that opened the fence
        self._info = False  # still on the line that opened it
        self._closing = False  # a closing run was read, its line is not over
        self._inline = 0  # the length of the run that opened inline code
        self._prefix = True  # nothing but a fence's prefix on this line so far
        self._blank = True  # nothing but blanks on this line so far
        self._indent = 0
        self._after_blank = False  # an indented line is code
        self._written = False  # some line before this one is not blank

    @property
    def in_fence(self) -> bool:
        """Whether the text stands in a fence, its opening line included."""
        return bool(self._fence)

    @property
    def in_code(self) -> bool:
        """Whether the next character is code."""
        indented = self._indent >= 4 and self._after_blank
        return bool(self._fence or self._inline or indented)

    @property
    def at_line_start(self) -> bool:
        """Whether only blanks stand before on this line."""
        return self._blank

    def plain(self, text: str) -> None:
        """Text without line breaks, backticks and tildes."""
        if not (self._prefix or self._closing):
            return
        if self._blank:
            blanks = text[: len(text) - len(text.lstrip(" \t"))]
            self._indent += len(blanks.expandtabs(4))
            self._blank = len(blanks) == len(text)
        if text.strip(_FENCE_PREFIX):
            self._prefix = self._closing = False

    def run(self, char: str, count: int) -> None:
        """A complete run of backticks or tildes."""
        if self._fence:
            self._run_in_fence(char, count)
        elif self._inline:
            if char == "`" and count == self._inline:
                self._inline = 0
        elif count >= 3 and self._prefix:
            # However deep it is indented: it may stand in a list.
            self._fence = char * count
            self._info = True
        elif char == "`" and not self.in_code:
            self._inline = count
        self._blank = self._prefix = False

    def _run_in_fence(self, char: str, count: int) -> None:
        if self._info and char == self._fence[0] == "`":
            # No fence has backticks on its opening line: it was inline code.
            self._inline = 0 if count == len(self._fence) else len(self._fence)
            self._fence = ""
            self._info = False
        else:
            opened = char == self._fence[0] and count >= len(self._fence)
            self._closing = opened and self._prefix

    def newline(self) -> bool:
        """The end of a line; True when the line was blank."""
        blank = self._blank
        if self._closing:
            self._fence = ""
        if blank:
            self._inline = 0
        code_line = self._indent >= 4 and self._after_blank
        self._after_blank = (blank and self._written) or (code_line and not blank)
        self._written = self._written or not blank
        self._blank = self._prefix = True
        self._closing = self._info = False
        self._indent = 0
        return blank
