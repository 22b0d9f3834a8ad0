"""An agent's model calls through its pool."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from shared.agents.catalogue import AgentEntry
from shared.agents.kinds.table import make_backend
from shared.agents.parsing import AgentsConfig
from shared.agents.plans import PoolPlan, is_routed
from shared.agents.request import PipeRequest
from shared.backends.base import Turn
from shared.events import AgentEvent
from shared.host.redis import host_redis
from shared.host.resources import shared_resource
from shared.host.telemetry import telemetry_recorder
from shared.routing.affinity import affinity_key
from shared.routing.memory_queue import InProcessStore
from shared.routing.redis_queue import RedisStore
from shared.routing.redis_wire import RedisWire
from shared.routing.router import RoutedCall, RoutedUpstream, Router
from shared.routing.settings import REQUEST_CLASSES
from shared.routing.stats import RoutingStats
from shared.routing.store import QueueStore
from shared.texts import Sentence

BLOCK_SECONDS = 2.0  # how long one command waits for news

Run = Callable[[Turn], AsyncGenerator[AgentEvent, None]]


def request_class(call: PipeRequest) -> str:
    """Who waits: a person in front of a chat, a program, or a task of Open WebUI.

    Subagents and automations run in chats, too, but nobody watches them.
    """
    if call.task:
        return "task"
    unwatched = call.metadata.get("internal") or call.metadata.get("automation_id")
    return "person" if call.in_chat and not unwatched else "background"


def pool_of_call(
    config: AgentsConfig, chain: Sequence[AgentEntry], entry: AgentEntry
) -> PoolPlan | None:
    """The pool of one agent of a chain; None where a plain agent stands alone."""
    routed = len(chain) > 1 or is_routed(entry.agent)
    return config.plans[entry.agent.id] if routed else None


def count_fallback(pool: str, agent_id: str) -> None:
    make_stats().pool(pool).fell_back(agent_id)


def make_store(redis_url: str) -> QueueStore:
    """Queues for all replicas where they share a Redis, else for this process."""
    found = host_redis(redis_url)
    if found is None:
        return InProcessStore()
    wire = RedisWire(found.client, f"{found.prefix}:aqueduct:{{routing}}:")
    block = BLOCK_SECONDS if found.patience is None else found.patience / 2
    return RedisStore(wire, min(BLOCK_SECONDS, block))


def make_router(redis_url: str) -> Router:
    """A router over what is kept as long as the server runs; `redis_url` as in
    host_redis. Requests stay in the queues they are in when that changes."""
    # Change the names with the shape: a new version finds what an older one kept.
    name = f"routing queues 1 {redis_url}".rstrip()
    store: QueueStore = shared_resource(name, partial(make_store, redis_url))
    return Router(store, make_stats())


def make_stats() -> RoutingStats:
    """The counts of this process, kept as long as the server runs."""
    counts: dict[str, Any] = shared_resource("routing stats 1", dict)
    return RoutingStats(counts, telemetry_recorder())


@dataclass(frozen=True, slots=True)
class RoutedAgent:
    """One agent's model in its pool, for one call of the pipe."""

    entry: AgentEntry
    plan: PoolPlan
    call: PipeRequest
    sentence: Sentence

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of a model call, when its turn has come; see Router.run."""
        user_id = str(self.call.user.get("id", ""))
        chat_id = str(self.call.metadata.get("chat_id") or "")
        model = self.entry.model or self.entry.agent.id
        kind = request_class(self.call)
        # A program that calls tools would otherwise be ahead of all others for ever.
        goes_on = kind == "person" and turn.messages[-1].get("role") == "tool"
        call = RoutedCall(
            spec=self.plan.spec,
            upstreams=self._upstreams(turn),
            user=user_id,
            model=model,
            affinity=affinity_key(user_id, chat_id, model, turn.messages),
            priority=REQUEST_CLASSES.index(kind),
            sentence=self.sentence,
            goes_on=goes_on,
            login=self.entry.agent.id if self.entry.agent.pool else "",
        )
        return make_router(self.call.redis_url).run(call)

    def _upstreams(self, turn: Turn) -> Mapping[str, RoutedUpstream]:
        upstreams = {}
        for slots in self.plan.spec.upstreams:
            agent = self.plan.agent_at(self.entry.agent, slots.id)
            model = self.plan.model_at(agent, self.entry.model, slots.id)
            backend = make_backend(agent, model)
            names = {"agent": agent.label, "host": agent.place or agent.label}
            upstreams[slots.id] = RoutedUpstream(
                partial(backend.run, turn), backend.health, names
            )
        return upstreams


def agent_run(
    entry: AgentEntry, plan: PoolPlan | None, call: PipeRequest, sentence: Sentence
) -> Run:
    """What begins a model call of this agent: through its pool, where it has one."""
    if plan is None:
        return make_backend(entry.agent, entry.model).run
    return RoutedAgent(entry, plan, call, sentence).run
