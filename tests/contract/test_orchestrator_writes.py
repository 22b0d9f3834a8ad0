"""What the orchestrator writes stays right, whoever writes at the same moment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from devkit.bundle import host
from devkit.paths import ROOT
from devkit.server import settings

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        not host.is_available(), reason="needs Open WebUI: run `make test`"
    ),
]


def test_tags_and_what_others_save_are_both_kept(tmp_path):
    environment = settings(tmp_path, "of no use") | {"FROM_INIT_PY": "true"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.contract.orchestrator_writes"],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
