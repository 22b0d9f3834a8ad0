"""What the scanner hands out: every character fed comes back in exactly one piece."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VisibleText:
    """Text for the user, unchanged."""

    text: str


@dataclass(frozen=True, slots=True)
class RecoveredCall:
    """A call of a known tool whose arguments fit the tool's schema.

    `arguments` is the text of a JSON object; `raw` the exact source characters the
    call replaces, its wrapper's opening markers included. Where one piece of source
    holds several calls the first carries the source and the others an empty `raw`.
    """

    name: str
    arguments: str
    family: str
    raw: str


@dataclass(frozen=True, slots=True)
class CutCall:
    """A call of a known tool that the length limit cut short; never executed."""

    family: str
    raw: str


@dataclass(frozen=True, slots=True)
class Markup:
    """Wrapper markup beside recovered calls: closers, separators, white space."""

    raw: str


Piece = VisibleText | RecoveredCall | CutCall | Markup


def piece_source(piece: Piece) -> str:
    """The characters of the stream that `piece` stands for."""
    return piece.text if isinstance(piece, VisibleText) else piece.raw
