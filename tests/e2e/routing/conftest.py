from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from devkit.chat_socket import ChatSocket
from tests.e2e.routing.servers import Model, agents_yaml, running
from tests.webui import WebUI

Start = Callable[[Model], Awaitable[Model]]
Configure = Callable[..., None]


@pytest_asyncio.fixture(loop_scope="session")
async def start() -> AsyncIterator[Start]:
    """`await start(model)`: run a model's server until the test is over."""
    async with AsyncExitStack() as stack:

        async def run(model: Model) -> Model:
            await stack.enter_async_context(running(model))
            return model

        yield run


@pytest_asyncio.fixture(loop_scope="session")
async def chats(suite_installed: WebUI) -> AsyncIterator[ChatSocket]:
    """The admin's chats."""
    async with suite_installed.chats() as chats:
        yield chats


@pytest.fixture
def configure(suite_installed: WebUI, set_agents: Callable[[str], None]) -> Configure:
    """`configure(agent(...), …)`: write AGENTS, and have the models listed anew."""

    def write(*entries: dict[str, Any]) -> None:
        set_agents(agents_yaml(*entries))
        with suite_installed.client() as admin:
            admin.get("/api/models").raise_for_status()

    return write
