"""One Open WebUI of two processes for all tests of this folder: it boots for a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devkit.demo_agent import DemoAgent
from devkit.webui import sign_in
from tests.e2e.orchestrator.conftest import set_up
from tests.e2e.orchestrator.upstream import Upstream, running_upstream
from tests.e2e.workers.servers import ADMIN, Workers, two_workers


@pytest.fixture(scope="package")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="package")
def workers(
    tmp_path_factory: pytest.TempPathFactory,
    demo_agent: DemoAgent,
    upstream: Upstream,
) -> Iterator[Workers]:
    """Two workers with the models of the buttons' tests and of the Orchestrator's."""
    with two_workers(tmp_path_factory.mktemp("workers"), demo_agent) as workers:
        set_up(workers.one, sign_in(workers.one, *ADMIN), upstream)
        yield workers
