"""devkit/bootstrap.py, with programs that stand for Python and pip."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from devkit import bootstrap
from devkit.bootstrap import BootstrapError


def program(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A project with nothing but requirements, and no Python on the path."""
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (requirements / "openwebui.txt").write_text("open-webui==0.12.4\n")
    (requirements / "dev.txt").write_text("pytest\n")
    (requirements / "constraints.txt").write_text("torch==2.13.0\n")
    venv = tmp_path / ".venv"
    for name, value in {
        "ROOT": tmp_path,
        "VENV": venv,
        "VENV_PYTHON": venv / "bin" / "python",
        "UNFINISHED": venv / ".unfinished",
        "LOG": tmp_path / ".cache" / "bootstrap.log",
        "REQUIREMENTS": requirements,
        "CONSTRAINTS": requirements / "constraints.txt",
    }.items():
        monkeypatch.setattr(bootstrap, name, value)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("PYTHON", raising=False)
    return tmp_path


@pytest.fixture
def venv(home) -> Path:
    """A finished .venv whose Python answers 3.11 and writes down what it installs."""
    program(
        home / ".venv/bin/python",
        f'case "$1" in -c) echo 3 11;; *) echo "$@" >> {home}/calls;; esac',
    )
    program(home / ".venv/bin/pip", f"# {home}/.venv/bin/python")
    return home / ".venv"


def installed(home: Path) -> list[str]:
    """The last word of each pip call so far: what it was to install."""
    calls = home / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [line.split()[-1].removeprefix(f"{home}/") for line in lines]


def test_it_parses_under_a_python_that_is_too_old():
    source = Path(bootstrap.__file__).read_text()
    ast.parse(source, feature_version=(3, 7))


def test_the_named_python_is_taken(home, monkeypatch):
    named = program(home / "python", "echo 3 12")
    monkeypatch.setenv("PYTHON", str(named))
    assert bootstrap.find_python() == (str(named), (3, 12))


def test_a_named_python_that_does_not_fit_is_refused(home, monkeypatch):
    monkeypatch.setenv("PYTHON", str(program(home / "python", "echo 3 13")))
    with pytest.raises(BootstrapError, match=r"3\.11 or 3\.12, and .*python is 3\.13"):
        bootstrap.find_python()


def test_a_named_python_that_is_not_there_is_refused(home, monkeypatch):
    monkeypatch.setenv("PYTHON", str(home / "nowhere"))
    with pytest.raises(BootstrapError, match="nowhere does not start"):
        bootstrap.find_python()


def test_another_python_on_the_path_is_found(home, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(program(home / "python", "echo 3 13")))
    # As pyenv's shims do for a version that is not chosen.
    program(home / "bin/python3.12", "exit 127")
    program(home / "bin/python3.11", "echo 3 11")
    assert bootstrap.find_python() == ("python3.11", (3, 11))


def test_a_whole_venv_is_sound(venv):
    assert bootstrap.venv_is_sound((3, 11))
    assert not bootstrap.venv_is_sound((3, 12))


def test_a_venv_that_lost_its_python_is_not_sound(venv):
    (venv / "bin/python").unlink()
    assert not bootstrap.venv_is_sound((3, 11))


def test_a_venv_of_a_moved_checkout_is_not_sound(venv):
    (venv / "bin/pip").write_text("#!/elsewhere/.venv/bin/python\n")
    assert not bootstrap.venv_is_sound((3, 11))


def test_torch_comes_first_and_nothing_comes_twice(venv, home):
    bootstrap.install_group("openwebui")
    bootstrap.install_group("openwebui")
    assert installed(home) == ["torch==2.13.0", "requirements/openwebui.txt"]
    assert bootstrap.venv_is_sound((3, 11))


def test_other_pins_are_installed(venv, home):
    bootstrap.install_group("openwebui")
    bootstrap.CONSTRAINTS.write_text("torch==2.13.1\n")
    bootstrap.install_group("openwebui")
    assert installed(home)[2:] == ["torch==2.13.1", "requirements/openwebui.txt"]


def failing(venv: Path, home: Path, what: str) -> str:
    """Make installing `what` fail; gives the script of the Python that does not."""
    script = (venv / "bin/python").read_text().split("\n", 1)[1]
    fault = f'case "$*" in *{what}) echo no route to host; exit 1;; esac'
    program(venv / "bin/python", f"{fault}\n{script}")
    return script


def test_a_failed_install_tells_its_end(venv, home):
    failing(venv, home, "torch==2.13.0")
    with pytest.raises(BootstrapError, match="installing torch failed") as caught:
        bootstrap.install_group("openwebui")
    assert "no route to host" in caught.value.details


def test_after_a_failed_install_the_next_one_keeps_what_is_there(venv, home):
    script = failing(venv, home, "openwebui.txt")
    with pytest.raises(BootstrapError):
        bootstrap.bootstrap(["openwebui"])
    (venv / "torch").touch()
    program(venv / "bin/python", script)
    bootstrap.bootstrap(["openwebui"])
    assert (venv / "torch").exists()
    assert installed(home)[-1] == "requirements/openwebui.txt"


def test_a_failed_install_for_the_tests_does_no_harm_to_what_runs(venv, home):
    bootstrap.bootstrap(["openwebui"])
    before = installed(home)
    failing(venv, home, "dev.txt")
    with pytest.raises(BootstrapError, match=r"requirements/dev\.txt failed"):
        bootstrap.bootstrap(["openwebui", "dev"])
    bootstrap.bootstrap(["openwebui"])
    assert installed(home) == before


def test_pins_that_were_left_half_way_are_installed_again(venv, home):
    bootstrap.install_group("openwebui")
    script = failing(venv, home, "openwebui.txt")
    bootstrap.CONSTRAINTS.write_text("torch==2.13.1\n")
    with pytest.raises(BootstrapError):
        bootstrap.install_group("openwebui")
    program(venv / "bin/python", script)
    bootstrap.CONSTRAINTS.write_text("torch==2.13.0\n")
    bootstrap.install_group("openwebui")
    assert installed(home)[-2:] == ["torch==2.13.0", "requirements/openwebui.txt"]


def test_pip_may_tidy_up_when_the_install_is_stopped(venv, home, monkeypatch):
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    program(
        venv / "bin/python",
        f"trap 'echo put back > {home}/tidied; exit 1' INT\n"
        "sleep 0.5; kill -INT $PPID\n"
        "while :; do sleep 0.05; done",
    )
    with pytest.raises(KeyboardInterrupt):
        bootstrap.install_group("openwebui")
    assert (home / "tidied").read_text() == "put back\n"
    assert not list(venv.glob(".installed-*"))


def test_a_python_without_venv_is_named(home):
    python = program(home / "python", "echo No module named venv; exit 1")
    with pytest.raises(BootstrapError, match=r"apt install python3\.11-venv"):
        bootstrap.make_venv(str(python), (3, 11))


def test_an_unfinished_venv_is_made_anew(venv, home):
    bootstrap.UNFINISHED.touch()
    (venv / "rubbish").touch()
    bootstrap.make_venv(str(program(home / "python", "true")), (3, 11))
    assert not (venv / "rubbish").exists()
    assert not bootstrap.UNFINISHED.exists()
