"""A Letta server with a PostgreSQL of its own, and an agent on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from devkit.process import free_port
from devkit.programs import INSTALL, PROGRAMS
from tests.e2e.backends.programs import PATH, SERVERS, ScriptedUpstream, serving
from tests.postgres import PostgresServer

BINARIES = PROGRAMS / "letta" / "bin"
DELETE_FILE = '''def delete_file(path: str) -> str:
    """Delete a file.

    Args:
        path (str): Where it is
    """
    return f"{path} is gone"
'''


@dataclass(frozen=True)
class LettaServer:
    """Its address, and an agent that may use `delete_file` with permission only."""

    url: str
    agent_id: str

    def runs(self) -> list[str]:
        """How the agent's runs ended, or that they go on; newest first."""
        query = {"agent_id": self.agent_id}
        answer = httpx.get(f"{self.url}/v1/runs/", params=query, trust_env=False)
        return [run["status"] for run in answer.raise_for_status().json()]


class VectorPostgres(PostgresServer):
    """PostgreSQL with pgvector, from the package pgserver.

    A copy, since it runs as another user where the tests run as root.
    """

    def __init__(self) -> None:
        super().__init__()
        [packages] = (PROGRAMS / "letta" / "lib").glob("python*/site-packages")
        for name in ("pgserver/pginstall", "pgserver.libs"):
            shutil.copytree(packages / name, self._folder / name)
        if self._user:
            for path in [self._folder, *self._folder.rglob("*")]:
                shutil.chown(path, self._user["user"])

    def _run(self, name: str, *arguments: str) -> None:
        program = self._folder / "pgserver" / "pginstall" / "bin" / name
        done = subprocess.run(
            [str(program), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            **self._user,
        )
        assert done.returncode == 0, f"{name} failed with {done.returncode}"


@contextmanager
def letta(folder: Path, upstream: ScriptedUpstream) -> Iterator[LettaServer]:
    """Run Letta; skips the test where it is not installed, which it rarely is."""
    if not (BINARIES / "letta").exists():
        pytest.skip(f"needs Letta: {INSTALL} letta")
    port = free_port()
    command = [str(BINARIES / "letta"), "server", "--host", "127.0.0.1"]
    with VectorPostgres() as database:
        env = {
            "PATH": f"{BINARIES}:{PATH}",
            "HOME": str(folder),
            "LETTA_DIR": str(folder / "letta"),
            "LETTA_PG_URI": database.url,
            "OPENAI_API_KEY": "x",
            "OPENAI_API_BASE": f"{upstream.url}/v1",
            "OPENAI_BASE_URL": f"{upstream.url}/v1",
        }
        tables = [str(BINARIES / "python"), str(SERVERS / "letta_database.py")]
        subprocess.run([*tables, database.url], env=os.environ | env, check=True)
        command += ["--port", str(port)]
        with serving("Letta", command, folder, port, "/v1/health/", env) as url:
            yield LettaServer(url, make_agent(url))


def make_agent(url: str) -> str:
    """Make an agent with the tool; returns its id."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:

        def send(method: str, path: str, body: Any = None) -> Any:
            return client.request(method, path, json=body).raise_for_status().json()

        tool = {"source_code": DELETE_FILE, "default_requires_approval": True}
        agent = {
            "name": "Keeper",
            "model": "openai-proxy/gpt-4o",
            "embedding": send("GET", "/v1/models/embedding")[0]["handle"],
            "memory_blocks": [{"label": "human", "value": ""}],
            "tool_ids": [send("PUT", "/v1/tools/", tool)["id"]],
        }
        return str(send("POST", "/v1/agents/", agent)["id"])
