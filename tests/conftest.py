"""What all tests share: a real Open WebUI, started once, when a test asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from devkit.demo_agent import DemoAgent
from devkit.demo_config import agents_yaml, demo_agents
from devkit.server import OpenWebUI
from devkit.webui import sign_in
from tests.webui import WebUI

FAILED = pytest.StashKey[bool]()
_LOG_START = pytest.StashKey[tuple[Path, int]]()
_FETCHED = re.compile(r'"GET [^"]*" [23]\d\d')
_ADMIN = ("admin@example.org", "correct horse")


@pytest.fixture(scope="session")
def demo_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoAgent]:
    """The demo agent, with its journal on and hardly a pause between words."""
    log_path = tmp_path_factory.mktemp("demo") / "demo.log"
    agent = DemoAgent(log_path, debug=True, pace=0.005)
    try:
        agent.start()
        yield agent
    finally:
        agent.stop()


@pytest.fixture(scope="session")
def openwebui(
    tmp_path_factory: pytest.TempPathFactory, demo_agent: DemoAgent
) -> Iterator[WebUI]:
    """One Open WebUI in a temporary data folder, with an admin, without our suite."""
    email, password = _ADMIN
    server = OpenWebUI(
        tmp_path_factory.mktemp("openwebui"),
        secret_key="of no use outside the tests",
        env={
            "WEBUI_ADMIN_EMAIL": email,
            "WEBUI_ADMIN_PASSWORD": password,
            "ENABLE_API_KEYS": "true",
            "DEFAULT_INTERFACE_SETTINGS": json.dumps({"showChangelog": False}),
        },
    )
    with server:
        yield WebUI(server, sign_in(server.url, email, password), demo_agent)


@pytest.fixture(scope="session")
def suite_installed(openwebui: WebUI) -> WebUI:
    """The server with every function of dist/ and the demo agent's models.

    The memory is off: its own tests switch it on, others want to see requests as they
    are without notes.
    """
    openwebui.install()
    openwebui.set_active("conversation_memory", False)
    openwebui.set_agents(agents_yaml(demo_agents(openwebui.demo.url)))
    return openwebui


@pytest.fixture
def set_agents(suite_installed: WebUI) -> Iterator[Callable[[str], None]]:
    """Write the AGENTS valve for one test; what it held before comes back."""
    before = suite_installed.agents()
    yield suite_installed.set_agents
    suite_installed.set_agents(before)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    server = getattr(item, "funcargs", {}).get("openwebui")
    if server is not None:
        item.stash[_LOG_START] = (server.log_path, server.log_path.stat().st_size)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the server logged during the test."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
        if _LOG_START in item.stash:
            path, start = item.stash[_LOG_START]
            with path.open("rb") as log:
                log.seek(start)
                lines = log.read().decode("utf-8", "replace").splitlines()
            telling = [line for line in lines if not _FETCHED.search(line)]
            report.sections.append(("Open WebUI log", "\n".join(telling[-60:])))
    return report
