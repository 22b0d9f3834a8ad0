"""A PostgreSQL of our own for tests: in a temporary folder, on a free port."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from devkit.process import free_port

DEBIAN = "/usr/lib/postgresql"
ADVICE = "needs PostgreSQL: apt-get install postgresql"
SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=300")


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs; skips the test where there is none."""
    versions = sorted(Path(DEBIAN).glob("*/bin"), reverse=True)
    folders = os.pathsep.join([*map(str, versions), os.environ.get("PATH", "")])
    found = shutil.which(name, path=folders)
    if found is None:
        pytest.skip(ADVICE)
    return found


class PostgresServer:
    """Started by `with`; `url` is its database's address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"postgresql://tests@127.0.0.1:{self.port}/postgres"
        self._folder = Path(tempfile.mkdtemp(prefix="aqueduct-postgres-"))
        # PostgreSQL will not run as root, which CI does.
        self._user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}

    def __enter__(self) -> PostgresServer:
        if self._user:
            shutil.chown(self._folder, "postgres")
        data = self._folder / "data"
        self._run("initdb", "-D", str(data), "-U", "tests", "-A", "trust", "-E", "UTF8")
        options = f"-h 127.0.0.1 -p {self.port} -k {self._folder}"
        options += "".join(f" -c {setting}" for setting in SETTINGS)
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(data), "-l", log, "-o", options, "-w", "start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, name: str, *arguments: str) -> None:
        # pg_ctl's child keeps its output open, so it goes nowhere.
        done = subprocess.run(
            [program(name), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            **self._user,
        )
        assert done.returncode == 0, f"{name} failed with {done.returncode}"
