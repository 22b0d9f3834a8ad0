"""Calls that a scripted Orchestrator makes, and what came of them."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.orchestrator.upstream import Call, Script, Upstream

Result = dict[str, Any]


def chat(message: str, model: str = "luna", **more: Any) -> Call:
    """A call of chat_with_model."""
    return "chat_with_model", {"model": model, "message": message, **more}


def go_on(message: str, number: int = 0, **more: Any) -> Call:
    """The next turn in the chat that an earlier call gave."""
    return (
        "chat_with_model",
        lambda done: {"chat_id": done[number]["chat_id"], "message": message, **more},
    )


def collect_all() -> Call:
    """A call of collect, for all chats so far."""
    return "collect", lambda done: {"chat_ids": [each["chat_id"] for each in done]}


def results(answer: Result) -> list[Result]:
    """What the tools returned, which scripted models say at the end."""
    return list(json.loads(answer["content"]))


async def work(tab: Any, upstream: Upstream, *rounds: list[Call]) -> list[Result]:
    """Let the Orchestrator make these rounds of calls; their results."""
    upstream.scripts["go"] = Script(rounds)
    turn = await tab.say("go")
    return results(await turn.answer())
