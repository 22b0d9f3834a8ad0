"""For whom a model answers a question that was once a model's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from shared.host.errands import Errand
from shared.orchestration.caller import Caller, OrchestratorLimits
from shared.orchestration.guard import present_errand

ASKED = Errand("root", 1_000, 2, ("top", "me"), ("above",), "m")


@pytest.mark.parametrize(
    ("begun", "root", "depth", "started"),
    [(1_001, "root", 2, 1_000), (1_900, "root", 2, 1_000), (1_901, "answer", 0, 1_901)],
)
async def test_an_answer_after_the_errands_time_is_for_the_user(
    monkeypatch, begun, root, depth, started
):
    async def stored_chat(person, chat_id):
        return SimpleNamespace(id=chat_id)

    async def stored_errand(chat_id, answer_id):
        return ASKED, begun

    monkeypatch.setattr("shared.orchestration.guard.own_chat", stored_chat)
    monkeypatch.setattr("shared.orchestration.guard.errand_of", stored_errand)
    metadata = {"chat_id": "c", "message_id": "answer"}
    limits = OrchestratorLimits(max_seconds=900)
    present = await present_errand(Caller(None, metadata, {"id": "me"}, limits))
    assert (present.root, present.depth, present.started) == (root, depth, started)
