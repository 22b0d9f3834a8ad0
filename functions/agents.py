"""External agents as models of Open WebUI."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.requests import Request
from starlette.responses import StreamingResponse

from shared.agents.listing import list_models
from shared.agents.parsing import parse_agents
from shared.agents.request import PipeRequest
from shared.agents.routing_page import serve_routing_page
from shared.agents.service import answer
from shared.routing.redis_wire import checked_redis_url

PIPE_ID = "agents"

AGENTS_HELP = inspect.cleandoc("""
    YAML, one entry an agent: `- id: my-agent`, then `name`, `url`, `model`, `key`
    and more. A key is written ${env:NAME} or ${secret:NAME}. What agents with several
    servers or a queue are doing: /api/v1/aqueduct/routing on this server.
    """)


class Pipe:
    """Every configured agent is a model of its own."""

    class Valves(BaseModel):
        AGENTS: str = Field(default="", description=AGENTS_HELP)
        SECRETS: str = Field(
            default="",
            description="Secrets for AGENTS: NAME=value, divided by spaces.",
            json_schema_extra={"input": {"type": "password"}},
        )
        REDIS_URL: str = Field(
            default="",
            description="A Redis for the queues of several servers, as redis://…, "
            "where it is not Open WebUI's own.",
            json_schema_extra={"input": {"type": "password"}},
        )

        # There is a password in it.
        model_config = ConfigDict(hide_input_in_errors=True)

        @field_validator("REDIS_URL")
        @classmethod
        def _is_an_address(cls, url: str) -> str:
            return checked_redis_url(url)

    def __init__(self) -> None:
        self.valves = self.Valves()
        self.name = ""

    async def pipes(self) -> list[dict[str, str]]:
        """The models that Open WebUI lists."""
        serve_routing_page(PIPE_ID)
        valves = self.valves
        config = parse_agents(valves.AGENTS, valves.SECRETS)
        return await list_models(config, PIPE_ID)

    async def pipe(
        self,
        body: dict[str, Any],
        __user__: dict[str, Any],
        __metadata__: dict[str, Any],
        __request__: Request,
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        __event_call__: Callable[[dict[str, Any]], Awaitable[Any]] | None = None,
        __task__: str | None = None,
    ) -> dict[str, Any] | str | StreamingResponse:
        """The answer of the agent that `body["model"]` names."""
        valves = self.valves
        call = PipeRequest(
            body=body,
            user=__user__,
            metadata=__metadata__,
            request=__request__,
            emit=__event_emitter__,
            event_call=__event_call__,
            task=__task__,
            redis_url=valves.REDIS_URL,
        )
        return await answer(parse_agents(valves.AGENTS, valves.SECRETS), call)
