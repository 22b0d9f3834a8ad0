"""What a process has used so far: CPU time and memory."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]


def cpu_meter(pid: int) -> Callable[[], float]:
    """Return a function that gives the CPU seconds a process has used, all threads.

    Linux has a clock for each process, exact to the nanosecond; elsewhere it is as
    coarse as what psutil reads, 10 ms as a rule.
    """
    if sys.platform == "linux":
        clock = ctypes.c_int()
        # POSIX.1-2008, clock_getcpuclockid: 0 is success.
        if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) == 0:
            return lambda: time.clock_gettime(clock.value)
    process = psutil.Process(pid)

    def seconds() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    return seconds


def resident_megabytes(pid: int) -> float:
    """Return the memory a process holds now (RSS), in MB of 1,000,000 bytes."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


class MemoryWatch:
    """The memory a process takes on within a block, at its highest (`grown_mb`)."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.grown_mb = 0.0

    def __enter__(self) -> MemoryWatch:
        self._before = resident_megabytes(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            grown = resident_megabytes(self._pid) - self._before
            self.grown_mb = max(self.grown_mb, grown)
