"""Agents on the API server of Google's Agent Development Kit."""

from pydantic import model_validator

from shared.agents.config import HttpAgent
from shared.backends.adk import ADKBackend
from shared.backends.base import Backend
from shared.backends.http import new_http_client
from shared.host.resources import shared_resource


class ADKAgent(HttpAgent):
    """An app of the server: `model` is its name."""

    @model_validator(mode="after")
    def _names_an_app(self) -> "ADKAgent":
        if not self.model and not self.discover:
            raise ValueError(
                "give the name of an app as `model`, or `discover: true` to list all"
            )
        return self


def make_adk(agent: ADKAgent, model: str) -> Backend:
    """The backend for one of the server's apps."""
    client = shared_resource("http client", new_http_client)
    return ADKBackend(client, agent.endpoint, model)
