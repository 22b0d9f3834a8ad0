"""Projects small enough to read in a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.devkit.project import SOURCE, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def bundle(project: Project) -> Callable[..., str]:
    """Builds a function file over shared modules given as keyword arguments."""

    def run(function: str, **shared: str) -> str:
        project.write(SOURCE, function)
        for name, text in shared.items():
            project.write(f"shared/{name}.py", text)
        return project.build().text

    return run
