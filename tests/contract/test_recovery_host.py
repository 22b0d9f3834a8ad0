"""The built recovery filter, loaded and called by Open WebUI's own code."""

from __future__ import annotations

import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demo.leaks import SYNTAXES
from devkit.bundle import host
from devkit.server import settings
from filters.tool_call_recovery import Filter
from tests.contract import recovery_in_host

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        not host.is_available(), reason="needs Open WebUI: run `make test`"
    ),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("recovery")
    more = {"ENABLE_DB_MIGRATIONS": "false"}
    process = subprocess.run(
        [sys.executable, "-m", recovery_in_host.__name__],
        env=settings(folder, "of no use outside the tests") | more,
        cwd=recovery_in_host.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_becomes_a_call(told: dict[str, Any], syntax: str):
    choices = [event["choices"][0] for event in told[syntax]]
    deltas = [choice["delta"] for choice in choices]
    text = "".join(delta.get("content") or "" for delta in deltas)
    [call] = [part for delta in deltas for part in delta.get("tool_calls", ())]
    assert text.strip() == recovery_in_host.BEFORE.strip()
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "São Paulo"}
    assert choices[-1]["finish_reason"] == "tool_calls"
    first = next(delta for delta in deltas if "tool_calls" in delta)
    assert "content" not in first


def test_open_webui_passes_every_argument_that_the_filter_takes():
    package = importlib.util.find_spec("open_webui")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0], "utils")
    source = (folder / "middleware.py").read_text(encoding="utf-8")
    for hook in ("request", "stream", "outlet"):
        taken = set(inspect.signature(getattr(Filter(), hook)).parameters)
        for name in taken - {"body", "event"}:
            assert f"'{name}'" in source, (hook, name)
