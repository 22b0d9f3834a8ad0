"""The demo agent as a child process: for `make up` and the end-to-end tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import httpx

from devkit.paths import ROOT
from devkit.process import Child, free_port


class DemoAgent:
    """The server of demo/ on a port of this machine.

    `debug` lets it tell what it was asked, see `requests`. `pace` is the pause between
    two words in seconds; None leaves it to the demo.
    """

    def __init__(
        self,
        log_path: Path,
        *,
        port: int = 0,
        debug: bool = False,
        pace: float | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = log_path
        self._options = ["--debug"] * debug
        if pace is not None:
            self._options += ["--pace", str(pace)]
        self._child: Child | None = None
        self._client = httpx.Client(base_url=self.url, trust_env=False, timeout=5)

    def start(self) -> None:
        """Start it and wait until it answers; raises ProcessError if it does not."""
        command = [sys.executable, "-m", "demo", "--port", str(self.port)]
        self._child = Child(
            "The demo agent",
            command + self._options,
            self.log_path,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            cwd=ROOT,
        )
        self._child.wait_until(self._answers, seconds=60)

    def stop(self) -> None:
        """End it; harmless when it never started."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def requests(self) -> list[dict[str, Any]]:
        """Return what it was asked, oldest first, and how each request ended."""
        response = self._client.get("/debug/requests")
        response.raise_for_status()
        return list(response.json()["requests"])

    def reset(self) -> None:
        """Forget what it was asked."""
        self._client.post("/debug/reset").raise_for_status()

    def _answers(self) -> bool:
        try:
            return self._client.get("/health").is_success
        except httpx.TransportError:
            return False
