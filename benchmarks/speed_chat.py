"""Answers in chats, read through a socket.io client as a browser tab reads them."""

from __future__ import annotations

import asyncio

from benchmarks.speed_sample import Progress, Sample
from benchmarks.speed_upstream import WORD
from devkit.chat_socket import ChatSocket, Turn


async def read_answers(chats: ChatSocket, model: str, progress: Progress) -> Sample:
    """Ask in as many new chats as `progress` counts and read the answers to their end."""
    # One after another: Open WebUI's SQLite refuses many new chats at one moment.
    turns = [
        await chats.send(model, "Say your words.") for _ in range(progress.streams)
    ]
    await asyncio.gather(
        *(read_answer(turn, progress, number) for number, turn in enumerate(turns))
    )
    return progress.sample()


async def read_answer(turn: Turn, progress: Progress, number: int) -> None:
    """Read until Open WebUI is done with the answer."""
    async for event in turn.events():
        if event["type"] == "chat:message:error":
            raise RuntimeError(f"the chat shows an error: {event['data']}")
        data = event["data"]
        if event["type"] == "response:completion" and "delta" in data:
            progress.add(number, data["delta"].count(WORD), 1)
