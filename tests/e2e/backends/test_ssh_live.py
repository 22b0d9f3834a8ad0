"""A coding agent on another machine, started over ssh."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import cards, error, eventually
from tests.e2e.backends.acp_agents import acp_entry, agents_valve, sessions
from tests.e2e.backends.programs import CommandLine, ScriptedUpstream
from tests.e2e.backends.script import HELLO, fixture
from tests.e2e.backends.seen import seen
from tests.e2e.backends.ssh_host import SshHost, ssh_host
from tests.webui import WebUI

MODEL = "agents.acp-gemini"
PROGRAM = "Gemini CLI over ssh"


@pytest.fixture(scope="module")
def line(command_line: Callable[[str], CommandLine]) -> CommandLine:
    return command_line("gemini")


@pytest.fixture(scope="module")
def host(
    tmp_path_factory: pytest.TempPathFactory, line: CommandLine
) -> Iterator[SshHost]:
    """A machine that has the program, its login and a folder to work in."""
    folder = tmp_path_factory.mktemp("ssh")
    (folder / "work").mkdir()
    with ssh_host(folder, line.home, line.env) as host:
        yield host


@pytest.fixture
def configure(
    line: CommandLine,
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
    suite_installed: WebUI,
) -> Callable[..., None]:
    """`configure(host)`: the agent over there as the only one there is."""

    def write(host: SshHost, **more: Any) -> None:
        remote = replace(line, acp=tuple(host.command(*line.acp)), env={})
        work = str(host.keys / "work")
        set_agents(agents_valve(acp_entry(remote, cwd=work, **more)))
        with suite_installed.client() as client:
            client.get("/api/models", params={"refresh": True}).raise_for_status()

    return write


async def test_an_agent_over_there_answers_and_goes_on(
    chats: ChatSocket,
    configure: Callable[..., None],
    host: SshHost,
    scripted_upstream: ScriptedUpstream,
):
    configure(host)
    first = await chats.send(MODEL, "My word is plum.")
    answer = await first.answer()
    assert answer["content"] == HELLO
    assert host.running("--acp")
    seen("acp", PROGRAM, "text")
    scripted_upstream.add(
        fixture("plum", {"content": "This was sent again."}),
        fixture("Which word", {"content": "Plum, of course."}),
    )
    second = await chats.send(MODEL, "Which word was it?", after=first)
    again = await second.answer()
    assert again["content"] == "Plum, of course."
    assert sessions(again) == sessions(answer) != []
    seen("acp", PROGRAM, "sessions")


async def test_its_commands_run_over_there(
    chats: ChatSocket,
    configure: Callable[..., None],
    host: SshHost,
):
    configure(host)
    answer = await (await chats.send(MODEL, "WRITE_GEMINI")).answer()
    [(_, _, status)] = cards(answer)
    assert status == "completed"
    assert (host.keys / "work" / "scripted.txt").exists()
    seen("acp", PROGRAM, "tool cards")


async def test_stop_ends_the_command_over_there(
    chats: ChatSocket, configure: Callable[..., None], host: SshHost
):
    configure(host)
    turn = await chats.send(MODEL, "SLEEP_GEMINI")
    await eventually(lambda: host.running("sleep 7777"), "the command", 90)
    await turn.stop()
    await turn.answer()
    await eventually(lambda: not host.running("sleep 7777"), "the command's end")
    again = await chats.send(MODEL, "hello", after=turn)
    assert (await again.answer())["content"] == HELLO
    seen("acp", PROGRAM, "cancel")


async def test_an_agent_for_one_turn_is_gone_with_it(
    chats: ChatSocket, configure: Callable[..., None], host: SshHost
):
    configure(host, keep="turn")
    before = set(host.running("--acp"))
    turn = await chats.send(MODEL, "SLEEP_GEMINI")
    await eventually(lambda: host.running("sleep 7777"), "the command", 90)
    assert set(host.running("--acp")) > before
    await turn.stop()
    await turn.answer()
    await eventually(lambda: not host.running("sleep 7777"), "the command's end")
    await eventually(lambda: set(host.running("--acp")) <= before, "the agent's end")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (SshHost.with_wrong_key, "Permission denied"),
        (SshHost.switched_off, "Connection refused"),
        (SshHost.strange, "Host key verification failed"),
    ],
)
async def test_a_machine_that_is_out_of_reach_is_told_in_one_sentence(
    chats: ChatSocket,
    configure: Callable[..., None],
    host: SshHost,
    change: Callable[[SshHost], SshHost],
    reason: str,
):
    configure(change(host))
    answer = await (await chats.send(MODEL, "hello")).answer()
    assert error(answer) == (
        "The ssh connection to Gemini failed. "
        f"An administrator has to look into it. ({reason})"
    )
