"""Models with Anthropic's Messages API."""

from typing import Any

from pydantic import Field, model_validator

from shared.agents.config import HttpAgent
from shared.backends.anthropic import AnthropicBackend, anthropic_endpoint
from shared.backends.base import Backend
from shared.backends.http import new_http_client
from shared.host.resources import shared_resource


class AnthropicAgent(HttpAgent):
    """A model of Claude's; `server_tools` are tools that the API runs itself."""

    url: str = Field(
        default="https://api.anthropic.com/v1", pattern=r"^https?://", repr=False
    )
    session: bool = False
    cache: bool = True
    server_tools: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _names_one(self) -> "AnthropicAgent":
        if self.session:
            raise ValueError("the Messages API keeps no sessions")
        if not self.model and not self.discover:
            raise ValueError("give a `model`, or `discover: true` to list them all")
        if any(not (t.get("type") and t.get("name")) for t in self.server_tools):
            raise ValueError("each of `server_tools` needs a `type` and a `name`")
        return self


def make_anthropic(agent: AnthropicAgent, model: str) -> Backend:
    """The backend for one of the models."""
    return AnthropicBackend(
        client=shared_resource("http client", new_http_client),
        endpoint=anthropic_endpoint(agent.endpoint),
        model=model,
        server_tools=agent.server_tools,
        cache=agent.cache,
        kept=shared_resource("anthropic answers", dict),
    )
