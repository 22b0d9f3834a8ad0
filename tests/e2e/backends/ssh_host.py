"""Another machine, reached over ssh: an sshd of our own on this one."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from devkit.process import Child, free_port

SSHD = Path("/usr/sbin/sshd")
# Debian's sshd wants this folder when root runs it; its service makes it else.
SEPARATION = Path("/run/sshd")


@dataclass(frozen=True)
class SshHost:
    """`home` is the home folder over there; `client` is a file of options for ssh."""

    home: Path
    client: Path
    keys: Path
    port: int

    def command(self, *program: str) -> list[str]:
        """The command that runs a program over there."""
        return ["ssh", "-F", str(self.client), "build-host", *program]

    def with_wrong_key(self) -> SshHost:
        """The same machine, to a user whose key it does not know."""
        make_key(self.keys / "wrong")
        return self._with_client("wrong", key="wrong", port=self.port)

    def switched_off(self) -> SshHost:
        """A machine where nothing listens."""
        return self._with_client("off", key="user", port=free_port())

    def strange(self) -> SshHost:
        """The same machine, to a user who has never been there."""
        (self.keys / "no-hosts").touch()
        return self._with_client("strange", "user", self.port, known="no-hosts")

    def running(self, word: str) -> list[int]:
        """The ids of what runs over there with `word` in its command."""
        return [p.pid for p in psutil.process_iter() if self._runs(p, word)]

    def _runs(self, process: psutil.Process, word: str) -> bool:
        try:
            here = process.environ().get("HOME") == str(self.home)
            return here and word in " ".join(process.cmdline())
        except psutil.Error:
            return False

    def _with_client(
        self, name: str, key: str, port: int, known: str = "known_hosts"
    ) -> SshHost:
        client = self.keys / name
        write_client(client, self.keys / key, port, self.keys / known)
        return replace(self, client=client)


def make_key(path: Path) -> str:
    """Make a key pair; returns the public half."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path.with_suffix(".pub").read_text()


def write_client(path: Path, key: Path, port: int, known_hosts: Path) -> None:
    path.write_text(f"""Host build-host
  HostName 127.0.0.1
  Port {port}
  User {getpass.getuser()}
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {known_hosts}
  BatchMode yes
""")


@contextmanager
def ssh_host(folder: Path, home: Path, env: Mapping[str, str]) -> Iterator[SshHost]:
    """Run sshd for the user who runs the tests; `env` is what its commands get.

    Skips the test where there is no sshd.
    """
    if not SSHD.exists() or not shutil.which("ssh"):
        pytest.skip("needs sshd: apt-get install openssh-server")
    if not os.geteuid():
        SEPARATION.mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    own = make_key(folder / "host")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {own}")
    (folder / "authorized_keys").write_text(make_key(folder / "user"))
    variables = " ".join(f'"{name}={value}"' for name, value in env.items())
    (folder / "sshd_config").write_text(f"""Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
AuthenticationMethods publickey
PidFile none
StrictModes no
UsePAM no
SetEnv {variables}
""")
    client = folder / "config"
    write_client(client, folder / "user", port, folder / "known_hosts")
    host = SshHost(home, client, folder, port)
    command = [str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")]
    child = Child("sshd", command, folder / "sshd.log")
    try:
        child.wait_until(lambda: "listening" in child.log_tail().lower(), seconds=30)
        yield host
    finally:
        child.stop()
