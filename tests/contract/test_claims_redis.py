"""One press in a chat at a time, on workers that share a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.errors import AqueductError
from shared.host import claims
from shared.host.claims import claimed
from tests.redis import RedisServer

pytestmark = pytest.mark.contract

KEY = "aqueduct:claim:chat"


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[Redis]:
    with RedisServer() as server:
        async with Redis.from_url(server.url, decode_responses=True) as client:
            yield client


def worker(redis: Redis) -> Any:
    state = SimpleNamespace(redis=redis)
    return SimpleNamespace(app=SimpleNamespace(state=state))


async def until_renewed(redis: Redis, key: str = KEY) -> None:
    """Wait until there is a claim that runs out some time."""
    async with asyncio.timeout(30):
        while await redis.ttl(key) < 0:
            pass


async def test_of_two_workers_one_is_told_to_wait(redis):
    async with claimed(worker(redis), "chat"):
        with pytest.raises(AqueductError, match="busy"):
            async with claimed(worker(redis), "chat"):
                pytest.fail("both have it")
        async with claimed(worker(redis), "another chat"):
            pass
        assert 0 < await redis.ttl(KEY) <= claims.CLAIM_SECONDS
    assert not await redis.exists(KEY)


async def test_a_claim_lasts_as_long_as_its_work(redis, monkeypatch):
    monkeypatch.setattr(claims, "RENEWAL_SECONDS", 0)
    async with claimed(worker(redis), "chat"):
        # It ran out, or Redis was started anew.
        await redis.delete(KEY)
        await until_renewed(redis)
        await redis.persist(KEY)
        await until_renewed(redis)
        with pytest.raises(AqueductError, match="busy"):
            async with claimed(worker(redis), "chat"):
                pytest.fail("both have it")
    assert not await redis.exists(KEY)


async def test_what_somebody_else_has_got_meanwhile_stays_theirs(redis, monkeypatch):
    monkeypatch.setattr(claims, "RENEWAL_SECONDS", 0)
    async with claimed(worker(redis), "chat"):
        await redis.set(KEY, "theirs")
        async with claimed(worker(redis), "another chat"):
            # By then, the first one's renewal has come round as well.
            await redis.persist("aqueduct:claim:another chat")
            await until_renewed(redis, "aqueduct:claim:another chat")
    assert await redis.get(KEY) == "theirs"
