"""Model servers that answer, wait or fail as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import yaml

from tests.unit.backends.upstream import Exchange, Script, Upstream, serve


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
    """A Chat Completions chunk as a server-sent event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    payload = {"object": "chat.completion.chunk", "choices": [choice]}
    return f"data: {orjson.dumps(payload).decode()}\n\n"


async def say(exchange: Exchange, text: str) -> None:
    """Answer with this text and end well."""
    await exchange.head()
    await exchange.send(chunk({"content": text}))
    await exchange.send(chunk({}, "stop") + "data: [DONE]\n\n")


async def say_step(exchange: Exchange, step: str) -> None:
    """Begin an answer as an AG-UI agent does that works on something."""
    await exchange.head()
    ids = {"threadId": "1", "runId": "1"}
    await send_json(exchange, {"type": "RUN_STARTED", **ids})
    await send_json(exchange, {"type": "STEP_STARTED", "stepName": step})


async def end_step(exchange: Exchange, step: str, text: str) -> None:
    """Say that it is done, and the answer."""
    await send_json(exchange, {"type": "STEP_FINISHED", "stepName": step})
    message = {"type": "TEXT_MESSAGE_CHUNK", "messageId": "1", "role": "assistant"}
    await send_json(exchange, {**message, "delta": text})
    ids = {"threadId": "1", "runId": "1"}
    await send_json(exchange, {"type": "RUN_FINISHED", **ids})


async def send_json(exchange: Exchange, payload: dict[str, Any]) -> None:
    await exchange.send(f"data: {orjson.dumps(payload).decode()}\n\n")


async def refuse(exchange: Exchange, status: int, **headers: str) -> None:
    """Answer with an error, as OpenAI's servers word it."""
    error = {"error": {"message": f"This is a {status}."}}
    await exchange.answer(status, error, **headers)


async def overloaded(exchange: Exchange) -> None:
    """Begin an answer well, as servers behind a proxy do, and say no in its stream."""
    await exchange.head()
    error = {"message": "Overloaded", "type": "overloaded_error"}
    await send_json(exchange, {"error": error})


async def hang_up(exchange: Exchange) -> None:
    """Close the connection without a byte."""


async def hang_up_later(exchange: Exchange) -> None:
    """Begin an answer well, and close the connection before its first word."""
    await exchange.head()
    await exchange.send(chunk({"role": "assistant", "content": ""}))


async def say_nothing(exchange: Exchange) -> None:
    """Begin an answer well, and never go on."""
    await exchange.head()
    await exchange.until_closed()


WELL = 200
NOBODY = "http://127.0.0.1:9/v1"  # the port of `discard`, which nothing listens to


class Model:
    """A server whose answers a test lets go one by one.

    `faults` are what becomes of its first answers: a status (WELL: no fault), or a
    script. While `held`, each answer waits for a `release`. Titles and the like do
    not count and do not wait. `ill` is how the server itself is, which is `looked_at`
    by those who ask for its models.
    """

    def __init__(self, name: str, *faults: int | Script, held: bool = False) -> None:
        self.name = name
        self.faults = list(faults)
        self.retry_after = ""
        self.url = ""
        self.asked: list[str] = []
        self.ill = False
        self.looked_at = 0
        self.answering = 0
        self._held = held
        self._releases = asyncio.Semaphore(0)

    def release(self, count: int = 1) -> None:
        for _ in range(count):
            self._releases.release()

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.path.endswith("/models"):
            self.looked_at += 1
            await exchange.answer(503 if self.ill else 200, {"data": []})
            return
        messages = (exchange.body or {}).get("messages") or [{"content": ""}]
        asked = str(messages[-1]["content"])
        if asked.startswith("### Task"):  # Open WebUI wants a title or the like
            await say(exchange, "Dinner")
            return
        self.asked.append(asked)
        fault = self.faults.pop(0) if self.faults else WELL
        if callable(fault):
            await fault(exchange)
            return
        if fault != WELL:
            after = {"Retry_After": self.retry_after} if self.retry_after else {}
            await refuse(exchange, fault, **after)
            return
        self.answering += 1
        try:
            if self._held and not await self._released(exchange):
                return
            await say(exchange, f"{self.name} answers.")
        finally:
            self.answering -= 1

    async def _released(self, exchange: Exchange) -> bool:
        """Wait for a release, or for the caller to hang up (then False)."""
        turn = asyncio.ensure_future(self._releases.acquire())
        gone = asyncio.ensure_future(exchange.until_closed())
        try:
            await asyncio.wait({turn, gone}, return_when=asyncio.FIRST_COMPLETED)
            return turn.done()
        finally:
            turn.cancel()
            gone.cancel()


@asynccontextmanager
async def running(model: Model) -> AsyncIterator[Upstream]:
    """Run the server of a model; `model.url` is its address from then on."""
    async with serve(model) as upstream:
        model.url = upstream.url
        yield upstream


def agent(agent_id: str, *models: Model, **keys: Any) -> dict[str, Any]:
    """An entry of AGENTS whose upstreams are these models."""
    entry: dict[str, Any] = {"id": agent_id, "name": f"Agent {agent_id}", "model": "m"}
    if len(models) == 1 and "upstreams" not in keys:
        entry["url"] = models[0].url
    else:
        entry["upstreams"] = [{"url": model.url} for model in models]
    return entry | keys


def agents_yaml(*entries: dict[str, Any]) -> str:
    return yaml.safe_dump(list(entries), sort_keys=False)
