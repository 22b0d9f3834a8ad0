"""A turn's events with its error as the last of them, as the renderers see it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from shared.agents.answers import failure_of
from shared.events import AgentEvent, Failed


async def guarded(
    events: AsyncGenerator[AgentEvent, None], names: Mapping[str, Any]
) -> AsyncGenerator[AgentEvent, None]:
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Failed):
                    event = Failed(event.code, {**names, **event.fields})
                yield event
    except Exception as error:  # noqa: BLE001
        failed = failure_of(error)
        yield Failed(failed.code, {**names, **failed.fields})
