"""The agents and the tool that these tests talk to."""

from __future__ import annotations

import itertools

import httpx
import yaml

MODES = ("native", "execute", "passthrough", "suppress")
POLICIES = ("error", "ignore", "passthrough")

TOOL_ID = "e2e_weather"
TOOL = '''"""
title: Weather of the tests
"""

import asyncio


class Tools:
    async def get_weather(self, city: str) -> str:
        """
        Get the weather of a city.
        :param city: The city
        """
        return f"It is 21 degrees and sunny in {city}."

    async def wait_long(self, city: str = "") -> str:
        """
        Wait for longer than anybody would.
        :param city: The city
        """
        await asyncio.sleep(600)
        return "This took ten minutes."
'''


def agents_yaml(demo_url: str, deaf_url: str) -> str:
    """The AGENTS valve: the demo agent in every way that the tests need.

    `deaf_url` takes connections and never answers. The last entry is wrong.
    """
    chat = {"url": f"{demo_url}/v1", "model": "aqueduct-demo"}
    session = {"api": "responses", "session": True}
    quick = {"first_token": 1.5, "between_tokens": 1.0}
    entries = [
        {"id": "demo", "name": "Demo agent", "access": "public"} | chat,
        {"id": "responses", "name": "Responses agent", "api": "responses"} | chat,
        {"id": "session", "name": "Session agent"} | chat | session,
        {"id": "leaking", "name": "Leaky model"}
        | chat
        | {"model": "aqueduct-demo-leaky"},
        {"id": "impatient", "name": "Impatient agent", "timeouts": quick} | chat,
        {"id": "deaf", "name": "Deaf agent"} | chat | {"url": f"{deaf_url}/v1"},
        {"id": "gone", "name": "Gone agent"} | chat | {"url": "http://127.0.0.1:9/v1"},
        {"id": "private", "name": "Private agent"} | chat,
        # JSON has no sets, so this request cannot be written.
        {"id": "faulty", "name": "Faulty agent", "params": {"a": {1}}} | chat,
        *(
            {"id": f"{mode}-{policy}", "tools": mode, "unknown_tool": policy} | chat
            for mode, policy in itertools.product(MODES, POLICIES)
        ),
        {"id": "broken", "url": "gpu1:8000", "modell": "aqueduct-demo"},
    ]
    return yaml.safe_dump(entries, sort_keys=False)


def create_tool(admin: httpx.Client) -> None:
    """Add the tool to Open WebUI, unless it is there."""
    found = admin.get("/api/v1/tools/").raise_for_status().json()
    if any(tool["id"] == TOOL_ID for tool in found):
        return
    form = {"id": TOOL_ID, "name": "Weather", "content": TOOL, "meta": {}}
    admin.post("/api/v1/tools/create", json=form).raise_for_status()
