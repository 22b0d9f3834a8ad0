"""Redis for routing: one script, run for one pool at a time."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import parse_url
from redis.exceptions import (
    AskError,
    ClusterError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from shared.routing.redis_commands import ROUTING_SCRIPT
from shared.routing.settings import REQUEST_CLASSES, PoolSpec
from shared.routing.store import PoolView
from shared.routing.tickets import GateView, Ticket

REDIS_ERRORS = (RedisError, OSError, TimeoutError)
# What a server says whose place another one takes, or is about to take.
MOVING_ERRORS = (ReadOnlyError, ClusterError, AskError, TryAgainError)
CALL_SECONDS = 3.0
SCRIPT_SHA = hashlib.sha1(ROUTING_SCRIPT.encode()).hexdigest()


class ScriptRefused(RedisError):
    """Redis is there, but does not run the script.

    There is a fault in it or in what is stored, or Redis lacks memory or a right.
    """


@dataclass(frozen=True, slots=True)
class RedisWire:
    """The script's commands through a redis.asyncio client.

    `root` begins all keys and holds their hash tag, as in `open-webui:aqueduct:
    {routing}:`. Raises one of REDIS_ERRORS when Redis is gone or does not answer, and
    ScriptRefused, which is one of them, when it answers no.
    """

    client: Any
    root: str

    async def ask(self, pool: str, command: str, *arguments: Any) -> Any:
        """Run one command; its answer, from JSON, or None."""
        given = [self.root, pool, command, *arguments]
        async with asyncio.timeout(CALL_SECONDS):
            try:
                text = await self._run(given)
            except MOVING_ERRORS:
                raise
            except ResponseError as error:
                raise ScriptRefused(str(error)) from error
        return None if text is None else json.loads(text)

    async def _run(self, given: Sequence[Any]) -> Any:
        try:
            return await self.client.evalsha(SCRIPT_SHA, 1, *given)
        except NoScriptError:  # Redis is new, or was restarted
            return await self.client.eval(ROUTING_SCRIPT, 1, *given)

    async def next_letter(self, replica: str, seconds: float) -> Any:
        """Wait so long for what concerns this replica; None when there was nothing."""
        async with asyncio.timeout(seconds + CALL_SECONDS):
            found = await self.client.blpop([f"{self.root}mail:{replica}"], seconds)
        return None if found is None else json.loads(found[1])

    async def get_record(self, pool: str, name: str) -> str:
        async with asyncio.timeout(CALL_SECONDS):
            return await self.client.hget(f"{self.root}{pool}:records", name) or ""

    async def put_counts(self, process: str, counts: bytes, seconds: int) -> None:
        """Keep a process's counts for so long, whether it lives or not."""
        async with asyncio.timeout(CALL_SECONDS):
            key = f"{self.root}counts:{process}"
            await self.client.set(key, counts, ex=seconds)
            members = {process: time.time() + seconds}
            await self.client.zadd(f"{self.root}counted", members)

    async def all_counts(self) -> list[bytes]:
        """The counts of every process that told them lately."""
        async with asyncio.timeout(CALL_SECONDS):
            counted, now = f"{self.root}counted", time.time()
            await self.client.zremrangebyscore(counted, "-inf", now)
            processes = await self.client.zrange(counted, 0, -1)
            keys = [f"{self.root}counts:{process}" for process in processes]
            found = await self.client.mget(keys) if keys else []
        return [text.encode() for text in found if text]


def checked_redis_url(url: str) -> str:
    """The address of a Redis, or "" where it is empty; raises ValueError."""
    url = url.strip()
    if url:
        try:
            parse_url(url)
        except ValueError:
            raise ValueError("write it as redis://[user:password@]host:port") from None
    return url


def spec_json(spec: PoolSpec) -> str:
    """A pool's rules as the script reads them."""
    most = spec.queue.max_waiting
    return json.dumps(
        {
            "upstreams": [
                {"id": u.id, "slots": u.concurrency, "weight": u.weight}
                for u in spec.upstreams
            ],
            "ageing": spec.queue.ageing,
            "per_user": spec.queue.per_user,
            "per_model": spec.queue.per_model,
            "ttl": spec.affinity.ttl,
            "max_waiting": [getattr(most, kind) for kind in REQUEST_CLASSES],
        }
    )


def ticket_json(ticket: Ticket, owner: str, age: float) -> str:
    """A request as the script reads it; `age` are the seconds since it first came."""
    fields: Mapping[str, Any] = {
        "id": ticket.id,
        "user": ticket.user,
        "model": ticket.model,
        "priority": ticket.priority,
        "affinity": ticket.affinity,
        "ahead": ticket.ahead,
        "excluded": sorted(ticket.excluded),
        "login": ticket.login,
        "owner": owner,
        "age": age,
    }
    return json.dumps(fields)


def pool_view(spec: PoolSpec, seen: dict[str, Any]) -> PoolView:
    """How a pool stands, from what the script saw; an empty list comes as {}."""
    running = [int(count) for count in seen["running"]]
    gates = (
        GateView(g["name"], g["code"], g["seconds"], g["paused"], bool(g["probe"]))
        for g in seen["gates"]
    )
    names = (upstream.id for upstream in spec.upstreams)
    return PoolView(
        tuple(int(count) for count in seen["waiting"]),
        dict(zip(names, running, strict=False)),
        tuple(gates),
    )


def batches(ids: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
