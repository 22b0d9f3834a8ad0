"""The folder of a chat goes with the chat, however that is deleted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from devkit.webui import Account
from tests.e2e.agents.answers import eventually
from tests.e2e.backends.acp_agents import agents_valve
from tests.e2e.backends.usual import listed_models
from tests.webui import WebUI

MODEL = "agents.worker"
WORKER = "import os; open('notes.txt', 'w').write('plum'); print(os.getcwd())"


@pytest.fixture(autouse=True)
def worker(suite_installed: WebUI, set_agents: Callable[[str], None]) -> None:
    """A program that leaves a file in its folder and tells where that is."""
    entry = {
        "id": "worker",
        "backend": "cli",
        "command": [sys.executable, "-c", WORKER],
        "access": "public",
    }
    set_agents(agents_valve(entry))
    listed_models(suite_installed)


@pytest.fixture
def ada(suite_installed: WebUI) -> Account:
    return suite_installed.create_user("Ada")


async def worked_in(webui: WebUI, account: Account) -> tuple[str, Path]:
    """A new chat of this person with the agent, and the folder it worked in."""
    async with webui.chats(account) as chats:
        turn = await chats.send(MODEL, "Work")
        folder = Path((await turn.answer())["content"].strip())
    assert (folder / "notes.txt").read_text() == "plum"
    return turn.chat_id, folder


def delete_chat(client: httpx.Client, chat_id: str) -> None:
    client.delete(f"/api/v1/chats/{chat_id}").raise_for_status()


def delete_folder(client: httpx.Client, chat_id: str) -> None:
    """Put the chat into a folder, and delete that with what is in it."""
    made = client.post("/api/v1/folders/", json={"name": "Work"}).raise_for_status()
    folder = {"folder_id": made.json()["id"]}
    client.post(f"/api/v1/chats/{chat_id}/folder", json=folder).raise_for_status()
    path = f"/api/v1/folders/{folder['folder_id']}?delete_contents=true"
    client.delete(path).raise_for_status()


@pytest.mark.parametrize("delete", [delete_chat, delete_folder])
async def test_the_chat_is_deleted(
    suite_installed: WebUI, ada: Account, delete: Callable[[httpx.Client, str], None]
):
    chat_id, folder = await worked_in(suite_installed, ada)
    _, other = await worked_in(suite_installed, ada)
    assert folder.parent == other.parent
    with suite_installed.client(ada) as client:
        delete(client, chat_id)
    await eventually(lambda: not folder.exists(), "the folder's end")
    assert (other / "notes.txt").exists()


async def test_all_chats_are_deleted(suite_installed: WebUI, ada: Account):
    folders = [(await worked_in(suite_installed, ada))[1] for _ in range(2)]
    _, others = await worked_in(suite_installed, suite_installed.admin)
    with suite_installed.client(ada) as client:
        client.delete("/api/v1/chats/").raise_for_status()
    await eventually(lambda: not any(f.exists() for f in folders), "the folders' end")
    assert others.exists()


async def test_a_user_is_deleted(suite_installed: WebUI, ada: Account):
    _, folder = await worked_in(suite_installed, ada)
    _, others = await worked_in(suite_installed, suite_installed.admin)
    with suite_installed.client() as admin:
        admin.delete(f"/api/v1/users/{ada.id}").raise_for_status()
    await eventually(lambda: not folder.parent.exists(), "the end of the folders")
    assert others.exists()
