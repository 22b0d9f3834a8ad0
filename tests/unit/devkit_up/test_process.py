"""devkit/process.py with real programs: what is started is ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from devkit.paths import ROOT
from devkit.process import Child, ProcessError, free_port, port_is_free

TREE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import sys, time
from pathlib import Path
from devkit.process import Child
child = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[[str], Child]]:
    children = []

    def run(script: str) -> Child:
        command = [sys.executable, "-c", script]
        children.append(Child("The script", command, tmp_path / "log"))
        return children[-1]

    yield run
    for child in children:
        child.stop(seconds=0.1)


def output(child: Child) -> str:
    """The first line it prints, waited for."""
    child.wait_until(lambda: "\n" in child.log_path.read_text(), seconds=30)
    return child.log_path.read_text().strip()


def gone(pid: int) -> bool:
    """Tell whether a process ends within five seconds."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_stopping_ends_what_the_program_started(start):
    child = start(TREE)
    grandchild = int(output(child))
    child.stop()
    assert gone(child.pid)
    assert gone(grandchild)


def test_stopping_ends_a_program_that_does_not_want_to(start):
    child = start(STUBBORN)
    assert output(child) == "ready"
    child.stop(seconds=0.2)
    assert child.exit_code() == -signal.SIGKILL


def test_stopping_twice_is_harmless(start):
    child = start("")
    child.stop()
    child.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="a promise of the Linux kernel")
def test_a_child_ends_with_a_parent_that_was_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


def test_a_program_that_ends_too_early_shows_its_last_words(start):
    child = start("import sys; print('no such table'); sys.exit(3)")
    with pytest.raises(ProcessError, match=r"(?s)exit code 3.*no such table"):
        child.wait_until(lambda: False, seconds=30)


def test_a_program_that_is_never_ready_is_given_up(start):
    child = start(STUBBORN)
    with pytest.raises(ProcessError, match="was not ready within 0 seconds"):
        child.wait_until(lambda: False, seconds=0.2)


def test_a_taken_port_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free(port)
        assert free_port(port) != port
    assert free_port(port) == port
