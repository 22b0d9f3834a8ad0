"""What the memory's end-to-end tests look at: its file, and what models were told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from devkit.webui import set_valves
from tests.webui import WebUI

MODEL = "agents.demo"
FILTER = "conversation_memory"
LONG_WAIT_MS = 20_000
PATIENCE = 60.0


@contextmanager
def memory_on(server: WebUI) -> Iterator[None]:
    """The memory is on for a while, with all the time it wants."""
    server.set_active(FILTER, True)
    patient(server)
    yield
    server.set_active(FILTER, False)


def patient(server: WebUI) -> None:
    """Let a recall take its time: what is tested is not how fast this machine is."""
    with server.client() as admin:
        set_valves(admin, FILTER, max_wait_ms=LONG_WAIT_MS)


async def eventually(
    holds: Callable[[], Awaitable[Any] | Any], what: str = "it"
) -> Any:
    """What `holds` gives once it is true; fails when that does not happen."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        found = holds()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.05)


def rows(server: WebUI, sql: str, *values: Any) -> list[Any]:
    """Rows of the memory's own file; none before it exists."""
    path = server.server.data / "aqueduct" / "memory.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            return []  # its tables are just being made
        return connection.execute(sql, values).fetchall()


def stored(server: WebUI, chat_id: str) -> list[Any]:
    """Question, answer and model of what is stored of a chat."""
    sql = "SELECT question, answer, model FROM exchange WHERE chat_id = ? ORDER BY id"
    return rows(server, sql, chat_id)


def embedded(server: WebUI, chat_id: str) -> int:
    """How many exchanges of a chat have a vector."""
    sql = (
        "SELECT count(*) FROM exchange JOIN feature USING (id) "
        "WHERE chat_id = ? AND vector IS NOT NULL"
    )
    found = rows(server, sql, chat_id)
    return int(found[0][0]) if found else 0


def sent(server: WebUI) -> list[tuple[str, str]]:
    """Role and text of each message of the last request that a model was sent."""
    bodies = [request["body"] or {} for request in server.demo.requests()]
    messages = [body["messages"] for body in bodies if body.get("messages")][-1]
    return [(message["role"], flat(message["content"])) for message in messages]


def told(server: WebUI) -> str:
    """The user message that a model was last sent, as one text."""
    return [text for role, text in sent(server) if role == "user"][-1]


def all_told(server: WebUI) -> list[str]:
    """The last user message of every request, oldest first."""
    bodies = [request["body"] or {} for request in server.demo.requests()]
    return [
        [flat(one["content"]) for one in body["messages"] if one["role"] == "user"][-1]
        for body in bodies
        if body.get("messages")
    ]


def flat(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or ())


def citations(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The citations of an answer that the memory made."""
    return [
        source
        for source in answer.get("sources") or ()
        if source["source"].get("type") == "aqueduct_memory"
    ]
