from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.installer import Change, WebUIClient
from devkit.manifest import Kind
from tests.contract.installer.suite import ENTRIES, Suite, connect


@pytest.fixture
def admin(openwebui) -> Iterator[WebUIClient]:
    client = WebUIClient(openwebui.url, openwebui.admin_token)
    yield client
    for entry in ENTRIES:
        kind = Kind(entry["kind"])
        if entry["id"] in client.ids(kind):
            client.delete(kind, entry["id"])
    client.close()


@pytest.fixture
def suite(tmp_path, admin) -> Suite:
    suite = Suite(tmp_path)
    suite.release()
    return suite


@pytest.fixture
def install(openwebui, suite):
    def run(*ids: str, force: bool = False) -> dict[str, Change]:
        with connect(openwebui, suite) as installer:
            steps = installer.install(list(ids), force=force)
        return {step.entry.id: step.change for step in steps}

    return run


@pytest.fixture
def unloadable_here(suite, monkeypatch):
    """Releases a pipe whose file loads on the server but not in this process."""

    def release(version: str, pipe: str) -> None:
        suite.release(version)
        pipe = pipe.replace("class Pipe:", "class Pipe:\n    library = yaml\n")
        suite.write("functions/test_pipe.py", f"import yaml\n{pipe}")
        suite.build_dist()
        monkeypatch.setitem(sys.modules, "yaml", None)

    return release


@pytest.fixture
def suite_offline(tmp_path: Path) -> Suite:
    suite = Suite(tmp_path)
    suite.release()
    return suite
