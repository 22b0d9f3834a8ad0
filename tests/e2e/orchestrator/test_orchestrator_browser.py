"""The Orchestrator as a person meets it, in a real browser."""

from __future__ import annotations

import re

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.e2e.chat_page import ChatPage
from tests.e2e.orchestrator.calls import chat as ask
from tests.e2e.orchestrator.calls import collect_all, go_on
from tests.e2e.orchestrator.upstream import Script

POSTER = "Make me a poster for the summer fair"
DRAFT = "A poster for a village fair in summer: describe the picture, please."
BRIGHTER = "Good. Make the colours brighter."
SHORTER = "And say it in one sentence, for the printer."
PICTURE = "A long table under lime trees, lanterns in the branches, and a brass band."
FINAL = (
    "A long table under lime trees at noon, red lanterns, a golden brass band and "
    "children with kites."
)


@pytest_asyncio.fixture(loop_scope="session")
async def page(page_for, stage, user, upstream) -> ChatPage:
    """A tab of an ordinary user who has chosen the Orchestrator."""
    upstream.reset()
    return await open_orchestrator(await page_for(user))


def with_link(done) -> str:
    told = done[-1]
    return (
        f"Luna has designed it with me in three turns: [{told['title']}]({told['link']})."
        f"\n\n> {told['answer']}"
    )


@pytest.fixture
def poster(upstream) -> None:
    """What the models say about the poster."""
    upstream.title = "A poster for the summer fair"
    upstream.replies |= {
        ("luna", DRAFT): PICTURE,
        ("luna", BRIGHTER): "Then at noon: red lanterns, a golden band, children with "
        "kites.",
        ("luna", SHORTER): FINAL,
    }
    begin = {"tag": "artist", "message": DRAFT, "title": "The poster"}
    upstream.scripts[POSTER] = Script(
        [
            [("get_models_by_tag", {"tag": "artist"})],
            [("chat_with_model", begin)],
            [go_on(BRIGHTER, 1)],
            [go_on(SHORTER, 1)],
        ],
        with_link,
    )


async def test_a_chat_that_it_held_opens_and_goes_on_by_hand(page, poster, screenshot):
    assert "three turns" in await page.ask(POSTER)
    await expect(page.status()).to_contain_text("Luna has answered")
    await expect(page.sources()).to_be_visible()
    await close_notices(page)
    await screenshot(page, "orchestrator-chat", dark=True)
    parent = page.chat_id
    await page.text().get_by_role("link", name="The poster").click()
    await expect(page.questions).to_have_count(3)
    await expect(page.text()).to_contain_text(FINAL)
    assert page.chat_id != parent
    first = page.questions.first
    await expect(first).to_contain_text("Orchestrator asks, in A poster for the")
    await scroll_up(page)
    await screenshot(page, "orchestrator-linked", dark=True)
    assert "Luna says: And at night?" in await page.ask("And at night?")
    await page.reload()
    await expect(page.questions).to_have_count(4)
    await first.get_by_role("link").click()
    await expect(page.questions.first).to_have_text(re.compile(POSTER))
    assert page.chat_id == parent


async def close_notices(page: ChatPage) -> None:
    """Close the notices that answers have come in other chats."""
    notices = page.page.get_by_role("button", name="Dismiss notification")
    for left in range(await notices.count() - 1, -1, -1):
        await notices.first.dispatch_event("click")
        await expect(notices).to_have_count(left)


async def scroll_up(page: ChatPage) -> None:
    """Show the beginning of the chat."""
    container = page.page.locator("#messages-container")
    await container.evaluate("node => node.scrollTo({top: 0, behavior: 'instant'})")


async def open_orchestrator(chat: ChatPage) -> ChatPage:
    """Choose the Orchestrator; the page takes a moment to add the model's tool."""
    await chat.open("orchestrator")
    tools = chat.page.get_by_role("button", name="Available Tools")
    await expect(tools).to_be_visible()
    return chat


async def test_the_graph_is_a_picture(page, upstream, screenshot):
    upstream.title = "Who works with whom"
    upstream.scripts["Who works well with whom here?"] = Script(
        [[("discover_relationships", {})]],
        lambda done: (
            "Luna and Sol work together, and Mira reviews what Sol writes. For a picture "
            "book I would ask Luna and Sol, and let Mira check the facts."
        ),
    )
    assert "Mira reviews" in await page.ask("Who works well with whom here?")
    frame = page.answer().locator("iframe").content_frame
    for text in ("Who works with whom", "Luna", "artist", "works-with", "reviews"):
        await expect(frame.get_by_text(text, exact=True).first).to_be_visible()
    box = await page.answer().locator("iframe").bounding_box()
    assert box is not None
    # The page has told its height: nothing is cut off.
    height = await frame.locator("html").evaluate("node => node.scrollHeight")
    assert box["height"] >= height
    await scroll_up(page)
    await screenshot(page, "orchestrator-graph", dark=True)
    await page.reload()
    await expect(frame.get_by_text("works-with", exact=True).first).to_be_visible()


async def test_several_at_once_are_shown_and_stopped(page, upstream, screenshot):
    upstream.title = "Three opinions"
    asked = [
        ask("Is it going to rain?", model=name, background=True)
        for name in ("luna", "mira", "slow")
    ]
    upstream.scripts["Ask three models whether it is going to rain"] = Script(
        [asked, [collect_all()]]
    )
    await page.send("Ask three models whether it is going to rain")
    await expect(page.status()).to_contain_text("2 of 3 chats have an answer")
    await expect(page.stop_button).to_be_visible()
    await close_notices(page)
    await screenshot(page, "orchestrator-parallel")
    await page.stop()
    await expect(page.status()).to_contain_text("Stopped, with everything")


async def test_a_tag_is_asked_for_in_a_dialog(page_for, stage, upstream, screenshot):
    upstream.title = "What Luna can do"
    upstream.scripts["Note that Luna is good at maps"] = Script(
        [[("add_capability_tag", {"model": "luna", "capability": "maps"})]],
        lambda done: f"It stays as it is. {done[0]['error']}",
    )
    page = await open_orchestrator(await page_for())
    await page.send("Note that Luna is good at maps")
    dialog = page.page.get_by_role("dialog")
    await expect(dialog).to_contain_text(
        "Orchestrator wants to add the tag cap:maps to Luna."
    )
    await screenshot(page, "orchestrator-tag")
    await dialog.get_by_role("button", name="Cancel").click()
    assert "did not agree" in await page.finished()


async def test_a_tag_that_is_agreed_to_is_saved(page_for, stage, upstream, kept_tags):
    upstream.reset()
    upstream.scripts["Note that Luna is good at knots"] = Script(
        [
            [("add_capability_tag", {"model": "luna", "capability": "knots"})],
            [("get_models_by_tag", {"tag": "knots"})],
        ],
        lambda done: f"Noted for {done[1]['models'][0]['name']}.",
    )
    page = await open_orchestrator(await page_for())
    await page.send("Note that Luna is good at knots")
    dialog = page.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("the tag cap:knots to Luna.")
    await dialog.get_by_role("button", name="Confirm").click()
    assert await page.finished() == "Noted for Luna."
    with stage.client() as admin:
        found = admin.get("/api/v1/models/model?id=luna").raise_for_status().json()
    assert {"name": "cap:knots"} in found["meta"]["tags"]
