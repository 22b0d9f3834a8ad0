"""Workflows of a real n8n, by the webhook backend's preset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import error, shimmering
from tests.e2e.backends.n8n_server import N8NServer, n8n
from tests.e2e.backends.programs import ScriptedUpstream
from tests.e2e.backends.script import HELLO, TOOL_INTRODUCTION
from tests.e2e.backends.seen import seen
from tests.e2e.backends.usual import check_branches, listed_models, stop_slow_answer
from tests.webui import WebUI

ROW = ("webhook", "n8n")
AGENT = "agents.agent"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: ScriptedUpstream
) -> Iterator[N8NServer]:
    with n8n(tmp_path_factory.mktemp("n8n"), upstream_server) as server:
        yield server


@pytest.fixture(autouse=True)
def entries(
    server: N8NServer,
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
    suite_installed: WebUI,
) -> None:
    """Each workflow as an agent."""
    entry = {"backend": "webhook", "preset": "n8n"}
    workflows = ("last-node", "webhook", "failing", "agent")
    named = [
        {**entry, "id": name, "name": "Flow", "url": server.webhook(name)}
        for name in workflows
    ]
    set_agents(json.dumps(named))
    listed_models(suite_installed)


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        ("last-node", "You said: Good morning"),
        ("webhook", "Hooked: Good morning"),
        ("agent", HELLO),
    ],
)
async def test_text(chats: ChatSocket, workflow: str, said: str):
    answer = await (await chats.send(f"agents.{workflow}", "Good morning")).answer()
    assert answer["content"] == said
    seen(*ROW, "text")


async def test_an_agent_with_a_memory_keeps_each_branch(
    chats: ChatSocket, scripted_upstream: ScriptedUpstream
):
    def asked() -> str:
        return str(scripted_upstream.journal()[-1]["body"]["messages"])

    await check_branches(chats, AGENT, ROW, asked)


async def test_a_workflow_that_fails_is_told(chats: ChatSocket):
    answer = await (await chats.send("agents.failing", "hello")).answer()
    assert error(answer).startswith("Flow")
    assert "Error in workflow" in error(answer)


@pytest.mark.parametrize(
    ("word", "reason"),
    [("ERR400", "Scripted bad request"), ("TOOL_WEATHER", "Agent")],
)
async def test_an_agent_that_fails_is_told(chats: ChatSocket, word: str, reason: str):
    answer = await (await chats.send(AGENT, word)).answer()
    assert error(answer) == f"Flow reported an error. ({reason})"
    # It has no such tool, and gives up when its model has asked for it ten times.
    assert answer["content"].startswith(TOOL_INTRODUCTION if "TOOL" in word else "")


async def test_stop_ends_the_answer(chats: ChatSocket):
    _, answer = await stop_slow_answer(chats, AGENT)
    assert answer["content"].startswith("word0 word1")
    assert shimmering(answer) == []
