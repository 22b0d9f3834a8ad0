"""A model looks something up in the user's earlier conversations."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

from shared.memory.looking_up import look_up

log = logging.getLogger("aqueduct.recall")


class Tools:
    """The memory, for a model to ask."""

    async def recall(
        self,
        query: str,
        __user__: dict[str, Any],
        __metadata__: dict[str, Any],
        __request__: Request,
        __model__: dict[str, Any] | None = None,
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    ) -> str:
        """
        Look up what was said in earlier conversations with this user.

        :param query: What to look for, in a few words or as a question.
        """
        try:
            return await look_up(
                query,
                __user__,
                __metadata__,
                __model__ or {},
                str(__request__.base_url),
                __event_emitter__,
            )
        except Exception:
            # An error's text may hold what somebody said; Open WebUI would tell it.
            log.exception("Nothing could be looked up")
            return "The memory cannot be read just now."
