"""Real agents for the tests: each started once, when a test asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from devkit.chat_socket import ChatSocket
from tests.e2e.backends import programs
from tests.e2e.backends.programs import A2AServer, CommandLine, ScriptedUpstream
from tests.e2e.backends.seen import GAPS, gaps_of_collection, is_gap
from tests.e2e.continue_with.presses import Tab, open_tab
from tests.webui import WebUI

HERE = Path(__file__).parent


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """The test of the table comes last: it tells what the others saw."""
    items.sort(key=lambda item: item.path == HERE / "test_table.py")
    config.stash.setdefault(GAPS, []).extend(gaps_of_collection(config, items))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.config.stash.setdefault(GAPS, []).append(f"{item.name} was left out")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if is_gap(report, item.path):
        item.config.stash[GAPS].append(f"{item.name} was {report.outcome}")
    return report


@pytest.fixture(scope="session")
def upstream_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ScriptedUpstream]:
    """The scripted model for the whole run; tests take `scripted_upstream`."""
    with programs.scripted_model(tmp_path_factory.mktemp("upstream")) as upstream:
        yield upstream


@pytest.fixture
def scripted_upstream(upstream_server: ScriptedUpstream) -> ScriptedUpstream:
    """The scripted model, with an empty journal and the usual script."""
    upstream_server.reset()
    return upstream_server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(suite_installed: WebUI) -> AsyncIterator[Tab]:
    """A tab of the admin that can be asked things."""
    async with open_tab(suite_installed.url, suite_installed.admin_token) as tab:
        yield tab


@pytest_asyncio.fixture(loop_scope="session")
async def chats(suite_installed: WebUI) -> AsyncIterator[ChatSocket]:
    """A tab of the admin in which nobody answers questions."""
    async with suite_installed.chats() as socket:
        yield socket


@pytest.fixture(scope="session")
def langgraph_server(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: ScriptedUpstream
) -> Iterator[str]:
    """The address of a LangGraph server."""
    folder = tmp_path_factory.mktemp("langgraph")
    with programs.langgraph(folder, upstream_server) as url:
        yield url


@pytest.fixture(scope="session")
def a2a_server(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: ScriptedUpstream
) -> Iterator[A2AServer]:
    """An A2A agent, 1.0 and 0.3."""
    with programs.a2a(tmp_path_factory.mktemp("a2a"), upstream_server) as server:
        yield server


@pytest.fixture(scope="session")
def agui_server(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: ScriptedUpstream
) -> Iterator[str]:
    """The address of an AG-UI agent."""
    with programs.agui(tmp_path_factory.mktemp("agui"), upstream_server) as url:
        yield url


@pytest.fixture(scope="session")
def adk_server(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: ScriptedUpstream
) -> Iterator[str]:
    """The address of Google's ADK server; its app is `scripted`."""
    with programs.adk(tmp_path_factory.mktemp("adk"), upstream_server) as url:
        yield url


@pytest.fixture(scope="session")
def command_line(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: ScriptedUpstream
) -> Callable[[str], CommandLine]:
    """`command_line("gemini")`: that program, ready to run, once for the whole run."""
    ready: dict[str, CommandLine] = {}

    def prepared(name: str) -> CommandLine:
        if name not in ready:
            home = tmp_path_factory.mktemp(name) / "home"
            ready[name] = programs.command_line(name, home, upstream_server)
        return ready[name]

    return prepared
