"""The running Open WebUI that contract and end-to-end tests share."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from devkit.chat_socket import ChatSocket
from devkit.demo_agent import DemoAgent
from devkit.installer import Installer
from devkit.paths import ROOT
from devkit.server import OpenWebUI
from devkit.webui import Account, create_user, set_valves, valves

_NUMBERS = itertools.count(1)


class WebUI:
    """One real server with an admin, and the demo agent it may talk to.

    `admin` is the first account, `demo` the demo agent (with its journal on), `python`
    the interpreter that runs the server.
    """

    python = sys.executable

    def __init__(self, server: OpenWebUI, admin: Account, demo: DemoAgent) -> None:
        self.server = server
        self.admin = admin
        self.demo = demo

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def log_path(self) -> Path:
        return self.server.log_path

    @property
    def admin_token(self) -> str:
        return self.admin.token

    def client(self, account: Account | None = None) -> httpx.Client:
        """Return a client that acts as this person, or as the admin."""
        return (account or self.admin).client(self.url)

    @asynccontextmanager
    async def chats(self, account: Account | None = None) -> AsyncIterator[ChatSocket]:
        """Open a live connection as this person, or as the admin."""
        token = (account or self.admin).token
        async with ChatSocket.connect(self.url, token) as socket:
            yield socket

    def create_user(self, name: str, role: str = "user") -> Account:
        """Add a person; the address is made so that names may repeat."""
        email = f"{name.lower().replace(' ', '.')}-{next(_NUMBERS)}@example.org"
        with self.client() as admin:
            return create_user(
                admin, name, email=email, password="correct horse", role=role
            )

    def install(self) -> None:
        """Install the files of dist/."""
        with Installer.connect(self.url, self.admin.token, ROOT) as installer:
            installer.install()

    def set_active(self, function_id: str, active: bool) -> None:
        """Switch a function on or off."""
        path = f"/api/v1/functions/id/{function_id}"
        with self.client() as admin:
            if admin.get(path).raise_for_status().json()["is_active"] is not active:
                # The route turns over whatever there is.
                admin.post(f"{path}/toggle").raise_for_status()

    def agents(self) -> str:
        """Return the AGENTS valve."""
        with self.client() as admin:
            return str(valves(admin, "agents").get("AGENTS", ""))

    def set_agents(self, text: str) -> None:
        """Write the AGENTS valve, as an admin does in its dialog.

        Open WebUI knows new models once somebody has listed them.
        """
        with self.client() as admin:
            set_valves(admin, "agents", AGENTS=text)
            admin.get("/api/models").raise_for_status()
