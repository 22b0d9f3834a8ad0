from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from devkit.chat_socket import ChatSocket
from devkit.demo_agent import DemoAgent
from tests.e2e.agents.scene import agents_yaml, create_tool
from tests.webui import WebUI


@pytest.fixture(scope="package")
def deaf() -> Iterator[socket.socket]:
    """A server that nobody attends: it takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture(scope="package")
def scene(suite_installed: WebUI, deaf: socket.socket) -> Iterator[WebUI]:
    """Open WebUI with the agents of these tests in place of the demo's."""
    before = suite_installed.agents()
    deaf_url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
    suite_installed.set_agents(agents_yaml(suite_installed.demo.url, deaf_url))
    with suite_installed.client() as admin:
        create_tool(admin)
        # Lists the models once, which is what lets everybody use the public one.
        admin.get("/api/models").raise_for_status()
    yield suite_installed
    suite_installed.set_agents(before)


@pytest.fixture
def demo(scene: WebUI) -> DemoAgent:
    """The demo agent, which has forgotten what earlier tests asked."""
    scene.demo.reset()
    return scene.demo


@pytest_asyncio.fixture(loop_scope="session")
async def chats(scene: WebUI) -> AsyncIterator[ChatSocket]:
    """The admin's chats."""
    async with scene.chats() as chats:
        yield chats
