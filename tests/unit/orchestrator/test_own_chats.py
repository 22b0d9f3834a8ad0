"""Where a model may ask others, and look into the user's chats."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from shared.errors import AqueductError
from shared.orchestration.answers_told import collect_answers
from shared.orchestration.caller import Caller, OrchestratorLimits
from shared.orchestration.chats_told import told_chats, told_messages
from shared.orchestration.conversations import ModelQuestion, ask_model
from shared.orchestration.group_talk import hold_group_talk

OWNERS = {"own": "me", "not-mine": "you"}
WORKS = {
    "chat_with_model": lambda caller: ask_model(caller, ModelQuestion("Hi", "luna")),
    "collect": lambda caller: collect_answers(caller, ["own"]),
    "find_chats": lambda caller: told_chats(caller, ""),
    "read_chat": lambda caller: told_messages(caller, "own", 1),
    "let_models_talk": lambda caller: hold_group_talk(caller, ["luna", "sol"], "x", 1),
}
MODELS = [{"id": "luna", "name": "Luna"}, {"id": "sol", "name": "Sol"}]


async def stored_chat(person, chat_id):
    return SimpleNamespace(id=chat_id) if OWNERS.get(chat_id) == person.id else None


async def everybodys_models(request, person):
    return {each["id"]: SimpleNamespace(**each, meta={}) for each in MODELS}


@pytest.mark.parametrize(
    "chat_id", ["temporary:1", "local:1", "channel:1", "", "not-mine", "gone"]
)
@pytest.mark.parametrize("tool", WORKS)
async def test_only_a_stored_chat_of_the_users_own_will_do(monkeypatch, tool, chat_id):
    for module in ("guard", "chats_told", "conversations", "answers_told"):
        monkeypatch.setattr(f"shared.orchestration.{module}.own_chat", stored_chat)
    monkeypatch.setattr("shared.orchestration.caller.usable_models", everybodys_models)
    metadata = {"chat_id": chat_id, "message_id": "m"}
    caller = Caller(None, metadata, {"id": "top"}, OrchestratorLimits())
    caller = replace(caller, person=SimpleNamespace(id="me"))
    with pytest.raises(AqueductError) as raised:
        await WORKS[tool](caller)
    assert raised.value.code == "not_own_chat"
