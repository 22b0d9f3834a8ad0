"""For whom a model answers a question that was once a model's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.host.errands import Asked, Errand, first_asked
from shared.orchestration.caller import Caller, OrchestratorLimits
from shared.orchestration.guard import present_errand

ASKED = Errand("root", 1_000, 2, ("top", "me"), ("above",), "m")
LIMIT = 900


async def present(monkeypatch, asked: Asked) -> Errand:
    async def stored_chat(person, chat_id):
        return SimpleNamespace(id=chat_id)

    async def stored_asked(chat_id, answer_id):
        return asked

    monkeypatch.setattr("shared.orchestration.guard.own_chat", stored_chat)
    monkeypatch.setattr("shared.orchestration.guard.asked_for", stored_asked)
    metadata = {"chat_id": "c", "message_id": "answer"}
    limits = OrchestratorLimits(max_seconds=LIMIT)
    return await present_errand(Caller(None, metadata, {"id": "me"}, limits))


@pytest.mark.parametrize(
    ("begun", "root", "depth", "started"),
    [(1_001, "root", 2, 1_000), (1_900, "root", 2, 1_000), (1_901, "answer", 0, 1_901)],
)
async def test_an_answer_after_the_errands_time_is_for_the_user(
    monkeypatch, begun, root, depth, started
):
    errand = await present(monkeypatch, Asked(ASKED, "answer", begun, begun))
    assert (errand.root, errand.depth, errand.started) == (root, depth, started)


@pytest.mark.parametrize("begun", [1_500, 5_000])
async def test_a_model_that_is_woken_stays_on_its_errand(monkeypatch, begun):
    errand = await present(monkeypatch, Asked(ASKED, "first", 1_001, begun))
    # Too late, its time is over.
    assert (errand.root, errand.depth, errand.started) == ("root", 2, 1_000)


@pytest.mark.parametrize(
    ("begun", "root", "started"), [(1_900, "first", 1_000), (1_901, "answer", 1_901)]
)
async def test_who_is_woken_for_a_person_begins_anew_when_the_time_is_over(
    monkeypatch, begun, root, started
):
    errand = await present(monkeypatch, Asked(None, "first", 1_000, begun))
    assert (errand.root, errand.depth, errand.started) == (root, 0, started)


def test_what_open_webui_asks_belongs_to_the_question_above():
    messages: dict[str, dict[str, Any]] = {
        "q": {"parentId": None, "meta": {"of": "a person"}},
        "a": {"parentId": "q"},
        "result": {"parentId": "a", "meta": {"internal": True, "type": "subagent"}},
        "b": {"parentId": "result"},
        "alarm": {"parentId": "b", "meta": {"internal": True, "type": "timer"}},
        "c": {"parentId": "alarm"},
        "next": {"parentId": "c"},
        "d": {"parentId": "next"},
    }
    for answer_id in ("a", "b", "c"):
        assert first_asked(messages, answer_id) == ("a", messages["q"])
    assert first_asked(messages, "d") == ("d", messages["next"])
    assert first_asked(messages, "gone") == ("gone", {})
    assert first_asked({"b": messages["b"], "result": messages["result"]}, "b") == (
        "b",
        messages["result"],
    )
