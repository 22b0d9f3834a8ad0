"""A Redis of our own for tests: in a temporary folder, on a free port."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from devkit.process import free_port

REDIS_ADVICE = "needs Redis: apt-get install redis-server"
SENTINEL_SERVICE = "mymaster"


class RedisServer:
    """Started by `with`; `url` is its address. It keeps nothing on disk.

    `cluster` makes it a cluster of one, which takes what a larger one takes;
    `follows` makes it a copy of another server.
    """

    def __init__(
        self, cluster: bool = False, follows: RedisServer | None = None
    ) -> None:
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip(REDIS_ADVICE)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = found
        self._cluster = cluster
        self._follows = follows
        self._folder = Path(tempfile.mkdtemp(prefix="aqueduct-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [self._program, *self._options(), "--port", str(self.port)],
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

    def _options(self) -> list[str]:
        options = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        # Copies are made at once, and not only when more than one wants them.
        options += ["--repl-diskless-sync-delay", "0"]
        if self._cluster:
            # Its second port is by default one that may not exist.
            options += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        if self._follows is not None:
            options += ["--replicaof", "127.0.0.1", str(self._follows.port)]
        return options

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


class RedisSentinel(RedisServer):
    """Watches `master`, and puts its copy in its place when it dies.

    `url` names what it watches, as Open WebUI's REDIS_URL does beside
    REDIS_SENTINEL_HOSTS.
    """

    def __init__(self, master: RedisServer) -> None:
        super().__init__()
        self.url = f"redis://{SENTINEL_SERVICE}/0"
        self._master = master

    def _options(self) -> list[str]:
        rules = [
            "bind 127.0.0.1",
            f"sentinel monitor {SENTINEL_SERVICE} 127.0.0.1 {self._master.port} 1",
            f"sentinel down-after-milliseconds {SENTINEL_SERVICE} 500",
            f"sentinel failover-timeout {SENTINEL_SERVICE} 2000",
        ]
        file = self._folder / "sentinel.conf"  # which it writes itself, too
        file.write_text("\n".join([*rules, ""]), "utf-8")
        return [str(file), "--sentinel"]

    def wait_for_copy(self) -> None:
        """Return when there is a copy that could take over."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            while not any(
                copy["master-link-status"] == "ok"
                for copy in client.sentinel_slaves(SENTINEL_SERVICE)
            ):
                time.sleep(0.05)

    @property
    def master(self) -> tuple[str, int]:
        """Who is the master now."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            return client.sentinel_get_master_addr_by_name(SENTINEL_SERVICE)

    def replace_master(self) -> None:
        """Let a copy take over while all are well, as soon as one can."""
        before = self.master
        with redis.Redis(port=self.port) as client:
            while self.master == before:
                with suppress(redis.ResponseError):  # no good copy, or under way
                    client.execute_command("SENTINEL FAILOVER", SENTINEL_SERVICE)
                time.sleep(0.05)
