"""Agents that speak AG-UI."""

from typing import Any

from pydantic import Field, model_validator

from shared.agents.config import HttpAgent
from shared.backends.agui import AGUIBackend
from shared.backends.base import Backend
from shared.backends.http import new_http_client
from shared.host.resources import shared_resource


class AGUIAgent(HttpAgent):
    """One agent; `session: true` says that its server keeps what was said."""

    session: bool = False
    forwarded_props: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_one_agent(self) -> "AGUIAgent":
        if self.discover:
            raise ValueError("AG-UI has no list of agents: `discover` does not work")
        return self


def make_agui(agent: AGUIAgent, model: str) -> Backend:
    """The backend for this agent."""
    client = shared_resource("http client", new_http_client)
    return AGUIBackend(client, agent.endpoint, agent.session, agent.forwarded_props)
