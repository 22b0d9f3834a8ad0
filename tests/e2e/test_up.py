"""`make up` as a person runs it, but for the installation: start, sign in, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from devkit.paths import ROOT
from devkit.process import Child, free_port
from devkit.webui import Account, model_ids, sign_in

STARTED = "Aqueduct is running"


class Up:
    """One `python -m devkit up` on a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.child: Child | None = None
        self._log = folder / "up.log"

    @property
    def command(self) -> list[str]:
        command = [sys.executable, "-m", "devkit", "up", "--data", str(self.data)]
        return [*command, "--port", str(self.port)]

    def start(self) -> psutil.Process:
        """Start it and wait until it says that it runs."""
        self.child = Child(
            "make up",
            self.command,
            self._log,
            env=os.environ | {"COLUMNS": "200"},
            cwd=ROOT,
        )
        self.child.wait_until(lambda: STARTED in self.output(), seconds=120)
        return psutil.Process(self.child.pid)

    def output(self) -> str:
        return self._log.read_text()

    def sign_in(self) -> Account:
        """Sign in with what it printed."""
        shown = re.search(r"Sign in +(\S+) +(\S+)", self.output())
        assert shown, self.output()
        return sign_in(self.url, shown[1], shown[2])


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    if up.child is not None:
        up.child.stop()


def test_it_runs_ends_without_a_trace_and_keeps_its_data(up):
    process = up.start()
    account = up.sign_in()
    with account.client(up.url) as client:
        assert {"agents.demo", "agents.leaky"} <= set(model_ids(client))
        found = client.post("/api/v1/memories/add", json={"content": "I ride bikes."})
        assert found.is_success, "embeddings work offline"

    second = subprocess.run(
        up.command[:-2], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 1
    [line] = second.stderr.splitlines()
    assert f"it is already running at {up.url}" in line

    family = [process, *process.children(recursive=True)]
    assert len(family) >= 3, "itself, Open WebUI, the demo agent"
    process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert up.child is not None
    assert up.child.exit_code() == 0
    assert "Stopped." in up.output()

    up.start()
    assert up.sign_in().id == account.id
    memories = httpx.get(
        f"{up.url}/api/v1/memories/",
        headers={"Authorization": f"Bearer {account.token}"},
        trust_env=False,
    )
    assert [memory["content"] for memory in memories.json()] == ["I ride bikes."]
