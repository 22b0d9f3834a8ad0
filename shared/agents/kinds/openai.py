"""Agents on OpenAI-compatible servers."""

from typing import Literal

from pydantic import model_validator

from shared.agents.config import HttpAgent
from shared.backends.base import Backend
from shared.backends.http import new_http_client
from shared.backends.openai import OpenAIBackend
from shared.host.resources import shared_resource


class OpenAIAgent(HttpAgent):
    """A model on a server with Chat Completions or Responses."""

    api: Literal["chat", "responses"] = "chat"
    session: bool = False

    @model_validator(mode="after")
    def _names_a_model(self) -> "OpenAIAgent":
        if self.session and self.api != "responses":
            raise ValueError("`session` needs `api: responses`")
        if not self.model and not self.discover:
            raise ValueError("give a `model`, or `discover: true` to list them all")
        return self


def make_openai(agent: OpenAIAgent, model: str) -> Backend:
    """The backend for one of the agent's models, on the server's shared client."""
    client = shared_resource("http client", new_http_client)
    return OpenAIBackend(client, agent.endpoint, model, agent.api, agent.session)
