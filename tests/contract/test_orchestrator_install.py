"""The workspace model Orchestrator, as `devkit install --orchestrator` makes it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from typer.testing import CliRunner, Result

from devkit.cli import app
from devkit.installer.orchestrator import SYSTEM_PROMPT, TOOL_ID
from tests.webui import WebUI

pytestmark = pytest.mark.contract

BASE = "agents.demo"
EVERYBODY = {"principal_type": "user", "principal_id": "*", "permission": "read"}


def devkit(webui: WebUI, *words: str) -> Result:
    key = {"AQUEDUCT_URL": webui.url, "AQUEDUCT_KEY": webui.admin_token}
    return CliRunner().invoke(app, words, env=key, catch_exceptions=False)


@pytest.fixture
def webui(suite_installed: WebUI) -> Iterator[WebUI]:
    """The server with the suite and without the model, before and after a test."""
    with suite_installed.client() as admin:
        admin.get("/api/models").raise_for_status()
        yield suite_installed
        admin.post("/api/v1/models/model/delete", json={"id": "orchestrator"})
        admin.post(
            f"/api/v1/tools/id/{TOOL_ID}/access/update", json={"access_grants": []}
        )
    suite_installed.install()


def model(admin: httpx.Client) -> dict | None:
    listed = admin.get("/api/v1/models/all").raise_for_status().json()
    return next((each for each in listed if each["id"] == "orchestrator"), None)


def test_it_is_made_once_for_everybody(webui):
    ran = devkit(webui, "install", TOOL_ID, "--orchestrator", BASE)
    assert "Orchestrator: made, for everybody" in ran.output
    assert "warning" not in ran.output
    ann = webui.create_user("Ann")
    with webui.client() as admin, webui.client(ann) as user:
        made = model(admin)
        assert made["base_model_id"] == BASE
        assert made["meta"]["toolIds"] == [TOOL_ID]
        assert made["params"]["system"] == SYSTEM_PROMPT
        listed = user.get("/api/models").raise_for_status().json()["data"]
        assert "orchestrator" in {each["id"] for each in listed}
        tools = user.get("/api/v1/tools/").raise_for_status().json()
        assert TOOL_ID in {each["id"] for each in tools}
        admin.post(
            "/api/v1/models/model/update", json=made | {"name": "Our conductor"}
        ).raise_for_status()
        again = devkit(webui, "install", "--orchestrator", BASE)
        assert "is there and stays as it is" in again.output
        assert model(admin)["name"] == "Our conductor"


def test_a_dry_run_makes_nothing(webui):
    devkit(webui, "install", "--orchestrator", BASE, "--dry-run")
    with webui.client() as admin:
        assert model(admin) is None


def test_without_the_tool_or_the_base_model_it_is_not_made(webui):
    with pytest.raises(Exception, match="no model 'nobody' to build on"):
        devkit(webui, "install", "--orchestrator", "nobody")
    devkit(webui, "uninstall", TOOL_ID, "--yes")
    with pytest.raises(Exception, match="needs the tool model_orchestrator"):
        devkit(webui, "install", "recall", "--orchestrator", BASE)


def test_it_goes_with_its_tool_unless_somebody_changed_it(webui):
    devkit(webui, "install", TOOL_ID, "--orchestrator", BASE)
    gone = devkit(webui, "uninstall", TOOL_ID, "--yes")
    assert "Orchestrator: removed" in gone.output
    devkit(webui, "install", TOOL_ID, "--orchestrator", BASE)
    with webui.client() as admin:
        made = model(admin)
        admin.post(
            "/api/v1/models/model/update", json=made | {"name": "Our conductor"}
        ).raise_for_status()
        kept = devkit(webui, "uninstall", TOOL_ID, "--yes")
        assert "was changed and stays" in kept.output
        assert model(admin)["name"] == "Our conductor"
