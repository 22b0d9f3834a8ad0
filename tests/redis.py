"""A Redis of our own for tests: in a temporary folder, on a free port."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from devkit.process import free_port

REDIS_ADVICE = "needs Redis: apt-get install redis-server"


class RedisServer:
    """Started by `with`; `url` is its address. It keeps nothing on disk."""

    def __init__(self) -> None:
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip(REDIS_ADVICE)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = found
        self._folder = Path(tempfile.mkdtemp(prefix="aqueduct-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1")
        self._process = subprocess.Popen(
            [self._program, "--port", str(self.port), *options],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        patient = Retry(ConstantBackoff(0.05), 200)
        with redis.Redis(port=self.port, retry=patient) as client:
            client.ping()

    def kill(self) -> None:
        """End it without a word, as a power failure does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
