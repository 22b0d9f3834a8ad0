"""A chat as a browser tab holds it, without the browser: for tests and benchmarks.

The request and the events are those of Open WebUI 0.12.4's own page
(`src/lib/components/chat/Chat.svelte`, `open_webui/socket/main.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import socketio

Event = dict[str, Any]


@dataclass
class Turn:
    """A message that was sent and the answer to it, on its way or done.

    `answer_id` names the answer in the chat; `task_ids` what Open WebUI runs for it.
    """

    chat_id: str
    answer_id: str
    task_ids: list[str]
    _client: httpx.AsyncClient
    _events: asyncio.Queue[Event] = field(repr=False)

    async def events(self) -> AsyncIterator[Event]:
        """Yield {"type", "data"} as they arrive, until the chat is idle again."""
        while True:
            event = await self._events.get()
            yield event
            if event["type"] == "chat:active" and not event["data"]["active"]:
                return

    async def answer(self) -> dict[str, Any]:
        """Wait for the end and return the answer as it is stored in the chat."""
        async for _ in self.events():
            pass
        return await self.stored()

    async def stored(self) -> dict[str, Any]:
        """Return the answer as it is stored now."""
        response = await self._client.get(f"/api/v1/chats/{self.chat_id}")
        response.raise_for_status()
        messages = response.json()["chat"]["history"]["messages"]
        return dict(messages[self.answer_id])

    async def stop(self) -> None:
        """Do what the Stop button does."""
        response = await self._client.post(f"/api/tasks/chat/{self.chat_id}/stop")
        response.raise_for_status()


class ChatSocket:
    """The live connection of one signed-in person; `connect` opens it."""

    def __init__(self, client: httpx.AsyncClient, socket: socketio.AsyncClient) -> None:
        self._client = client
        self._socket = socket
        self._turns: dict[str, asyncio.Queue[Event]] = {}
        socket.on("events", self._receive)

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, token: str) -> AsyncIterator[ChatSocket]:
        """Connect to the server at `url` with a login token, until the block ends."""
        socket = socketio.AsyncClient(reconnection=False)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=60, trust_env=False
        ) as client:
            chats = cls(client, socket)
            await socket.connect(
                url,
                socketio_path="/ws/socket.io",
                transports=["websocket"],
                auth={"token": token},
            )
            try:
                yield chats
            finally:
                await socket.disconnect()

    async def send(
        self, model: str, text: str, *, after: Turn | None = None, **more: Any
    ) -> Turn:
        """Send a message in a new chat, or in the chat of `after` below its answer.

        `more` goes into the request as it is: tool_ids, files, params, features.
        """
        question_id, answer_id = str(uuid4()), str(uuid4())
        parent_id = after.answer_id if after else None
        # By message before there is a chat id: events may come before the response.
        events = self._turns[answer_id] = asyncio.Queue()
        response = await self._client.post(
            "/api/chat/completions",
            json={
                "model": model,
                "stream": True,
                "params": {},
                "features": {},
                "background_tasks": {},
                "session_id": self._socket.get_sid(),
                "id": answer_id,
                "parent_id": parent_id,
                "user_message": {
                    "id": question_id,
                    "parentId": parent_id,
                    "childrenIds": [answer_id],
                    "role": "user",
                    "content": text,
                    "models": [model],
                },
                **({"chat_id": after.chat_id} if after else {}),
                **more,
            },
        )
        response.raise_for_status()
        begun = response.json()
        return Turn(
            begun["chat_id"], answer_id, begun["task_ids"], self._client, events
        )

    async def _receive(self, message: dict[str, Any], *_: Any) -> None:
        turn = self._turns.get(message.get("message_id") or "")
        if turn is not None:
            turn.put_nowait(message["data"])
