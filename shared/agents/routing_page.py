"""The operator's page for the pools of the AGENTS valve."""

import time
from functools import lru_cache, partial

import orjson

from shared.agents.parsing import AgentsConfig, parse_agents
from shared.agents.plans import is_routed
from shared.agents.routed import make_router
from shared.host.admin_pages import AdminPage, serve_admin_page
from shared.host.valves import function_valves
from shared.json_text import dump_json
from shared.routing.operator import routing_report
from shared.routing.page import PAGE_HTML, PAGE_POLICY
from shared.routing.settings import PoolSpec


def serve_routing_page(function_id: str) -> None:
    """Serve the page from now on; cheap when it is served already."""
    serve_admin_page(routing_page(function_id))


@lru_cache(maxsize=1)
def routing_page(function_id: str) -> AdminPage:
    report = partial(routing_figures, function_id)
    return AdminPage("routing", function_id, PAGE_HTML, PAGE_POLICY, report)


async def routing_figures(function_id: str) -> bytes:
    """The report of the pools as they are configured now, as JSON."""
    valves = await function_valves(function_id)
    config = parse_agents(valves.get("AGENTS") or "", valves.get("SECRETS") or "")
    router = make_router(valves.get("REDIS_URL") or "")
    store, stats = router.store, router.stats
    stats.forget_others(upstreams_of(config))
    pools = [(spec, await store.view(spec)) for spec in pools_of(config)]
    await store.publish(dump_json(stats.data))
    counts = [orjson.loads(told) for told in await store.published()]
    return dump_json(routing_report(pools, counts or [stats.data], time.time()))


def pools_of(config: AgentsConfig) -> list[PoolSpec]:
    """The pools that requests go through, each once."""
    routed = (config.plans[a.id].spec for a in config.agents if is_routed(a))
    return list({spec.name: spec for spec in routed}.values())


def upstreams_of(config: AgentsConfig) -> dict[str, set[str]]:
    """The upstreams of every pool, also of those that only count fallbacks."""
    specs = (plan.spec for plan in config.plans.values())
    return {spec.name: {upstream.id for upstream in spec.upstreams} for spec in specs}
