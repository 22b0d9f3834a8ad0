"""What reached the server and how it ended, for tests to look at."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

SECRET_HEADERS = ("authorization", "cookie", "x-api-key", "api-key")
SECRET_FIELDS = ("api_key", "key", "authorization", "token", "password", "secret")


@dataclass
class Entry:
    """One request. `outcome` is running, finished, cancelled (the client left),
    cut (closed on purpose) or failed; times are Unix seconds; `status` is the HTTP status.
    """

    id: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    started: float
    ended: float | None = None
    status: int | None = None
    chunks: int = 0
    outcome: str = "running"

    def end(self, outcome: str) -> None:
        self.outcome = outcome
        self.ended = time.time()


class Journal:
    """The last requests, oldest first; empty for ever when it keeps none."""

    def __init__(self, keep: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._count = 0

    def open(self, method: str, path: str, headers: Mapping[str, str]) -> Entry:
        """Begin the entry of a request; secret headers are left out."""
        shown = {k: v for k, v in headers.items() if k.lower() not in SECRET_HEADERS}
        self._count += 1
        entry = Entry(self._count, method, path, shown, None, time.time())
        self._entries.append(entry)
        return entry

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last `count` entries as JSON objects."""
        return [asdict(entry) for entry in list(self._entries)[-count:]]

    def reset(self) -> None:
        """Forget all entries."""
        self._entries.clear()


async def watch(
    entry: Entry, chunks: AsyncIterator[bytes], outcome: str = "finished"
) -> AsyncIterator[bytes]:
    """Pass chunks on and note in `entry` how many there were and how it ended."""
    ended = "failed"
    try:
        async for chunk in chunks:
            entry.chunks += 1
            yield chunk
        ended = outcome
    except (asyncio.CancelledError, GeneratorExit):
        ended = "cancelled"
        raise
    finally:
        entry.end(ended)


def without_secrets(value: Any) -> Any:
    """A request body without the text fields that hold keys."""
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: without_secrets(item)
        for name, item in value.items()
        if not (name.lower() in SECRET_FIELDS and isinstance(item, str))
    }
