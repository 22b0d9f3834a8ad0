"""An agent in the browser: thoughts, cards, sources, pictures, and all of it again."""

from __future__ import annotations

import re

import pytest_asyncio
from playwright.async_api import expect

from tests.e2e.agents.answers import eventually
from tests.e2e.agents.scene import TOOL_ID
from tests.e2e.chat_page import ChatPage
from tests.e2e.conftest import PageFor
from tests.webui import WebUI

CALCULATION = "What is 17 × (23 + 4)?"
DOCS_QUESTION = "How do I install the suite?"


@pytest_asyncio.fixture(loop_scope="session")
async def tab(page_for: PageFor, scene: WebUI) -> ChatPage:
    """A tab of somebody new, whose sidebar lists no chats yet."""
    return await page_for(scene.create_user("User"))


async def see_thought(tab: ChatPage, index: int = -1) -> None:
    """Open the calculation's thought and read it."""
    await tab.open_details(index)
    await tab.thought(index).click()
    await expect(tab.answer(index)).to_contain_text("This is arithmetic: 17 * (23 + 4)")


async def see_card(tab: ChatPage, index: int = -1) -> None:
    """Open the calculator's card and read what went in and what came out."""
    card = tab.tool_card("calculator", index)
    await card.get_by_role("button").click()
    await expect(card).to_contain_text(re.compile(r"expression\s*17 \* \(23 \+ 4\)"))
    await expect(card.locator("pre")).to_have_text("459")


async def see_sources(tab: ChatPage, url: str, index: int = -1) -> None:
    """Open the list of sources; each leads to a page of the demo agent."""
    await tab.sources(index).click()
    sources = tab.answer(index).get_by_role("button", name="View source: ")
    await expect(sources).to_have_count(3)
    await sources.first.click()
    link = tab.page.get_by_role("dialog").locator(f"a[href^='{url}/']").first
    await expect(link).to_be_visible()
    await tab.page.get_by_role("button", name="Close citation modal").click()
    await expect(link).to_be_hidden()


async def see_picture(tab: ChatPage, index: int = -1) -> None:
    """See that the drawing is there and that the browser could read it."""
    picture = tab.answer(index).locator("img[src*='/api/v1/files/']")
    await expect(picture).to_be_visible()
    await expect(picture).to_have_js_property("complete", True)
    await expect(picture).not_to_have_js_property("naturalWidth", 0)


async def test_an_agent_is_chosen_and_answers(tab: ChatPage, screenshot):
    await tab.open()
    await tab.choose_model("Demo agent")
    assert "459" in await tab.ask(CALCULATION)
    await see_thought(tab)
    await screenshot(tab, "agent-answer")
    await see_card(tab)
    await screenshot(tab, "agent-tool-card")


async def test_thoughts_are_seen_while_they_come(tab: ChatPage, screenshot):
    await tab.open("agents.demo")
    await tab.send(f"{CALCULATION} /think 60 /slow 0.06")
    await expect(tab.thought()).to_have_text("Thinking...", use_inner_text=True)
    await expect(tab.thought().locator(".shimmer")).to_be_visible()
    await tab.thought().click()
    await expect(tab.answer()).to_contain_text("I decide which step comes next")
    await expect(tab.answer()).not_to_contain_text("This is arithmetic")
    await screenshot(tab, "agent-thinking")
    assert "459" in await tab.finished()
    await expect(tab.answer().locator(".shimmer")).to_have_count(0)


async def test_sources_lead_to_their_pages(tab: ChatPage, scene: WebUI, screenshot):
    await tab.open("agents.demo")
    await tab.ask(DOCS_QUESTION)
    await see_sources(tab, scene.demo.url)
    await screenshot(tab, "agent-sources")


async def test_all_of_it_is_there_after_a_reload(tab: ChatPage, scene: WebUI):
    await tab.open("agents.demo")
    await tab.ask(CALCULATION)
    await tab.ask(DOCS_QUESTION)
    await tab.ask("Draw a sunrise")
    await see_picture(tab)
    await tab.reload()
    await expect(tab.answer()).to_contain_text("Here is my picture of a sunrise")
    await see_picture(tab)
    await see_sources(tab, scene.demo.url, 1)
    await see_thought(tab, 0)
    await see_card(tab, 0)
    await expect(tab.page.locator(".shimmer")).to_have_count(0)


async def test_a_tool_of_open_webui_has_its_card(page_for: PageFor, scene: WebUI):
    tab = await page_for()
    await tab.open("agents.demo", tools=[TOOL_ID])
    assert "21 degrees" in await tab.ask("use get_weather in Paris")
    await tab.open_details()
    card = tab.tool_card("get_weather")
    await card.get_by_role("button").click()
    await expect(card).to_contain_text(re.compile(r"city\s*Paris"))
    await expect(card.locator("pre")).to_have_text(
        "It is 21 degrees and sunny in Paris."
    )


async def test_titles_tags_and_follow_ups_come_from_the_agent(
    page_for: PageFor, scene: WebUI
):
    account = scene.create_user("User")
    tab = await page_for(account)
    await tab.open("agents.demo")
    await tab.ask(CALCULATION)
    await expect(tab.page.get_by_role("heading", level=1)).to_have_text(
        "Sums With the Agent"
    )
    with scene.client(account) as client:
        path = f"/api/v1/chats/{tab.chat_id}/tags"
        tags = await eventually(lambda: client.get(path).json(), "tags")
    assert all(tag["name"] for tag in tags)
    follow_up = tab.answer().get_by_role("button", name="Follow up: ").first
    question = (await follow_up.inner_text()).strip()
    await follow_up.click()
    await expect(tab.questions).to_have_count(2)
    await expect(tab.questions.last).to_contain_text(question)
    await tab.finished()


async def test_an_error_stands_below_what_came(tab: ChatPage, screenshot):
    await tab.open("agents.demo")
    assert "The docs say" in await tab.ask(f"{DOCS_QUESTION} /break cut")
    await expect(tab.error()).to_contain_text("The answer of Demo agent broke off")
    await tab.reload()
    await expect(tab.error()).to_contain_text("The answer of Demo agent broke off")
    await expect(tab.text()).to_contain_text("The docs say")
    await screenshot(tab, "agent-error")


async def test_a_mistake_in_the_valve_explains_itself(
    page_for: PageFor, scene: WebUI, screenshot, set_agents
):
    # One agent is right, the other is not: both can be chosen.
    set_agents(
        f"- id: demo\n  name: Demo agent\n  url: {scene.demo.url}/v1\n"
        "  model: aqueduct-demo\n\n"
        "- id: lab\n  name: Lab\n  url: llm.example.org/v1\n  modell: qwen3\n"
    )
    tab = await page_for()
    await tab.open()
    await tab.choose_model("Demo agent")
    assert "459" in await tab.ask(CALCULATION)
    await tab.open("agents.configuration-error")
    answer = await tab.ask("What is wrong?")
    assert "line 8, url: an address begins with http:// or https://" in answer
    assert "line 9, modell: this key is not known" in answer
    await screenshot(tab, "agent-configuration-error")


async def test_in_the_dark(page_for: PageFor, scene: WebUI, screenshot):
    tab = await page_for(scene.create_user("User"), color_scheme="dark")
    await tab.open("agents.demo")
    await tab.ask(CALCULATION)
    await expect(tab.page.locator("html.dark")).to_be_attached()
    await see_thought(tab)
    await see_card(tab)
    await screenshot(tab, "agent-dark")


async def test_on_a_phone(page_for: PageFor, scene: WebUI, screenshot):
    size = {"width": 390, "height": 844}
    tab = await page_for(
        scene.create_user("User"), viewport=size, is_mobile=True, has_touch=True
    )
    await tab.open("agents.demo")
    await tab.ask(CALCULATION)
    await see_thought(tab)
    await see_card(tab)
    answer = await tab.answer().bounding_box()
    assert answer is not None
    assert answer["x"] >= 0
    assert answer["x"] + answer["width"] <= size["width"]
    await screenshot(tab, "agent-phone")


async def test_a_german_reads_german(page_for: PageFor, scene: WebUI):
    tab = await page_for(scene.create_user("User"), locale="de-DE")
    await tab.open("agents.demo")
    await tab.send("/fail 429")
    await expect(tab.error()).to_contain_text(
        "Demo agent ist ausgelastet (429). Bitte in 7 s noch einmal."
    )
