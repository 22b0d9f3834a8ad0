"""Telling admins, once, what only they can mend."""

import time
from collections.abc import Mapping
from typing import Any

from shared.agents.config import AgentConfig
from shared.events import AgentEvent, Failed, Finished
from shared.host.notices import notify_admins
from shared.host.resources import shared_resource
from shared.texts import Sentence

LOGIN_CODES = frozenset({"login_expired", "status_401"})
WARNED_FOR_SECONDS = 24 * 60 * 60.0


class LoginWatch:
    """Tells admins that an agent's login or key is no longer accepted.

    Once a day for an agent, and again when it has worked in between.
    """

    def __init__(self, agent: AgentConfig, sentence: Sentence) -> None:
        self._agent = agent
        self._sentence = sentence
        self._warned: dict[str, float] = shared_resource("login warnings", dict)

    async def look(self, event: AgentEvent) -> None:
        """Look at an event of the agent's answer."""
        if isinstance(event, Failed):
            await self.failed(event.code, event.fields)
        elif isinstance(event, Finished):
            self._warned.pop(self._agent.id, None)

    async def failed(self, code: str, fields: Mapping[str, Any]) -> None:
        """Look at a failure."""
        if code in LOGIN_CODES:
            await warn_once(self._warned, self._agent, self._sentence(code, fields))


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
