"""No agent outlives the function that started it, nor the server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devkit.chat_socket import ChatSocket, Turn
from devkit.demo_agent import DemoAgent
from devkit.server import OpenWebUI
from devkit.webui import sign_in
from tests.e2e.agents.answers import eventually
from tests.e2e.backends.acp_agents import acp_entry, agents_valve, running
from tests.e2e.backends.programs import (
    CommandLine,
    ScriptedUpstream,
    command_line,
)
from tests.e2e.backends.script import HELLO
from tests.webui import WebUI

MODEL = "agents.acp-claude"


@pytest.fixture
def line(tmp_path: Path, scripted_upstream: ScriptedUpstream) -> CommandLine:
    """Claude Code with a home of its own, by which its processes are told apart."""
    return command_line("claude", tmp_path / "home", scripted_upstream)


@pytest.fixture
def place(tmp_path: Path, demo_agent: DemoAgent, line: CommandLine) -> Iterator[WebUI]:
    """A server of our own, to be ended; with the agent."""
    email, password = "admin@example.org", "correct horse"
    env = {"WEBUI_ADMIN_EMAIL": email, "WEBUI_ADMIN_PASSWORD": password}
    server = OpenWebUI(tmp_path, secret_key="of no use outside the tests", env=env)
    with server:
        place = WebUI(server, sign_in(server.url, email, password), demo_agent)
        place.install()
        place.set_active("conversation_memory", False)
        place.set_agents(agents_valve(acp_entry(line)))
        yield place


def listed(webui: WebUI) -> None:
    """Let Open WebUI read the agents' models."""
    with webui.client() as client:
        client.get("/api/models", params={"refresh": True}).raise_for_status()


async def at_work(chats: ChatSocket, line: CommandLine) -> Turn:
    """A turn whose agent runs a command that takes hours."""
    turn = await chats.send(MODEL, "SLEEP_CLAUDE")
    await eventually(lambda: running(line, "sleep 7777"), "the command", 90)
    return turn


async def test_a_server_that_shuts_down_takes_its_agents_along(
    place: WebUI, line: CommandLine
):
    listed(place)
    async with place.chats() as chats:
        done = await chats.send(MODEL, "hello")
        assert (await done.answer())["content"] == HELLO
        await at_work(chats, line)
    assert len(running(line, "claude-agent-acp")) >= 2
    place.server.stop()
    assert running(line) == []


async def test_what_a_killed_server_leaves_is_ended_by_the_next(
    place: WebUI, line: CommandLine
):
    listed(place)
    async with place.chats() as chats:
        await at_work(chats, line)
        old = running(line)
        [server] = [
            child
            for child in psutil.Process().children()
            if str(place.server.port) in child.cmdline()
        ]
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    place.server.start()
    place.server.wait()
    listed(place)
    async with place.chats() as chats:
        turn = await chats.send(MODEL, "hello")
        assert (await turn.answer())["content"] == HELLO
    await eventually(lambda: not set(old) & set(running(line)), "the old agent's end")


async def test_a_new_version_of_the_function_ends_the_old_ones_agents(
    suite_installed: WebUI, line: CommandLine, set_agents: Callable[[str], None]
):
    set_agents(agents_valve(acp_entry(line)))
    listed(suite_installed)
    async with suite_installed.chats() as chats:
        first = await chats.send(MODEL, "hello")
        await first.answer()
        old = running(line, "claude-agent-acp")
        with suite_installed.client() as client:
            path = "/api/v1/functions/id/agents"
            function = client.get(path).raise_for_status().json()
            form = {key: function[key] for key in ("id", "name", "content", "meta")}
            changed = form | {"content": form["content"] + "\n# a new version\n"}
            client.post(f"{path}/update", json=changed).raise_for_status()
            second = await chats.send(MODEL, "hello again", after=first)
            assert (await second.answer())["content"] == HELLO
            await eventually(
                lambda: not set(old) & set(running(line)), "the old agent's end"
            )
            client.post(f"{path}/update", json=form).raise_for_status()
