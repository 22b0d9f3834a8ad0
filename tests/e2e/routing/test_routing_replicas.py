"""Two Open WebUI processes on one PostgreSQL and one Redis, as one fleet."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from devkit.chat_socket import ChatSocket, Turn
from devkit.demo_agent import DemoAgent
from devkit.server import OpenWebUI
from devkit.webui import sign_in
from tests.e2e.agents.answers import eventually
from tests.e2e.routing.conftest import Start
from tests.e2e.routing.servers import Model, agent, agents_yaml
from tests.postgres import PostgresServer
from tests.redis import RedisServer
from tests.webui import WebUI

ADMIN = ("admin@example.org", "correct horse")
LEASE = 20.0  # seconds: the lease itself, and what a loaded machine adds


@dataclass(frozen=True, slots=True)
class Fleet:
    """Two replicas and what they share."""

    one: WebUI
    two: WebUI
    redis: RedisServer

    def configure(self, *entries: dict[str, object]) -> None:
        self.one.set_agents(agents_yaml(*entries))
        for replica in (self.one, self.two):
            with replica.client() as admin:
                admin.get("/api/models").raise_for_status()


def replica(
    folder: str,
    postgres: PostgresServer,
    redis: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> OpenWebUI:
    email, password = ADMIN
    return OpenWebUI(
        tmp_path_factory.mktemp(folder),
        secret_key="of no use outside the tests",
        env={
            "DATABASE_URL": postgres.url.replace(":", "+psycopg:", 1),
            "REDIS_URL": redis.url,
            "WEBSOCKET_MANAGER": "redis",
            "WEBSOCKET_REDIS_URL": redis.url,
            "WEBUI_ADMIN_EMAIL": email,
            "WEBUI_ADMIN_PASSWORD": password,
        },
    )


@pytest.fixture
def fleet(
    tmp_path_factory: pytest.TempPathFactory, demo_agent: DemoAgent
) -> Iterator[Fleet]:
    with (
        PostgresServer() as postgres,
        RedisServer() as redis,
        replica("replica-one", postgres, redis, tmp_path_factory) as one,
    ):
        first = WebUI(one, sign_in(one.url, *ADMIN), demo_agent)
        first.install()
        first.set_active("conversation_memory", False)
        with replica("replica-two", postgres, redis, tmp_path_factory) as two:
            yield Fleet(first, WebUI(two, sign_in(two.url, *ADMIN), demo_agent), redis)


@pytest_asyncio.fixture(loop_scope="session")
async def chats(fleet: Fleet) -> AsyncIterator[tuple[ChatSocket, ChatSocket]]:
    """The admin's chats in each replica."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(fleet.one.chats())
        two = await stack.enter_async_context(fleet.two.chats())
        yield one, two


async def waits(chat: ChatSocket, text: str) -> Turn:
    """Send a message that has to wait; returns when its place is shown."""
    turn = await chat.send("agents.fleet", text)
    async for event in turn.events():
        if event["type"] == "status":
            break
    return turn


async def logged(replica: WebUI, words: str) -> None:
    """Wait until a replica has written this into its log."""
    await eventually(lambda: words in replica.log_path.read_text("utf-8"), words, LEASE)


def kill(server: OpenWebUI) -> None:
    """End a server without a word, as a power failure does."""
    assert server._child is not None
    os.killpg(server._child.pid, signal.SIGKILL)


@pytest.mark.timeout(600)
async def test_two_replicas_are_one_fleet(
    fleet: Fleet, chats: tuple[ChatSocket, ChatSocket], start: Start
):
    model = await start(Model("GPU", held=True))
    queue = {"notify_after": 0}
    fleet.configure(agent("fleet", model, concurrency=1, queue=queue))
    one, two = chats

    # One order for both.
    turns = [await one.send("agents.fleet", "1")]
    await eventually(lambda: model.answering == 1, "the first to be served")
    turns += [await waits(chat, text) for chat, text in ((two, "2"), (one, "3"))]
    turns.append(await waits(two, "4"))
    for number, turn in enumerate(turns):
        await eventually(lambda n=number: len(model.asked) == n + 1, "the next")
        assert model.answering == 1
        model.release()
        assert (await turn.answer())["content"] == "GPU answers."
    assert model.asked == ["1", "2", "3", "4"]

    # Redis is restarted, and has forgotten everything, while one runs and one waits.
    running = await one.send("agents.fleet", "5")
    await eventually(lambda: len(model.asked) == 5, "the fifth to be served")
    behind = await waits(one, "6")
    fleet.redis.kill()
    for each in (fleet.one, fleet.two):
        await logged(each, "Redis is gone")
    fleet.redis.start()
    for each in (fleet.one, fleet.two):
        await logged(each, "Redis is back")
    model.release()
    assert (await running.answer())["content"] == "GPU answers."
    await eventually(lambda: len(model.asked) == 6, "the sixth")
    again = await waits(two, "7")
    model.release(2)
    assert (await behind.answer())["content"] == "GPU answers."
    assert (await again.answer())["content"] == "GPU answers."

    # A replica dies with one request running and one waiting.
    await one.send("agents.fleet", "8")
    await eventually(lambda: len(model.asked) == 8, "the eighth to be served")
    await waits(one, "9")
    survivor = await waits(two, "10")
    kill(fleet.one.server)
    await eventually(lambda: model.asked[-1] == "10", "the dead one's slot", LEASE)
    model.release(2)
    assert (await survivor.answer())["content"] == "GPU answers."
    assert "9" not in model.asked
