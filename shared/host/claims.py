"""One at a time, on every worker of the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from redis.exceptions import RedisError

from shared.errors import AqueductError
from shared.host.resources import shared_resource

# So long a chat stays claimed when its worker has died.
CLAIM_SECONDS = 60
RENEWAL_SECONDS = 10
# Both only for whom the key still belongs to: a claim may have run out. A Redis that
# was started anew knows of none.
RENEW_CLAIM = (
    "local holder = redis.call('get', KEYS[1]) "
    "if not holder or holder == ARGV[1] then "
    "redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2]) end"
)
RELEASE_CLAIM = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then "
    "return redis.call('del', KEYS[1]) end return 0"
)


@asynccontextmanager
async def claimed(request: Any, name: str) -> AsyncIterator[None]:
    """Hold `name` alone; AqueductError `busy` when somebody else has it.

    With several workers the claim lies in Open WebUI's Redis. There it runs out unless
    it is renewed, so that a worker that dies does not keep it.
    """
    redis = getattr(request.app.state, "redis", None)
    if redis is None:
        held: set[str] = shared_resource("claims", set)
        if name in held:
            raise AqueductError("busy")
        held.add(name)
        try:
            yield
        finally:
            held.discard(name)
        return
    key, token = f"aqueduct:claim:{name}", uuid4().hex
    if not await redis.set(key, token, nx=True, ex=CLAIM_SECONDS):
        raise AqueductError("busy")
    released = asyncio.Event()
    renewing = asyncio.create_task(renew_claim(redis, key, token, released))
    try:
        yield
    finally:
        # Not cancelled: a renewal on its way would come after the release.
        released.set()
        await renewing
        # Out of reach, it runs out by itself.
        with contextlib.suppress(RedisError):
            await redis.eval(RELEASE_CLAIM, 1, key, token)


async def renew_claim(
    redis: Any, key: str, token: str, released: asyncio.Event
) -> None:
    """Keep a claim from running out, until it is released."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RENEWAL_SECONDS):
                await released.wait()
        if released.is_set():
            return
        # The next time may do.
        with contextlib.suppress(RedisError):
            await redis.eval(RENEW_CLAIM, 1, key, token, CLAIM_SECONDS * 1000)
