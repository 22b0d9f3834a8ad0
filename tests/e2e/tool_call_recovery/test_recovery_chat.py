"""Leaked calls in chats: run, answered, and out of sight."""

from __future__ import annotations

import asyncio

import pytest

from demo.leaks import SYNTAXES
from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import cards
from tests.e2e.agents.scene import TOOL_ID
from tests.e2e.tool_call_recovery.conftest import LEAKY
from tests.webui import WebUI

SUNNY = "It is 21 degrees and sunny in {}."


@pytest.mark.parametrize("syntax", SYNTAXES)
async def test_a_leaked_call_runs_and_the_answer_goes_on(
    chats: ChatSocket, leaky: WebUI, syntax: str
):
    turn = await chats.send(
        LEAKY, f"use get_weather in Paris as {syntax}", tool_ids=[TOOL_ID]
    )
    answer = await turn.answer()
    sunny = SUNNY.format("Paris")
    assert cards(answer) == [("get_weather", sunny, "completed")]
    kinds = [item["type"] for item in answer["output"] if item["type"] != "reasoning"]
    assert kinds == ["message", "function_call", "function_call_output", "message"]
    before, after = (
        item["content"][0]["text"]
        for item in answer["output"]
        if item["type"] == "message"
    )
    assert before.strip() == "I will ask `get_weather` for that."
    assert sunny in after
    assert len(leaky.demo.requests()) == 2
    told = [line["description"] for line in answer["statusHistory"]]
    assert told == ["Recovered a call to get_weather"]


async def test_two_chats_at_once(chats: ChatSocket):
    turns = [
        await chats.send(
            LEAKY, f"use get_weather in {city} as {syntax}", tool_ids=[TOOL_ID]
        )
        for city, syntax in [("Paris", "hermes"), ("Rome", "glm4"), ("Oslo", "kimi_k2")]
    ]
    answers = await asyncio.gather(*(turn.answer() for turn in turns))
    found = [cards(answer)[0][1] for answer in answers]
    assert found == [SUNNY.format(city) for city in ("Paris", "Rome", "Oslo")]


async def test_a_chat_goes_on_after_a_recovered_call(chats: ChatSocket):
    first = await chats.send(
        LEAKY, "use get_weather in Paris as hermes", tool_ids=[TOOL_ID]
    )
    await first.answer()
    second = await chats.send(
        LEAKY,
        "use get_weather in Rome as pythonic",
        after=first,
        tool_ids=[TOOL_ID],
    )
    answer = await second.answer()
    assert cards(answer) == [("get_weather", SUNNY.format("Rome"), "completed")]


async def test_an_explanation_of_leaks_stays_as_it_is(chats: ChatSocket):
    turn = await chats.send(LEAKY, "explain tool calls", tool_ids=[TOOL_ID])
    answer = await turn.answer()
    assert cards(answer) == []
    assert "```" in answer["content"]
    assert "<tool_call>" in answer["content"]
    assert "statusHistory" not in answer


async def test_an_agent_that_leaks_is_mended_by_the_pipe(chats: ChatSocket):
    turn = await chats.send(
        "agents.leaky", "use get_weather in Paris as hermes", tool_ids=[TOOL_ID]
    )
    answer = await turn.answer()
    assert cards(answer) == [("get_weather", SUNNY.format("Paris"), "completed")]
