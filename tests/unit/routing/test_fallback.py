"""The first agent that can answers; whoever takes over says so."""

from __future__ import annotations

from functools import partial

import pytest

from shared.errors import UpstreamBroken, UpstreamRefused, UpstreamUnreachable
from shared.events import Finished, Handover, Status, TextDelta
from shared.routing.affinity import affinity_key
from shared.routing.failures import AttemptsFailed, QueueError, joined_error
from shared.routing.fallback import Candidate, first_answer

# Made anew for each test: what is raised is given its agent's name.
LATE = partial(QueueError, "queue_expired", seconds=3)
DOWN = partial(UpstreamUnreachable, "connection_refused")
SHUT_OUT = partial(UpstreamRefused, "status_401", 401)
BROKEN_OFF = partial(UpstreamBroken, "cut_short")


class Agent:
    def __init__(self, name, *script):
        self.name, self.script = name, script
        self.asked = self.chosen = 0

    async def events(self):
        self.asked += 1
        for step in self.script:
            if callable(step):
                raise step()
            yield step

    def candidate(self):
        def chosen():
            self.chosen += 1

        return Candidate(
            self.events,
            {"agent": self.name},
            (Handover(self.name, self.name.title()),),
            chosen,
        )


async def said(*agents):
    return [e async for e in first_answer([agent.candidate() for agent in agents])]


HELLO = (TextDelta("Hello"), Finished())


async def test_the_first_answers_and_nobody_else_is_asked():
    one, two = Agent("one", *HELLO), Agent("two", *HELLO)
    assert await said(one, two) == [*HELLO]
    assert (two.asked, one.chosen) == (0, 0)


@pytest.mark.parametrize("failure", [DOWN, LATE, SHUT_OUT])
async def test_the_next_takes_over_and_says_so(failure):
    waiting = Status("Waiting")
    one, two = Agent("one", waiting, failure), Agent("two", Status("…"), *HELLO)
    assert await said(one, two) == [
        waiting,
        Status("…"),
        Handover("two", "Two"),
        *HELLO,
    ]
    assert two.chosen == 1


async def test_after_a_word_nobody_takes_over():
    one = Agent("one", TextDelta("Hel"), BROKEN_OFF)
    two = Agent("two", *HELLO)
    with pytest.raises(UpstreamBroken):
        await said(one, two)
    assert two.asked == 0


async def test_all_errors_come_together_each_with_its_agent():
    with pytest.raises(AttemptsFailed) as raised:
        await said(Agent("one", DOWN), Agent("two", LATE))
    told = [(c, f["agent"]) for c, f in raised.value.fields["attempts"]]
    assert told == [("connection_refused", "one"), ("queue_expired", "two")]


async def test_an_error_of_our_own_is_not_a_failure_of_the_agent():
    with pytest.raises(ValueError, match="ours"):
        await said(Agent("one", partial(ValueError, "ours")), Agent("two", *HELLO))


def test_the_same_error_is_told_once():
    errors = [UpstreamUnreachable("connection_refused", host="a") for _ in range(3)]
    assert joined_error(errors) is errors[0]
    other = UpstreamUnreachable("connection_refused", host="b")
    both = joined_error([AttemptsFailed([*errors, other]), errors[0]])
    assert isinstance(both, AttemptsFailed)
    assert [e.fields["host"] for e in both.errors] == ["a", "b"]


def test_a_chat_is_known_by_its_id_and_user():
    hi = [{"role": "user", "content": "Hi"}]
    key = affinity_key("ada", "chat", "m", hi)
    assert key == affinity_key("ada", "chat", "m", [*hi, *hi])
    assert key != affinity_key("bob", "chat", "m", hi)
    assert key != affinity_key("ada", "other", "m", hi)


def test_without_a_chat_the_beginning_of_the_conversation_tells():
    begin = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
    more = [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "?"}]
    key = affinity_key("ada", "", "m", begin)
    assert key == affinity_key("ada", "", "m", [*begin, *more])
    assert key != affinity_key("ada", "", "m", more)
    assert key != affinity_key("ada", "", "other", begin)
    assert key != affinity_key("bob", "", "m", begin)
    assert affinity_key("ada", "", "m", [{"role": "user", "content": "\ud800"}])
