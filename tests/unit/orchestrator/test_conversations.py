"""With which model a conversation goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from shared.errors import AqueductError
from shared.orchestration.conversations import model_of_chat
from tests.unit.orchestrator.models import by_id, model

ASKED = {"messages": {"a": {"id": "a", "role": "assistant", "model": "luna"}}}


def chat(history: dict[str, object], *models: str) -> SimpleNamespace:
    return SimpleNamespace(chat={"history": history, "models": list(models)})


def test_the_model_that_answered_last_goes_on():
    held = chat(ASKED | {"currentId": "a"}, "sol")
    assert model_of_chat(by_id(model("luna"), model("sol")), held).id == "luna"


def test_without_an_answer_it_is_the_chosen_one():
    assert model_of_chat(by_id(model("sol")), chat({}, "sol")).id == "sol"


@pytest.mark.parametrize(
    "other", [model("luna-2"), model("x", name="Luna"), model("lun")]
)
def test_a_model_that_is_gone_is_not_replaced_by_one_like_it(other):
    with pytest.raises(AqueductError) as raised:
        model_of_chat(by_id(other), chat(ASKED | {"currentId": "a"}, "luna"))
    assert raised.value.code == "model_of_chat_gone"
