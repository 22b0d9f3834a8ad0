"""A service behind a webhook: the scripted model itself, told of by fields alone."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.agents.answers import error, outcome, thoughts
from tests.e2e.backends.programs import ScriptedUpstream
from tests.e2e.backends.script import AFTER_THOUGHT, HELLO, THOUGHT
from tests.e2e.backends.seen import seen
from tests.e2e.backends.usual import listed_models
from tests.e2e.continue_with.presses import Tab
from tests.webui import WebUI

STREAM = "agents.stream"
WHOLE = "agents.whole"
PROGRAM = "a service with JSON and SSE"
DELTA = "choices[0].delta"


@pytest.fixture(autouse=True)
def entries(
    scripted_upstream: ScriptedUpstream,
    set_agents: Callable[[str], None],
    suite_installed: WebUI,
) -> None:
    """The service twice, in a stream and in one piece, and one that is slow."""
    url = f"{scripted_upstream.url}/v1/chat/completions"
    service = {"backend": "webhook", "url": url, "key": "x"}
    request = {"model": "any", "messages": "{messages}", "user": "{thread}"}
    stream = {
        "id": "stream",
        "name": "Stream",
        "request": {
            **request,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        "answer": {
            "text": f"{DELTA}.content",
            "thoughts": f"{DELTA}.reasoning_content",
            "usage": "usage",
        },
    }
    whole = {
        "id": "whole",
        "name": "Whole",
        "request": {**request, "stream": False},
        "answer": {"text": "choices[0].message.content", "error": "error.message"},
    }
    demo = {"url": f"{suite_installed.demo.url}/v1/chat/completions"}
    slow = {
        "id": "slow",
        "name": "Slow",
        "request": {**request, "model": "aqueduct-demo", "stream": True},
        "answer": {"text": f"{DELTA}.content"},
    }
    set_agents(json.dumps([service | stream, service | whole, service | slow | demo]))
    listed_models(suite_installed)


@pytest.mark.parametrize("model", [STREAM, WHOLE])
async def test_text(tab: Tab, model: str):
    answer = await (await tab.send(model, "Good morning")).answer()
    assert answer["content"] == HELLO
    seen("webhook", PROGRAM, "text")


async def test_thoughts_and_tokens(tab: Tab):
    answer = await (await tab.send(STREAM, "THINK")).answer()
    assert thoughts(answer) == THOUGHT
    assert answer["content"] == AFTER_THOUGHT
    seen("webhook", PROGRAM, "thoughts")
    assert answer["usage"]["completion_tokens"] > 0
    seen("webhook", PROGRAM, "usage")


async def test_a_branch_keeps_its_id_and_a_fork_gets_another(
    tab: Tab, scripted_upstream: ScriptedUpstream
):
    async def thread() -> str:
        return str(scripted_upstream.journal()[-1]["body"]["user"])

    first = await tab.send(WHOLE, "My word is plum.")
    await first.answer()
    begun = await thread()
    second = await tab.send(WHOLE, "The second is pear.", after=first)
    await second.answer()
    assert await thread() == begun
    seen("webhook", PROGRAM, "sessions")
    other = await tab.send(WHOLE, "The second is quince.", after=first)
    await other.answer()
    assert await thread() != begun
    assert "plum" in scripted_upstream.asked_last()
    seen("webhook", PROGRAM, "forks")


@pytest.mark.parametrize("model", [STREAM, WHOLE])
async def test_an_error_is_told(tab: Tab, model: str):
    answer = await (await tab.send(model, "ERR400")).answer()
    assert "Scripted bad request" in error(answer)


async def test_stop_closes_the_connection(tab: Tab, suite_installed: WebUI):
    suite_installed.demo.reset()
    turn = await tab.send("agents.slow", "/words 900 /slow 0.05")
    async for event in turn.events():
        if "water" in str(event["data"]):
            break
    await turn.stop()
    await turn.answer()
    assert await outcome(suite_installed.demo) == "cancelled"
    seen("webhook", PROGRAM, "cancel")
