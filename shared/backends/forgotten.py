"""Sessions that agents forget: the conversation is then told anew."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from shared.backends.base import Turn
from shared.errors import UpstreamError, UpstreamRefused
from shared.events import AgentEvent, SessionState, Usage


async def answer_or_begin_anew(
    answer: Callable[[Turn], AsyncGenerator[AgentEvent, None]],
    turn: Turn,
    anew: Turn | None,
    forgotten: Callable[[UpstreamError], bool],
) -> AsyncGenerator[AgentEvent, None]:
    """The events of a turn, or of `anew` where an error says its session is forgotten.

    An answer that said or did something already is not begun again.
    """
    begun = False
    try:
        async with aclosing(answer(turn)) as events:
            async for event in events:
                begun = begun or not isinstance(event, SessionState | Usage)
                yield event
        return
    except UpstreamError as error:
        if begun or anew is None or not forgotten(error):
            raise
    async with aclosing(answer(anew)) as events:
        async for event in events:
            yield event


def is_not_found(error: UpstreamError) -> bool:
    """What a server says that does not know a session."""
    return isinstance(error, UpstreamRefused) and error.status == 404
