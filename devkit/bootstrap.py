"""Make .venv and install what the suite runs in; standard library only.

    python3 -m devkit.bootstrap          Open WebUI and what `make up` needs
    python3 -m devkit.bootstrap --dev    what checks and tests need on top

This file must start under any Python from 3.7 on, to say in one line that another one
is needed; hence no newer syntax here, and nothing imported from the project.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
# Exists while .venv itself is being made: one found with it cannot be used.
UNFINISHED = VENV / ".unfinished"
LOG = ROOT / ".cache" / "bootstrap.log"
REQUIREMENTS = ROOT / "requirements"
CONSTRAINTS = REQUIREMENTS / "constraints.txt"
VERSIONS = ((3, 12), (3, 11))
ADVICE = (
    "Install one (Debian 12: apt install python3 python3-venv; macOS: brew install "
    "python@3.12) or name one: make up PYTHON=/path/to/python3.12"
)


class BootstrapError(Exception):
    """One sentence for who called; `details` are the last lines of a program."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


def main() -> None:
    """Run from the command line; ends with exit code 1 and one line on an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also what the tests need")
    groups = ["openwebui"] + (["dev"] if parser.parse_args().dev else [])
    # As Ctrl-C does: pip runs in a session of its own and would not be told.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        bootstrap(groups)
    except BootstrapError as error:
        if error.details:
            print(error.details, file=sys.stderr)
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped. Run the same command again to install the rest.")


def bootstrap(groups: list[str]) -> None:
    """Bring .venv to what requirements/ says for these groups, doing nothing twice.

    What is installed stays when an install fails or is stopped; the next one goes on
    from there. Raises BootstrapError when there is no fitting Python, or on a failure.
    """
    python, version = find_python()
    if not venv_is_sound(version):
        make_venv(python, version)
    for group in groups:
        install_group(group)


def find_python() -> tuple[str, tuple[int, int]]:
    """Return the command and (major, minor) of a Python that Open WebUI runs on.

    PYTHON in the environment decides alone; else the running one is taken, else the
    newest fitting one on the path. Raises BootstrapError.
    """
    wanted = os.environ.get("PYTHON")
    for command in [wanted] if wanted else [sys.executable, "python3.12", "python3.11"]:
        version = python_version(command)
        if version in VERSIONS:
            return command, version
    found = python_version(wanted) if wanted else sys.version_info[:2]
    if found is None:
        raise BootstrapError(f"PYTHON={wanted} does not start. {ADVICE}")
    raise BootstrapError(
        "Open WebUI needs Python 3.11 or 3.12, and "
        f"{wanted or 'python3'} is {found[0]}.{found[1]}. {ADVICE}"
    )


def python_version(command: str) -> tuple[int, int] | None:
    """Return (major, minor) of a Python command, None when it does not start."""
    ask = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [command, "-c", ask],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
        major, minor = done.stdout.split()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None  # not there, or a shim that leads nowhere
    return int(major), int(minor)


def venv_is_sound(version: tuple[int, int]) -> bool:
    """Tell whether .venv is whole, starts, and is of this Python version.

    Its programs must also name this very folder: a moved checkout breaks them.
    """
    pip = VENV / "bin" / "pip"
    return (
        not UNFINISHED.exists()
        and python_version(str(VENV_PYTHON)) == version
        and pip.exists()
        and f"{VENV}/" in pip.read_text()
    )


def make_venv(python: str, version: tuple[int, int]) -> None:
    """Make .venv from nothing. Raises BootstrapError when this Python cannot."""
    if VENV.exists():
        say(".venv is unfinished, broken, moved or of another Python: recreating it")
        shutil.rmtree(VENV)
    VENV.mkdir()
    UNFINISHED.touch()
    try:
        run(
            "making .venv with Python {}.{}".format(*version),
            [python, "-m", "venv", str(VENV)],
        )
    except BootstrapError as error:
        if "ensurepip" in error.details or "No module named venv" in error.details:
            raise BootstrapError(
                "this Python has no venv module. On Debian and Ubuntu: "
                "apt install python{}.{}-venv".format(*version)
            ) from None
        raise
    UNFINISHED.unlink()


def install_group(group: str) -> None:
    """Install requirements/<group>.txt unless it is there at just these versions."""
    requirements = REQUIREMENTS / f"{group}.txt"
    content = requirements.read_bytes() + CONSTRAINTS.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    stamp = VENV / f".installed-{group}"
    if stamp.exists() and stamp.read_text() == digest:
        return
    # Until pip is through, no pins can be vouched for, the earlier ones included.
    if stamp.exists():
        stamp.unlink()
    pip = [str(VENV_PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--progress-bar", "off", "--constraint", str(CONSTRAINTS)]
    if group == "openwebui":
        # First and alone, so that no other package's wish chooses its build.
        run("installing torch", [*pip, pinned("torch")])
    run(
        f"installing requirements/{group}.txt",
        [*pip, "--requirement", str(requirements)],
    )
    stamp.write_text(digest)


def pinned(name: str) -> str:
    """Return name==version as constraints.txt has it."""
    lines = CONSTRAINTS.read_text().splitlines()
    return next(line for line in lines if line.startswith(name + "=="))


def run(step: str, command: list[str]) -> None:
    """Run one step with its output in the log and a line that shows it is alive.

    Raises BootstrapError with the end of the log when it fails.
    """
    LOG.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C reaches it once, through us
        )
        try:
            code = wait(process, step, start)
        except BaseException:
            stop(process)
            raise
    if code:
        lines = LOG.read_text(errors="replace").splitlines()
        raise BootstrapError(
            f"{step} failed; its whole output is in {LOG.relative_to(ROOT)}. What is "
            "installed was kept: when the cause is gone, run the same command again, "
            "or start over after `make clean`.",
            details="\n".join(lines[-12:]),
        )
    say(f"{step}: done in {time.monotonic() - start:.0f} s")


def wait(process: subprocess.Popen[bytes], step: str, start: float) -> int:
    """Wait for the process, showing what it does; returns its exit code."""
    live = sys.stdout.isatty()
    shown = 0.0
    while process.poll() is None:
        elapsed = time.monotonic() - start
        if live:
            line = f"{step}  {elapsed:.0f} s  {last_words()}"
            print("\r\033[K" + line[:78], end="", flush=True)
        elif elapsed - shown > 15:
            shown = elapsed
            say(f"{step}: {elapsed:.0f} s so far")
        time.sleep(0.2)
    if live:
        print("\r\033[K", end="", flush=True)
    return process.returncode


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the program and all it started, after giving it time to tidy up.

    On an interrupt pip puts back the package that it was about to replace.
    """
    with contextlib.suppress(ProcessLookupError):  # it may have just ended
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(20)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_words() -> str:
    """Return the start of the last line in the log: what pip is doing."""
    with LOG.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 500))
        lines = log.read().decode("utf-8", "replace").splitlines()
    return " ".join(lines[-1].split()[:2]) if lines else ""


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
