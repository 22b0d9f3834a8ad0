"""When an upstream is left alone: a circuit breaker as plain values.

What was seen of an upstream is a `BreakerRecord`; an outcome gives the next one, and
perhaps a `Shut`. A record is JSON as a list, so that replicas can share it.
"""

from dataclasses import dataclass, replace
from typing import Any

from shared.routing.settings import BreakerSettings

# An upstream that says these will say them again until an administrator acts.
KEY_CODES = ("status_401", "status_403")
LASTING_CODES = (*KEY_CODES, "status_404")
LONGEST_SHUT = 300.0
KEPT_OUTCOMES = 100


@dataclass(frozen=True, slots=True)
class BreakerRecord:
    """Outcomes as (seconds, failed), failures in a row, openings in a row."""

    outcomes: tuple[tuple[float, bool], ...] = ()
    in_a_row: int = 0
    openings: int = 0

    def to_json(self) -> list[Any]:
        return [[list(o) for o in self.outcomes], self.in_a_row, self.openings]

    @classmethod
    def from_json(cls, data: list[Any]) -> "BreakerRecord":
        outcomes = tuple((float(at), bool(failed)) for at, failed in data[0])
        return cls(outcomes, int(data[1]), int(data[2]))


@dataclass(frozen=True, slots=True)
class Shut:
    """An upstream gets nothing for some seconds.

    `code` is the error that shut it. Where it only asked for a pause (`paused`) it is
    used as before afterwards; else a single request tries it first.
    """

    seconds: float
    code: str
    paused: bool = False


def after_success(record: BreakerRecord, now: float) -> BreakerRecord:
    """The record after an answer has begun."""
    if record.openings:
        return BreakerRecord()
    outcomes = (*record.outcomes, (now, False))[-KEPT_OUTCOMES:]
    return BreakerRecord(outcomes)


def after_failure(
    record: BreakerRecord,
    now: float,
    code: str,
    probing: bool,
    rules: BreakerSettings,
) -> tuple[BreakerRecord, Shut | None]:
    """The record after a failure, and whether to leave the upstream alone.

    `probing`: the failed request was the one that tried an open upstream.
    """
    kept = tuple(o for o in record.outcomes if now - o[0] < rules.window)
    outcomes = (*kept, (now, True))[-KEPT_OUTCOMES:]
    record = replace(record, outcomes=outcomes, in_a_row=record.in_a_row + 1)
    failed = sum(1 for _, was_failure in outcomes if was_failure)
    opens = (
        probing
        # Those that were asked before it was shut say nothing new.
        or (code in LASTING_CODES and not record.openings)
        or record.in_a_row >= rules.failures
        or (
            len(outcomes) >= rules.min_requests
            and failed / len(outcomes) >= rules.error_rate
        )
    )
    if not opens:
        return record, None
    seconds = min(
        rules.open_for * 2**record.openings, max(LONGEST_SHUT, rules.open_for)
    )
    # After its trial the upstream is judged anew.
    return BreakerRecord(openings=min(record.openings + 1, 10)), Shut(seconds, code)
