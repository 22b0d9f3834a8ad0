"""What tools return: answers, errors and what they cost."""

from __future__ import annotations

import ast
import json
import string
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.errors import AqueductError
from shared.host.errands import Errand, reported_tokens, used_tokens
from shared.host.model_facts import model_facts
from shared.orchestration.answers_told import ChatAnswer, answer_problem, answer_status
from shared.orchestration.caller import Caller, OrchestratorLimits
from shared.orchestration.guard import next_errand
from shared.orchestration.orchestrator_texts import ORCHESTRATOR_TEXTS
from shared.orchestration.tool_results import TOOL_ERRORS, clipped, json_error, run_tool

SHARED = Path(__file__).parents[3] / "shared"
LANGUAGES = {"en", "de", "es", "fr", "zh"}
CALL = {"type": "function_call", "call_id": "1"}
RESULT = {"type": "function_call_output", "call_id": "1"}


def caller(**limits: int) -> Caller:
    metadata = {"chat_id": "c", "message_id": "m"}
    return Caller(None, metadata, {"id": "me"}, OrchestratorLimits(**limits))


@pytest.mark.parametrize(
    ("message", "says", "running", "status"),
    [
        ({"done": True}, True, False, "answered"),
        ({"done": True}, False, False, "failed"),
        ({"done": False}, False, True, "running"),
        ({"done": False}, True, False, "stopped"),
        (
            {"done": True, "output": [{"status": "incomplete"}]},
            "half",
            False,
            "stopped",
        ),
        ({"done": True, "error": {"content": "no"}}, True, False, "failed"),
        (
            {"done": False, "output": [CALL | {"status": "requires_approval"}]},
            False,
            False,
            "waiting_for_user",
        ),
        (
            {"done": False, "output": [CALL | {"status": "pending"}, RESULT]},
            False,
            False,
            "stopped",
        ),
        ({}, False, False, "failed"),
    ],
)
def test_what_has_become_of_an_answer(message, says, running, status):
    assert answer_status(message, says, running) == status


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"content": "no memory"}, "no memory"),
        ({"message": "gone"}, "gone"),
        ("late", "late"),
        (True, ""),
        (None, ""),
    ],
)
def test_the_words_of_a_stored_error(error, told):
    assert answer_problem({"error": error}) == told


def test_a_long_answer_is_clipped_with_the_link():
    answer = ChatAnswer("c", "m", "luna", "answered", "x" * 500, (), "", "")
    told = answer.as_json(caller(max_chars=100), "Title")
    assert len(told["answer"]) == 100
    assert told["clipped"] == "100 of 500 characters"
    assert told["link"] == "/c/c"


@pytest.mark.parametrize(("text", "kept"), [("abc", "abc"), ("abcd", "ab…"), ("", "")])
def test_clipping(text, kept):
    assert clipped(text, 3) == kept


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"total_tokens": 7, "prompt_tokens": 1}, 7),
        ({"prompt_tokens": 3, "completion_tokens": 2}, 5),
        ({"input_tokens": 4, "output_tokens": 2}, 6),
        ({"prompt_tokens": None}, 0),
        ({}, 0),
    ],
)
def test_reported_tokens(usage, tokens):
    assert reported_tokens(usage) == tokens


def test_tokens_are_guessed_from_the_characters_where_none_are_reported():
    question = SimpleNamespace(content="x" * 80)
    answer = SimpleNamespace(content="y" * 40, usage=None)
    assert used_tokens(question, answer) == 30
    assert used_tokens(question, None) == 20


def test_an_errand_goes_down_one_step():
    top = Errand("root", 5, 0, ("me",), (), "")
    below = next_errand(caller(), top, ["luna"])
    assert below == Errand("root", 5, 1, ("me", "luna"), ("c",), "m")
    meta = json.loads(json.dumps(below.as_meta("chat")))
    assert Errand.from_meta(meta, "chat") == below
    assert Errand.from_meta(meta, "copy of the chat") is None
    assert Errand.from_meta({"task_id": "1"}, "chat") is None
    assert Errand.from_meta(None, "chat") is None


def test_an_errand_is_refused_at_the_bottom_and_in_a_circle():
    at_bottom = Errand("root", 5, 2, ("me", "luna"), ("c",), "m")
    with pytest.raises(AqueductError, match="too_deep"):
        next_errand(caller(max_depth=2), at_bottom, ["sol"])
    with pytest.raises(AqueductError, match="own_model"):
        next_errand(caller(max_depth=5), at_bottom, ["sol", "me"])


@pytest.mark.parametrize("code", TOOL_ERRORS)
def test_errors_say_what_is_wrong_and_what_to_do(code):
    template = " ".join(TOOL_ERRORS[code])
    names = {name for _, name, _, _ in string.Formatter().parse(template) if name}
    told = json_error(code, {name: f"<{name}>" for name in names})
    assert set(told) == {"error", "hint"}
    assert all(text.endswith((".", ">.")) for text in told.values())
    for name in names:
        assert f"<{name}>" in " ".join(told.values())


def test_chats_of_others_and_no_chats_are_one_error():
    codes = ("no_such_chat", "chat_gone", "chat_forbidden")
    told = [json_error(code, {}) for code in codes]
    assert told[0] == told[1] == told[2]
    one = json_error("no_such_model", {"model": "x", "candidates": ""})
    assert one == json_error("model_gone", {"model": "x"})


def raised_codes() -> set[str]:
    """The codes of all errors that the orchestrator's own modules raise."""
    modules = (
        "orchestration/answers_told orchestration/chats_told orchestration/conversations "
        "orchestration/group_talk orchestration/guard orchestration/talk orchestration/models_found "
        "orchestration/tag_changes orchestration/tags host/confirmations host/errands "
        "host/model_tags host/new_chats host/people host/turns"
    )
    return {
        node.args[0].value
        for module in modules.split()
        for node in ast.walk(ast.parse((SHARED / f"{module}.py").read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "AqueductError"
        and isinstance(node.args[0], ast.Constant)
    }


def test_every_error_has_its_words():
    # No summary is made here, and no button pressed.
    assert raised_codes() - {"no_summary", "direct_model"} <= set(TOOL_ERRORS)


@pytest.mark.parametrize("code", ORCHESTRATOR_TEXTS)
def test_texts_are_there_in_every_language_with_the_same_fields(code):
    sentences = ORCHESTRATOR_TEXTS[code]
    assert set(sentences) == LANGUAGES
    fields = [
        {name for _, name, _, _ in string.Formatter().parse(text) if name}
        for text in sentences.values()
    ]
    assert all(each == fields[0] for each in fields)


async def test_an_unexpected_error_is_logged_and_told_without_its_words(
    monkeypatch, caplog
):
    async def nobody(user_id: str) -> None:
        return None

    async def fail(known: Caller) -> dict[str, str]:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr("shared.orchestration.tool_results.current_person", nobody)
    told = json.loads(await run_tool(caller(), fail))
    assert "hunter2" not in str(told)
    trace_id = told["error"].partition("(")[2].split()[0]
    assert trace_id in caplog.text


@pytest.mark.parametrize(
    ("model", "size", "is_agent"),
    [
        ({}, None, False),
        ({"context_length": 4096}, 4096, False),
        ({"openai": {"max_model_len": 8192}}, 8192, False),
        ({"context_length": 0, "context_window": 16}, 16, False),
        ({"pipe": {"type": "pipe"}}, None, True),
        ({"info": {"base_model_id": "agents.x"}, "pipe": {}}, None, True),
    ],
)
def test_facts_of_models(model, size, is_agent):
    listed = {"agents.m" if "pipe" in model and "info" not in model else "m": model}
    listed["base"] = {"context_length": 99}
    state = SimpleNamespace(MODELS=listed)
    request = SimpleNamespace(app=SimpleNamespace(state=state))
    facts = model_facts(request, next(iter(listed)))
    assert (facts.context_size, facts.is_agent) == (size, is_agent)


def test_a_workspace_model_has_the_context_of_its_base():
    listed = {"m": {"info": {"base_model_id": "base"}}, "base": {"context_length": 99}}
    request = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(MODELS=listed)))
    assert model_facts(request, "m").context_size == 99
