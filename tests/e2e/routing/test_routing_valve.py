"""Queues in a Redis that is not Open WebUI's own: the valve REDIS_URL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from devkit.chat_socket import ChatSocket
from devkit.webui import set_valves
from tests.e2e.agents.answers import eventually
from tests.e2e.routing.conftest import Configure, Start
from tests.e2e.routing.servers import Model, agent
from tests.e2e.routing.test_routing_chats import new_id
from tests.redis import RedisServer
from tests.webui import WebUI

ROOT = "open-webui:aqueduct:{routing}"


@pytest.fixture
def own_redis(suite_installed: WebUI) -> Iterator[RedisServer]:
    """A Redis that the valve names for one test."""
    with RedisServer() as server, suite_installed.client() as admin:
        set_valves(admin, "agents", REDIS_URL=server.url)
        yield server
        set_valves(admin, "agents", REDIS_URL="")


async def test_the_queue_is_in_the_redis_that_the_valve_names(
    own_redis: RedisServer, chats: ChatSocket, start: Start, configure: Configure
):
    model, name = await start(Model("A", held=True)), new_id()
    configure(agent(name, model, concurrency=1, queue={"notify_after": 0}))
    first = await chats.send(f"agents.{name}", "one")
    await eventually(lambda: model.answering == 1, "the first to be served")
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.hlen(f"{ROOT}:{name}:running") == 1
    own_redis.kill()
    second = await chats.send(f"agents.{name}", "two")
    async for event in second.events():
        if event["type"] == "status":
            break
    assert event["data"]["description"].startswith("Waiting: position 1 of 1")
    model.release(2)
    assert (await first.answer())["content"] == "A answers."
    assert (await second.answer())["content"] == "A answers."


@pytest.mark.parametrize(
    "url", ["localhost:6379", "redis://:hush-hush@host:port/0", "https://hush-hush/"]
)
def test_what_is_no_address_is_not_saved_and_not_repeated(
    suite_installed: WebUI, url: str
):
    path = "/api/v1/functions/id/agents/valves"
    with suite_installed.client() as admin:
        before = admin.get(path).raise_for_status().json()
        answer = admin.post(f"{path}/update", json=before | {"REDIS_URL": url})
        assert answer.status_code == 400  # Open WebUI says why in its log alone
        assert admin.get(path).raise_for_status().json() == before
    log = suite_installed.log_path.read_text("utf-8")
    assert "write it as redis://" in log
    assert "hush-hush" not in log + answer.text
