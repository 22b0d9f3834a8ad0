"""The memory as a person sees it, in a real Chromium."""

from __future__ import annotations

import json
import re

import pytest
import pytest_asyncio
from playwright.async_api import expect

from devkit.demo_config import agents_yaml
from devkit.webui import model_ids
from tests.e2e.memory_scene import embedded, eventually, memory_on, rows, stored
from tests.e2e.note_reader import NoteReader

MODEL = "agents.gardener"
TOLD = "I planted a quince tree behind the shed on Sunday."
ASKED = "Which tree did I plant on Sunday?"
BUTTON = "What do you remember here?"


@pytest.fixture(autouse=True, scope="module")
def memory(suite_installed):
    before = suite_installed.agents()
    with NoteReader() as reader, memory_on(suite_installed):
        entry = {
            "id": "gardener",
            "name": "Gardener",
            "url": f"{reader.url}/v1",
            "model": "gardener",
            "access": "public",
        }
        suite_installed.set_agents(agents_yaml([entry]))
        yield
    suite_installed.set_agents(before)
    with suite_installed.client() as admin:
        model_ids(admin)  # so that Open WebUI takes up the old ones again


@pytest_asyncio.fixture(loop_scope="session")
async def ada(suite_installed):
    return suite_installed.create_user("Ada")


@pytest_asyncio.fixture(loop_scope="session")
async def two_chats(suite_installed, page_for, ada):
    """A tab in the second of two chats, where the first was recalled."""
    chat = await page_for(ada)
    await chat.open(MODEL)
    await chat.ask(TOLD)
    first = chat.chat_id
    await eventually(lambda: embedded(suite_installed, first))
    await chat.open(MODEL)
    await chat.ask(ASKED)
    return chat, first


async def choose(chat, label):
    """Pick an option of the dialog's list and confirm."""
    dialog = chat.page.get_by_role("dialog")
    option = dialog.locator("option", has_text=label)
    value = await option.get_attribute("value")
    await dialog.locator("select").select_option(value)
    await dialog.get_by_role("button", name="Confirm", exact=True).click()


async def test_recall_shows_a_status_and_a_link_to_the_chat(two_chats, screenshot):
    chat, first = two_chats
    await expect(chat.text()).to_contain_text("quince tree behind the shed")
    await expect(chat.status()).to_contain_text("Recalled 1 earlier exchange")
    await chat.sources().click()
    await screenshot(chat, "memory-recalled", dark=True)
    entry = chat.answer().get_by_role("button", name=re.compile("^View source"))
    await entry.first.click()
    link = chat.page.locator(f'a[href^="http"][href*="/c/{first}#"]').first
    await expect(link).to_be_visible()
    await screenshot(chat, "memory-citation")
    await chat.page.goto(await link.get_attribute("href") or "")
    await expect(chat.questions.first).to_contain_text("quince tree behind the shed")


async def test_the_inspector_shows_and_forgets(two_chats, suite_installed, screenshot):
    chat, first = two_chats
    await eventually(lambda: stored(suite_installed, chat.chat_id))
    await chat.answer().get_by_role("button", name=BUTTON).click()
    dialog = chat.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Used by the last answer: 1")
    await screenshot(chat, "memory-inspector", dark=True)
    await choose(chat, "Show what the last answer used")
    await choose(chat, "quince")
    await expect(dialog).to_contain_text("Forget this?")
    await expect(dialog).to_contain_text("behind the shed")
    await screenshot(chat, "memory-forget", dark=True)
    await dialog.get_by_role("button", name="Confirm", exact=True).click()
    await eventually(lambda: not stored(suite_installed, first))


async def test_the_inspector_is_used_with_keys_alone(
    two_chats, suite_installed, screenshot
):
    """Search, look at what is found, and forget it."""
    chat, first = two_chats
    await eventually(lambda: stored(suite_installed, chat.chat_id))
    page, dialog = chat.page, chat.page.get_by_role("dialog")
    await chat.answer().get_by_role("button", name=BUTTON).focus()
    await page.keyboard.press("Enter")
    await expect(dialog).to_contain_text("Used by the last answer")
    await choose_by_key(chat, "Search my memory")
    await expect(dialog).to_contain_text("What should be found?")
    await page.keyboard.type("the tree behind the shed")
    await confirm_by_key(chat)
    await expect(dialog.locator("select")).to_contain_text("planted a quince")
    await screenshot(chat, "memory-search", dark=True)
    await choose_by_key(chat, "planted a quince")
    await expect(dialog).to_contain_text("Forget this?")
    await confirm_by_key(chat)
    await eventually(lambda: not stored(suite_installed, first))


async def choose_by_key(chat, label):
    """Go down the dialog's list to an option."""
    select = chat.page.get_by_role("dialog").locator("select")
    await reach_by_key(chat, select)
    chosen = "one => one.selectedOptions[0]?.text ?? ''"
    for _ in range(10):
        if label in await select.evaluate(chosen):
            break
        await chat.page.keyboard.press("ArrowDown")
    await confirm_by_key(chat)


async def confirm_by_key(chat):
    button = chat.page.get_by_role("dialog").get_by_role(
        "button", name="Confirm", exact=True
    )
    await reach_by_key(chat, button)
    await chat.page.keyboard.press("Enter")


async def reach_by_key(chat, wanted):
    """Press Tab until the focus is there; it goes round within the dialog."""
    await expect(wanted).to_be_visible()
    for _ in range(10):
        if await wanted.evaluate("one => one === document.activeElement"):
            return
        await chat.page.keyboard.press("Tab")
    raise AssertionError("Tab does not lead there")


async def test_everything_is_forgotten_at_once(two_chats, suite_installed):
    chat, first = two_chats
    here = chat.chat_id
    await eventually(lambda: stored(suite_installed, here))
    await chat.answer().get_by_role("button", name=BUTTON).click()
    await choose(chat, "Forget everything")
    dialog = chat.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Forget 2 exchanges for good?")
    await dialog.get_by_role("button", name="Confirm", exact=True).click()
    await eventually(lambda: not stored(suite_installed, first))
    assert not stored(suite_installed, here)


async def test_an_admin_sees_how_many_old_chats_are_indexed(chat):
    await chat.open(MODEL)
    await chat.ask(TOLD)
    await chat.answer().get_by_role("button", name=BUTTON).click()
    dialog = chat.page.get_by_role("dialog")
    line = re.compile(r"Chats from before: \d+ of \d+ are indexed")
    await expect(dialog).to_contain_text(line)


async def test_the_inspector_exports_a_file(two_chats, suite_installed):
    chat, _ = two_chats
    await eventually(lambda: stored(suite_installed, chat.chat_id))
    await chat.answer().get_by_role("button", name=BUTTON).click()
    async with chat.page.expect_download() as waiting:
        await choose(chat, "Export my memory")
    path = await (await waiting.value).path()
    exported = json.loads(path.read_text())
    assert [one["question"] for one in exported] == [TOLD, ASKED]


async def test_a_chat_that_is_left_out_is_forgotten(two_chats, suite_installed, ada):
    chat, _ = two_chats
    here = chat.chat_id
    await eventually(lambda: stored(suite_installed, here))
    await chat.answer().get_by_role("button", name=BUTTON).click()
    await choose(chat, "Leave this chat out")
    await eventually(lambda: not stored(suite_installed, here))
    dialog = chat.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("This chat is left out")
    await dialog.get_by_role("button", name="Cancel", exact=True).click()
    await chat.ask("The quince tree has leaves now.")
    assert not stored(suite_installed, here)
    # What was said in it is no more stored of a copy.
    with suite_installed.client(ada) as client:
        response = client.post(f"/api/v1/chats/{here}/clone", json={})
        copy = response.raise_for_status().json()["id"]
    await chat.open_chat(copy)
    await chat.ask("Hamlet sleeps below it.")
    await eventually(lambda: stored(suite_installed, copy))
    [[question, *_]] = stored(suite_installed, copy)
    assert question == "Hamlet sleeps below it."


async def test_an_answer_written_again_replaces_the_old_one(two_chats, suite_installed):
    chat, _ = two_chats
    here = chat.chat_id
    await eventually(lambda: stored(suite_installed, here))
    before = ids(suite_installed, here)
    await chat.regenerate()
    await chat.finished()
    await eventually(lambda: ids(suite_installed, here) != before)
    assert len(ids(suite_installed, here)) == 1
    assert ids(suite_installed, here)[0][0] == before[0][0]


def ids(server, chat_id):
    """Ids of question and answer of what is stored of a chat."""
    sql = "SELECT question_id, answer_id FROM exchange WHERE chat_id = ?"
    return rows(server, sql, chat_id)


async def test_the_switch_in_the_chat_pauses_the_memory(
    suite_installed, page_for, ada, screenshot
):
    chat = await page_for(ada)
    await chat.open(MODEL)
    await chat.page.get_by_role("button", name="Integrations").click()
    switch = chat.page.get_by_role("menuitemcheckbox", name="Pause memory")
    await expect(switch).to_be_visible()
    await screenshot(chat, "memory-pause")
    await switch.click()
    await chat.page.keyboard.press("Escape")
    await chat.ask(TOLD)
    paused = chat.chat_id
    await chat.open(MODEL)
    await chat.ask("I also own a wheelbarrow.")
    later = chat.chat_id
    await eventually(lambda: stored(suite_installed, later))
    assert not stored(suite_installed, paused)
