"""Files that are too large to be handed on: the user is told of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devkit.chat_socket import ChatSocket
from tests.e2e.backends.acp_agents import agents_valve
from tests.e2e.backends.usual import listed_models
from tests.webui import WebUI

MODEL = "agents.maker"
# Tells the files it was given, and makes two of its own if asked.
MAKER = """
import pathlib, sys
given = sorted(path.name for path in pathlib.Path().iterdir())
if "Make" in sys.stdin.read():
    pathlib.Path("large.bin").write_bytes(bytes(11 * 1024 * 1024))
    pathlib.Path("small.txt").write_text("small")
print("Given:", given)
"""


@pytest.fixture(autouse=True)
def maker(
    tmp_path: Path, suite_installed: WebUI, set_agents: Callable[[str], None]
) -> None:
    """A program that looks at its files, as the only agent."""
    program = tmp_path / "maker.py"
    program.write_text(MAKER)
    entry = {
        "id": "maker",
        "name": "Maker",
        "backend": "cli",
        "command": [sys.executable, str(program)],
    }
    set_agents(agents_valve(entry))
    listed_models(suite_installed)


def uploaded(webui: WebUI, size: int) -> dict[str, Any]:
    """A file of the admin, as a message names it."""
    with webui.client() as client:
        file = {"file": ("notes.bin", bytes(size))}
        sent = client.post("/api/v1/files/", params={"process": False}, files=file)
        return {"type": "file", "id": sent.raise_for_status().json()["id"]}


def told_last(answer: dict[str, Any]) -> str:
    """The line above the answer; those before it are Open WebUI's search of files."""
    return str(answer["statusHistory"][-1].get("description"))


async def test_a_file_of_the_user(chats: ChatSocket, suite_installed: WebUI):
    large = uploaded(suite_installed, 20 * 1024 * 1024 + 1)
    answer = await (await chats.send(MODEL, "Look", files=[large])).answer()
    assert answer["content"].strip() == "Given: []"
    assert told_last(answer) == (
        "The files are over 20 MiB together, so Maker got only the text found in them."
    )


async def test_files_of_the_agent(chats: ChatSocket, suite_installed: WebUI):
    small = uploaded(suite_installed, 20)
    answer = await (await chats.send(MODEL, "Make two", files=[small])).answer()
    assert answer["content"].strip() == "Given: ['notes.bin']"
    assert [file["name"] for file in answer["files"]] == ["small.txt"]
    sentence = "Not attached, as they are too large or too many: large.bin"
    assert told_last(answer) == sentence
