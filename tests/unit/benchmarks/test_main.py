"""`python -m benchmarks`, with small programs in place of the benchmarks."""

from __future__ import annotations

import pytest
import typer

from benchmarks import __main__ as benchmarks


@pytest.fixture
def programs(tmp_path, monkeypatch) -> None:
    """`broken`, which fails, and `sound`, after it."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "broken.py").write_text("raise SystemExit(3)\n")
    (folder / "sound.py").write_text("print('4 words a second')\n")
    monkeypatch.setattr(benchmarks, "ROOT", tmp_path)
    monkeypatch.setattr(benchmarks, "BENCHMARKS", ("broken", "sound"))


def exit_code(only: str) -> int:
    with pytest.raises(typer.Exit) as caught:
        benchmarks.main(only)
    return caught.value.exit_code


def test_one_that_fails_keeps_no_other_from_running(programs, capfd):
    assert exit_code("") == 1
    shown = capfd.readouterr().out
    assert "4 words a second" in shown
    assert shown.endswith("error: broken failed with exit code 3\n")


def test_a_part_of_a_name_chooses(programs, capfd):
    assert exit_code("sou") == 0
    shown = capfd.readouterr().out
    assert "4 words a second" in shown
    assert "broken" not in shown


def test_a_name_that_is_not_there_is_told(programs, capfd):
    assert exit_code("nothing") == 1
    assert capfd.readouterr().out == "error: 'nothing' is none of broken, sound.\n"


def test_what_is_listed_exists():
    folder = benchmarks.ROOT / "benchmarks"
    assert all((folder / f"{name}.py").is_file() for name in benchmarks.BENCHMARKS)
