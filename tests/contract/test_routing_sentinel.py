"""The queues behind a Redis Sentinel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from devkit.bundle import host
from devkit.paths import ROOT
from devkit.server import settings
from tests.redis import REDIS_ADVICE

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        not host.is_available(), reason="needs Open WebUI: run `make test`"
    ),
    pytest.mark.skipif(not shutil.which("redis-server"), reason=REDIS_ADVICE),
]


def test_the_queues_go_on_when_another_server_takes_over(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "tests.contract.routing_sentinel"],
        env=os.environ | settings(tmp_path, "of no use"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
