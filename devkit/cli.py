"""The commands of `python -m devkit`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from devkit import report
from devkit.bundle.suite import build_all, dist_files, write_dist
from devkit.bundle.where import where as find_source
from devkit.errors import DevkitError
from devkit.installer import cli as installer
from devkit.manifest import SCHEMA_NAME, read_manifest, schema_text
from devkit.paths import ROOT
from devkit.programs import programs
from devkit.up import up

# Locals hold keys, and a traceback is for us, not for who installs the suite.
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=__doc__,
    add_completion=False,
)
console = Console()


def main() -> None:
    """Runs a command; what a person can put right is shown as one sentence."""
    try:
        app()
    except DevkitError as error:
        Console(stderr=True).print(
            f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True
        )
        sys.exit(1)


@app.command()
def build(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if dist/ differs.")
    ] = False,
) -> None:
    """Build every function of manifest.json into dist/."""
    built = build_all(ROOT, read_manifest(ROOT))
    if check:
        from devkit.checks import check_built

        _finish(report.show_checks(console, list(check_built(ROOT, built))))
        return
    changed = write_dist(ROOT, dist_files(built))
    report.show_sizes(console, ROOT, built, changed)


@app.command()
def check() -> None:
    """Prove that dist/ is current, sound and loads in Open WebUI."""
    # Checking needs linters that building and installing can do without.
    from devkit.checks import check_built, check_host, check_project

    manifest = read_manifest(ROOT)
    built = build_all(ROOT, manifest)
    results = [
        *check_project(ROOT, manifest),
        *check_built(ROOT, built),
        check_host(built),
    ]
    report.show_sizes(console, ROOT, built, [])
    _finish(report.show_checks(console, results))


@app.command()
def where(
    place: Annotated[str, typer.Argument(help="A line, as in dist/agents.py:412.")],
) -> None:
    """Name the source line of a line in a built file."""
    found = find_source(ROOT, place)
    if found is None:
        console.print(
            f"{place} is generated: frontmatter, notice, imports or a section mark"
        )
    else:
        console.print(f"{found.path}:{found.line}", highlight=False)


@app.command()
def schema() -> None:
    """Write the JSON schema of manifest.json."""
    (ROOT / SCHEMA_NAME).write_bytes(schema_text().encode())
    console.print(f"wrote {SCHEMA_NAME}")


for command in (
    installer.install,
    installer.status,
    installer.rollback,
    installer.uninstall,
    up,
    programs,
):
    app.command()(command)


def _finish(passed: bool) -> None:
    if not passed:
        raise typer.Exit(1)
