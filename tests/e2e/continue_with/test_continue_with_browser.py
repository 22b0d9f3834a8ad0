"""The buttons as a person meets them, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from devkit.webui import Account
from tests.e2e.agents.answers import eventually
from tests.e2e.chat_page import ANSWER_TIMEOUT, ChatPage
from tests.webui import WebUI


class Buttons:
    """The buttons below an answer, and the form that each of them opens."""

    def __init__(self, chat: ChatPage) -> None:
        self.chat = chat
        self.page: Page = chat.page
        self.form: Locator = self.page.get_by_role("dialog")

    async def open(self, name: str, index: int = -1) -> None:
        """Press a button; returns when its form is there."""
        answer = self.chat.answer(index)
        await answer.hover()
        await answer.get_by_role("button", name=name, exact=True).click()
        await expect(self.form).to_be_visible()

    async def choose(self, model: str, label: str = "Model") -> None:
        field = self.form.get_by_label(re.compile(f"^{label}"))
        await field.select_option(label=model)

    async def fill(self, label: str, text: str) -> None:
        await self.form.get_by_label(re.compile(f"^{label}")).fill(text)

    async def submit(self) -> None:
        await self.form.get_by_role("button", name="Submit").click()
        await expect(self.form).to_be_hidden()


@pytest_asyncio.fixture(loop_scope="session")
async def chat(page_for, place, user) -> ChatPage:
    """A tab of an ordinary user."""
    chat = await page_for(user)
    await chat.open("agents.demo")
    return chat


@pytest.fixture
def buttons(chat) -> Buttons:
    return Buttons(chat)


def author(chat: ChatPage, name: str, index: int = -1) -> Locator:
    """The name above an answer."""
    return chat.answer(index).get_by_text(name, exact=True).first


async def test_continue_with_another_model(chat, buttons, screenshot):
    await chat.ask("What is 17 * 23?")
    await buttons.open("Continue with…")
    await screenshot(chat, "continue-picker", dark=True)
    await buttons.choose("Slow model")
    await buttons.fill("What to say", "What can you do?")
    await buttons.submit()
    await expect(author(chat, "Slow model")).to_be_visible()
    await expect(chat.stop_button).to_be_visible()
    await expect(chat.text()).to_contain_text(re.compile(r"\w+ \w+ \w+"))
    await screenshot(chat, "continue-live", dark=True)
    await expect(chat.questions.last).to_contain_text("The answer above is by Demo")
    await chat.stop()
    said = await chat.text().inner_text()
    await screenshot(chat, "continue-stopped")
    await chat.reload()
    await expect(author(chat, "Slow model")).to_be_visible()
    await expect(chat.questions).to_have_count(2)
    await expect(chat.text()).to_have_text(said)
    await expect(chat.stop_button).to_be_hidden()
    # The next message goes where the user had chosen.
    assert "7" in await chat.ask("What is 3 + 4?")
    await expect(author(chat, "Demo agent")).to_be_visible()


async def test_a_selection_that_was_not_sent_yet_stays(chat, buttons):
    await chat.ask("What is 1 + 1?")
    await chat.choose_model("Third model")
    await buttons.open("Continue with…")
    await buttons.choose("Slow model")
    await buttons.fill("What to say", "")
    await buttons.submit()
    await expect(author(chat, "Slow model")).to_be_visible()
    selector = chat.page.locator("#model-selector-model-button")
    await expect(selector).to_contain_text("Third model")
    await chat.stop()
    await expect(selector).to_contain_text("Third model")


async def test_continue_from_an_earlier_answer_opens_a_branch(chat, buttons):
    await chat.ask("What is 2 + 2?")
    await chat.ask("What is 3 + 3?")
    await buttons.open("Continue with…", 0)
    await buttons.choose("Third model")
    await buttons.fill("What to say", "What is 5 + 5?")
    await buttons.submit()
    await expect(author(chat, "Third model")).to_be_visible()
    assert "10" in await chat.finished()
    await expect(chat.questions).to_have_count(2)
    await expect(chat.page.get_by_text("2/2")).to_be_visible()


async def test_the_other_model_uses_its_own_tools(chat, buttons, expert, screenshot):
    await chat.ask("hello")
    await buttons.open("Continue with…")
    await buttons.choose(expert)
    await buttons.fill("What to say", "use get_weather in Paris")
    await buttons.submit()
    await expect(author(chat, expert)).to_be_visible()
    assert "21 degrees and sunny in Paris" in await chat.finished()
    await chat.open_details()
    await expect(chat.tool_card("get_weather")).to_be_visible()
    # Open WebUI tells here that an answer in the chat of an earlier test is done.
    await expect(chat.page.locator("[data-sonner-toast]")).to_have_count(0)
    await screenshot(chat, "continue-tools")


async def test_a_second_opinion_has_arrows(chat, buttons, screenshot):
    await chat.ask("What is 12 * 12?")
    await buttons.open("Second opinion")
    await buttons.choose("Third model")
    await buttons.submit()
    await expect(chat.page.get_by_text("2/2")).to_be_visible()
    await expect(author(chat, "Third model")).to_be_visible()
    assert "144" in await chat.finished()
    await screenshot(chat, "continue-opinion")
    await chat.answer().get_by_role("button", name="Previous message").click()
    await expect(author(chat, "Demo agent")).to_be_visible()
    await expect(chat.page.get_by_text("1/2")).to_be_visible()
    await chat.reload()
    await expect(chat.page.get_by_text("2/2")).to_be_visible()


@pytest.fixture
def wide_screen(place, user) -> Iterator[None]:
    """Columns get the whole width, as Open WebUI's setting has it."""
    path = "/api/v1/users/user/settings"
    with place.client(user) as client:
        before = client.get(path).raise_for_status().json()
        wide = before | {"ui": before["ui"] | {"widescreenMode": True}}
        client.post(f"{path}/update", json=wide).raise_for_status()
        yield
        client.post(f"{path}/update", json=before).raise_for_status()


async def test_compared_models_answer_side_by_side(
    wide_screen, chat, buttons, screenshot
):
    await chat.ask("What is 9 * 9?")
    await buttons.open("Compare")
    await buttons.choose("Third model", "Model 1")
    await buttons.choose("Demo model that leaks tool calls", "Model 2")
    await buttons.submit()
    columns = chat.page.locator('[id^="responses-container-"] .chat-assistant')
    await expect(columns).to_have_count(3)
    for column in range(3):
        await expect(columns.nth(column)).to_contain_text("81", timeout=ANSWER_TIMEOUT)
    await expect(chat.stop_button).to_be_hidden(timeout=ANSWER_TIMEOUT)
    await screenshot(chat, "continue-compare", dark=True)
    await chat.reload()
    await expect(columns).to_have_count(3)


async def test_a_talk_runs_live_and_stops_after_a_reload(chat, buttons, screenshot):
    await chat.ask("What is 6 * 7?")
    await buttons.open("Let them talk")
    await screenshot(chat, "continue-talk-form")
    await buttons.choose("Slow model")
    await buttons.fill("Turns", "10")
    await buttons.fill("Goal", "Agree on a number")
    await buttons.submit()
    await expect(chat.status()).to_contain_text("Turn 1 of 10")
    await expect(author(chat, "Demo agent", 2)).to_be_visible(timeout=ANSWER_TIMEOUT)
    await expect(author(chat, "Slow model", 3)).to_be_visible(timeout=ANSWER_TIMEOUT)
    await expect(chat.status()).to_contain_text("Turn 3 of 10")
    await screenshot(chat, "continue-talk", dark=True)
    await chat.reload()
    await expect(chat.stop_button).to_be_visible()
    await chat.stop_button.click()
    stopped = re.compile(r"Stopped at turn (\d) of 10")
    await expect(chat.status()).to_contain_text(stopped)
    await expect(chat.stop_button).to_be_hidden()
    [turns] = stopped.findall(await chat.status().inner_text())
    await chat.reload()
    await expect(chat.questions.last).to_contain_text(f"turn {turns} of 10")
    await expect(chat.status()).to_contain_text(f"Stopped at turn {turns} of 10")
    await expect(chat.stop_button).to_be_hidden()
    await screenshot(chat, "continue-talk-stopped")


async def test_a_message_typed_into_a_talk_ends_it(chat, buttons, place, user):
    await chat.ask("What is 6 * 7?")
    await buttons.open("Let them talk")
    await buttons.choose("Slow model")
    await buttons.fill("Turns", "6")
    await buttons.submit()
    await expect(chat.status()).to_contain_text("Turn 1 of 6")
    # Open WebUI itself keeps it until the running answer is done, unless it is told
    # to send it now.
    await chat.input.fill("What is 30 + 3?")
    await chat.input.press("Enter")
    await expect(chat.questions.last).to_contain_text(
        "What is 30 + 3?", timeout=ANSWER_TIMEOUT
    )
    await expect(chat.page.get_by_text("33").last).to_be_visible(timeout=ANSWER_TIMEOUT)

    def stored() -> dict[str, Any]:
        with place.client(user) as client:
            found = client.get(f"/api/v1/chats/{chat.chat_id}").raise_for_status()
        return found.json()["chat"]["history"]["messages"]

    def ends() -> list[str]:
        return [
            status["description"]
            for message in stored().values()
            for status in message.get("statusHistory") or []
            if status["description"].endswith("the chat went on elsewhere")
        ]

    await eventually(ends, "the end of the talk")
    assert len(ends()) == 1
    messages = stored()
    [question] = (m for m in messages.values() if m["content"] == "What is 30 + 3?")
    [answer_id] = question["childrenIds"]
    assert not messages[answer_id]["childrenIds"]
    # The talk's next turn may have begun at the very moment; then it is the last.
    siblings = messages[question["parentId"]]["childrenIds"]
    assert len(siblings) <= 2
    turns = [m for m in messages.values() if m["role"] == "user"]
    assert len(turns) == 2 + len(siblings)


async def test_a_new_chat_opens_and_both_are_linked(chat, buttons, screenshot):
    await chat.ask("What is 8 * 8?")
    old = chat.chat_id
    await buttons.open("Continue in a new chat")
    await buttons.choose("Third model")
    await buttons.submit()
    await chat.page.wait_for_url(lambda url: "/c/" in url and old not in url)
    await expect(chat.questions).to_have_count(2)
    await expect(author(chat, "Third model")).to_be_visible()
    assert await chat.finished()
    back = chat.questions.last.get_by_role("link")
    await expect(back).to_have_attribute("href", re.compile(f"/c/{old}$"))
    await screenshot(chat, "continue-new-chat", dark=True)
    new = chat.chat_id
    await chat.open_chat(old)
    onward = chat.answer().get_by_role("link")
    await expect(onward).to_have_attribute("href", re.compile(f"/c/{new}$"))
    await screenshot(chat, "continue-linked")


async def test_another_tab_of_the_user_follows_live(chat, buttons, page_for, user):
    await chat.ask("What is 4 * 4?")
    other = await page_for(user)
    await other.open_chat(chat.chat_id)
    await buttons.open("Continue with…")
    await buttons.choose("Third model")
    await buttons.fill("What to say", "What is 4 * 5?")
    await buttons.submit()
    await expect(other.questions).to_have_count(2)
    await expect(other.text()).to_contain_text("20", timeout=ANSWER_TIMEOUT)


async def test_a_guest_in_a_shared_chat_follows_live(
    chat, buttons, page_for, place, user, screenshot
):
    await chat.ask("What is 7 * 7?")
    guest = place.create_user("Guest")
    share_with(place, user, guest, chat.chat_id)
    other = await page_for(guest)
    await other.open_chat(chat.chat_id)
    await expect(other.questions).to_have_count(1)
    await buttons.open("Continue with…")
    await buttons.choose("Slow model")
    await buttons.fill("What to say", "What can you do?")
    await buttons.submit()
    for page in (chat, other):
        await expect(author(page, "Slow model")).to_be_visible()
        await expect(page.text()).to_contain_text(re.compile(r"\w+ \w+ \w+"))
    await screenshot(other, "continue-guest")
    await chat.stop()
    await other.reload()
    await expect(other.text()).to_have_text(await chat.text().inner_text())


def share_with(place: WebUI, user: Account, guest: Account, chat_id: str) -> None:
    """Let somebody else go on in a chat."""
    grant = {"principal_type": "user", "principal_id": guest.id, "permission": "read"}
    with place.client(user) as owner:
        form: dict[str, Any] = {"share_mode": "continue"}
        owner.post(f"/api/v1/chats/{chat_id}/share", json=form).raise_for_status()
        path = f"/api/v1/chats/shared/{chat_id}/access/update"
        form |= {"access_grants": [grant]}
        owner.post(path, json=form).raise_for_status()


async def test_two_users_at_the_same_time(chat, buttons, page_for, place):
    another = place.create_user("Another")
    other = await page_for(another)
    await other.open("agents.demo")
    others = Buttons(other)
    for page, sum_ in ((chat, "20 + 1"), (other, "30 + 1")):
        await page.ask(f"What is {sum_}?")
    for pressing in (buttons, others):
        await pressing.open("Continue with…")
    await others.choose("Third model")
    await buttons.choose("Slow model")
    await buttons.fill("What to say", "What is 20 + 2?")
    await others.fill("What to say", "What is 30 + 2?")
    await buttons.submit()
    await others.submit()
    for page, name, sum_ in ((chat, "Slow model", "22"), (other, "Third model", "32")):
        await expect(author(page, name)).to_be_visible()
        assert sum_ in await page.finished()
        await expect(page.questions).to_have_count(2)


async def test_a_temporary_chat_says_what_it_cannot(chat, buttons):
    await chat.page.goto(f"{chat.url}/?temporary-chat=true&models=agents.demo")
    await expect(chat.input).to_be_visible()
    await chat.ask("What is 5 * 5?")
    await chat.answer().get_by_role("button", name="Second opinion").click()
    toast = chat.page.get_by_text("A temporary chat is not stored")
    await expect(toast).to_be_visible()
    await buttons.open("Continue in a new chat")
    await buttons.choose("Third model")
    await buttons.fill("What to say", "What is 5 * 6?")
    await buttons.submit()
    await chat.page.wait_for_url(re.compile(r"/c/[0-9a-f-]{36}$"))
    await expect(author(chat, "Third model")).to_be_visible()
    await expect(chat.questions).to_have_count(2)
    await expect(chat.questions.last).to_contain_text("Continued from Temporary chat")


async def test_a_user_sets_what_a_form_proposes(chat, buttons, place, user):
    await chat.ask("What is 2 + 9?")
    page = chat.page
    await page.get_by_role("button", name="Controls", exact=True).click()
    await page.get_by_role("button", name="Valves", exact=True).click()
    panel = page.locator("form").filter(has=page.get_by_role("combobox"))
    await panel.get_by_role("combobox").first.select_option(label="Functions")
    await panel.get_by_role("combobox").nth(1).select_option(label="Continue with")
    row = panel.locator("div.w-full.justify-between").filter(has_text="Talk Turns")
    await row.get_by_role("button", name="Default").first.click()
    turns = panel.get_by_placeholder("Talk Turns")
    await turns.fill("8")
    async with page.expect_response("**/valves/user/update"):
        await turns.press("Tab")
    await buttons.open("Let them talk")
    await expect(buttons.form.get_by_label(re.compile("^Turns"))).to_have_value("8")
    with place.client(user) as client:
        path = "/api/v1/functions/id/continue_with/valves/user/update"
        client.post(path, json={"TALK_TURNS": 4}).raise_for_status()


async def test_the_form_speaks_the_users_language(page_for, place, user):
    chat = await page_for(user, locale="de-DE")
    await chat.page.add_init_script("localStorage.setItem('locale', 'de-DE')")
    await chat.open("agents.demo")
    await chat.send("What is 3 * 3?")
    button = chat.answer().get_by_role("button", name="Weiter mit …")
    await button.click(timeout=ANSWER_TIMEOUT)
    form = chat.page.get_by_role("dialog")
    await expect(form).to_contain_text("Mit einem anderen Modell fortsetzen")
    await expect(form.get_by_role("textbox")).to_have_value("Bitte mach weiter.")
