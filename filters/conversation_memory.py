"""Chats that remember: what matters is recalled, what is deleted is forgotten."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

from shared.memory.options import MemoryOptions, PersonalMemoryOptions
from shared.memory.service import (
    MemoryCall,
    after_answer,
    before_answer,
    with_recalled_notes,
)

log = logging.getLogger("aqueduct.conversation_memory")


class Filter:
    """Before an answer: recall. After it: remember."""

    class Valves(MemoryOptions):
        pass

    class UserValves(PersonalMemoryOptions):
        pass

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def inlet(
        self,
        body: dict[str, Any],
        __user__: dict[str, Any],
        __metadata__: dict[str, Any],
        __request__: Request,
        __model__: dict[str, Any] | None = None,
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    ) -> dict[str, Any]:
        """Recall; the body comes back with its history cut, if that is set."""
        call = MemoryCall(
            __user__,
            __metadata__,
            __model__ or {},
            str(__request__.base_url),
            __event_emitter__,
            self.valves,
        )
        try:
            return await before_answer(body, call)
        except Exception:
            # Whatever fails here, the chat goes on without a memory.
            log.exception("Recall failed; the message goes on without notes")
            return body

    async def request(
        self, body: dict[str, Any], __metadata__: dict[str, Any]
    ) -> dict[str, Any]:
        """The body with notes on its last user message, where any matter."""
        try:
            return with_recalled_notes(body, __metadata__)
        except Exception:
            log.exception("The notes could not be told")
            return body

    async def outlet(
        self,
        body: dict[str, Any],
        __user__: dict[str, Any],
        __metadata__: dict[str, Any],
        __request__: Request,
        __model__: dict[str, Any] | None = None,
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    ) -> dict[str, Any]:
        """The body as it came; its exchange is stored in the background."""
        call = MemoryCall(
            __user__,
            __metadata__,
            __model__ or {},
            str(__request__.base_url),
            __event_emitter__,
            self.valves,
        )
        try:
            await after_answer(body, call)
        except Exception:
            log.exception("The exchange could not be stored")
        return body
