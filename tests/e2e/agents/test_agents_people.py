"""Two people and one agent: neither sees anything of the other."""

from __future__ import annotations

import json
import re

from playwright.async_api import expect

from devkit.demo_agent import DemoAgent
from tests.e2e.agents.answers import outcome
from tests.e2e.conftest import PageFor
from tests.webui import WebUI

SECRET = "My word is plum."


async def test_a_second_person_sees_nothing_of_the_first(
    page_for: PageFor, scene: WebUI
):
    first = await page_for(scene.create_user("First"))
    await first.open("agents.demo")
    await first.ask(SECRET)

    second = await page_for(scene.create_user("Second"))
    await second.page.goto(f"{scene.url}/c/{first.chat_id}")
    await expect(second.page).to_have_url(f"{scene.url}/")
    await second.open("agents.demo")
    assert "plum" not in await second.ask("What did I say first?")
    await second.page.get_by_role("button", name="Open Sidebar").click()
    sidebar = second.page.get_by_role("navigation", name="Chat history")
    await expect(sidebar.get_by_role("button", name="Chat Menu")).to_have_count(1)


def test_models_are_seen_by_those_who_may_use_them(scene: WebUI):
    someone = scene.create_user("User")
    with scene.client(someone) as client:
        models = client.get("/api/models").raise_for_status().json()["data"]
        assert [model["id"] for model in models] == ["agents.demo"]
        for model, allowed in (("agents.demo", True), ("agents.private", False)):
            response = client.post(
                "/api/chat/completions",
                json={
                    "model": model,
                    "messages": [{"role": "user", "content": "hello"}],
                },
            )
            assert response.is_success is allowed, response.text


async def test_chats_are_their_owners_alone(scene: WebUI, demo: DemoAgent):
    first, second = scene.create_user("First"), scene.create_user("Second")
    async with scene.chats(first) as chats:
        turn = await chats.send("agents.demo", SECRET)
        await turn.answer()
    async with scene.chats(second) as chats:
        stolen = await chats.send("agents.demo", "What did I say first?")
        assert "plum" not in (await stolen.answer())["content"]
    assert await outcome(demo, 1) == "finished"
    sent = json.dumps([request["body"] for request in demo.requests()[1:]])
    assert "plum" not in sent
    with scene.client(second) as client:
        assert client.get(f"/api/v1/chats/{turn.chat_id}").status_code == 401
        listed = client.get("/api/v1/chats/").raise_for_status().json()
        assert turn.chat_id not in [chat["id"] for chat in listed]


async def test_an_expired_login_reaches_admins_once(
    page_for: PageFor, scene: WebUI, screenshot
):
    admin = await page_for()
    await admin.open("agents.demo")
    notice = admin.page.get_by_text("did not accept its key (401)")
    someone = scene.create_user("User")
    async with scene.chats(someone) as chats:
        for text in ("hello", "/fail 401", "/fail 401"):
            await (await chats.send("agents.demo", text)).answer()
    await expect(notice).to_have_count(1)
    await screenshot(admin, "agent-login-notice")
    await notice.click()
    await expect(admin.page).to_have_url(re.compile(r"/admin/functions"))
