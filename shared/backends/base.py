"""What every backend gets and gives."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from shared.backends.dialogs import NOBODY, Dialogs
from shared.events import AgentEvent


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, as an agent needs it.

    `messages` are Chat Completions messages of the whole branch, oldest first;
    `tools` are Chat Completions tool specifications; `params` are request
    parameters in Chat Completions names; `session` is the `SessionState.data` of
    the message this turn answers to, or None. `forks` says that another turn went on
    from there already (the user edited or regenerated), so that an agent with one
    history for a session has to fork it or start anew. `dialogs` asks the user.
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, Any] | None = None
    forks: bool = False
    user_id: str = ""
    chat_id: str = ""
    dialogs: Dialogs = field(default=NOBODY, compare=False)

    @property
    def continued(self) -> Mapping[str, Any] | None:
        """The session to go on with, where its history is that of this branch."""
        return None if self.forks else self.session

    @property
    def anew(self) -> "Turn | None":
        """This turn with no session to go on with; None where it has none."""
        return replace(self, session=None) if self.session else None

    def news(self) -> tuple[Mapping[str, Any], ...]:
        """What an agent that keeps `continued` has not heard yet.

        That is what follows the last answer; without a session, the whole branch.
        """
        if self.continued is None:
            return self.messages
        return messages_since_answer(self.messages)

    def with_messages(self, *more: Mapping[str, Any]) -> "Turn":
        """The turn that follows when these messages are added."""
        return replace(self, messages=(*self.messages, *more))

    def without_tools(self) -> "Turn":
        """The same turn for an agent that now has to answer."""
        params = {k: v for k, v in self.params.items() if k != "tool_choice"}
        return replace(self, tools=(), params=params)


def messages_since_answer(
    messages: tuple[Mapping[str, Any], ...],
) -> tuple[Mapping[str, Any], ...]:
    """What came after the agent's last finished answer, system messages left out.

    An assistant message that only calls tools is no finished answer: its results
    follow it and belong to what the agent does not know yet.
    """
    start = 0
    for index, message in enumerate(messages):
        if message.get("role") == "assistant" and not message.get("tool_calls"):
            start = index + 1
    return tuple(
        m for m in messages[start:] if m.get("role") not in ("system", "developer")
    )


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
