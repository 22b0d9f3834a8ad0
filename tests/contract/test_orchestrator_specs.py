"""The orchestrator's tools as models see them: a snapshot of every JSON schema.

`AQUEDUCT_SNAPSHOTS=1` writes it anew; the difference is then to be read like code,
since it is what models read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devkit.bundle import host
from devkit.paths import ROOT
from devkit.server import settings
from tests.contract import orchestrator_in_host

SNAPSHOT = Path(__file__).with_name("orchestrator_specs.json")

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        not host.is_available(), reason="needs Open WebUI: run `make test`"
    ),
]


@pytest.fixture(scope="module")
def specs(tmp_path_factory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("orchestrator")
    more = {"FROM_INIT_PY": "true", "ENABLE_DB_MIGRATIONS": "false"}
    process = subprocess.run(
        [sys.executable, "-m", orchestrator_in_host.__name__],
        env=settings(folder, "of no use outside the tests") | more,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    found = json.loads(process.stdout.splitlines()[-1])
    return {spec["name"]: spec for spec in found}


def test_the_schemas_are_those_of_the_snapshot(specs):
    if os.environ.get("AQUEDUCT_SNAPSHOTS") == "1":
        text = json.dumps(specs, indent=2, ensure_ascii=False)
        SNAPSHOT.write_text(text + "\n", "utf-8")
    assert specs == json.loads(SNAPSHOT.read_text("utf-8"))


def test_every_tool_and_parameter_is_described(specs):
    assert len(specs) == 13
    for spec in specs.values():
        assert spec["description"].strip()
        for name, parameter in spec["parameters"]["properties"].items():
            assert not name.startswith("_")
            assert parameter["description"].strip()
            assert "type" in parameter


def test_only_what_models_give_is_required(specs):
    for spec in specs.values():
        required = set(spec["parameters"].get("required", ()))
        assert required <= set(spec["parameters"]["properties"])
    assert specs["chat_with_model"]["parameters"]["required"] == ["message"]
    assert "required" not in specs["list_models"]["parameters"]
