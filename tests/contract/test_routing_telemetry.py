"""What routing counts, in a meter provider of OpenTelemetry's SDK.

In processes of their own: Open WebUI reads its settings when it is imported, and a
process has one meter provider for ever. Open WebUI installed by pip lacks the packages
it needs to set up a provider itself, hence the program does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devkit.paths import ROOT
from devkit.server import settings

pytestmark = pytest.mark.contract

PROGRAM = """
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from shared.host.telemetry import telemetry_recorder
from shared.routing.stats import RoutingStats

reader = InMemoryMetricReader()
set_meter_provider(MeterProvider([reader]))
for _ in range(2):  # as after a reload of the function
    pool = RoutingStats({}, telemetry_recorder()).pool("gpu")
    upstream = pool.upstream("gpu1")
    pool.queued("person")
    pool.waited("person", 1.5)
    upstream.started("kept")
    upstream.first_token(0.25)
    upstream.ended(seconds=2.0, tokens=100)
    upstream.started("moved")
    upstream.ended("status_503")
    upstream.retried()
    upstream.breaker("open")
    pool.queued("task")
    pool.left("task", "expired")
    pool.fell_back("cloud")
print(reader.get_metrics_data().to_json(indent=None))
"""
QUESTION = """
from shared.host.telemetry import telemetry_recorder
print(telemetry_recorder())
"""
ON = {"ENABLE_OTEL": "true", "ENABLE_OTEL_METRICS": "true"}


def run(program: str, folder: Path, env: dict[str, str]) -> tuple[str, str]:
    """The last line that a program prints where Open WebUI is, and its errors."""
    given = settings(folder, "of no use outside the tests") | env
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=given | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1], done.stderr


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, Any]:
    """Every metric by its name."""
    line, errors = run(PROGRAM, tmp_path_factory.mktemp("otel"), ON)
    assert "aqueduct" not in errors, "instruments are made once more without complaint"
    [resource] = json.loads(line)["resource_metrics"]
    [scope] = resource["scope_metrics"]
    assert scope["scope"]["name"] == "aqueduct"
    return {metric["name"]: metric for metric in scope["metrics"]}


def points(told: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told[f"aqueduct.routing.{name}"]["data"][
        "data_points"
    ]
    return found


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("waiting", 0),
        ("running", 0),
        ("attempts", 4),
        ("errors", 2),
        ("retries", 2),
        ("fallbacks", 2),
        ("left", 2),
    ],
)
def test_counters_hold_what_was_counted(told, name, total):
    assert sum(point["value"] for point in points(told, name)) == total


def test_times_are_histograms_in_seconds(told):
    [wait] = points(told, "wait")
    assert (wait["count"], wait["sum"]) == (2, 3.0)
    assert told["aqueduct.routing.wait"]["unit"] == "s"
    [first] = points(told, "first_token")
    assert 0.25 in first["explicit_bounds"], "and not the milliseconds of the default"
    [rate] = points(told, "token_rate")
    assert rate["sum"] == 100.0


def test_a_breaker_is_a_level_of_an_upstream(told):
    [breaker] = points(told, "breaker")
    assert breaker["value"] == 2
    assert breaker["attributes"] == {
        "aqueduct.pool": "gpu",
        "aqueduct.upstream": "gpu1",
    }


def test_an_error_carries_its_code(told):
    [error] = points(told, "errors")
    assert error["attributes"]["error.type"] == "status_503"


@pytest.mark.parametrize("env", [{}, {"ENABLE_OTEL": "true"}], ids=["off", "traces"])
def test_without_metrics_there_is_no_recorder(tmp_path, env):
    assert "ENABLE_OTEL" not in os.environ
    assert run(QUESTION, tmp_path, env)[0] == "None"
