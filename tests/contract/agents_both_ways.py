"""Runs the agents pipe from its source and from dist/, in a process that is thrown away.

`python -m tests.contract.agents_both_ways DEMO_URL` prints what each of them answered
to the same calls, as JSON {"source": {call: answer}, "dist": {call: answer}}. What
differs from run to run (ids, times, how deltas were joined) is taken out.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import FastAPI

ROOT = Path(__file__).parents[2]
CHANGING = re.compile(
    r'"(id|item_id|call_id|created|started_at|ended_at|duration)": ("[^"]*"|[\d.]+)'
)
CHAT = {"chat_id": "local:1", "session_id": "1", "message_id": "1"}
CALLS: dict[str, dict[str, Any]] = {
    "whole": {"text": "What is 17 × (23 + 4)?"},
    "chunks": {"text": "What is 17 × (23 + 4)?", "stream": True},
    "chat": {"text": "What is 17 × (23 + 4)?", "stream": True, "metadata": CHAT},
    "responses": {"model": "responses", "text": "How do I install it?", "stream": True},
    "picture": {"text": "Draw a sunrise", "stream": True, "metadata": CHAT},
    "title": {"text": "### Task: a title", "task": "title_generation"},
    "busy": {"text": "/fail 429"},
    "broken": {"text": "/break cut", "stream": True, "metadata": CHAT},
    "fault": {"model": "faulty", "text": "hello", "stream": True},
    "help": {"model": "configuration-error", "text": "hello"},
    "nobody": {"model": "no-such", "text": "hello"},
}


def agents(url: str) -> str:
    where = f"url: {url}/v1, model: aqueduct-demo"
    return (
        f"- {{id: demo, {where}}}\n"
        f"- {{id: responses, api: responses, {where}}}\n"
        f"- {{id: faulty, params: {{a: !!set {{1}}}}, {where}}}\n"
        f"- {{id: offered, discover: true, url: {url}/v1}}\n"
        "- {id: broken}\n"
    )


async def answers(pipe: Any, url: str) -> dict[str, Any]:
    """What this pipe object lists and answers."""
    pipe.valves = type(pipe).Valves(AGENTS=agents(url))
    found: dict[str, Any] = {"models": await pipe.pipes()}
    for name, call in CALLS.items():
        answer = await pipe.pipe(
            body={
                "model": f"agents.{call.get('model', 'demo')}",
                "messages": [{"role": "user", "content": call["text"]}],
                "stream": call.get("stream", False),
            },
            __user__={"id": "1"},
            __metadata__=call.get("metadata", {}),
            __request__=None,
            __task__=call.get("task"),
        )
        found[name] = await plain(answer)
    return found


async def plain(answer: Any) -> Any:
    """An answer as JSON values that stay the same from run to run."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, dict):
        return unchanging(answer)
    body = b"".join([bytes(part) async for part in answer.body_iterator]).decode()
    events = [
        unchanging(json.loads(line.removeprefix("data: ")))
        for line in body.splitlines()
        if line and not line.endswith("[DONE]")
    ]
    return {"status": answer.status_code, "events": joined(events)}


def unchanging(event: Any) -> Any:
    text = CHANGING.sub(r'"\1": ""', json.dumps(event, ensure_ascii=False))
    return json.loads(re.sub(r"under [0-9a-f]{8}", "under …", text))


def joined(events: list[dict[str, Any]]) -> list[Any]:
    """The events, neighbouring pieces of one text as one."""
    kept: list[Any] = []
    for event in events:
        kind, text = piece(event)
        if text and kept and kept[-1][0] == kind:
            kept[-1][1] += text
        else:
            kept.append([kind, text])
    return kept


def piece(event: dict[str, Any]) -> tuple[Any, str]:
    """An event without its piece of text, and the piece, if there is one."""
    if isinstance(event.get("delta"), str):
        return {**event, "delta": ""}, event["delta"]
    for choice in event.get("choices") or ():
        for key, value in choice["delta"].items():
            if key in ("content", "reasoning_content") and value:
                return key, value
    return event, ""


async def main(url: str) -> None:
    # All that the pipe wants of the running server is its `app.state`; to import the
    # real one takes half a minute.
    server = ModuleType("open_webui.main")
    server.__dict__["app"] = FastAPI()
    sys.modules[server.__name__] = server

    from open_webui.utils.plugin import load_function_module_by_id

    from functions.agents import Pipe

    text = (ROOT / "dist" / "agents.py").read_text("utf-8")
    built, kind, _, _ = await load_function_module_by_id("agents", content=text)
    assert kind == "pipe"
    report = {"source": await answers(Pipe(), url), "dist": await answers(built, url)}
    sys.__stdout__.write(f"\n{json.dumps(report)}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
