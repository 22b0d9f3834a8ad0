"""What every backend gets and gives."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from shared.events import AgentEvent


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, as an agent needs it.

    `messages` are Chat Completions messages of the whole branch, oldest first;
    `tools` are Chat Completions tool specifications; `params` are request
    parameters in Chat Completions names; `session` is the `SessionState.data` of
    the message this turn answers to, or None.
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, Any] | None = None
    user_id: str = ""
    chat_id: str = ""

    def with_messages(self, *more: Mapping[str, Any]) -> "Turn":
        """The turn that follows when these messages are added."""
        return replace(self, messages=(*self.messages, *more))

    def without_tools(self) -> "Turn":
        """The same turn for an agent that now has to answer."""
        params = {k: v for k, v in self.params.items() if k != "tool_choice"}
        return replace(self, tools=(), params=params)


@dataclass(frozen=True, slots=True)
class DiscoveredModel:
    """A model that a server offers."""

    id: str
    name: str


class Backend(Protocol):
    """One protocol spoken with one agent. Every method may raise UpstreamError."""

    async def discover(self) -> list[DiscoveredModel]:
        """The models or agents the server offers."""

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The agent's events for this turn, ended by `Finished`.

        Closing or cancelling the generator closes the connection.
        """

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Tell the agent to stop what this session runs, where closing is not enough."""

    async def health(self) -> None:
        """Return when the server answers."""
