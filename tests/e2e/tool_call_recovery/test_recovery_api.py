"""Leaked calls for programs that use Open WebUI's API with tools of their own."""

from __future__ import annotations

import json

import pytest
from openai import AsyncOpenAI

from tests.e2e.agents.test_agents_api import (
    WEATHER,
    calls_of,
    finish_of,
    streamed,
    text_of,
)
from tests.e2e.tool_call_recovery.conftest import LEAKY
from tests.webui import WebUI


@pytest.mark.parametrize("model", [LEAKY, "agents.leaky"])
@pytest.mark.parametrize("syntax", ["hermes", "qwen3_coder_bare", "mistral_args"])
async def test_a_caller_gets_real_calls(leaky: WebUI, model: str, syntax: str):
    async with AsyncOpenAI(
        base_url=f"{leaky.url}/api", api_key=leaky.admin_token, max_retries=0
    ) as client:
        chunks = await streamed(
            client, model, f"use get_weather in Rome as {syntax}", tools=[WEATHER]
        )
    [(name, arguments)] = calls_of(chunks).values()
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Rome"})
    assert text_of(chunks).strip() == "I will ask `get_weather` for that."
    assert set(finish_of(chunks)) == {"tool_calls"}
