"""In a talk of two models each sees its own words as its own, the other's as yours."""

import logging
from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import Request

from shared.orchestration.talk_service import meet_request

log = logging.getLogger("aqueduct.talk_roles")


class Filter:
    """Looks at every request; touches those of a talk, and ends a talk for others."""

    class Valves(BaseModel):
        priority: int = Field(
            default=-100,
            description="Before filters that read the conversation, such as a memory.",
        )

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def inlet(
        self, body: dict[str, Any], __metadata__: dict[str, Any], __request__: Request
    ) -> dict[str, Any]:
        """The body in the roles of the talk; of any other message, as it came."""
        try:
            body["messages"] = await meet_request(
                __request__, __metadata__, body["messages"]
            )
        except Exception:
            # Whatever fails here, the message still goes to its model.
            log.exception("The roles of a talk could not be set")
        return body
