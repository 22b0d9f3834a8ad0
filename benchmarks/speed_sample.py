"""What one run gives, and how it is taken while words arrive."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Meter = Callable[[], float]


@dataclass(frozen=True)
class Moment:
    """The time, the server's CPU time, and what had arrived; both times in seconds."""

    time: float
    cpu: float
    words: int
    pieces: int


@dataclass(frozen=True)
class Sample:
    """What a run gave.

    Milliseconds to the first word; microseconds a word from then on, of wall time and
    of the server's CPU time; and the pieces that a word came in, on average.
    """

    first_ms: float
    wall_us: float
    cpu_us: float
    pieces: float


@dataclass
class Progress:
    """Streams of `words` words each, measured while all of them are under way.

    `margin` words at the start and at the end of each are left out: there the server
    is busy with beginning and ending. With `whole` the measurement begins with the
    request instead. `meter` gives the server's CPU seconds.
    """

    meter: Meter
    words: int
    streams: int = 1
    margin: int = 0
    whole: bool = False
    _start: float = field(default_factory=time.perf_counter)
    _found: list[int] = field(init=False)
    _pieces: int = 0
    _first: float = 0.0
    _begun: Moment | None = None
    _ended: Moment | None = None

    def __post_init__(self) -> None:
        self._found = [0] * self.streams
        if self.whole:
            self._begun = self._now()

    def add(self, stream: int, words: int, pieces: int) -> None:
        """Words of one stream have arrived."""
        if not words:
            return
        self._first = self._first or time.perf_counter()
        self._found[stream] += words
        self._pieces += pieces
        if self._begun is None and min(self._found) >= max(1, self.margin):
            self._begun = self._now()
        if self._ended is None and max(self._found) >= self.words - self.margin:
            self._ended = self._now()

    def sample(self) -> Sample:
        """Sum up; raises RuntimeError when a stream did not bring all its words."""
        if self._found != [self.words] * self.streams:
            raise RuntimeError(f"words came: {self._found}, not {self.words} each")
        assert self._begun is not None
        assert self._ended is not None
        if self._ended.words < self._begun.words:
            raise RuntimeError("the streams did not overlap: the machine is too busy")
        # One piece may hold all there is: then there is nothing between.
        words = self._ended.words - self._begun.words or self.words
        return Sample(
            (self._first - self._start) * 1e3,
            (self._ended.time - self._begun.time) / words * 1e6,
            (self._ended.cpu - self._begun.cpu) / words * 1e6,
            (self._ended.pieces - self._begun.pieces) / words,
        )

    def _now(self) -> Moment:
        return Moment(time.perf_counter(), self.meter(), sum(self._found), self._pieces)
