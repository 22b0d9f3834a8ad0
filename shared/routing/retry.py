"""What a failure means for the next attempt, and for the upstream.

Backoff: exponential with full jitter, as in Marc Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015.
"""

import random
from dataclasses import dataclass
from typing import Literal

from shared.errors import (
    AqueductError,
    UpstreamBroken,
    UpstreamRefused,
    UpstreamSilent,
    UpstreamUnreachable,
)
from shared.routing.settings import RetrySettings

OVERLOADED_WORDS = ("overloaded", "rate limit", "rate_limit", "too many requests")
MAX_DOUBLINGS = 16  # beyond every cap that makes sense


@dataclass(frozen=True, slots=True)
class FailureMeaning:
    """Whether the same upstream may be asked again, and whose fault it was.

    `blame`: `upstream` counts against it, `pause` means it is well but busy, `request`
    that another request may do better. `retry_after` is what the server asked for, in
    seconds.
    """

    again: bool
    blame: Literal["upstream", "pause", "request"]
    retry_after: float | None = None


def meaning_of(error: AqueductError) -> FailureMeaning:
    """What to make of a failure before the first token."""
    if isinstance(error, UpstreamRefused):
        seconds = error.fields.get("retry_after")
        busy = error.status == 429 or (error.status == 503 and seconds is not None)
        if busy:
            return FailureMeaning(True, "pause", seconds)
        if error.status in (401, 403, 404):
            return FailureMeaning(False, "upstream")
        if error.status == 408 or error.status >= 500:
            return FailureMeaning(True, "upstream", seconds)
        return FailureMeaning(False, "request")
    if isinstance(error, UpstreamUnreachable):
        return FailureMeaning(error.code != "bad_address", "upstream")
    if isinstance(error, UpstreamSilent):
        # A server that hangs would hang again for as long; connecting is quick.
        return FailureMeaning(error.code == "connect_timeout", "upstream")
    if isinstance(error, UpstreamBroken):
        if says_overloaded(error):
            return FailureMeaning(True, "pause")
        return FailureMeaning(error.code == "cut_short", "upstream")
    return FailureMeaning(False, "request")


def says_overloaded(error: AqueductError) -> bool:
    """Whether a server said so in a stream that had begun with status 200."""
    said = str(error.fields.get("detail") or "").lower()
    return any(word in said for word in OVERLOADED_WORDS)


def backoff_seconds(
    attempt: int, rules: RetrySettings, chance: random.Random | None = None
) -> float:
    """How long to wait after attempt number `attempt`, counted from 1."""
    most = min(rules.cap, rules.base * 2 ** min(attempt - 1, MAX_DOUBLINGS))
    return (chance or random).uniform(0.0, most)
