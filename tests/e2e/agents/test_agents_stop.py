"""Leaving an agent: Stop in each phase, and a tab that is closed."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest
from playwright.async_api import expect

from devkit.demo_agent import DemoAgent
from tests.e2e.agents.answers import eventually, outcome
from tests.e2e.agents.scene import TOOL_ID
from tests.e2e.chat_page import ChatPage
from tests.e2e.conftest import PageFor
from tests.webui import WebUI


async def at_rest(tab: ChatPage) -> None:
    """Nothing moves any more, now and after a reload."""
    await expect(tab.answer().locator(".shimmer, .animate-cursor-pulse")).to_have_count(
        0
    )
    await expect(tab.stop_button).to_be_hidden()
    await tab.reload()
    await expect(tab.answer()).to_be_visible()
    await expect(tab.answer().locator(".shimmer, .animate-cursor-pulse")).to_have_count(
        0
    )
    await expect(tab.stop_button).to_be_hidden()


async def turn_at(server: socket.socket) -> socket.socket:
    """Wait for the connection of a person's turn, passing over those of titles."""
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(server)
        request = b""
        while not request.endswith(b"}"):
            request += await loop.sock_recv(connection, 65536)
        if b"### Task" not in request:
            return connection
        connection.close()


async def test_stop_while_connecting(
    page_for: PageFor, scene: WebUI, deaf: socket.socket
):
    tab = await page_for()
    await tab.open("agents.deaf")
    await tab.send("hello")
    async with asyncio.timeout(15):
        with await turn_at(deaf) as connection:
            await tab.stop()
            # The other side's end of the connection, and not one byte before it.
            assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""
    await at_rest(tab)


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ("thinking", "/think 900 /slow 0.05 hello"),
        ("text", "/words 900 /slow 0.05"),
    ],
)
async def test_stop_while_it_thinks_or_writes(
    page_for: PageFor, demo: DemoAgent, phase: str, message: str
):
    tab = await page_for()
    await tab.open("agents.demo")
    await tab.send(message)
    if phase == "thinking":
        await expect(tab.thought()).to_have_text("Thinking...", use_inner_text=True)
        await tab.thought().click()
        kept = "first I look at what was asked"
    else:
        kept = "water finds its way"
    await expect(tab.answer()).to_contain_text(kept)
    await tab.stop()
    [number] = [
        number
        for number, request in enumerate(demo.requests())
        if "/slow" in str(request["body"]["messages"][-1]["content"])[:40]
    ]
    assert await outcome(demo, number) == "cancelled"
    await at_rest(tab)
    if phase == "thinking":
        await tab.thought().click()
    await expect(tab.answer()).to_contain_text(kept)


async def test_stop_while_a_tool_runs(page_for: PageFor, demo: DemoAgent):
    tab = await page_for()
    await tab.open("agents.execute-error", tools=[TOOL_ID])
    await tab.send("use wait_long in Paris")
    await expect(tab.answer()).to_contain_text(re.compile("wait_long"))
    await eventually(lambda: demo.requests()[0]["outcome"] == "finished")
    await tab.stop()
    await at_rest(tab)
    await expect(tab.answer()).to_contain_text(re.compile("wait_long"))
    asked = [r for r in demo.requests() if "wait_long in Paris" in str(r["body"])]
    assert [r["path"] for r in asked if len(r["body"].get("messages", ())) > 1] == []


async def test_the_answer_goes_on_without_its_tab(page_for: PageFor, demo: DemoAgent):
    tab = await page_for()
    await tab.open("agents.demo")
    await tab.send("/words 60 /slow 0.03")
    await expect(tab.answer()).to_contain_text("water finds its way")
    await expect(tab.page).to_have_url(re.compile("/c/"))
    chat_id = tab.chat_id
    await tab.page.close()
    assert await outcome(demo) == "finished"
    again = await page_for()
    await again.open_chat(chat_id)
    words = (await again.finished()).split()
    assert len(words) == 60
