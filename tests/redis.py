"""A Redis of our own for tests: in a temporary folder, on a free port."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from devkit.process import free_port

REDIS_ADVICE = "needs Redis: apt-get install redis-server"


class RedisServer:
    """Started by `with`; `url` is its address. It keeps nothing on disk.

    `cluster` makes it a cluster of one, which takes what a larger one takes.
    """

    def __init__(self, cluster: bool = False) -> None:
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip(REDIS_ADVICE)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = found
        self._cluster = cluster
        self._folder = Path(tempfile.mkdtemp(prefix="aqueduct-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        if self._cluster:
            # Its second port is by default one that may not exist.
            options += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        self._process = subprocess.Popen(
            [self._program, "--port", str(self.port), *options],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        patient = Retry(ConstantBackoff(0.05), 200)
        with redis.Redis(port=self.port, retry=patient) as client:
            client.ping()
            if self._cluster:
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
                while client.cluster("info")["cluster_state"] != "ok":
                    time.sleep(0.05)

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
