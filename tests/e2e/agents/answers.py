"""What a stored answer holds, read as a user would see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from devkit.demo_agent import DemoAgent

Found = TypeVar("Found")


async def eventually(
    ask: Callable[[], Found], what: str = "it", seconds: float = 15
) -> Found:
    """Ask until the answer counts as true, and return it; fail when time is over."""
    end = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}: {found!r}"
        await asyncio.sleep(0.05)
    return found


def items(answer: Mapping[str, Any], type_: str) -> list[dict[str, Any]]:
    """The output items of one type, in order."""
    return [item for item in answer.get("output") or [] if item["type"] == type_]


def thoughts(answer: Mapping[str, Any]) -> str:
    """All that the agent thought."""
    return "\n".join(
        part["text"] for item in items(answer, "reasoning") for part in item["content"]
    )


def cards(answer: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Each tool card: the tool's name, what came back, and how it ended."""
    results = {item["call_id"]: item for item in items(answer, "function_call_output")}
    return [
        (
            call["name"],
            "".join(part["text"] for part in results[call["call_id"]]["output"]),
            call["status"],
        )
        for call in items(answer, "function_call")
    ]


def error(answer: Mapping[str, Any]) -> str:
    """The sentence below an answer that failed, or ""."""
    content = (answer.get("error") or {}).get("content") or {}
    return str(content.get("message", content) if content else "")


def shimmering(answer: Mapping[str, Any]) -> list[str]:
    """The status lines that never ended."""
    history = answer.get("statusHistory") or []
    return [line["description"] for line in history[-1:] if line.get("done") is False]


async def outcome(demo: DemoAgent, number: int = 0) -> str:
    """How the request number `number` ended for the demo agent."""

    def ended() -> str:
        requests = demo.requests()
        how = requests[number]["outcome"] if len(requests) > number else "running"
        return "" if how == "running" else str(how)

    return await eventually(ended, "the end of a request to the demo agent")
