"""A project with docs of its own, an app over it, and a live server."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from demo.acts import Act
from demo.agent import answer
from demo.conversation import read_chat
from demo.planner import Toolbox
from demo.search import DocSearch
from demo.server import create_app

NOW = datetime(2026, 6, 2, 18, 30, tzinfo=UTC)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer"},
            },
            "required": ["city"],
        },
    },
}
MAIL = {
    "type": "function",
    "function": {
        "name": "send_mail",
        "description": "Send a letter",
        "parameters": {
            "type": "object",
            "properties": {"to": {"type": "string"}, "urgent": {"type": "boolean"}},
            "required": ["to", "urgent"],
        },
    },
}


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "docs").mkdir()
    (root / "README.md").write_text(
        "# Suite\n\nMany functions.\n\n## Quick start\n\n"
        "To install everything, run one command and open the address it prints.\n"
    )
    (root / "docs" / "memory.md").write_text(
        "# Memory\n\nThe filter recalls earlier exchanges.\n\n"
        "```bash\n# not a heading\n```\n\n## Forgetting\n\nDelete a chat to forget.\n"
    )
    return root


@pytest.fixture(scope="session")
def toolbox(project: Path) -> Toolbox:
    return Toolbox(DocSearch(project), lambda: NOW, "http://agent")


@pytest.fixture
def ask(toolbox: Toolbox):
    """Ask one thing or go on with a list of messages; gives the acts."""

    def ask(messages: str | list, tools=(), leaky: bool = False) -> list[Act]:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        conversation = read_chat({"messages": messages, "tools": list(tools)})
        return list(answer(conversation, toolbox, leaky)[0])

    return ask


@pytest.fixture
async def client(project: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(root=project, now=lambda: NOW, debug=True)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
        yield client


@pytest.fixture(scope="session")
def live() -> Iterator[str]:
    """The address of a real server in a process of its own; its key is "open"."""
    command = [sys.executable, "-m", "demo", "--debug", "--key", "open", "--pace", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
