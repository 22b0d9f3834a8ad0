"""The agents that `make up` offers, as the text of the AGENTS valve."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx
import yaml

OLLAMA_URL = "http://127.0.0.1:11434"
DEFAULT_MODEL = "agents.demo"

# What a new chat proposes: one click each shows thoughts, a tool, a citation, an error.
SUGGESTIONS = [
    ("What is 1234 * 5678?", "a tool call, its card and the answer"),
    ("What time is it in Tokyo?", "the agent's own clock"),
    ("How do I install Aqueduct?", "a search with citations"),
    ("What can you do?", "everything else there is to try"),
]


def agents_yaml(demo_url: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the AGENTS text: the demo agent's models, then whatever else answers.

    An Ollama counts when it answers, OpenAI and Anthropic when there is a key for
    them; the keys themselves stay in the environment.
    """
    entries = [*_demo(demo_url), *_others(environment)]
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=88)
    return (
        "# Written by `make up`, anew at each start for as long as it is not changed\n"
        "# here by hand. docs/agents.md explains every key.\n" + text
    )


def _demo(url: str) -> list[dict[str, Any]]:
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


def _others(environment: Mapping[str, str]) -> list[dict[str, Any]]:
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


def _discovered(id_: str, name: str, url: str, key: str = "") -> dict[str, Any]:
    entry = {"id": id_, "name": name, "backend": "openai", "url": url, "discover": True}
    return entry | ({"key": f"${{env:{key}}}"} if key else {})


def _ollama_answers(url: str) -> bool:
    try:
        answer = httpx.get(f"{url}/api/version", timeout=1, trust_env=False)
        return "version" in answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False
