"""One at a time, on every worker of the server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from shared.errors import AqueductError
from shared.host.resources import shared_resource

# Deletes the key only for whom it still belongs to: a claim may have run out.
RELEASE_CLAIM = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then "
    "return redis.call('del', KEYS[1]) end return 0"
)


@asynccontextmanager
async def claimed(request: Any, name: str, seconds: float) -> AsyncIterator[None]:
    """Hold `name` alone; AqueductError `busy` when somebody else has it.

    With several workers the claim lies in Open WebUI's Redis and runs out after
    `seconds`, so that a worker that dies does not keep it for ever.
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
    if not await redis.set(key, token, nx=True, px=int(seconds * 1000)):
        raise AqueductError("busy")
    try:
        yield
    finally:
        await redis.eval(RELEASE_CLAIM, 1, key, token)
