"""Programs on another machine: what is told when ssh does not get there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.backends.cli import CliBackend, CliSettings
from shared.backends.http import Timeouts
from shared.backends.processes import Program
from tests.unit.backends.recorded import hear, user_turn

Make = Callable[..., CliBackend]
# What OpenSSH 9 prints, and the reason that users read.
LAST_WORDS = {
    "ada@build-host: Permission denied (publickey).": "Permission denied",
    "ssh: connect to host build-host port 22: Connection refused": "Connection refused",
    "Connection closed by 192.0.2.7 port 22": "Connection closed",
    "Timeout, server build-host not responding.": "not responding",
    "something new": "",
}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make(name, script)`: a backend for a program of this name."""

    def backend(name: str, script: str) -> CliBackend:
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
        program.chmod(0o755)
        known = CliSettings("fake", Program((str(program),)), Timeouts(20, 20, 20))
        return CliBackend(known, tmp_path / "ws", {})

    return backend


@pytest.mark.parametrize("said", LAST_WORDS)
async def test_users_read_why_and_no_more(make: Make, said: str):
    told = await hear(make("ssh", f"echo '{said}' >&2; exit 255"), user_turn("hello"))
    assert told.code == "ssh_failed"
    reason = LAST_WORDS[said]
    assert told.sentence.endswith(f"({reason})" if reason else "look into it.")
    assert "build-host" not in told.sentence


@pytest.mark.parametrize(("name", "code"), [("ssh", 3), ("agent", 255)])
async def test_the_programs_own_failures_stay_its_own(make: Make, name: str, code: int):
    told = await hear(make(name, f"echo half; exit {code}"), user_turn("hello"))
    assert told.code == "program_ended"
    assert f"exit code {code}" in told.sentence
