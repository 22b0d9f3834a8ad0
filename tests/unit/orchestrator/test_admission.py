"""Models that ask at the same moment stay within the limits all the same."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import AqueductError
from shared.host.errands import Errand, ErrandTurn
from shared.orchestration.admission import admission, promise
from shared.orchestration.caller import Caller, OrchestratorLimits

ERRAND = Errand("root", int(time.time()), 1, ("top", "me"), ("above",), "m")


class Place:
    """A database of turns; each look into it, and each turn, takes a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
        self.turns: list[ErrandTurn] = []
        self.most_running = 0
        self.caller = Caller(None, {}, {}, OrchestratorLimits(**limits), person=self)
        self.id = "me"
        kept: dict[str, Any] = {}
        module = "shared.orchestration.admission"
        monkeypatch.setattr(f"{module}.POLL_SECONDS", 0)
        monkeypatch.setattr(f"{module}.errand_turns", self.look)
        monkeypatch.setattr(
            f"{module}.shared_resource",
            lambda name, make: kept.setdefault(name, make()),
        )

    async def look(self, request: Any, user_id: str, errand: Errand) -> Any:
        found = list(self.turns)
        await asyncio.sleep(0)
        return found

    async def ask(self, chat_id: str, errand: Errand = ERRAND) -> None:
        """One turn of a new chat, which runs for a while."""
        turn = ErrandTurn(chat_id, errand.chats, errand.message_id, 1, "task")
        async with admission(self.caller, errand, "x", turns=1, new_chat=True):
            await asyncio.sleep(0)
            self.turns.append(turn)
        self.most_running = max(self.most_running, self.running())
        for _ in range(100):
            await asyncio.sleep(0)
        self.turns[self.turns.index(turn)] = replace(turn, task_id="")

    def running(self) -> int:
        return len([turn for turn in self.turns if turn.task_id])

    async def ask_at_once(self, count: int) -> list[str]:
        """What each of so many is refused for; empty for those that are not."""
        asking = (self.ask(f"chat {number}") for number in range(count))
        ended = await asyncio.gather(*asking, return_exceptions=True)
        return [each.code if isinstance(each, AqueductError) else "" for each in ended]


@pytest.mark.parametrize(
    ("limit", "refusal"),
    [
        ("max_turns", "too_many_turns"),
        ("max_chats", "too_many_chats"),
        ("max_tokens", "too_many_tokens"),
    ],
)
async def test_of_many_at_once_as_many_begin_as_may(monkeypatch, limit, refusal):
    place = Place(monkeypatch, **{limit: 4}, max_parallel=100)
    assert sorted(await place.ask_at_once(10)) == [""] * 4 + [refusal] * 6
    assert len(place.turns) == 4


async def test_of_many_at_once_as_many_run_as_may(monkeypatch):
    place = Place(monkeypatch, max_parallel=3)
    assert await place.ask_at_once(10) == [""] * 10
    assert place.most_running == 3


async def test_the_turns_of_a_talk_are_taken_before_they_come(monkeypatch):
    place = Place(monkeypatch, max_turns=6)
    with promise(ERRAND, "talk", 5):
        assert sorted(await place.ask_at_once(3)) == ["", *["too_many_turns"] * 2]
        # The talk's first turns are not counted twice.
        turn = ErrandTurn("talk", ("above",), "m", 1, "")
        place.turns += [turn, turn]
        assert await place.ask_at_once(1) == ["too_many_turns"]
    # It ended early: what it has not used is free again.
    assert sorted(await place.ask_at_once(4)) == ["", "", "", "too_many_turns"]


async def test_a_talk_counts_as_one_chat_that_runs(monkeypatch):
    place = Place(monkeypatch, max_parallel=1)
    with promise(ERRAND, "talk", 5):
        waiting = asyncio.create_task(place.ask("chat"))
        await place.ask("another's chat", replace(ERRAND, message_id="another"))
        assert not waiting.done()
    await waiting


async def test_requests_do_not_wait_for_each_other(monkeypatch):
    place = Place(monkeypatch, max_turns=1)
    async with admission(place.caller, ERRAND, "x", turns=1, new_chat=True):
        await place.ask("chat", replace(ERRAND, root="another", message_id="another"))
