"""Leaked calls as a user sees them."""

from __future__ import annotations

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.e2e.agents.scene import TOOL_ID
from tests.e2e.chat_page import ChatPage
from tests.e2e.conftest import PageFor
from tests.e2e.tool_call_recovery.conftest import LEAKY
from tests.webui import WebUI

SEEN = (
    "hermes",
    "qwen3_coder_bare",
    "glm4",
    "mistral_args",
    "deepseek_v3",
    "kimi_k2",
    "llama3_json",
    "pythonic",
)


@pytest_asyncio.fixture(loop_scope="session")
async def tab(page_for: PageFor, leaky: WebUI) -> ChatPage:
    """A new chat with the leaking model, its tool switched on."""
    tab = await page_for()
    await tab.open(LEAKY, tools=[TOOL_ID])
    chosen = tab.page.get_by_role("button", name="Available Tools", exact=True)
    await expect(chosen).to_be_visible()
    return tab


@pytest.mark.parametrize("syntax", SEEN)
async def test_a_card_below_the_text_and_an_answer_below_the_card(
    tab: ChatPage, screenshot, syntax: str
):
    assert "21 degrees" in await tab.ask(f"use get_weather in Paris as {syntax}")
    answer = tab.answer()
    await tab.open_details()
    card = tab.tool_card("get_weather")
    await card.get_by_role("button").click()
    await expect(card).to_contain_text("Paris")
    before = answer.get_by_text("I will ask")
    after = answer.get_by_text("21 degrees and sunny").last
    tops = [
        box["y"]
        for box in [await part.bounding_box() for part in (before, card, after)]
        if box is not None
    ]
    assert len(tops) == 3
    assert tops == sorted(tops)
    await expect(tab.status()).to_contain_text("Recovered a call to get_weather")
    for mark in ("tool_call", "TOOL_CALLS", "<｜", "<|", '"name"'):
        await expect(answer).not_to_contain_text(mark)
    if syntax == "hermes":
        await screenshot(tab, "recovery-card", dark=True)


async def test_an_explanation_in_a_code_block_is_shown(tab: ChatPage, screenshot):
    await tab.ask("explain tool calls")
    await expect(tab.answer()).to_contain_text("<tool_call>")
    await expect(tab.tool_card("get_weather")).to_have_count(0)
    await screenshot(tab, "recovery-explained")
