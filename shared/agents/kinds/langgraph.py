"""Agents on a LangGraph Server."""

from typing import Any

from pydantic import Field, model_validator

from shared.agents.config import HttpAgent
from shared.backends.base import Backend
from shared.backends.http import new_http_client
from shared.backends.langgraph import LangGraphBackend
from shared.host.resources import shared_resource


class LangGraphAgent(HttpAgent):
    """A graph, or an assistant made of one: `model` is the id of either."""

    config: dict[str, Any] = Field(default_factory=dict)
    context: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_a_graph(self) -> "LangGraphAgent":
        if not self.model and not self.discover:
            raise ValueError(
                "give the id of a graph or an assistant as `model`, or "
                "`discover: true` to list them all"
            )
        return self


def make_langgraph(agent: LangGraphAgent, model: str) -> Backend:
    """The backend for one of the server's assistants."""
    client = shared_resource("http client", new_http_client)
    return LangGraphBackend(client, agent.endpoint, model, agent.config, agent.context)
