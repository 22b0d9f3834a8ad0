"""The commands that talk to a running Open WebUI."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from devkit.errors import InstallError
from devkit.installer.install import Installer
from devkit.installer.orchestrator import TOOL_ID as ORCHESTRATOR_TOOL
from devkit.installer.steps import Change, Step
from devkit.paths import ROOT

console = Console()

Url = Annotated[
    str,
    typer.Option(envvar="AQUEDUCT_URL", help="Open WebUI, e.g. http://localhost:8080"),
]
Key = Annotated[
    str,
    typer.Option(
        envvar="AQUEDUCT_KEY",
        help="API key or login token of an admin. Set as a variable, it does not show in "
        "the list of processes.",
    ),
]
Ids = Annotated[
    list[str] | None,
    typer.Argument(help="Function ids from manifest.json; all of them by default."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Include what was edited by hand or is not Aqueduct's."
    ),
]
Orchestrator = Annotated[
    str | None,
    typer.Option(
        "--orchestrator",
        metavar="BASE_MODEL",
        help="Also make the workspace model Orchestrator on top of this model, with the "
        "tool and for everybody. One that is there stays as it is.",
    ),
]

_DONE = {
    Change.INSTALL: "installed",
    Change.UPDATE: "updated",
    Change.NOTHING: "unchanged",
    Change.ROLLBACK: "rolled back",
    Change.REMOVE: "removed",
}


def install(
    url: Url,
    key: Key,
    ids: Ids = None,
    orchestrator: Orchestrator = None,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Install or update functions; valves, on/off and global stay on an update."""
    with Installer.connect(url, key, ROOT) as installer:
        if warning := installer.check_server():
            console.print(f"[yellow]warning:[/yellow] {warning}")
        steps = installer.plan(ids, force=force or dry_run)
        if dry_run:
            _show_plan(steps)
            return
        _carry_out(installer, steps)
        if orchestrator:
            _add_orchestrator(installer, orchestrator)


def status(url: Url, key: Key, ids: Ids = None) -> None:
    """Compare what is installed with what is built, and show hand edits."""
    with Installer.connect(url, key, ROOT) as installer:
        installer.check_server()
        steps = installer.status(ids)
    table = Table("id", "kind", "installed", "built", "state", "active", "global")
    for step in steps:
        stored = step.stored
        table.add_row(
            step.entry.id,
            step.entry.kind.value,
            step.installed_version or "-",
            step.target_version,
            step.state.value,
            "-" if stored is None else "yes" if stored.is_active else "no",
            "-" if stored is None else "yes" if stored.is_global else "no",
        )
    console.print(table)


def rollback(url: Url, key: Key, ids: Ids = None, dry_run: DryRun = False) -> None:
    """Go back to the previous version in Open WebUI's history."""
    with Installer.connect(url, key, ROOT) as installer:
        steps = installer.plan_rollback(ids)
        if dry_run:
            _show_plan(steps)
        else:
            _carry_out(installer, steps)


def uninstall(
    url: Url,
    key: Key,
    ids: Ids = None,
    force: Force = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")
    ] = False,
) -> None:
    """Remove functions with their valves and their history."""
    with Installer.connect(url, key, ROOT) as installer:
        steps = installer.plan_removal(ids, force=force)
        names = ", ".join(step.entry.id for step in steps)
        if steps and not yes:
            typer.confirm(f"Remove {names}, with valves and history?", abort=True)
        _carry_out(installer, steps)
        if any(step.entry.id == ORCHESTRATOR_TOOL for step in steps):
            _remove_orchestrator(installer)


def _add_orchestrator(installer: Installer, base_model: str) -> None:
    is_new = installer.add_orchestrator(base_model)
    done = "made, for everybody" if is_new else "is there and stays as it is"
    console.print(f"workspace model Orchestrator: {done}", highlight=False)
    if is_new and not installer.is_shared(base_model):
        console.print(
            f"[yellow]warning:[/yellow] only admins may use {base_model}, and so what "
            "is built on it; share it in Admin Panel > Settings > Models."
        )


def _remove_orchestrator(installer: Installer) -> None:
    """The model goes with its tool, unless an admin made it their own."""
    removed = installer.remove_orchestrator()
    if removed is not None:
        done = "removed" if removed else "was changed and stays, without its tool"
        console.print(f"workspace model Orchestrator: {done}", highlight=False)


def _carry_out(installer: Installer, steps: list[Step]) -> None:
    """Applies the steps; the table shows what was done, also when one fails."""
    if not steps:
        console.print("None of these functions is installed.")
        return
    done: list[Step] = []
    failure: InstallError | None = None
    with console.status("") as progress:
        progress.update(f"{steps[0].change} {steps[0].entry.id}")
        try:
            for step in installer.apply(steps):
                done.append(step)
                console.print(f"{_DONE[step.change]} {step.entry.id}", highlight=False)
                if following := steps[len(done) : len(done) + 1]:
                    progress.update(f"{following[0].change} {following[0].entry.id}")
        except InstallError as error:
            failure = error
    table = Table("id", "kind", "done", "from", "to")
    for step in done:
        table.add_row(
            step.entry.id,
            step.entry.kind.value,
            _DONE[step.change],
            step.installed_version or "-",
            step.target_version or "-",
        )
    console.print(table)
    if failure:
        raise InstallError(f"{steps[len(done)].entry.id}: {failure}") from failure


def _show_plan(steps: list[Step]) -> None:
    for step in steps:
        versions = " -> ".join(
            filter(None, (step.installed_version, step.target_version))
        )
        console.print(
            f"[bold]{step.entry.id}[/bold]: {step.change} ({versions}; {step.state})",
            highlight=False,
        )
        if step.stored and (diff := step.diff()):
            console.print(Syntax(diff, "diff", background_color="default"))
