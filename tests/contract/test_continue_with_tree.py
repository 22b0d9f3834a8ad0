"""The tree of a chat stays a tree, whoever changes it at the same time."""

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


def test_our_turns_among_edits_and_deletions_keep_the_tree(tmp_path):
    environment = settings(tmp_path, "of no use") | {"FROM_INIT_PY": "true"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.contract.continue_with_tree"],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
