"""Which agents there are: those named in AGENTS, and those a server offers."""

import asyncio
import logging
import time
from dataclasses import dataclass, replace

from shared.agents.config import AgentConfig
from shared.agents.parsing import AgentsConfig
from shared.agents.roles import RoleAgent
from shared.backends.base import Backend, DiscoveredModel
from shared.errors import UpstreamError

DISCOVERY_TTL = 60.0
# How long the list of models waits for a server it knows nothing of yet, and how long
# the server has altogether: an agent that is started for it takes longer.
DISCOVERY_WAIT = 3.0
DISCOVERY_TIMEOUT = 60.0

# Ids and names, when the server was asked (monotonic), and a refresh under way.
KeptModels = tuple[list[tuple[str, str]], float, "asyncio.Task[None] | None"]

catalogue_log = logging.getLogger("aqueduct.catalogue")


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """One virtual model: `id` is the part after the pipe's own id.

    `pinned`: no other agent answers in its place.
    """

    id: str
    name: str
    agent: AgentConfig
    model: str
    pinned: bool = False


async def discover_models(
    agent: AgentConfig, backend: Backend, kept: dict[str, KeptModels]
) -> list[DiscoveredModel]:
    """What this server offers; the first time waited for, briefly: then it comes later.

    `kept` holds each agent's list between calls. One that is older than a minute is
    still given at once and asked for again in the background, so that a server that
    is down neither loses its models nor delays the list of all the others.
    """
    key = agent.model_dump_json()  # secrets are masked in it
    models, asked_at, refresh = kept.get(key, ([], float("-inf"), None))
    stale = time.monotonic() - asked_at >= DISCOVERY_TTL
    if stale and (refresh is None or refresh.done()):
        refresh = asyncio.create_task(refresh_models(agent, backend, kept, key))
        kept[key] = (models, asked_at, refresh)
    if refresh is not None and not models:
        await asyncio.wait([refresh], timeout=DISCOVERY_WAIT)
    return [DiscoveredModel(*model) for model in kept[key][0]]


async def refresh_models(
    agent: AgentConfig, backend: Backend, kept: dict[str, KeptModels], key: str
) -> None:
    """Ask the server for its models; a failure keeps the list it gave last."""
    models = kept.get(key, ([], 0.0, None))[0]
    try:
        async with asyncio.timeout(DISCOVERY_TIMEOUT):
            found = await backend.discover()
        models = [(model.id, model.name) for model in found]
    except (UpstreamError, TimeoutError) as error:
        catalogue_log.warning("Discovery of %s failed: %r", agent.id, error)
    kept[key] = (models, time.monotonic(), None)


def find_entry(config: AgentsConfig, model_id: str) -> AgentEntry | None:
    """The entry that a model id names.

    That is `agent`, `agent.model` of a discovery, or `role.slot` of a role.
    """
    agent = config.find(model_id)
    if agent is not None and not agent.discover:
        return AgentEntry(agent.id, agent.label, agent, agent.model)
    agent_id, _, rest = model_id.partition(".")
    agent = config.find(agent_id)
    if isinstance(agent, RoleAgent):
        return slot_entry(config, agent, rest)
    if agent is None or not agent.discover or not rest:
        return None
    return AgentEntry(model_id, f"{agent.label}: {rest}", agent, rest)


def slot_entry(config: AgentsConfig, role: RoleAgent, slot: str) -> AgentEntry | None:
    """The agent in a role's slot, as a model that never falls back."""
    if not role.offer_slots or slot not in role.slots:
        return None
    player = find_entry(config, role.slots[slot])
    if player is None:
        return None
    name = f"{role.label}: {slot}"
    return replace(player, id=f"{role.id}.{slot}", name=name, pinned=True)


def answering_chain(config: AgentsConfig, entry: AgentEntry | None) -> list[AgentEntry]:
    """Who may answer for a model, in order; empty where nobody is left."""
    if entry is None:
        return []
    if entry.pinned:
        return [entry]
    if isinstance(entry.agent, RoleAgent):
        names = [*entry.agent.slots.values()]
    else:
        names = [*entry.agent.fallback]
    found = [find_entry(config, name) for name in names]
    chain = {e.id: e for e in (entry, *found) if e is not None}
    return [e for e in chain.values() if not isinstance(e.agent, RoleAgent)]
