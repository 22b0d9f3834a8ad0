"""What becomes of a turn whose session the agent has forgotten."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from shared.backends.base import Turn
from shared.backends.forgotten import answer_or_begin_anew, is_not_found
from shared.errors import UpstreamRefused
from shared.events import AgentEvent, Finished, SessionState, TextDelta

KNOWN = SessionState({"session_id": "gone"})
ASKED = ({"role": "user", "content": "And now?"},)
GOES_ON = Turn(ASKED, session=KNOWN.data)
DONE = [TextDelta("Hello"), Finished()]


class Agent:
    """Refuses whoever goes on from a session, after it said `first`."""

    def __init__(self, status: int, *first: AgentEvent) -> None:
        self.status = status
        self.first = first
        self.asked: list[Turn] = []

    async def answer(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        self.asked.append(turn)
        if turn.session:
            for event in self.first:
                yield event
            raise UpstreamRefused("status_404", self.status)
        for event in DONE:
            yield event


async def told(agent: Agent, turn: Turn) -> list[AgentEvent]:
    events = answer_or_begin_anew(agent.answer, turn, turn.anew, is_not_found)
    return [event async for event in events]


async def test_the_whole_conversation_is_told_anew():
    agent = Agent(404, KNOWN)
    assert await told(agent, GOES_ON) == [KNOWN, *DONE]
    assert agent.asked == [GOES_ON, Turn(ASKED)]


@pytest.mark.parametrize(
    "agent",
    [Agent(500), Agent(404, TextDelta("I deleted it."))],
    ids=["another refusal", "a refusal in the middle"],
)
async def test_what_was_done_is_not_done_twice(agent: Agent):
    with pytest.raises(UpstreamRefused):
        await told(agent, GOES_ON)
    assert agent.asked == [GOES_ON]


async def test_without_a_session_nothing_was_forgotten():
    agent = Agent(404)
    assert await told(agent, Turn(ASKED)) == DONE
    assert len(agent.asked) == 1
