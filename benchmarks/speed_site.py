"""What is measured: one Open WebUI, beside it an upstream, the pipe installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.speed_scenarios import PIPE, UNJOINED_PIPE
from benchmarks.speed_upstream import WordModel
from devkit.installer import Installer, WebUIClient
from devkit.manifest import Kind
from devkit.paths import ROOT
from devkit.process import Child, free_port
from devkit.server import OpenWebUI
from devkit.webui import Account, model_ids, set_valves, sign_in

EMAIL = "benchmark@localhost.example"
PASSWORD = "only-for-this-run"
JOINING = "rendered(joined(events), renderer"


class MeasuredWebUI(OpenWebUI):
    """An Open WebUI whose process id is known."""

    @property
    def pid(self) -> int:
        """The id of the running server's process."""
        assert self._child is not None
        return self._child.pid


@dataclass(frozen=True)
class Site:
    """Where all of it runs, and its administrator."""

    url: str
    upstream_url: str
    server_pid: int
    admin: Account


@contextmanager
def running_site(folder: Path, models: list[WordModel]) -> Iterator[Site]:
    """Start all of it, and stop it at the end.

    Open WebUI's own connection and the pipe lead to the same upstream; the former's
    models bear the upstream's names, the latter's have `agents.` before it.
    """
    port = free_port()
    names = [model.name for model in models]
    upstream = Child(
        "The upstream",
        [
            sys.executable,
            "-m",
            "benchmarks.speed_upstream",
            "--port",
            str(port),
            *names,
        ],
        folder / "upstream.log",
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    upstream_url = f"http://127.0.0.1:{port}"
    env = {
        "ENABLE_OPENAI_API": "true",
        "OPENAI_API_BASE_URLS": f"{upstream_url}/v1",
        "OPENAI_API_KEYS": "none",
        "WEBUI_ADMIN_EMAIL": EMAIL,
        "WEBUI_ADMIN_PASSWORD": PASSWORD,
    }
    try:
        upstream.wait_until(lambda: _lists_models(upstream_url), seconds=30)
        server = MeasuredWebUI(folder / "data", secret_key=PASSWORD, env=env)
        with server:
            admin = sign_in(server.url, EMAIL, PASSWORD)
            site = Site(server.url, upstream_url, server.pid, admin)
            _install(site, names)
            yield site
    finally:
        upstream.stop()


def _lists_models(upstream_url: str) -> bool:
    try:
        return httpx.get(f"{upstream_url}/v1/models", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _install(site: Site, names: list[str]) -> None:
    """Install the built pipe, with an agent for each of the upstream's models."""
    with Installer.connect(site.url, site.admin.token, ROOT) as installer:
        installer.install([PIPE])
    _install_unjoined(site)
    agents = "".join(
        f"- id: {name}\n  url: {site.upstream_url}/v1\n  model: {name}\n"
        for name in names
    )
    with site.admin.client(site.url) as client:
        for pipe in (PIPE, UNJOINED_PIPE):
            set_valves(client, pipe, AGENTS=agents)
        client.get("/api/models", params={"refresh": "true"}).raise_for_status()
        wanted = {f"{pipe}.{name}" for name in names for pipe in (PIPE, UNJOINED_PIPE)}
        missing = wanted - set(model_ids(client))
    if missing:
        raise RuntimeError(f"Open WebUI does not list {sorted(missing)}")


def _install_unjoined(site: Site) -> None:
    """Install a copy of the pipe that shows each delta by itself, however many come.

    Slow deltas are not joined either, but what they cost is mostly Open WebUI waking
    up; at full speed, this shows what the pipe itself costs.
    """
    text = (ROOT / "dist" / f"{PIPE}.py").read_text("utf-8")
    if text.count(JOINING) != 1:
        raise RuntimeError(f"{JOINING} does not stand once in the built pipe")
    form = {
        "id": UNJOINED_PIPE,
        "name": UNJOINED_PIPE,
        "content": text.replace(JOINING, "rendered(events, renderer"),
        "meta": {"description": "The agents pipe without joining, to be measured."},
    }
    client = WebUIClient(site.url, site.admin.token)
    try:
        client.create(Kind.PIPE, form)
        client.switch(UNJOINED_PIPE, active=True, global_=False)
    finally:
        client.close()
