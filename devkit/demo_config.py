"""The agents that `make up` offers, as the text of the AGENTS valve."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx
import yaml

Entry = dict[str, Any]

OLLAMA_URL = "http://127.0.0.1:11434"
DEFAULT_MODEL = "agents.demo"

# What a new chat proposes: as many as are seen without scrolling.
SUGGESTIONS = [
    ("What is 1234 * 5678?", "thoughts, a tool call with its card, an answer"),
    ("How do I install Aqueduct?", "a search through the docs, with citations"),
    ("What can you do?", "everything else there is to try"),
]


def agents_yaml(entries: list[Entry]) -> str:
    """Return the text of an AGENTS valve with these entries."""
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=88)
    return (
        "# Written by `make up` at every start, until it is edited here by hand.\n"
        "# docs/agents.md explains every key.\n" + text
    )


def demo_agents(url: str) -> list[Entry]:
    """Return the models of the demo agent at `url`."""
    common = {"backend": "openai", "url": f"{url}/v1", "access": "public"}
    return [
        {
            "id": "demo",
            "name": "Demo agent",
            "description": "Thinks, uses tools, cites. Runs here, without a model.",
            "model": "aqueduct-demo",
            **common,
        },
        {
            "id": "demo-responses",
            "name": "Demo agent over the Responses API",
            "description": "The same agent by another protocol.",
            "model": "aqueduct-demo",
            "api": "responses",
            **common,
        },
        {
            "id": "leaky",
            "name": "Demo model that leaks tool calls",
            "description": "Writes its calls as text, as some local models do.",
            "model": "aqueduct-demo-leaky",
            **common,
        },
    ]


def other_agents(environment: Mapping[str, str] = os.environ) -> list[Entry]:
    """Return what else is at hand on this machine, each listing all its models.

    An Ollama counts when it answers, OpenAI and Anthropic when there is a key for
    them; the keys themselves stay in the environment.
    """
    found = []
    ollama = (environment.get("OLLAMA_BASE_URL") or OLLAMA_URL).rstrip("/")
    if _ollama_answers(ollama):
        found.append(_discovered("ollama", "Ollama", f"{ollama}/v1"))
    if environment.get("OPENAI_API_KEY"):
        url = "https://api.openai.com/v1"
        found.append(_discovered("openai", "OpenAI", url, "OPENAI_API_KEY"))
    if environment.get("ANTHROPIC_API_KEY"):
        url = "https://api.anthropic.com/v1"
        found.append(_discovered("anthropic", "Anthropic", url, "ANTHROPIC_API_KEY"))
    return found


def _discovered(id_: str, name: str, url: str, key: str = "") -> Entry:
    entry = {"id": id_, "name": name, "backend": "openai", "url": url, "discover": True}
    return entry | ({"key": f"${{env:{key}}}"} if key else {})


def _ollama_answers(url: str) -> bool:
    try:
        answer = httpx.get(f"{url}/api/version", timeout=1, trust_env=False)
        return "version" in answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False
