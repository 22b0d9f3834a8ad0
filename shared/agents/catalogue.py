"""Which agents there are: those named in AGENTS, and those a server offers."""

import asyncio
import logging
import time
from dataclasses import dataclass

from shared.agents.config import AgentConfig, AgentsConfig
from shared.backends.base import Backend, DiscoveredModel
from shared.errors import UpstreamError

DISCOVERY_TTL = 60.0
DISCOVERY_TIMEOUT = 3.0

catalogue_log = logging.getLogger("aqueduct.catalogue")


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """One virtual model: `id` is the part after the pipe's own id."""

    id: str
    name: str
    agent: AgentConfig
    model: str


async def discover_models(
    agent: AgentConfig,
    backend: Backend,
    kept: dict[str, tuple[float, list[tuple[str, str]]]],
) -> list[DiscoveredModel]:
    """What this server offers, asked at most once a minute and waited for briefly.

    A server that does not answer keeps the list it gave last; `kept` holds, by
    agent and address, when it was asked and the ids and names it gave.
    """
    key = f"{agent.id} {agent.url}"
    asked_at, models = kept.get(key, (float("-inf"), []))
    if time.monotonic() - asked_at >= DISCOVERY_TTL:
        try:
            async with asyncio.timeout(DISCOVERY_TIMEOUT):
                found = await backend.discover()
            models = [(model.id, model.name) for model in found]
        except (UpstreamError, TimeoutError) as error:
            catalogue_log.warning("Discovery of %s failed: %r", agent.id, error)
        kept[key] = (time.monotonic(), models)
    return [DiscoveredModel(*model) for model in models]


def find_entry(config: AgentsConfig, model_id: str) -> AgentEntry | None:
    """The entry that a model id names: `agent`, or `agent.model` of a discovery."""
    agent = config.find(model_id)
    if agent is not None and not agent.discover:
        return AgentEntry(agent.id, agent.label, agent, agent.model)
    agent_id, _, model = model_id.partition(".")
    agent = config.find(agent_id)
    if agent is None or not agent.discover or not model:
        return None
    return AgentEntry(model_id, f"{agent.label}: {model}", agent, model)
