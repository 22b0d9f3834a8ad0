"""A router over upstreams that do what a script says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from shared.errors import (
    AqueductError,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnreachable,
)
from shared.events import AgentEvent, Finished, TextDelta
from shared.routing.memory_queue import InProcessStore
from shared.routing.router import RoutedCall, RoutedUpstream, Router
from shared.routing.settings import PoolSpec, RetrySettings, UpstreamSlots
from shared.routing.stats import RoutingStats
from shared.routing.texts import ROUTING_TEXTS
from shared.routing.tickets import Ticket
from shared.texts import translate

QUICK = RetrySettings(base=0.001, cap=0.001)
DOWN = UpstreamUnreachable("connection_refused")
PATIENCE = 10.0

Script = list[AgentEvent | Exception | asyncio.Event]


class Upstream:
    """An upstream that does what a script says for each call; the last one for good."""

    def __init__(self, name: str, *scripts: Script) -> None:
        self.name = name
        self.scripts = scripts or ([TextDelta(f"I am {name}"), Finished()],)
        self.calls = 0
        self.ill: UpstreamError | None = None
        self.asked_how_it_is = 0

    async def run(self) -> AsyncGenerator[AgentEvent, None]:
        script = self.scripts[min(self.calls, len(self.scripts) - 1)]
        self.calls += 1
        for step in script:
            if isinstance(step, Exception):
                raise type(step)(**_fields(step))  # an error is used once
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                yield step

    async def health(self) -> None:
        self.asked_how_it_is += 1
        if self.ill is not None:
            raise self.ill


def _fields(error: Exception) -> dict[str, object]:
    assert isinstance(error, AqueductError)
    status = {"status": error.status} if isinstance(error, UpstreamRefused) else {}
    return {"code": error.code, **error.fields, **status}


class Bench:
    """A router over upstreams that follow scripts."""

    def __init__(self, *upstreams: Upstream, concurrency: int = 1, **rules: object):
        self.upstreams = {u.name: u for u in upstreams}
        slots = tuple(UpstreamSlots(u.name, concurrency) for u in upstreams)
        self.spec = PoolSpec("pool", slots, **{"retry": QUICK, **rules})  # type: ignore[arg-type]
        self.store = InProcessStore()
        self.counts: dict[str, object] = {}
        self.router = Router(self.store, RoutingStats(self.counts))

    def call(self, user: str = "ada", priority: int = 0, chat: str = "") -> RoutedCall:
        return RoutedCall(
            self.spec,
            {
                name: RoutedUpstream(u.run, u.health, {"host": name, "agent": "Scout"})
                for name, u in self.upstreams.items()
            },
            user,
            "model",
            chat,
            priority,
            lambda code, fields: translate(ROUTING_TEXTS, code, "en", fields),
        )

    async def said(self, **who: object) -> list[AgentEvent]:
        return [event async for event in self.router.run(self.call(**who))]  # type: ignore[arg-type]

    async def text(self, **who: object) -> str:
        events = await self.said(**who)
        return "".join(e.text for e in events if isinstance(e, TextDelta))

    @property
    def running(self) -> int:
        return len(self.store.pool(self.spec).desk.running)

    def open_again(self) -> bool:
        desk = self.store.pool(self.spec).desk
        return desk.possible(Ticket("any", "ada", "model"), time.monotonic())

    @property
    def waiting(self) -> int:
        return len(self.store.pool(self.spec).desk.waiting)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def refusing(status: int, **fields: object) -> UpstreamRefused:
    known = {401: "status_401", 404: "status_404", 429: "status_429"}
    return UpstreamRefused(known.get(status, "status_5xx"), status, **fields)
