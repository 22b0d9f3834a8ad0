"""A model server for routing_streams: says the question's words again and again.

    python -m benchmarks.routing_echo PORT STREAMS WORDS PAUSE

Each answer says its first word at once, waits until STREAMS answers have begun, and goes
on with one word every PAUSE seconds. A word is the question with a number: `q17:3`.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web


class Echo:
    """Answers that begin when they are asked for, and go on together."""

    def __init__(self, streams: int, words: int, pause: float) -> None:
        self._streams = streams
        self._words = words
        self._pause = pause
        self._begun = 0
        self._all_begun = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One stream of Chat Completions."""
        question = (await request.json())["messages"][-1]["content"]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"content": f"{question}:0 "}))
        self._begun += 1
        if self._begun >= self._streams:
            self._all_begun.set()
        await self._all_begun.wait()
        for number in range(1, self._words):
            await asyncio.sleep(self._pause)
            await response.write(chunk({"content": f"{question}:{number} "}))
        await response.write(chunk({}, "stop") + b"data: [DONE]\n\n")
        return response


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    payload = {"object": "chat.completion.chunk", "choices": [choice]}
    return f"data: {json.dumps(payload)}\n\n".encode()


async def models(request: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "echo"}]})


async def application(streams: int, words: int, pause: float) -> web.Application:
    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", Echo(streams, words, pause).answer)
    return app


if __name__ == "__main__":
    port, streams, words = (int(argument) for argument in sys.argv[1:4])
    app = application(streams, words, float(sys.argv[4]))
    web.run_app(app, host="127.0.0.1", port=port, print=None)
