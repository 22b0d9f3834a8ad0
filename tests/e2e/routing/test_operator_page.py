"""The operator's page: who sees it, what it shows, and that it is alive."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from devkit.chat_socket import ChatSocket
from devkit.paths import ROOT
from devkit.webui import Account
from tests.e2e.agents.answers import eventually
from tests.e2e.chat_page import ChatPage
from tests.e2e.conftest import PageFor
from tests.e2e.routing.conftest import Configure, Start
from tests.e2e.routing.servers import Model, agent
from tests.webui import WebUI

PATH = "/api/v1/aqueduct/routing"
ONCE = {"attempts": 1}


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(
    page_for: PageFor, suite_installed: WebUI
) -> AsyncIterator[Callable[..., Awaitable[ChatPage]]]:
    """Open the page as somebody; nothing on it may fail to load or run."""
    complaints: list[str] = []

    async def open_it(account: Account | None = None, **options) -> ChatPage:
        tab = await page_for(account, **options)
        tab.page.on("pageerror", lambda error: complaints.append(str(error)))
        tab.page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type == "error" and "Failed to load" not in message.text
                else None
            ),
        )
        await tab.page.goto(suite_installed.url + PATH)
        return tab

    yield open_it
    assert complaints == []


def pool(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def figure(place: Locator, term: str) -> Locator:
    """The value beside a term, such as "Waiting"."""
    return place.locator("dl > div").filter(
        has=place.page.get_by_role("term").get_by_text(term, exact=True)
    )


async def test_an_admin_watches_requests_wait_run_and_end(
    open_page, chats: ChatSocket, start: Start, configure: Configure
):
    model = await start(Model("A", held=True))
    configure(agent("watched", model, concurrency=1, queue={"notify_after": 0}))
    tab = await open_page()
    fleet = pool(tab.page, "watched")
    await expect(figure(fleet, "Waiting").first).to_contain_text("0")
    first = await chats.send("agents.watched", "one")
    await eventually(lambda: model.answering == 1, "the first to be served")
    second = await chats.send("agents.watched", "two")
    await expect(figure(fleet, "Waiting").first).to_contain_text("people 1")
    upstream = fleet.get_by_role("article")
    await expect(upstream).to_contain_text("In service")
    await expect(figure(upstream, "Running")).to_contain_text("1 of 1")
    model.release(2)
    await first.answer()
    await second.answer()
    await expect(figure(fleet, "Waiting").first).to_contain_text("0")
    await expect(figure(upstream, "Running")).to_contain_text("0 of 1")
    await expect(figure(upstream, "Attempts")).to_contain_text("2")
    plots = fleet.get_by_role("img", name=re.compile("last 60 minutes: half of them"))
    await expect(plots).to_have_count(2)


async def test_a_shut_upstream_is_shown_with_its_reason(
    open_page, chats: ChatSocket, start: Start, configure: Configure
):
    ill, well = await start(Model("Ill", *[401] * 5)), await start(Model("Well"))
    configure(agent("mixed", ill, well, retry={"base": 0.01}))
    await (await chats.send("agents.mixed", "one")).answer()
    await (await chats.send("agents.mixed", "two")).answer()
    tab = await open_page()
    shut = pool(tab.page, "mixed").get_by_role("article").filter(has_text="status_401")
    await expect(shut).to_have_count(1)
    await expect(shut).to_contain_text("Out of service, because of status_401")
    await expect(shut).to_contain_text("tried again in")
    await expect(figure(shut, "Errors")).to_contain_text("status_401 1")


@pytest.mark.parametrize("path", [PATH, f"{PATH}.json"])
def test_only_administrators_are_let_in(suite_installed: WebUI, path):
    person = suite_installed.create_user("Ada Guest")
    with suite_installed.client() as admin, suite_installed.client(person) as user:
        admin.get("/api/models").raise_for_status()
        assert admin.get(path).status_code == 200
        answer = user.get(path)
        assert answer.status_code == 403
        assert "pools" not in answer.text.replace("report.pools", "")
    assert httpx.get(suite_installed.url + path).status_code == 401
    forged = {"Authorization": "Bearer sk-nothing"}
    assert httpx.get(suite_installed.url + path, headers=forged).status_code == 401


async def test_others_read_why_they_see_nothing(open_page, suite_installed: WebUI):
    tab = await open_page(suite_installed.create_user("Bert Guest"))
    await expect(tab.page.get_by_role("alert")).to_have_text(
        "Only administrators see this page."
    )


async def test_a_session_that_ends_is_told_and_can_be_renewed(
    open_page, suite_installed: WebUI
):
    tab = await open_page()
    await expect(tab.page.get_by_role("main")).not_to_be_empty()
    await tab.page.evaluate("localStorage.removeItem('token')")
    await tab.page.context.clear_cookies()
    alert = tab.page.get_by_role("alert")
    await expect(alert).to_contain_text("your session has ended")
    await expect(tab.page.get_by_role("main")).to_be_empty()
    link = alert.get_by_role("link", name="Sign in")
    await expect(link).to_have_attribute("href", re.compile("auth[?]redirect="))
    await link.click()
    await expect(tab.page).to_have_url(re.compile("/auth"))


async def test_without_pools_it_says_how_to_get_one(open_page, configure: Configure):
    configure({"id": "plain", "url": "http://127.0.0.1:9/v1", "model": "m"})
    tab = await open_page()
    main = tab.page.get_by_role("main")
    await expect(main).to_contain_text("No agent has a pool of upstreams yet.")
    await expect(main).to_contain_text("valve AGENTS")


async def test_a_server_that_is_gone_for_a_while_is_told(
    open_page, start: Start, configure: Configure
):
    configure(agent("kept", await start(Model("A")), concurrency=1))
    tab = await open_page()
    await expect(pool(tab.page, "kept")).to_be_visible()
    await tab.page.context.set_offline(True)
    alert = tab.page.get_by_role("alert")
    await expect(alert).to_contain_text("The server does not answer.")
    await expect(pool(tab.page, "kept")).to_be_visible()
    await tab.page.context.set_offline(False)
    await expect(alert).to_be_empty()


async def test_it_can_be_paused_from_the_keyboard(
    open_page, chats: ChatSocket, start: Start, configure: Configure
):
    configure(agent("paused", await start(Model("A")), concurrency=1))
    tab = await open_page()
    upstream = pool(tab.page, "paused").get_by_role("article")
    await expect(figure(upstream, "Attempts")).to_contain_text("0")
    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.press("Enter")
    button = tab.page.get_by_role("button")
    await expect(button).to_be_focused()
    await expect(button).to_have_text("Resume")
    await (await chats.send("agents.paused", "one")).answer()
    await tab.page.keyboard.press("Enter")
    await expect(button).to_have_text("Pause")
    await expect(figure(upstream, "Attempts")).to_contain_text("1")
    await expect(button).to_be_focused()


@pytest.mark.parametrize(
    ("locale", "title"),
    [
        ("en-GB", "Routing of the agents"),
        ("de-DE", "Verteilung der Agenten"),
        ("es-ES", "Reparto de los agentes"),
        ("fr-FR", "Répartition des agents"),
        ("zh-CN", "智能体调度"),
        ("pt-BR", "Routing of the agents"),
    ],
)
async def test_it_speaks_the_browser_s_language_on_a_phone(
    open_page, start: Start, configure: Configure, locale, title
):
    configure(agent("small", await start(Model("A")), concurrency=3))
    phone = {"width": 360, "height": 740}
    tab = await open_page(locale=locale, viewport=phone)
    await expect(tab.page.get_by_role("heading", level=1)).to_have_text(title)
    await expect(pool(tab.page, "small")).to_be_visible()
    width = await tab.page.evaluate("document.documentElement.scrollWidth")
    assert width <= phone["width"], "no scrolling sideways"


def test_it_goes_and_comes_with_the_function(suite_installed: WebUI):
    with suite_installed.client() as admin:
        try:
            suite_installed.set_active("agents", False)
            assert admin.get(f"{PATH}.json").status_code == 404
        finally:
            suite_installed.set_active("agents", True)
        admin.get("/api/models?refresh=true").raise_for_status()
        assert admin.get(f"{PATH}.json").status_code == 200


def test_a_new_version_replaces_the_page(suite_installed: WebUI):
    text = (ROOT / "dist" / "agents.py").read_text("utf-8")
    changed = text.replace("Routing of the agents", "Another title")
    assert changed != text

    def title_after_update(admin: httpx.Client, content: str) -> str:
        form = {"id": "agents", "name": "Agents", "content": content, "meta": {}}
        path = "/api/v1/functions/id/agents/update"
        admin.post(path, json=form).raise_for_status()
        admin.get("/api/models?refresh=true").raise_for_status()
        found = re.search("<title>(.*)</title>", admin.get(PATH).text)
        assert found is not None
        return found[1]

    with suite_installed.client() as admin:
        try:
            assert title_after_update(admin, changed) == "Another title"
        finally:
            assert title_after_update(admin, text) == "Routing of the agents"


async def test_it_wears_open_webui_s_theme_and_sits_for_its_picture(
    open_page, chats: ChatSocket, start: Start, configure: Configure, screenshot
):
    one, two = await start(Model("A", held=True)), await start(Model("B", held=True))
    ill = await start(Model("C", *[503] * 50))
    upstreams = [
        {"url": one.url, "concurrency": 2},
        {"url": two.url, "concurrency": 2},
        {"url": ill.url, "concurrency": 2},
    ]
    configure(
        agent(
            "gpu-fleet",
            one,
            upstreams=upstreams,
            breaker={"failures": 2},
            queue={"notify_after": 0},
        )
    )
    sent = [await chats.send("agents.gpu-fleet", f"question {n}") for n in range(9)]
    await eventually(lambda: one.answering + two.answering == 4, "four to be served")
    one.release(2)
    two.release(2)
    tab = await open_page(bypass_csp=True)  # a picture needs a style of its own
    fleet = pool(tab.page, "gpu-fleet")
    await expect(fleet).to_contain_text("Out of service")
    await expect(figure(fleet, "Waiting").first).to_contain_text("people 1")
    await screenshot(tab, "routing-page")
    await tab.page.evaluate("localStorage.theme = 'dark'")
    await tab.page.reload()
    await expect(figure(fleet, "Waiting").first).to_contain_text("people 1")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert await tab.page.evaluate(ground) == "rgb(23, 23, 23)", "Open WebUI's theme"
    await screenshot(tab, "routing-page-dark")
    one.release(20)
    two.release(20)
    for chat in sent:
        await chat.answer()
