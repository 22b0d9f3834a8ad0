"""What people see of routing in their chats; the pictures of docs/routing.md."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from playwright.async_api import expect

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import eventually
from tests.e2e.chat_page import ChatPage
from tests.e2e.conftest import PageFor
from tests.e2e.routing.conftest import Configure, Start
from tests.e2e.routing.servers import Model, agent
from tests.e2e.routing.test_routing_chats import QUICK, new_id

Screenshot = Callable[..., Awaitable[None]]
QUESTION = "What should I cook tonight?"


async def test_the_place_in_the_queue_moves(
    chat: ChatPage,
    chats: ChatSocket,
    start: Start,
    configure: Configure,
    screenshot: Screenshot,
):
    model, name = await start(Model("Kitchen", held=True)), new_id()
    configure(agent(name, model, name="Kitchen", concurrency=1))
    # One that is done tells how long the others may take.
    before = await chats.send(f"agents.{name}", "zero")
    model.release()
    await before.answer()
    first = await chats.send(f"agents.{name}", "one")
    await eventually(lambda: model.answering == 1, "the first to be served")
    second = await chats.send(f"agents.{name}", "two")
    async for event in second.events():
        if event["type"] == "status":
            break
    await chat.open(f"agents.{name}")
    await chat.send(QUESTION)
    await expect(chat.status()).to_contain_text("Waiting: position 2 of 2, about")
    await screenshot(chat, "routing-waiting", dark=True)
    model.release()
    await first.answer()
    await expect(chat.status()).to_contain_text("Waiting: position 1 of 1, about")
    model.release(2)
    await second.answer()
    assert await chat.finished() == "Kitchen answers."
    await expect(chat.status()).to_contain_text(re.compile(r"Waited \d+ s"))


async def test_stop_leaves_the_queue(
    chat: ChatPage, chats: ChatSocket, start: Start, configure: Configure
):
    model, name = await start(Model("Kitchen", held=True)), new_id()
    configure(agent(name, model, concurrency=1))
    first = await chats.send(f"agents.{name}", "one")
    await eventually(lambda: model.answering == 1, "the first to be served")
    await chat.open(f"agents.{name}")
    await chat.send(QUESTION)
    await expect(chat.status()).to_contain_text("Waiting: position 1 of 1")
    await chat.stop()
    model.release()
    await first.answer()
    assert model.asked == ["one"]


async def test_a_backup_says_that_it_answers(
    chat: ChatPage, start: Start, configure: Configure, screenshot: Screenshot
):
    ill, well = await start(Model("Ill", *[500] * 9)), await start(
        Model("Cloud kitchen")
    )
    name, backup = new_id(), new_id()
    configure(
        agent(name, ill, name="Kitchen", retry=QUICK, fallback=[backup]),
        agent(backup, well, name="Cloud kitchen"),
    )
    await chat.open(f"agents.{name}")
    assert await chat.ask(QUESTION) == "Cloud kitchen answers."
    notice = "Kitchen could not answer; Cloud kitchen answers instead"
    await expect(chat.status()).to_contain_text(notice)
    await screenshot(chat, "routing-fallback")
    await chat.reload()
    await expect(chat.status()).to_contain_text(notice)


async def test_all_errors_stand_together(
    chat: ChatPage, start: Start, configure: Configure, screenshot: Screenshot
):
    one, two = await start(Model("A", *[401] * 9)), await start(Model("B", *[500] * 9))
    name, backup = new_id(), new_id()
    configure(
        agent(name, one, name="Kitchen", fallback=[backup]),
        agent(backup, two, name="Cloud kitchen", retry=QUICK | {"attempts": 1}),
    )
    await chat.open(f"agents.{name}")
    await chat.ask(QUESTION)
    await expect(chat.error()).to_contain_text("Kitchen did not accept its key (401)")
    await expect(chat.error()).to_contain_text("Cloud kitchen has a fault on its own")
    await screenshot(chat, "routing-errors")


async def test_waiting_is_told_in_the_users_language(
    page_for: PageFor, chats: ChatSocket, start: Start, configure: Configure
):
    model, name = await start(Model("Kitchen", held=True)), new_id()
    configure(agent(name, model, concurrency=1))
    first = await chats.send(f"agents.{name}", "one")
    await eventually(lambda: model.answering == 1, "the first to be served")
    german = await page_for(locale="de-DE")
    await german.open(f"agents.{name}")
    await german.input.fill(QUESTION)
    await german.page.locator("#send-message-button").click()
    await expect(german.page.get_by_text("Warten: Platz 1 von 1").first).to_be_visible()
    model.release(2)
    await first.answer()
    await expect(german.text()).to_have_text("Kitchen answers.")
