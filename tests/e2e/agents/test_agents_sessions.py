"""A server that keeps the conversation: edits and regenerations fork it."""

from __future__ import annotations

import re
from typing import Any

from playwright.async_api import expect

from devkit.chat_socket import ChatSocket
from devkit.demo_agent import DemoAgent
from tests.e2e.agents.answers import items, outcome
from tests.e2e.conftest import PageFor
from tests.webui import WebUI


def session_of(scene: WebUI, chat_id: str, question: str) -> str:
    """The response id that the answer to this question left behind."""
    with scene.client() as client:
        chat = client.get(f"/api/v1/chats/{chat_id}").raise_for_status().json()
    messages = chat["chat"]["history"]["messages"]
    [asked] = [m for m in messages.values() if m["content"] == question]
    [state] = items(messages[asked["childrenIds"][0]], "x_aqueduct:state")
    return str(state["data"]["response_id"])


def turns(demo: DemoAgent) -> list[dict[str, Any]]:
    """What was sent for people's turns, without titles, tags and follow-ups."""
    return [r["body"] for r in demo.requests() if r["body"].get("store")]


def said(body: dict[str, Any]) -> str:
    """The text of everything that a request sends."""
    return str(body["input"])


async def test_an_edit_and_a_regeneration_fork_the_conversation(
    page_for: PageFor, scene: WebUI, demo: DemoAgent
):
    tab = await page_for()
    await tab.open("agents.session")
    await tab.ask("My word is plum.")
    assert "My word is plum." in await tab.ask("What did I say first?")
    await tab.edit_question("Tell me: what did I say first?")
    assert "My word is plum." in await tab.finished()
    await tab.regenerate()
    assert "My word is plum." in await tab.finished()

    parent = session_of(scene, tab.chat_id, "My word is plum.")
    first, *forks = turns(demo)
    assert "previous_response_id" not in first
    assert [fork["previous_response_id"] for fork in forks] == [parent] * 3
    assert ["plum" in said(fork) for fork in forks] == [False] * 3

    # Titles and the like are no part of the conversation.
    errands = [r["body"] for r in demo.requests() if not r["body"].get("store")]
    assert errands
    assert all("previous_response_id" not in errand for errand in errands)

    # Both forks can be paged through: the answers first, then the questions.
    answer, question = tab.answer(), tab.page.locator('div[id^="message-"]')
    await expect(answer).to_contain_text("2/2")
    await answer.get_by_role("button", name="Previous message").click()
    await expect(tab.answer()).to_contain_text("1/2")
    question = question.filter(has=tab.questions).last
    await question.hover()
    await question.get_by_role("button", name="Previous message").click()
    await expect(tab.questions.last).to_have_text(
        re.compile(r"^\s*What did I say first\?")
    )


async def test_a_forgotten_conversation_is_sent_whole(
    chats: ChatSocket, demo: DemoAgent
):
    first = await chats.send("agents.session", "My word is plum.")
    await first.answer()
    # An answer that failed leaves no session behind, so the next turn has no parent.
    broken = await chats.send("agents.session", "/fail 500", after=first)
    await broken.answer()
    third = await chats.send("agents.session", "What did I say first?", after=broken)
    assert "My word is plum." in (await third.answer())["content"]
    assert await outcome(demo, 2) == "finished"
    last = demo.requests()[-1]["body"]
    assert "previous_response_id" not in last
    assert "plum" in said(last)
