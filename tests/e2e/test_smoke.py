"""Signing in, choosing a model, getting an answer: by browser and by socket."""

from __future__ import annotations

from playwright.async_api import expect


async def test_a_person_signs_in_and_sees_the_model_picker(page_for, openwebui):
    chat = await page_for(openwebui.create_user("Ada"))
    await chat.open()
    await expect(chat.page.locator("#model-selector-model-button")).to_be_visible()
    await expect(chat.input).to_be_visible()


async def test_the_demo_agent_answers_in_the_browser(chat, screenshot):
    await chat.open("agents.demo")
    assert "7006652" in await chat.ask("What is 1234 * 5678?")
    await chat.open_details()
    await expect(chat.tool_card("calculator")).to_be_visible()
    await screenshot(chat, "smoke", dark=True)


async def test_the_demo_agent_answers_over_the_socket(suite_installed):
    async with suite_installed.chats() as chats:
        turn = await chats.send("agents.demo", "What is 1234 * 5678?")
        answer = await turn.answer()
        assert answer["done"] is True
        assert "7006652" in answer["content"]
        again = await chats.send("agents.demo", "What is 2 + 2?", after=turn)
        assert "4" in (await again.answer())["content"]
