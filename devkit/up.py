"""`make up`: Open WebUI with the suite and the demo agent, until Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from devkit.bundle.suite import build_all, dist_files, write_dist
from devkit.demo_agent import DemoAgent
from devkit.demo_config import (
    DEFAULT_MODEL,
    SUGGESTIONS,
    agents_yaml,
    demo_agents,
    other_agents,
)
from devkit.errors import DevkitError, InstallError
from devkit.installer import Change, Installer
from devkit.manifest import read_manifest
from devkit.paths import ROOT
from devkit.process import ProcessError, free_port, port_is_free
from devkit.server import OpenWebUI
from devkit.webui import Account, WebUIError, model_ids, set_valves, sign_in, valves

DEFAULT_DATA = ROOT / ".data"
DEFAULT_PORT = 8080
# Kept when free, so that an AGENTS valve somebody has edited goes on naming it.
DEMO_PORT = 8181

console = Console(highlight=False)


def up(
    port: Annotated[
        int, typer.Option(envvar="PORT", help="8080, or another if that is taken.")
    ] = 0,
    host: Annotated[
        str,
        typer.Option(envvar="AQUEDUCT_HOST", help="0.0.0.0 opens it to the network."),
    ] = "127.0.0.1",
    data: Annotated[
        Path, typer.Option(help="The folder with chats, settings and logs.")
    ] = DEFAULT_DATA,
) -> None:
    """Run Open WebUI with the suite and the demo agent until Ctrl-C."""
    if port and not port_is_free(port, host):
        raise DevkitError(
            f"port {port} is taken: choose another one (make up PORT=8090) or leave PORT out."
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        with contextlib.suppress(KeyboardInterrupt):
            _run(stack, data.resolve(), port or free_port(DEFAULT_PORT, host), host)
        console.print("\nStopping …")
    console.print("Stopped. `make up` starts it again, with all chats.")


def _run(stack: contextlib.ExitStack, data: Path, port: int, host: str) -> NoReturn:
    """Start everything, tell where it is, and wait; `stack` ends what was started."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    stack.enter_context(_alone(data, f"http://127.0.0.1:{port}"))
    email, password = _admin_login(data / "login.json")
    demo = DemoAgent(data / "logs" / "demo-agent.log", port=free_port(DEMO_PORT))
    server = OpenWebUI(
        data,
        secret_key=_kept_secret(data / "secret-key"),
        port=port,
        host=host,
        env=_first_settings(email, password),
    )
    stack.callback(demo.stop)
    stack.callback(server.stop)
    server.start()
    with _step("demo agent"):
        demo.start()
    with _step("build"):
        write_dist(ROOT, dist_files(build_all(ROOT, read_manifest(ROOT))))
    with _step("Open WebUI"):
        server.wait()
    with _step("suite"):
        account = _sign_in(server, email, password)
        _install(server.url, account)
        text = agents_yaml([*demo_agents(demo.url), *other_agents()])
        with account.client(server.url) as admin:
            _configure(admin, text, data / "agents.yaml")
    _tell(server, account)
    while not server.ended():
        time.sleep(0.5)
    raise ProcessError(f"Open WebUI stopped by itself; see {server.log_path}")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn the first of the ending signals into KeyboardInterrupt, ignore the rest.

    A second Ctrl-C while things are being ended must not leave any of them running.
    """

    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, frame: object) -> None:
        for each in ending:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in ending}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _alone(data: Path, url: str) -> Iterator[None]:
    """Hold the data folder for this run: two servers on one database would spoil it."""
    import fcntl  # not on Windows, where the other commands still work

    with (data / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DevkitError(
                f"it is already running at {lock.read()}: stop it there with Ctrl-C first."
            ) from None
        lock.truncate(0)
        lock.write(url)
        lock.flush()
        yield


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    """Show a spinner while something is on its way, and how long it took."""
    start = time.monotonic()
    with console.status(name):
        yield
    seconds = time.monotonic() - start
    console.print(f"[green]✓[/green] {name} [dim]{seconds:.1f} s[/dim]")


def _admin_login(path: Path) -> tuple[str, str]:
    """Return e-mail and password of the admin.

    WEBUI_ADMIN_EMAIL and WEBUI_ADMIN_PASSWORD decide; else the file at `path`, which
    the first run writes with a password nobody knows yet.
    """
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept.setdefault("email", "admin@aqueduct.local")
    kept.setdefault("password", secrets.token_urlsafe(9))
    login = {
        "email": os.environ.get("WEBUI_ADMIN_EMAIL") or kept["email"],
        "password": os.environ.get("WEBUI_ADMIN_PASSWORD") or kept["password"],
    }
    _write_private(path, json.dumps(login))
    return login["email"], login["password"]


def _kept_secret(path: Path) -> str:
    """Return the key that signs logins; a new one would end every session."""
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(32))
    return path.read_text()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _first_settings(email: str, password: str) -> dict[str, str]:
    """Return what a new .data/ begins with; later its admin decides."""
    suggestions = [
        {"title": [title, hint], "content": title} for title, hint in SUGGESTIONS
    ]
    return {
        "WEBUI_ADMIN_EMAIL": email,
        "WEBUI_ADMIN_PASSWORD": password,
        "DEFAULT_MODELS": DEFAULT_MODEL,
        "DEFAULT_PROMPT_SUGGESTIONS": json.dumps(suggestions),
        "DEFAULT_INTERFACE_SETTINGS": json.dumps({"showChangelog": False}),
        # For `openai` clients and `devkit install`, see docs.
        "ENABLE_API_KEYS": "true",
    }


def _sign_in(server: OpenWebUI, email: str, password: str) -> Account:
    try:
        return sign_in(server.url, email, password)
    except WebUIError as error:
        raise DevkitError(
            f"Open WebUI no longer accepts the login in {server.data}/login.json. If you "
            "changed it in Open WebUI, start with the new one: "
            "WEBUI_ADMIN_EMAIL=… WEBUI_ADMIN_PASSWORD=… make up"
        ) from error


def _install(url: str, account: Account) -> None:
    """Install the functions that are new or were built anew.

    What stands in the way, such as an edit by hand, is said and left as it is.
    """
    with Installer.connect(url, account.token, ROOT) as installer:
        try:
            steps = installer.install()
        except InstallError as error:
            console.print(f"[yellow]  nothing was installed: {escape(str(error))}")
            return
    for step in steps:
        if step.change is not Change.NOTHING:
            console.print(f"  {step.change} {step.entry.id}")


def _configure(admin: httpx.Client, text: str, written: Path) -> None:
    """Set the AGENTS valve where it is empty or still just what we wrote last.

    What we wrote last is kept in the file `written`.
    """
    last = written.read_text() if written.exists() else ""
    stored = valves(admin, "agents").get("AGENTS") or ""
    if stored not in ("", last):
        console.print("  the AGENTS valve was changed by hand and stays as it is")
    elif stored != text:
        set_valves(admin, "agents", AGENTS=text)
        written.write_text(text)
    if DEFAULT_MODEL not in model_ids(admin):
        console.print(f"[yellow]  the model {DEFAULT_MODEL} is not offered[/yellow]")


def _tell(server: OpenWebUI, account: Account) -> None:
    """Say where it is, how to get in, what to click and how to stop."""
    first = escape(SUGGESTIONS[0][0])
    console.print(
        Panel.fit(
            f"Open     [bold]{server.url}[/bold]\n"
            f"Sign in  {escape(account.email)}   {escape(account.password)}\n"
            f"Click    one of the suggestions, such as “{first}”,\n"
            "         or choose a model beside the send button and write a message\n"
            "Change   the agents: Admin Panel > Functions > Agents > gear\n"
            f"Logs     {server.log_path.parent}\n"
            "Stop     Ctrl-C; chats and settings are kept",
            title="Aqueduct is running",
            border_style="green",
        )
    )
