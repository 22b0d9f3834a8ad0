"""The AGENTS text of `make up` is one that the agents function takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from devkit.demo_config import DEFAULT_MODEL, agents_yaml, demo_agents, other_agents
from shared.agents.parsing import parse_agents

DEMO = "http://127.0.0.1:8181"
NOBODY = "http://127.0.0.1:9"


class _Ollama(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/api/version"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(b'{"version": "0.9.0"}' if found else b"")

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def ollama() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Ollama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_demo_agents_are_usable_and_one_is_the_default():
    config = parse_agents(agents_yaml(demo_agents(DEMO)))
    assert config.problems == ()
    assert {agent.url for agent in config.agents} == {f"{DEMO}/v1"}
    assert DEFAULT_MODEL in {f"agents.{agent.id}" for agent in config.agents}


def test_nothing_else_is_offered_where_nothing_else_is():
    assert other_agents({"OLLAMA_BASE_URL": NOBODY}) == []


def test_keys_in_the_environment_are_named_and_not_copied(monkeypatch):
    keys = {"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-two"}
    text = agents_yaml(other_agents({"OLLAMA_BASE_URL": NOBODY} | keys))
    assert "sk-" not in text
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    config = parse_agents(text)
    assert config.problems == ()
    found = {agent.id: agent.key.get_secret_value() for agent in config.agents}
    assert found == {"openai": "sk-one", "anthropic": "sk-two"}
    assert all(agent.discover for agent in config.agents)


def test_an_ollama_that_answers_is_offered(ollama):
    config = parse_agents(agents_yaml(other_agents({"OLLAMA_BASE_URL": f"{ollama}/"})))
    [agent] = config.agents
    assert (agent.id, agent.url, agent.discover) == ("ollama", f"{ollama}/v1", True)
