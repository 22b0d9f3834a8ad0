"""A real browser for the end-to-end tests, and screenshots for docs/.

All tests and fixtures here share one event loop: a browser belongs to the loop it was
started in.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    async_playwright,
    expect,
)

from devkit.paths import ROOT
from devkit.webui import Account
from tests.conftest import FAILED
from tests.e2e.chat_page import ChatPage
from tests.webui import WebUI

# AQUEDUCT_SCREENSHOTS=1 renews the pictures of docs/; else the work tree stays clean.
RENEW = os.environ.get("AQUEDUCT_SCREENSHOTS") == "1"
PICTURES = ROOT / ("docs/images" if RENEW else ".cache/screenshots")
FAILURES = ROOT / ".cache" / "failures"
WINDOW: ViewportSize = {"width": 1280, "height": 800}
# Nothing but this machine is asked: no search for updates, no icons of cited sites.
CHROMIUM_ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]

# Five seconds, the default, are little on two cores that also run the server.
expect.set_options(timeout=15_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder, and let its async tests share the session's loop."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if pytest_asyncio.is_async_test(item):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def chromium() -> str:
    """Return the path of a Chromium; skips the test, saying how to get one."""
    named = os.environ.get("AQUEDUCT_CHROMIUM")
    for name in [named] if named else ["chromium", "chromium-browser", "google-chrome"]:
        if path := shutil.which(name):
            return path
    pytest.skip(
        "needs Chromium: apt-get install chromium, or name one in AQUEDUCT_CHROMIUM"
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One headless Chromium for the whole run."""
    path = chromium()
    # Chromium's sandbox does not work for root, who runs this in CI.
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=[*CHROMIUM_ARGUMENTS, *sandbox]
        )
        yield browser
        await browser.close()


class PageFor(Protocol):
    """`await page_for(account)`: a tab of that person; the admin's without one.

    `options` are Playwright's for a browser profile, such as locale and viewport.
    """

    def __call__(
        self, account: Account | None = None, **options: Any
    ) -> Awaitable[ChatPage]: ...


@pytest_asyncio.fixture(loop_scope="session")
async def page_for(
    request: pytest.FixtureRequest, browser: Browser, openwebui: WebUI
) -> AsyncIterator[PageFor]:
    """Open tabs of signed-in people, each in a browser profile of its own.

    After a failure a picture of each tab lies in .cache/failures/.
    """
    pages: list[Page] = []

    async def open_page(account: Account | None = None, **options: Any) -> ChatPage:
        usual = {
            "viewport": WINDOW,
            "locale": "en-US",
            "timezone_id": "UTC",
            "device_scale_factor": 2 if RENEW else 1,
            "reduced_motion": "reduce",
        }
        context = await browser.new_context(**(usual | options))
        await _sign_in(context, openwebui.url, account or openwebui.admin)
        page = await context.new_page()
        pages.append(page)
        return ChatPage(page, openwebui.url)

    yield open_page
    for number, page in enumerate(pages):
        if request.node.stash.get(FAILED, False):
            name = re.sub(r"\W+", "-", request.node.name)
            await page.screenshot(path=FAILURES / f"{name}-{number}.png")
        await page.context.close()


async def _sign_in(context: BrowserContext, url: str, account: Account) -> None:
    """Leave what the login page leaves: a token for the API, a cookie for pictures."""
    token = json.dumps(account.token)
    await context.add_init_script(f"localStorage.setItem('token', {token})")
    await context.add_cookies([{"name": "token", "value": account.token, "url": url}])


@pytest_asyncio.fixture(loop_scope="session")
async def chat(page_for: PageFor, suite_installed: WebUI) -> ChatPage:
    """A tab of the admin, with the suite installed."""
    return await page_for()


@pytest.fixture
def screenshot() -> Callable[..., Awaitable[None]]:
    """`await screenshot(chat, "name")`: docs/images/name.png, and -dark.png on demand.

    Written there only with AQUEDUCT_SCREENSHOTS=1, else to .cache/screenshots/.
    """

    async def take(chat: ChatPage, name: str, *, dark: bool = False) -> None:
        page = chat.page
        # Away from everything that shows a tooltip under the pointer.
        await page.mouse.move(WINDOW["width"] / 2, 5)
        await page.wait_for_function("document.fonts.status === 'loaded'")
        await _picture(page, name)
        if dark:
            await page.emulate_media(color_scheme="dark")
            await page.locator("html.dark").wait_for()
            await _picture(page, f"{name}-dark")
            await page.emulate_media(color_scheme="light")

    return take


async def _picture(page: Page, name: str) -> None:
    await page.screenshot(
        path=PICTURES / f"{name}.png",
        animations="disabled",
        caret="hide",
        # When a message was written would make every picture a new one.
        style="time { visibility: hidden }",
    )
