"""The models that these tests hand conversations around."""

from __future__ import annotations

from devkit.demo_config import demo_agents


def agent_entries(demo_url: str, slow_url: str) -> list[dict[str, object]]:
    """The demo's models, one more of the kind, a slow one, and so on."""
    entries = demo_agents(demo_url)
    more = {"backend": "openai", "url": f"{demo_url}/v1", "model": "aqueduct-demo"}
    return [
        *entries,
        {"id": "third", "name": "Third model", "access": "public", **more},
        {"id": "slow", "name": "Slow model", "access": "public", **more}
        | {"url": f"{slow_url}/v1"},
        {"id": "gone", "name": "Gone model", "access": "public", **more}
        | {"url": "http://127.0.0.1:9/v1"},
        {"id": "secret", "name": "Secret model", **more},
    ]
