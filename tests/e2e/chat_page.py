"""A chat of Open WebUI in a browser, in the words of who uses it.

Locators follow Open WebUI 0.12.4's page; ids and ARIA labels where it has them.
Nothing sleeps: each method waits for what it promises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlencode

from playwright.async_api import Locator, Page, expect

ANSWER_TIMEOUT = 60_000  # ms; a whole answer of the demo agent takes two seconds


class ChatPage:
    """One tab; `url` is the server. `page` is there for what has no method here."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.input = page.locator("#chat-input")
        self.stop_button = page.get_by_role("button", name="Stop", exact=True)
        self.questions = page.locator(".chat-user")
        self._answers = page.locator('div[id^="message-"]').filter(
            has=page.locator(".chat-assistant")
        )

    # --- going somewhere ---

    async def open(
        self, model: str | Sequence[str] = "", *, tools: Sequence[str] = ()
    ) -> None:
        """Start a new chat with one or more models; `tools` are ids to switch on."""
        models = [model] if isinstance(model, str) else model
        query = {"models": ",".join(models), "tools": ",".join(tools)}
        given = urlencode({key: value for key, value in query.items() if value})
        await self.page.goto(f"{self.url}/?{given}")
        await expect(self.input).to_be_visible()

    async def open_chat(self, chat_id: str) -> None:
        """Open a chat that exists."""
        await self.page.goto(f"{self.url}/c/{chat_id}")
        await expect(self.input).to_be_visible()

    async def reload(self) -> None:
        """Load the page anew, as the browser's button does."""
        await self.page.reload()
        await expect(self.input).to_be_visible()

    async def choose_model(self, name: str) -> None:
        """Pick a model by its visible name."""
        await self.page.locator("#model-selector-model-button").click()
        await self.page.locator("#model-search-input").fill(name)
        await self.page.get_by_role("option", name=f"Select {name} model").click()
        await expect(self.page.locator("#model-selector-model-button")).to_have_text(
            re.compile(re.escape(name))
        )

    @property
    def chat_id(self) -> str:
        """The id of the chat, once its first message is sent."""
        return self.page.url.rpartition("/c/")[2]

    # --- talking ---

    async def send(self, text: str) -> None:
        """Send a message; returns when it stands in the chat with its answer begun."""
        questions, answers = await self.questions.count(), await self._answers.count()
        await self.input.fill(text)
        await self.page.locator("#send-message-button").click()
        await expect(self.questions).to_have_count(questions + 1)
        await expect(self._answers).to_have_count(answers + 1)

    async def ask(self, text: str) -> str:
        """Send a message and return the finished answer's text."""
        await self.send(text)
        return await self.finished()

    async def finished(self) -> str:
        """Wait for the end of the answer and return its text, "" if there is none."""
        # The row of buttons below an answer is drawn when the answer is done.
        # By its class: blocks of code have a button of the same name.
        copy = self.answer().locator(".copy-response-button")
        await expect(copy).to_be_visible(timeout=ANSWER_TIMEOUT)
        await expect(self.stop_button).to_be_hidden(timeout=ANSWER_TIMEOUT)
        return "\n".join(await self.text().all_inner_texts())

    async def stop(self) -> None:
        """Press Stop; returns when the answer has come to rest."""
        await self.stop_button.click()
        await self.finished()

    async def regenerate(self) -> None:
        """Ask for another answer to the same question; returns when it has begun."""
        before = await self.answer().get_attribute("id")
        button = self.answer().get_by_role("button", name="Regenerate", exact=True)
        await button.click()
        await self.page.get_by_text("Try Again", exact=True).click()
        await expect(self.answer()).not_to_have_attribute("id", before or "")

    async def edit_question(self, text: str, index: int = -1) -> None:
        """Change a question and send it again; returns when its answer has begun."""
        before = await self.answer().get_attribute("id")
        question = self.page.locator('div[id^="message-"]').filter(
            has=self.page.locator(".chat-user")
        )
        question = question.last if index == -1 else question.nth(index)
        await question.hover()
        await question.get_by_role("button", name="Edit", exact=True).click()
        await self.page.locator('textarea[id^="message-edit-"]').fill(text)
        await self.page.locator("#confirm-edit-message-button").click()
        await expect(self.answer()).not_to_have_attribute("id", before or "")

    # --- looking ---

    def answer(self, index: int = -1) -> Locator:
        """The block of an answer with its buttons; the last one by default."""
        return self._answers.last if index == -1 else self._answers.nth(index)

    def text(self, index: int = -1) -> Locator:
        """The running text of an answer, without thoughts, tools and sources."""
        return self.answer(index).locator(".markdown-prose").last

    def details(self, index: int = -1) -> Locator:
        """The line that stands for thoughts and tool calls; click opens it."""
        return self.answer(index).get_by_role("button", name="Toggle details").first

    def thought(self, index: int = -1) -> Locator:
        """The line of a thought: “Thinking...”, later “Thought for …”."""
        return self.answer(index).get_by_role(
            "button", name=re.compile(r"^(Thinking|Thought)")
        )

    def tool_card(self, name: str, index: int = -1) -> Locator:
        """The card of a tool call, inside opened `details`."""
        return self.answer(index).locator('[id$="-tool-call"]').filter(has_text=name)

    def sources(self, index: int = -1) -> Locator:
        """The button “1 Source” or “2 Sources” below an answer."""
        return self.answer(index).get_by_role(
            "button", name=re.compile(r"^Toggle \d+ sources?$")
        )

    def status(self, index: int = -1) -> Locator:
        """The status line above an answer."""
        return self.answer(index).get_by_role("button", name="Toggle status history")

    def error(self, index: int = -1) -> Locator:
        """The box with an error below what came of an answer."""
        return self.answer(index).locator("#response-content-container .rounded-2xl")

    async def open_details(self, index: int = -1) -> None:
        """Unfold thoughts and tool calls of an answer, if they are folded."""
        toggle = self.details(index)
        if await toggle.get_attribute("aria-expanded") == "false":
            await toggle.click()
        await expect(toggle).to_have_attribute("aria-expanded", "true")
