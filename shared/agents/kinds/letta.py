"""Agents on a Letta server."""

from pydantic import model_validator

from shared.agents.config import HttpAgent
from shared.backends.base import Backend
from shared.backends.http import new_http_client
from shared.backends.letta import LettaBackend
from shared.host.resources import shared_resource


class LettaAgent(HttpAgent):
    """An agent: `model` is its id, `url` the server's address without `/v1`.

    `isolated_blocks` are the labels of memory blocks that each chat has for itself.
    `one_history: true` puts all chats of all users into the agent's own history.
    """

    isolated_blocks: tuple[str, ...] = ()
    one_history: bool = False

    @model_validator(mode="after")
    def _names_an_agent(self) -> "LettaAgent":
        if self.url.rstrip("/").endswith("/v1"):
            raise ValueError("write the address of the server without `/v1`")
        if not self.model and not self.discover:
            raise ValueError(
                "give the id of an agent as `model`, or `discover: true` to list all"
            )
        if self.one_history and self.isolated_blocks:
            raise ValueError("one history has no blocks for each chat")
        return self


def make_letta(agent: LettaAgent, model: str) -> Backend:
    """The backend for one of the server's agents."""
    return LettaBackend(
        client=shared_resource("http client", new_http_client),
        endpoint=agent.endpoint,
        agent_id=model,
        isolated=agent.isolated_blocks,
        one_history=agent.one_history,
        pending=shared_resource("letta calls", dict),
    )
