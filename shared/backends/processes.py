"""Programs that agents are: started without a shell, ended with all they started."""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from shared.errors import UpstreamBroken, UpstreamSilent, UpstreamUnreachable

# What a program gets of the server's environment. Everything else may be a secret.
# fmt: off
INHERITED_VARIABLES = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL",
    "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK",
    "NODE_EXTRA_CA_CERTS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
    "https_proxy", "no_proxy",
))
# fmt: on
# Names the run a process belongs to: the server's mark and a number of its own. A shell
# in a session of its own whose parent died is nobody's child, but it still has this.
RUN_MARK = "AQUEDUCT_RUN"
# Ctrl-C first: some agents leave their children alone on SIGTERM.
STOP_STEPS = ((signal.SIGINT, 1.5), (signal.SIGTERM, 1.0), (signal.SIGKILL, 1.0))
EOF_SECONDS = 1.0
WRITE_SECONDS = 60.0
SAME_START_SECONDS = 3600
ERROR_LINES_KEPT = 20
# How ssh ends when it is ssh that failed, and its words for why. The rest of its lines,
# accounts and addresses, is for the log.
SSH_FAILED = 255
SSH_REASONS = re.compile(
    r"Permission denied|Host key verification failed|Could not resolve hostname"
    r"|Connection (?:refused|timed out|closed|reset)|No route to host"
    r"|Network is unreachable|not responding"
)
READ_BYTES = 64 * 1024

processes_log = logging.getLogger("aqueduct.processes")


@dataclass(frozen=True, slots=True)
class Program:
    """What to start: an argument list, and what its environment has on top."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return Path(self.command[0]).name


class AgentProcess:
    """A running program with its family: what it started, and what that started."""

    def __init__(
        self, program: Program, process: asyncio.subprocess.Process, mark: str
    ) -> None:
        self._program = program
        self._process = process
        self._mark = mark
        self._root = process_of(process.pid)
        self._errors: deque[str] = deque(maxlen=ERROR_LINES_KEPT)
        self._listening = asyncio.create_task(self._keep_errors())

    @classmethod
    async def start(cls, program: Program, folder: Path) -> "AgentProcess":
        """Start it in `folder`; UpstreamUnreachable when there is no such program."""
        mark = f"{server_mark()} {uuid.uuid4().hex}"
        env = program_environment(program.env) | {RUN_MARK: mark}
        try:
            process = await asyncio.create_subprocess_exec(
                find_program(program, env),
                *program.command[1:],
                cwd=folder,
                env=env,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            processes_log.warning("%s did not start: %s", program.name, error.strerror)
            raise UpstreamUnreachable("program_missing", program=program.name) from None
        return cls(program, process, mark)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def write(self, data: bytes) -> None:
        """Give it input; UpstreamError when it does not take it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            async with asyncio.timeout(WRITE_SECONDS):
                await self._process.stdin.drain()
        except TimeoutError:
            raise UpstreamSilent("program_silent", seconds=WRITE_SECONDS) from None
        except (OSError, RuntimeError) as error:
            raise UpstreamBroken("program_ended") from error

    def close_input(self) -> None:
        """Tell it that no more input comes."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def read(self) -> bytes:
        """Some of its output; nothing at its end.

        When it has ended, what it left running may still hold its output open.
        """
        assert self._process.stdout is not None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EOF_SECONDS):
                    return await self._process.stdout.read(READ_BYTES)
            if not self.running:
                return b""

    async def exit_code(self) -> int | None:
        """How it ended, once its output is over; None when it lives on regardless.

        What a failed one said on stderr is logged. UpstreamBroken when it was not the
        program that failed, but ssh to where it is.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EOF_SECONDS):
                await self._process.wait()
        await asyncio.wait([self._listening], timeout=EOF_SECONDS)
        code = self._process.returncode
        if code:
            words = self.without_secrets(" | ".join(self._errors))
            processes_log.warning(
                "%s ended with %s: %s", self._program.name, code, words
            )
            if self._program.name == "ssh" and code == SSH_FAILED:
                reason = SSH_REASONS.search(words)
                raise UpstreamBroken("ssh_failed", detail=reason[0] if reason else "")
        return code

    async def ending(self) -> UpstreamBroken:
        """The error for a program that ended in the middle of a talk."""
        try:
            return program_ended(await self.exit_code())
        except UpstreamBroken as error:
            return error

    def without_secrets(self, text: str) -> str:
        """Its words without the values of its own variables, which may be keys."""
        for value in self._program.env.values():
            if len(value) > 7:
                text = text.replace(value, "***")
        return text

    async def family(self) -> set[int]:
        """The ids of the processes that live because of this one, itself included."""
        found = await asyncio.to_thread(process_family, self._root, self._mark)
        return {process.pid for process in found}

    async def end_all_but(self, kept: set[int]) -> None:
        """End what it has started since `kept` was its family."""
        await asyncio.to_thread(end_family, self._root, self._mark, kept)

    async def stop(self, gently: bool = False) -> None:
        """End it and its family; `gently` lets it first go by itself.

        Harmless when it has ended: what it started may still be there.
        """
        self.close_input()
        if gently and self.running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EOF_SECONDS):
                    await self._process.wait()
        await asyncio.to_thread(end_family, self._root, self._mark)
        self._listening.cancel()

    async def _keep_errors(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-READ_BYTES:]
            self._errors.extend(line.decode("utf-8", "replace") for line in lines)
        self._errors.append(rest.decode("utf-8", "replace"))


def program_ended(code: int | None) -> UpstreamBroken:
    """The error for a program that ended with this code before its work was done."""
    detail = "" if code is None else f"exit code {code}"
    return UpstreamBroken("program_ended", detail=detail)


def find_program(program: Program, env: Mapping[str, str]) -> str:
    """Where the program is: a path from the server's folder, or a name on the PATH."""
    found = shutil.which(program.command[0], path=env.get("PATH"))
    if found is None:
        raise UpstreamUnreachable("program_missing", program=program.name)
    return os.path.abspath(found)


def program_environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program: what everybody needs, and its own variables."""
    kept = {k: v for k, v in os.environ.items() if k in INHERITED_VARIABLES}
    return kept | dict(own)


def server_mark() -> str:
    """This server: the namespace its id counts in, its id, and when it was started."""
    return f"{pid_namespace()} {os.getpid()} {psutil.Process().create_time():.0f}"


def pid_namespace() -> str:
    """Tells apart containers, whose processes have the same ids; "0" elsewhere."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "0"


def process_of(pid: int) -> psutil.Process | None:
    """The process of this id, or None when it is gone already."""
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def process_family(root: psutil.Process | None, mark: str) -> list[psutil.Process]:
    """The process, its descendants, and those that carry its mark."""
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.Error):
        if root is not None and root.is_running():
            found = {process.pid: process for process in root.children(recursive=True)}
            found[root.pid] = root
    for process, its_mark in marked_processes():
        if its_mark == mark:
            found.setdefault(process.pid, process)
    return [process for process in found.values() if lives(process)]


def marked_processes() -> Iterable[tuple[psutil.Process, str]]:
    """Every process of this machine that an agent's run has to do with."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark := process.environ().get(RUN_MARK):
                yield process, mark


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; one that only waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_family(
    root: psutil.Process | None, mark: str, kept: Iterable[int] = frozenset()
) -> None:
    """End a process and its family but for those `kept`. Blocks for some seconds.

    The family is counted before each step: it may have grown, and whose child a
    process was can only be seen while its parent lives.
    """
    known: dict[int, psutil.Process] = {}
    for number, seconds in STOP_STEPS:
        for process in process_family(root, mark):
            if process.pid not in kept:
                known[process.pid] = process
        alive = [process for process in known.values() if lives(process)]
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        deadline = time.monotonic() + seconds
        while any(lives(process) for process in alive):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)


def end_orphans() -> None:
    """End what agents of servers have left that were killed. Blocks."""
    here = pid_namespace()
    for process, mark in list(marked_processes()):
        namespace, pid, started, *_ = [*mark.split(), "", "", ""]
        if namespace == here and pid.isdigit() and not is_server(int(pid), started):
            processes_log.info("Ending %s, left by a server that is gone", process.pid)
            end_family(process, mark)


def is_server(pid: int, started: str) -> bool:
    """Whether the server that made a mark still runs.

    Rather once too often than not: the clock by which a start is told may be set.
    """
    server = process_of(pid)
    if server is None or not started.isdigit():
        return server is not None
    return abs(server.create_time() - int(started)) < SAME_START_SECONDS
