"""A tab without a browser that presses our buttons and fills in their forms."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from devkit.chat_socket import ChatSocket, Event, Turn

ACTION = "continue_with"
Answer = dict[str, Any]
Messages = dict[str, dict[str, Any]]
Found = TypeVar("Found")
# What a person does with a form: given its schema, accept it with answers, or not.
Fill = Callable[[dict[str, Any]], Awaitable[Answer | None]]

# Nothing of ours takes as long, whatever the machine is busy with.
PATIENCE = 60.0


class Tab(ChatSocket):
    """One tab: it tells its language, fills in forms, collects notices and pages."""

    language = "en-US"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.fill: Fill = cancel
        self.forms: list[dict[str, Any]] = []
        self.scripts: list[str] = []
        self.notices: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.seen: list[tuple[str, Event]] = []
        self.changed = asyncio.Event()

    @property
    def sid(self) -> str:
        return str(self._socket.get_sid())

    async def press(
        self, button: str, turn: Turn, *, model: str = "agents.demo", **more: Any
    ) -> None:
        """Press a button under an answer; returns when the request has."""
        await self.press_at(button, turn.chat_id, turn.answer_id, model=model, **more)

    async def press_at(
        self,
        button: str,
        chat_id: str,
        message_id: str,
        *,
        model: str = "agents.demo",
        **more: Any,
    ) -> None:
        response = await self._client.post(
            f"/api/chat/actions/{ACTION}.{button}",
            json={
                "model": model,
                "chat_id": chat_id,
                "id": message_id,
                "session_id": self.sid,
                "messages": [],
                **more,
            },
        )
        response.raise_for_status()

    async def notice(self) -> str:
        """The next notice that comes up."""
        async with asyncio.timeout(PATIENCE):
            return (await self.notices.get())[1]

    async def chat(self, chat_id: str) -> dict[str, Any]:
        """A chat as it is stored now."""
        response = await self._client.get(f"/api/v1/chats/{chat_id}")
        response.raise_for_status()
        return dict(response.json())

    async def messages(self, chat_id: str) -> Messages:
        chat = await self.chat(chat_id)
        return dict(chat["chat"]["history"]["messages"])

    async def until(self, look: Callable[[], Awaitable[Found]]) -> Found:
        """What a look finds, once it finds something; it looks again at each event."""
        end = time.monotonic() + PATIENCE
        while not (found := await look()):
            assert time.monotonic() < end, f"only these notices came: {self.notices}"
            self.changed.clear()
            # An event may precede what it tells of; then nothing else comes.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await self.changed.wait()
        return found

    async def grown(self, chat_id: str, count: int) -> Messages:
        """The messages once there are so many."""

        async def look() -> Messages:
            messages = await self.messages(chat_id)
            return messages if len(messages) >= count else {}

        return await self.until(look)

    async def settled(
        self, chat_id: str, count: int, *, stopped: bool = False
    ) -> Messages:
        """The messages once there are so many and nobody is at work in the chat.

        An answer that was `stopped` stays "not done" in Open WebUI's database.
        """

        async def look() -> bool:
            messages = await self.messages(chat_id)
            answers = [m for m in messages.values() if m["role"] == "assistant"]
            done = stopped or all(answer.get("done") for answer in answers)
            return len(messages) >= count and done and not await self.tasks(chat_id)

        await self.until(look)
        return await self.messages(chat_id)

    async def tasks(self, chat_id: str) -> list[str]:
        """What Open WebUI runs for this chat."""
        response = await self._client.get(f"/api/tasks/chat/{chat_id}")
        response.raise_for_status()
        return list(response.json()["task_ids"])

    async def stop(self, chat_id: str) -> None:
        """Do what the Stop button does."""
        response = await self._client.post(f"/api/tasks/chat/{chat_id}/stop")
        response.raise_for_status()

    async def _receive(self, message: dict[str, Any], *rest: Any) -> Any:
        await super()._receive(message, *rest)
        event = message.get("data") or {}
        data = event.get("data") or {}
        if event.get("type") == "execute":
            self.scripts.append(data["code"])
            return self.language
        if event.get("type") == "request:elicitation":
            self.forms.append(data)
            answers = await self.fill(data["requestedSchema"])
            if answers is None:
                return {"action": "cancel"}
            return {"action": "accept", "content": answers}
        if event.get("type") == "notification":
            self.notices.put_nowait((data["type"], data["content"]))
        self.seen.append((str(message.get("chat_id")), event))
        self.changed.set()
        return None


@asynccontextmanager
async def open_tab(url: str, token: str) -> AsyncIterator[Tab]:
    """A live tab of a signed-in person."""
    async with Tab.connect(url, token) as tab:
        assert isinstance(tab, Tab)
        yield tab


async def cancel(_: dict[str, Any]) -> None:
    """Close the form."""
    return


def answering(**answers: Any) -> Fill:
    """Fill in these fields and leave the others as they are proposed."""

    async def fill(schema: dict[str, Any]) -> Answer:
        proposed = {
            name: field["default"]
            for name, field in schema["properties"].items()
            if "default" in field
        }
        return proposed | answers

    return fill


def offered(form: dict[str, Any], name: str = "model") -> list[str]:
    """The values of a choice in a form."""
    field = form["requestedSchema"]["properties"][name]
    return [option["const"] for option in field["oneOf"]]
