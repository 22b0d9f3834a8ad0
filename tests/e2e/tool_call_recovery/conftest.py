from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from devkit.chat_socket import ChatSocket
from devkit.demo_config import agents_yaml, demo_agents
from tests.e2e.agents.scene import create_tool
from tests.webui import WebUI

LEAKY = "aqueduct-demo-leaky"


@pytest.fixture(scope="package")
def leaky(suite_installed: WebUI) -> Iterator[WebUI]:
    """Open WebUI with a connection of its own to the demo's models, one of which leaks.

    No agent stands between: what leaks there only the filter can mend.
    """
    with suite_installed.client() as admin:
        before = admin.get("/openai/config").raise_for_status().json()
        connection = {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": [f"{suite_installed.demo.url}/v1"],
            "OPENAI_API_KEYS": ["none"],
            "OPENAI_API_CONFIGS": {},
        }
        admin.post("/openai/config/update", json=connection).raise_for_status()
        suite_installed.set_agents(agents_yaml(demo_agents(suite_installed.demo.url)))
        create_tool(admin)
        found = admin.get("/api/models?refresh=true").raise_for_status().json()["data"]
        assert LEAKY in {model["id"] for model in found}
        yield suite_installed
        admin.post("/openai/config/update", json=before).raise_for_status()
        admin.get("/api/models?refresh=true").raise_for_status()


@pytest_asyncio.fixture(loop_scope="session")
async def chats(leaky: WebUI) -> AsyncIterator[ChatSocket]:
    """The admin's chats; the demo agent has forgotten what earlier tests asked."""
    leaky.demo.reset()
    async with leaky.chats() as chats:
        yield chats
