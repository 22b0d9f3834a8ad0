"""The commands a person types, against a real Open WebUI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devkit.cli import app
from devkit.manifest import Kind

pytestmark = pytest.mark.contract


@pytest.fixture
def devkit(openwebui, suite, monkeypatch):
    """Runs a command for the suite; gives exit code and output."""
    monkeypatch.setattr("devkit.installer.cli.ROOT", suite.root)
    monkeypatch.setenv("AQUEDUCT_URL", openwebui.url)
    monkeypatch.setenv("AQUEDUCT_KEY", openwebui.admin_token)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str, answer: str = "") -> tuple[int, str]:
        result = CliRunner().invoke(app, list(arguments), input=answer)
        if isinstance(result.exception, Exception):
            raise result.exception
        return result.exit_code, result.output

    return run


def rows(output: str, id_: str) -> list[list[str]]:
    """The cells of the table rows of one function."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in output.splitlines()
        if line.startswith(f"│ {id_} ")
    ]


def test_a_dry_run_shows_and_changes_nothing(admin, devkit, install, suite):
    code, output = devkit("install", "--dry-run")
    assert (code, "test_pipe: install (1.0.0; not installed)" in output) == (0, True)
    assert "test_pipe" not in admin.ids(Kind.PIPE)
    install()
    suite.release("1.1.0", word="two")
    before = admin.get(Kind.PIPE, "test_pipe")
    _, output = devkit("install", "--dry-run", "test_pipe")
    assert "test_pipe: update (1.0.0 -> 1.1.0; another build)" in output
    assert '-        return "one"' in output
    assert '+        return "two"' in output
    assert "test_tool" not in output
    assert admin.get(Kind.PIPE, "test_pipe") == before


def test_the_tables(devkit, suite):
    assert rows(devkit("status")[1], "test_pipe") == [
        ["test_pipe", "pipe", "-", "1.0.0", "not installed", "-", "-"]
    ]
    assert rows(devkit("install")[1], "test_pipe") == [
        ["test_pipe", "pipe", "installed", "-", "1.0.0"]
    ]
    suite.release("1.1.0", word="two")
    assert rows(devkit("status")[1], "test_filter") == [
        ["test_filter", "filter", "1.0.0", "1.1.0", "another build", "no", "yes"]
    ]
    assert rows(devkit("install")[1], "test_pipe") == [
        ["test_pipe", "pipe", "updated", "1.0.0", "1.1.0"]
    ]
    assert rows(devkit("rollback")[1], "test_tool") == [
        ["test_tool", "tool", "rolled back", "1.1.0", "1.0.0"]
    ]


def test_removal_asks_first(admin, devkit):
    devkit("install")
    code, _ = devkit("uninstall", "test_pipe", answer="n\n")
    assert (code, "test_pipe" in admin.ids(Kind.PIPE)) == (1, True)
    code, output = devkit("uninstall", "test_pipe", answer="y\n")
    assert (code, "test_pipe" in admin.ids(Kind.PIPE)) == (0, False)
    assert rows(output, "test_pipe") == [["test_pipe", "pipe", "removed", "1.0.0", "-"]]
    assert (
        "None of these functions is installed." in devkit("uninstall", "test_pipe")[1]
    )


def test_an_error_is_one_sentence(openwebui):
    """No traceback and no key, whatever is wrong."""
    process = subprocess.run(
        [sys.executable, "-m", "devkit", "status"],
        env=os.environ | {"AQUEDUCT_URL": openwebui.url, "AQUEDUCT_KEY": "sk-secret"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: Open WebUI does not accept this key as an admin's")
    assert "sk-secret" not in process.stdout + process.stderr
