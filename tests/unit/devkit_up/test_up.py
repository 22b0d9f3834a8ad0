"""What `make up` decides before and after the servers run."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat

import httpx
import pytest

from devkit import up
from devkit.errors import DevkitError
from devkit.server import settings


class Valves:
    """The two routes of Open WebUI that hold the AGENTS valve, and the model list."""

    def __init__(self, **stored: str) -> None:
        self.stored = stored
        self.client = httpx.Client(
            base_url="http://test", transport=httpx.MockTransport(self._answer)
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/models":
            return httpx.Response(200, json={"data": [{"id": up.DEFAULT_MODEL}]})
        if request.method == "POST":
            self.stored = json.loads(request.content)
        return httpx.Response(200, json=self.stored)


@pytest.fixture
def written(tmp_path):
    return tmp_path / "agents.yaml"


def test_an_empty_agents_valve_is_filled(written):
    server = Valves(SECRETS="A=b")
    up._configure(server.client, "new", written)
    assert server.stored == {"SECRETS": "A=b", "AGENTS": "new"}


def test_what_the_last_start_wrote_is_renewed(written):
    server = Valves()
    up._configure(server.client, "first", written)
    up._configure(server.client, "second", written)
    assert server.stored["AGENTS"] == "second"


def test_what_somebody_changed_stays(written, capsys):
    server = Valves()
    up._configure(server.client, "first", written)
    server.stored["AGENTS"] = "first, and mine"
    up._configure(server.client, "second", written)
    assert server.stored["AGENTS"] == "first, and mine"
    assert "changed by hand" in capsys.readouterr().out


def test_the_login_is_made_once_and_kept_private(tmp_path, monkeypatch):
    monkeypatch.delenv("WEBUI_ADMIN_EMAIL", raising=False)
    monkeypatch.delenv("WEBUI_ADMIN_PASSWORD", raising=False)
    path = tmp_path / "login.json"
    first = up._admin_login(path)
    assert first == up._admin_login(path)
    assert len(first[1]) >= 12
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_login_in_the_environment_decides(tmp_path, monkeypatch):
    monkeypatch.setenv("WEBUI_ADMIN_EMAIL", "me@example.org")
    monkeypatch.setenv("WEBUI_ADMIN_PASSWORD", "mine")
    assert up._admin_login(tmp_path / "login.json") == ("me@example.org", "mine")


def test_a_second_run_on_the_same_data_is_refused(tmp_path):
    with (
        up._alone(tmp_path, "http://127.0.0.1:8080"),
        pytest.raises(DevkitError, match="already running at http"),
        up._alone(tmp_path, "http://127.0.0.1:8081"),
    ):
        pass


def test_a_chosen_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(DevkitError, match=f"port {port} is taken"):
            up.up(port=port, data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_ending_signal_counts_and_no_other(number):
    before = signal.getsignal(number)
    with up._ended_by_signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_the_settings_of_another_open_webui_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://production")
    monkeypatch.setenv("WEBUI_AUTH", "false")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    monkeypatch.setenv("NO_PROXY", "intern")
    found = settings(tmp_path, "secret")
    assert "DATABASE_URL" not in found
    assert "WEBUI_AUTH" not in found
    assert found["OPENAI_API_KEY"] == "sk-one"
    assert found["NO_PROXY"] == "intern,127.0.0.1,localhost"
    assert found["DATA_DIR"] == str(tmp_path)
    assert os.environ["DATABASE_URL"] == "postgresql://production"
