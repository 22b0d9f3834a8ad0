"""How a routed request fails: it never ran, or every attempt failed."""

from collections.abc import Sequence

from shared.errors import AqueductError


class QueueError(AqueductError):
    """A request that was given no slot: queue_busy, queue_expired, upstreams_shut."""


class AttemptsFailed(AqueductError):
    """Nothing worked; `attempts` are the errors, in order, as (code, fields).

    Its fields carry them, too, so that the sentence can tell all of them.
    """

    def __init__(self, errors: Sequence[AqueductError]) -> None:
        attempts = [(error.code, dict(error.fields)) for error in errors]
        super().__init__("all_attempts_failed", attempts=attempts)
        self.errors = tuple(errors)


def joined_error(errors: Sequence[AqueductError]) -> AqueductError:
    """One error for all that was tried, each sentence told once."""
    flat: list[AqueductError] = []
    for error in errors:
        flat += error.errors if isinstance(error, AttemptsFailed) else [error]
    seen: dict[str, AqueductError] = {}
    for error in flat:
        seen.setdefault(f"{error.code} {sorted(error.fields.items(), key=str)}", error)
    different = list(seen.values())
    return different[0] if len(different) == 1 else AttemptsFailed(different)
