"""One call of the pipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.host.dialogs import Emit, EventCall


@dataclass(frozen=True, slots=True)
class PipeRequest:
    """One call of the pipe, as Open WebUI makes it.

    `redis_url` is the valve's: which Redis keeps the queues.
    """

    body: Mapping[str, Any]
    user: Mapping[str, Any]
    metadata: Mapping[str, Any]
    request: Any = None
    emit: Emit | None = None
    event_call: EventCall | None = None
    task: str | None = None
    redis_url: str = field(default="", repr=False)

    @property
    def in_chat(self) -> bool:
        """Whether a chat shows this: an API call has the keys, but empty."""
        return bool(self.metadata.get("chat_id") and self.metadata.get("session_id"))

    @property
    def language(self) -> str:
        variables = self.metadata.get("variables") or {}
        return str(variables.get("{{USER_LANGUAGE}}") or "en")
