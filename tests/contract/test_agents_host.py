"""The built agents pipe in Open WebUI: its valves, its calls, and source against dist."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devkit.bundle import host
from devkit.demo_agent import DemoAgent
from devkit.server import settings
from functions.agents import Pipe
from tests.contract import agents_both_ways
from tests.webui import WebUI

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        not host.is_available(), reason="needs Open WebUI: run `make test`"
    ),
]


def test_the_valves_form_hides_secrets_only(suite_installed: WebUI):
    with suite_installed.client() as admin:
        path = "/api/v1/functions/id/agents/valves/spec"
        spec = admin.get(path).raise_for_status().json()
    assert list(spec["properties"]) == ["AGENTS", "SECRETS", "REDIS_URL"]
    assert spec["properties"]["SECRETS"]["input"] == {"type": "password"}
    assert "input" not in spec["properties"]["AGENTS"]
    assert "${secret:NAME}" in spec["properties"]["AGENTS"]["description"]


def test_open_webui_passes_every_argument_that_the_pipe_takes():
    # The names are in the host's source only: a dictionary in functions.py.
    package = importlib.util.find_spec("open_webui")
    assert package is not None
    assert package.submodule_search_locations is not None
    source = Path(package.submodule_search_locations[0], "functions.py").read_text()
    passed = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and re.fullmatch(r"__\w+__", str(node.value))
    }
    taken = set(inspect.signature(Pipe().pipe).parameters)
    assert "body" in taken
    assert taken - {"body"} <= passed
    assert list(inspect.signature(Pipe().pipes).parameters) == []


@pytest.fixture(scope="module")
def both_ways(demo_agent: DemoAgent, tmp_path_factory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("both-ways")
    more = {"ENABLE_DB_MIGRATIONS": "false"}
    process = subprocess.run(
        [sys.executable, "-m", agents_both_ways.__name__, demo_agent.url],
        env=settings(folder, "of no use outside the tests") | more,
        cwd=agents_both_ways.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("call", ["models", *agents_both_ways.CALLS])
def test_source_and_dist_answer_alike(both_ways: dict[str, Any], call: str):
    assert both_ways["dist"][call] == both_ways["source"][call]


def test_what_they_answer_is_right(both_ways: dict[str, Any]):
    found = both_ways["dist"]
    names = [model["id"] for model in found["models"]]
    assert names[:3] == ["demo", "responses", "faulty"]
    assert names[-1] == "configuration-error"
    assert "offered.aqueduct-demo-leaky" in names
    assert "459" in found["whole"]["choices"][0]["message"]["content"]
    chat = json.dumps(found["chat"])
    assert "response.reasoning_text.delta" in chat
    assert "response.output_text.delta" in chat
    assert found["busy"]["status"] == 429
    assert "broke off" in json.dumps(found["broken"])
    assert "Something went wrong inside Aqueduct" in json.dumps(found["fault"])
