"""n8n with the workflows of servers/n8n.json."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from devkit.process import free_port
from devkit.programs import INSTALL, PROGRAMS
from tests.e2e.backends.programs import (
    SERVERS,
    START_SECONDS,
    ScriptedUpstream,
    serving,
)

PROGRAM = PROGRAMS / "n8n" / "npm" / "node_modules" / ".bin" / "n8n"
UNKNOWN = "The requested webhook"
WORKFLOWS = SERVERS / "n8n.json"


@dataclass(frozen=True)
class N8NServer:
    """Its address; each workflow there is known by its name."""

    url: str

    def webhook(self, workflow: str) -> str:
        """The address that a workflow answers at."""
        [found] = [w for w in json.loads(WORKFLOWS.read_text()) if w["id"] == workflow]
        trigger = found["nodes"][0]
        path = trigger["parameters"].get("path") or f"{trigger['webhookId']}/chat"
        return f"{self.url}/webhook/{path}"


@contextmanager
def n8n(folder: Path, upstream: ScriptedUpstream) -> Iterator[N8NServer]:
    """Run n8n; skips the test where it is not installed, which it rarely is."""
    if not PROGRAM.exists():
        pytest.skip(f"needs n8n: {INSTALL} n8n")
    port = free_port()
    env = {
        "PATH": f"{PROGRAMS / 'n8n' / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder),
        "N8N_USER_FOLDER": str(folder),
        "N8N_ENCRYPTION_KEY": "of no use outside the tests",
        "N8N_LISTEN_ADDRESS": "127.0.0.1",
        "N8N_PORT": str(port),
        "N8N_RUNNERS_BROKER_PORT": str(free_port()),
        "N8N_DIAGNOSTICS_ENABLED": "false",
        "N8N_VERSION_NOTIFICATIONS_ENABLED": "false",
        "N8N_TEMPLATES_ENABLED": "false",
        "NO_PROXY": "127.0.0.1,localhost",
    }

    def run(*arguments: str) -> None:
        command = [str(PROGRAM), *arguments]
        done = subprocess.run(
            command, env=env, cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{arguments[0]}: {done.stdout}{done.stderr}"

    credentials = folder / "credentials.json"
    credentials.write_text(json.dumps([model_key(upstream)]))
    run("import:credentials", f"--input={credentials}")
    run("import:workflow", f"--input={WORKFLOWS}")
    for workflow in json.loads(WORKFLOWS.read_text()):
        run("publish:workflow", f"--id={workflow['id']}")
    command = [str(PROGRAM), "start"]
    with serving("n8n", command, folder, port, "/healthz/readiness", env) as url:
        server = N8NServer(url)
        for workflow in json.loads(WORKFLOWS.read_text()):
            wait_until_published(server.webhook(workflow["id"]))
        yield server


def wait_until_published(address: str) -> None:
    """Wait until a workflow answers, which is some time after n8n calls itself ready."""
    end = time.monotonic() + START_SECONDS
    # To GET, a webhook for POST says that it is one.
    while UNKNOWN in httpx.get(address, trust_env=False).text:
        assert time.monotonic() < end, f"nothing listens at {address}"
        time.sleep(0.1)


def model_key(upstream: ScriptedUpstream) -> dict[str, Any]:
    """What the agent's model node logs in with."""
    data = {"apiKey": "x", "url": f"{upstream.url}/v1", "header": False}
    named = {"id": "cred000000000001", "name": "scripted", "type": "openAiApi"}
    return {**named, "data": data}
