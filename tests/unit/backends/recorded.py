"""Recorded streams, and turns with backends of any protocol."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from shared.agents.service import sentence_for
from shared.backends.base import Backend, Turn
from shared.backends.dialogs import ApprovalRequest, UserQuestion
from shared.events import AgentEvent, Failed, SessionState, ToolResult
from tests.unit.backends.support import read_sse
from tests.unit.backends.upstream import AGENT, PATIENCE, Told
from tests.unit.guard import guarded

STREAMS = Path(__file__).parent / "streams"


def recorded(name: str) -> bytes:
    """What a real program sent, such as `langgraph/text.sse`."""
    return (STREAMS / name).read_bytes()


def payloads(data: bytes) -> list[tuple[str, Any]]:
    """The names and the JSON of a stream's events."""
    return [(event.name, orjson.loads(event.data)) for event in read_sse([data])]


def results_of(events: list[AgentEvent]) -> list[tuple[str, bool]]:
    """What tools gave back, and whether they failed."""
    return [(e.output, e.failed) for e in events if isinstance(e, ToolResult)]


def session_of(events: list[AgentEvent]) -> dict[str, Any]:
    """The session that the next turn would go on with."""
    states = [dict(e.data) for e in events if isinstance(e, SessionState)]
    return states[-1] if states else {}


@dataclass
class Person:
    """A user who answers every question with the same."""

    allows: bool = True
    says: str | None = None
    asked: list[ApprovalRequest | UserQuestion] = field(default_factory=list)

    async def approve(self, request: ApprovalRequest) -> bool:
        self.asked.append(request)
        return self.allows

    async def ask(self, question: UserQuestion) -> str | None:
        self.asked.append(question)
        return self.says


def user_turn(*said: str, **fields: Any) -> Turn:
    """A turn of a branch in which user and agent said these, by turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    return Turn(tuple(messages), **fields)


async def hear(backend: Backend, turn: Turn) -> Told:
    """One whole turn, told as the pipe tells it."""
    names = {"agent": AGENT, "host": "the host"}
    async with asyncio.timeout(PATIENCE):
        events = [event async for event in guarded(backend.run(turn), names)]
    told = Told(events, "the host")
    if isinstance(events[-1], Failed):
        failed = events.pop()
        assert isinstance(failed, Failed)
        told.code = failed.code
        told.sentence = sentence_for("en", {}, failed.code, failed.fields)
    return told
