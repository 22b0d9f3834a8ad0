"""From an agent's keys to the pool its requests go through."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.agents.config import AgentConfig, HttpAgent
from shared.agents.pools import PoolEntry, PoolRules, UpstreamSettings
from shared.routing.settings import UNLIMITED, PoolSpec, UpstreamSlots


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """A pool, and what differs from server to server for its agents."""

    spec: PoolSpec
    servers: Mapping[str, UpstreamSettings]

    def agent_at(self, agent: AgentConfig, upstream: str) -> AgentConfig:
        """The agent as it is reached at one upstream."""
        server = self.servers.get(upstream)
        if server is None:
            return agent
        said = server.model_fields_set - {"concurrency", "weight", "model"}
        return agent.model_copy(update={name: getattr(server, name) for name in said})

    def model_at(self, agent: AgentConfig, model: str, upstream: str) -> str:
        """What the agent's own model is called there; others go by one name."""
        server = self.servers.get(upstream)
        named = server is not None and server.model and model == agent.model
        return server.model if server is not None and named else model


def pool_plan(agent: AgentConfig, pools: Mapping[str, PoolEntry]) -> PoolPlan:
    """The pool of an agent: one that it names, or its own."""
    entry = pools.get(agent.pool)
    if entry is not None:
        return shared_plan(entry)
    upstreams = agent.upstreams if isinstance(agent, HttpAgent) else ()
    if upstreams:
        return plan_of(agent.id, upstreams, agent)
    slots = UpstreamSlots(agent.place or agent.id, agent.concurrency or UNLIMITED)
    return PoolPlan(spec_of(agent.id, (slots,), agent), {})


def shared_plan(entry: PoolEntry) -> PoolPlan:
    return plan_of(entry.pool, entry.upstreams, entry)


def plan_of(
    name: str, upstreams: tuple[UpstreamSettings, ...], rules: PoolRules
) -> PoolPlan:
    servers: dict[str, UpstreamSettings] = {}
    for server in upstreams:
        host = urlsplit(server.url).netloc.rpartition("@")[2]
        same = sum(known.partition("#")[0] == host for known in servers)
        servers[f"{host}#{same + 1}" if same else host] = server
    slots = tuple(
        UpstreamSlots(
            host, server.concurrency, server.weight, "key" in server.model_fields_set
        )
        for host, server in servers.items()
    )
    return PoolPlan(spec_of(name, slots, rules), servers)


def spec_of(
    name: str, upstreams: tuple[UpstreamSlots, ...], rules: PoolRules
) -> PoolSpec:
    """The rules that were given; the others stay as they are by default."""
    fields = {key: getattr(rules, key) for key in PoolRules.model_fields}
    given = {key: value for key, value in fields.items() if value is not None}
    return PoolSpec(name, upstreams, **given)


def is_routed(agent: AgentConfig) -> bool:
    """Whether this agent's requests go through a pool at all."""
    keys = {*PoolRules.model_fields, "concurrency", "upstreams", "pool", "fallback"}
    return bool(keys & agent.model_fields_set)
