"""Telling admins, once, what only they can mend."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from shared.agents.config import AgentConfig
from shared.errors import AqueductError
from shared.events import AgentEvent, Failed, Finished
from shared.host.notices import notify_admins
from shared.host.resources import shared_resource
from shared.texts import Sentence

LOGIN_CODES = frozenset({"login_expired", "status_401"})
WARNED_FOR_SECONDS = 24 * 60 * 60.0


async def warn_of_login(
    events: AsyncGenerator[AgentEvent, None], agent: AgentConfig, sentence: Sentence
) -> AsyncGenerator[AgentEvent, None]:
    """The events; that an agent's login or key is no longer accepted reaches admins.

    Once a day for an agent, and again when it has worked in between.
    """
    warned: dict[str, float] = shared_resource("login warnings", dict)
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Failed) and event.code in LOGIN_CODES:
                    await warn_once(warned, agent, sentence(event.code, event.fields))
                elif isinstance(event, Finished):
                    warned.pop(agent.id, None)
                yield event
    except AqueductError as error:
        if error.code in LOGIN_CODES:
            await warn_once(warned, agent, sentence(error.code, error.fields))
        raise


async def warn_once(warned: dict[str, float], agent: AgentConfig, text: str) -> None:
    now = time.time()
    if now - warned.get(agent.id, 0.0) < WARNED_FOR_SECONDS:
        return
    warned[agent.id] = now  # now already: other turns may fail meanwhile
    try:
        await notify_admins(agent.label, text)
    except BaseException:
        warned.pop(agent.id, None)
        raise
