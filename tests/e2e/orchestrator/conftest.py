from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from devkit.chat_socket import Turn
from devkit.installer import Installer
from devkit.paths import ROOT
from devkit.webui import Account
from tests.e2e.continue_with.presses import Tab
from tests.e2e.orchestrator.upstream import Upstream, running_upstream
from tests.webui import WebUI

EVERYBODY = [{"principal_type": "user", "principal_id": "*", "permission": "read"}]
TOOL_ID = "model_orchestrator"
ORCHESTRATOR = "orchestrator"

# Everybody's models: name, description and tags; `secret` is for admins only.
PEOPLE = {
    "luna": (
        "Luna",
        "Draws and describes pictures.",
        ["cap:artist", "rel:works-with:sol", "rel:asks:mira"],
    ),
    "sol": (
        "Sol",
        "Writes stories, and draws a little.",
        ["cap:writer", "cap:artist", "rel:works-with:luna", "rel:reviewed-by:mira"],
    ),
    "mira": ("Mira", "Checks facts.", ["cap:fact-checker", "rel:reviews:sol"]),
    "slow": ("Slow", "Takes its time.", ["patient"]),
    "broken": ("Broken", "Fails.", []),
}


@pytest.fixture(scope="package")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="package")
def stage(suite_installed: WebUI, upstream: Upstream) -> Iterator[WebUI]:
    """Open WebUI with the scripted models, and the Orchestrator as it is installed."""
    with suite_installed.client() as admin:
        before = admin.get("/openai/config").raise_for_status().json()
        set_up(suite_installed.url, suite_installed.admin, upstream)
        yield suite_installed
        for model_id in (
            *PEOPLE,
            "secret",
            "conductor",
            "deep",
            "deputy",
            ORCHESTRATOR,
        ):
            admin.post("/api/v1/models/model/delete", json={"id": model_id})
        admin.post("/openai/config/update", json=before).raise_for_status()
        admin.get("/api/models?refresh=true").raise_for_status()


def set_up(url: str, account: Account, upstream: Upstream) -> None:
    """Connect the scripted models, describe them, and make the Orchestrator."""
    connection = {
        "ENABLE_OPENAI_API": True,
        "OPENAI_API_BASE_URLS": [upstream.url],
        "OPENAI_API_KEYS": ["none"],
        "OPENAI_API_CONFIGS": {},
    }
    with account.client(url) as admin:
        admin.post("/openai/config/update", json=connection).raise_for_status()
        admin.get("/api/models?refresh=true").raise_for_status()
        for model_id in PEOPLE:
            add_entry(admin, model_id)
        for model_id in ("conductor", "deep"):
            add_base(admin, model_id)
        add_second_orchestrator(admin)
        with Installer.connect(url, account.token, ROOT) as installer:
            assert installer.add_orchestrator("conductor")
        admin.get("/api/models").raise_for_status()


def add_entry(admin: httpx.Client, model_id: str) -> None:
    """Name, describe and tag a model, for everybody."""
    name, description, tags = PEOPLE[model_id]
    meta = {"description": description, "tags": [{"name": tag} for tag in tags]}
    form = {"id": model_id, "name": name, "meta": meta, "params": {}}
    admin.post(
        "/api/v1/models/create", json=form | {"access_grants": EVERYBODY}
    ).raise_for_status()


def add_base(admin: httpx.Client, model_id: str) -> None:
    """Let everybody use a model that only others are built on."""
    form = {"id": model_id, "name": model_id, "meta": {"hidden": True}, "params": {}}
    admin.post(
        "/api/v1/models/create", json=form | {"access_grants": EVERYBODY}
    ).raise_for_status()


def add_second_orchestrator(admin: httpx.Client) -> None:
    """A model below the Orchestrator that has the same tool."""
    form = {
        "id": "deputy",
        "base_model_id": "deep",
        "name": "Deputy",
        "meta": {"description": "Asks others, too.", "toolIds": [TOOL_ID]},
        "params": {},
        "access_grants": EVERYBODY,
    }
    admin.post("/api/v1/models/create", json=form).raise_for_status()


@pytest.fixture(scope="package")
def user(stage: WebUI) -> Account:
    """An ordinary user, who does without proposed questions below each answer."""
    return quiet_user(stage, "Owner")


@pytest.fixture(scope="package")
def other_user(stage: WebUI) -> Account:
    return quiet_user(stage, "Another")


def quiet_user(stage: WebUI, name: str) -> Account:
    account = stage.create_user(name)
    with stage.client(account) as client:
        settings = {"ui": {"autoFollowUps": False}}
        client.post("/api/v1/users/user/settings/update", json=settings)
    return account


class Stage(Tab):
    """A tab that talks to the Orchestrator, and answers its dialogs with `agrees`.

    With `agree_with` it agrees, at the moment when the other tabs there do.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.agrees: bool = False
        self.agree_with: asyncio.Barrier | None = None
        self.asked: list[str] = []

    async def say(self, text: str, **more: Any) -> Turn:
        """Send a message; returns when the answer has begun."""
        return await self.send(ORCHESTRATOR, text, tool_ids=[TOOL_ID], **more)

    async def child_chats(self, parent_chat_id: str) -> list[dict[str, Any]]:
        """The chats that were begun from this one, oldest first."""
        response = await self._client.get("/api/v1/chats/list")
        response.raise_for_status()
        chats = [await self.chat(each["id"]) for each in response.json()]
        below = [
            chat
            for chat in chats
            if (chat["meta"].get("orchestrated") or {}).get("parent_chat_id")
            == parent_chat_id
        ]
        return sorted(below, key=lambda chat: chat["created_at"])

    async def _receive(self, message: dict[str, Any], *rest: Any) -> Any:
        event = message.get("data") or {}
        if event.get("type") == "confirmation":
            self.asked.append(event["data"]["message"])
            if self.agree_with:
                await self.agree_with.wait()
            return self.agrees or bool(self.agree_with)
        return await super()._receive(message, *rest)


@pytest.fixture
def set_valves(stage: WebUI) -> Iterator[Callable[..., None]]:
    """`set_valves(MAX_DEPTH=1)` for one test; then the defaults hold again."""
    path = f"/api/v1/tools/id/{TOOL_ID}/valves/update"

    def write(**valves: Any) -> None:
        with stage.client() as admin:
            admin.post(path, json=valves).raise_for_status()

    yield write
    write()


@pytest.fixture
def kept_tags(stage: WebUI) -> Iterator[None]:
    """Luna's tags as they were, when the test is over."""
    with stage.client() as admin:
        before = admin.get("/api/v1/models/model?id=luna").raise_for_status().json()
        yield
        admin.post("/api/v1/models/model/update", json=before).raise_for_status()
        admin.get("/api/models").raise_for_status()


@pytest_asyncio.fixture(loop_scope="session")
async def tab(stage: WebUI, user: Account, upstream: Upstream) -> AsyncIterator[Stage]:
    """A tab of an ordinary user; the models have forgotten earlier tests."""
    upstream.reset()
    async with Stage.connect(stage.url, user.token) as tab:
        assert isinstance(tab, Stage)
        yield tab
    upstream.reset()


@pytest_asyncio.fixture(loop_scope="session")
async def other_tab(stage: WebUI, other_user: Account) -> AsyncIterator[Stage]:
    async with Stage.connect(stage.url, other_user.token) as tab:
        assert isinstance(tab, Stage)
        yield tab


@pytest_asyncio.fixture(loop_scope="session")
async def admin_tab(stage: WebUI, upstream: Upstream) -> AsyncIterator[Stage]:
    async with Stage.connect(stage.url, stage.admin_token) as tab:
        assert isinstance(tab, Stage)
        yield tab
