"""A child process with its own session and log file, ended with all it started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from devkit.errors import DevkitError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ProcessError(DevkitError):
    """A program did not start, or ended too early; the message ends with its log."""


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on `port` of `host` now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(preferred: int = 0, host: str = "127.0.0.1") -> int:
    """Return `preferred` when it is free, else a port the system picks."""
    if preferred and port_is_free(preferred, host):
        return preferred
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Child:
    """One started program; its output goes to `log_path`.

    It leads a session of its own, so that Ctrl-C in the terminal reaches only us and
    we end things in order, and so that its whole tree can be ended by one signal.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_end_with_parent if _LIBC else None,
            )

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its session and group."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.poll()

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of what it printed."""
        text = self.log_path.read_text("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(
        self,
        ready: Callable[[], bool],
        *,
        seconds: float,
        tick: Callable[[float], None] = lambda elapsed: None,
    ) -> None:
        """Ask `ready` until it says yes; `tick` gets the seconds waited so far.

        Raises ProcessError when the program ends or the time is over first.
        """
        start = time.monotonic()
        while not ready():
            elapsed = time.monotonic() - start
            if (code := self.exit_code()) is not None:
                raise ProcessError(
                    f"{self.name} ended with exit code {code} before it was ready. "
                    f"The end of {self.log_path}:\n{self.log_tail()}"
                )
            if elapsed > seconds:
                raise ProcessError(
                    f"{self.name} was not ready within {seconds:.0f} seconds. "
                    f"The end of {self.log_path}:\n{self.log_tail()}"
                )
            tick(elapsed)
            time.sleep(0.1)

    def stop(self, seconds: float = 10) -> None:
        """End the program and all it started: politely, then for certain."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        # Also what outlived its leader; the group is gone when nothing did.
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def _end_with_parent() -> None:
    """Ask the kernel to end this child when we are killed and cannot do it."""
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
