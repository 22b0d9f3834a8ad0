from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from devkit.demo_agent import DemoAgent
from devkit.demo_config import agents_yaml
from devkit.webui import Account
from tests.e2e.agents.scene import TOOL
from tests.e2e.continue_with.models import agent_entries
from tests.e2e.continue_with.presses import Tab, open_tab
from tests.webui import WebUI


@pytest.fixture(scope="package")
def slow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo agent whose answers take seconds, so that they can be stopped."""
    agent = DemoAgent(tmp_path_factory.mktemp("slow") / "demo.log", pace=0.15)
    try:
        agent.start()
        yield agent.url
    finally:
        agent.stop()


@pytest.fixture(scope="package")
def place(suite_installed: WebUI, slow_url: str) -> Iterator[WebUI]:
    """Open WebUI with models enough to hand conversations around."""
    before = suite_installed.agents()
    entries = agent_entries(suite_installed.demo.url, slow_url)
    suite_installed.set_agents(agents_yaml(entries))
    with suite_installed.client() as admin:
        # Lists the models once, which is what lets everybody use the public ones.
        admin.get("/api/models").raise_for_status()
    yield suite_installed
    suite_installed.set_agents(before)


@pytest.fixture(scope="package")
def user(place: WebUI) -> Account:
    """An ordinary user, who does without proposed questions below each answer."""
    account = place.create_user("Owner")
    with place.client(account) as client:
        settings = {"ui": {"autoFollowUps": False}}
        client.post("/api/v1/users/user/settings/update", json=settings)
    return account


@pytest_asyncio.fixture(loop_scope="session")
async def tab(place: WebUI, user: Account) -> AsyncIterator[Tab]:
    """A tab of an ordinary user; the demo agent has forgotten earlier tests."""
    place.demo.reset()
    async with open_tab(place.url, user.token) as tab:
        yield tab


@pytest.fixture(scope="package")
def expert(place: WebUI) -> str:
    """The name of a workspace model that has a tool of its own."""
    everybody = [{"principal_type": "user", "principal_id": "*", "permission": "read"}]
    tool = {"id": "expert_weather", "name": "Weather", "content": TOOL, "meta": {}}
    model = {
        "id": "weather-expert",
        "base_model_id": "agents.third",
        "name": "Weather expert",
        "meta": {"toolIds": ["expert_weather"]},
        "params": {},
    }
    with place.client() as admin:
        for path, form in (("tools", tool), ("models", model)):
            admin.post(
                f"/api/v1/{path}/create", json=form | {"access_grants": everybody}
            ).raise_for_status()
        admin.get("/api/models").raise_for_status()
    return "Weather expert"


@pytest.fixture
def arena(place: WebUI) -> Iterator[str]:
    """The id of an arena, which lets one of the demo's models answer unseen."""
    path = "/api/v1/evaluations/config"
    everybody = [{"principal_type": "user", "principal_id": "*", "permission": "read"}]
    meta = {"model_ids": ["agents.demo"], "access_grants": everybody}
    contest = {"id": "arena", "name": "Arena", "meta": meta}
    with place.client() as admin:
        before = admin.get(path).raise_for_status().json()
        changed = {"ENABLE_EVALUATION_ARENA_MODELS": True}
        changed["EVALUATION_ARENA_MODELS"] = [contest]
        admin.post(path, json=before | changed).raise_for_status()
        admin.get("/api/models").raise_for_status()
        yield "arena"
        admin.post(path, json=before).raise_for_status()
