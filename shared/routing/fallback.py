"""One of several agents answers: the first that can."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from shared.errors import AqueductError
from shared.events import AgentEvent, Status
from shared.routing.failures import joined_error


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent of the chain. `names` are fields for sentences of its errors.

    `takes_over` is said before its first word when it is not the first of the chain;
    `chosen` is called then.
    """

    events: Callable[[], AsyncGenerator[AgentEvent, None]]
    names: Mapping[str, str]
    takes_over: Sequence[AgentEvent] = ()
    chosen: Callable[[], None] = lambda: None


async def first_answer(
    candidates: Iterable[Candidate],
) -> AsyncGenerator[AgentEvent, None]:
    """The events of the first candidate that says something.

    When none does, raises the error of the only one, or AttemptsFailed with all of
    them. Once a word was said, its error is the end.
    """
    errors: list[AqueductError] = []
    for candidate in candidates:
        said = False
        try:
            async with aclosing(candidate.events()) as events:
                async for event in events:
                    if not said and not isinstance(event, Status):
                        said = True
                        if errors:
                            candidate.chosen()
                            for first in candidate.takes_over:
                                yield first
                    yield event
            return
        except AqueductError as error:
            error.fields = {**candidate.names, **error.fields}
            if said:
                raise
            errors.append(error)
    raise joined_error(errors)
