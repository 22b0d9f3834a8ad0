"""Tool calls between an agent and whoever runs the tools."""

import asyncio
import json
from contextlib import aclosing

import pytest

from shared.agents.tool_rounds import ToolPolicy, answer_with_tools
from shared.backends.base import Turn
from shared.events import (
    Failed,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
    Usage,
)
from tests.unit.agents.conversation import (
    ADD_CALL,
    ANSWERED,
    ASKED,
    CALLED,
    PATIENCE,
    SPECS,
    TOOLS,
    Agent,
    Runner,
    calling,
    converse,
    left_to_the_caller,
    results_of,
)
from tests.unit.backends.support import calls_of, text_of


@pytest.mark.parametrize("mode", ["native", "execute", "passthrough", "suppress"])
async def test_an_answer_without_tools_is_passed_on_in_every_mode(mode):
    said = (
        ReasoningDelta("Hm"),
        TextDelta("Six."),
        Usage({"n": 1}),
        Finished("length"),
    )
    agent = Agent(said)
    assert await converse(agent, mode) == list(said)
    assert agent.closed == 1


@pytest.mark.parametrize("mode", ["native", "passthrough"])
async def test_a_known_call_is_the_callers_to_run(mode):
    agent = Agent((TextDelta("Let me see."), *ADD_CALL, CALLED))
    events = await converse(agent, mode)
    assert left_to_the_caller(events) == ["add"]
    assert events[-1] == CALLED
    assert len(agent.turns) == 1


@pytest.mark.parametrize("mode", ["native", "execute", "passthrough", "suppress"])
@pytest.mark.parametrize("unknown", ["error", "ignore", "passthrough"])
async def test_what_an_agent_runs_itself_is_shown_in_every_mode(mode, unknown):
    said = (*calling("its_own"), ToolResult("a", "noon"), *ANSWERED)
    agent = Agent(said)
    assert await converse(agent, mode, unknown) == list(said)
    assert len(agent.turns) == 1


async def test_execute_runs_the_tool_and_goes_on_to_the_answer():
    agent, runner = Agent((TextDelta("Hm. "), *ADD_CALL, CALLED), ANSWERED), Runner()
    events = await converse(agent, "execute", runner=runner)
    assert text_of(events) == "Hm. Six."
    assert results_of(events) == {"a": ToolResult("a", "six")}
    assert events[-1] == Finished()
    assert events.count(CALLED) == 0
    assert runner.ran == [("add", '{"x": 1, "unit": "kg"}')]
    assert agent.closed == 2


async def test_the_agent_is_told_what_it_called_and_what_came_back():
    agent = Agent((TextDelta("Hm."), *ADD_CALL, CALLED), ANSWERED)
    await converse(agent, "execute")
    asked, said, result = agent.turns[1].messages
    assert asked == ASKED
    assert said["role"] == "assistant"
    assert said["content"] == "Hm."
    [call] = said["tool_calls"]
    assert call["function"] == {"name": "add", "arguments": '{"x": 1, "unit": "kg"}'}
    assert result == {"role": "tool", "tool_call_id": call["id"], "content": "six"}
    assert agent.turns[1].tools == TOOLS


async def test_calls_of_one_round_run_one_after_another():
    """As Open WebUI's own loop does: a later call may need what an earlier one did."""
    running = []

    class Alone(Runner):
        async def run(self, call):
            assert not running
            running.append(call.call_id)
            await asyncio.sleep(0)
            running.clear()
            return ToolResult(call.call_id, call.call_id.upper())

    both = (*calling("clock", call_id="a"), *calling("clock", call_id="b"), CALLED)
    agent = Agent(both, ANSWERED)
    events = await converse(agent, "execute", runner=Alone())
    assert list(results_of(events)) == ["a", "b"]
    sent = [m["content"] for m in agent.turns[1].messages if m["role"] == "tool"]
    assert sent == ["A", "B"]


async def test_several_rounds():
    agent = Agent(
        (*calling("clock", call_id="a"), CALLED),
        (*calling("clock", call_id="b"), CALLED),
        ANSWERED,
    )
    events = await converse(agent, "execute")
    assert list(results_of(events)) == ["a", "b"]
    assert [len(turn.messages) for turn in agent.turns] == [1, 3, 5]


async def test_after_the_last_round_the_agent_has_to_answer_without_tools():
    agent = Agent(
        (*calling("clock", call_id="a"), CALLED),
        (*calling("clock", call_id="b"), CALLED),
        ANSWERED,
    )
    events = await converse(agent, "execute", rounds=2)
    assert text_of(events) == "Six."
    last = agent.turns[-1]
    assert last.tools == ()
    assert "tool_choice" not in last.params


@pytest.mark.parametrize("rounds", [1, 3])
async def test_an_agent_that_calls_without_end_is_asked_no_more_than_allowed(rounds):
    agent, runner = Agent((*calling("clock"), CALLED)), Runner()
    events = await converse(agent, "execute", runner=runner, rounds=rounds)
    assert len(runner.ran) == rounds
    assert len(agent.turns) == rounds + 1
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    ("mode", "name"), [("execute", "clock"), ("execute", "gone"), ("native", "gone")]
)
async def test_after_the_last_round_no_call_is_left_to_the_caller(mode, name):
    """Open WebUI would run it, or not find it, and begin all the rounds anew."""
    said = [(*calling(name, call_id=f"c{i}"), CALLED) for i in range(9)]
    events = await converse(Agent(*said), mode, rounds=3)
    assert left_to_the_caller(events) == []


async def test_one_bad_call_does_not_stop_the_good_one():
    calls = (
        *calling("add", "{}", "bad"),
        *calling("clock", call_id="good"),
        CALLED,
    )
    events = await converse(Agent(calls, ANSWERED), "execute")
    results = results_of(events)
    assert results["bad"].failed
    assert results["good"] == ToolResult("good", "six")


@pytest.mark.parametrize("mode", ["native", "execute"])
async def test_an_unknown_tool_is_told_to_the_agent(mode):
    agent = Agent((*calling("gone"), CALLED), ANSWERED)
    events = await converse(agent, mode, "error")
    [result] = results_of(events).values()
    assert result.failed
    error = json.loads(result.output)
    assert "gone" in error["error"]
    assert error["tools"] == ["add", "clock"]
    assert text_of(events) == "Six."
    assert events[-1] == Finished()


@pytest.mark.parametrize("mode", ["native", "execute", "passthrough"])
async def test_an_unknown_tool_may_be_ignored(mode):
    said = (TextDelta("Six."), *calling("gone"), CALLED)
    agent = Agent(said)
    events = await converse(agent, mode, "ignore")
    assert calls_of(events) == []
    assert text_of(events) == "Six."
    assert len(agent.turns) == 1
    assert not any(isinstance(event, Failed) for event in events)


@pytest.mark.parametrize("mode", ["native", "execute", "passthrough"])
async def test_an_unknown_tool_may_be_passed_through(mode):
    events = await converse(Agent((*calling("gone"), CALLED)), mode, "passthrough")
    assert left_to_the_caller(events) == ["gone"]


@pytest.mark.parametrize("unknown", ["error", "ignore", "passthrough"])
async def test_suppressed_calls_are_not_seen(unknown):
    said = (TextDelta("Six."), *ADD_CALL, *calling("gone", call_id="b"), CALLED)
    events = await converse(Agent(said), "suppress", unknown)
    assert calls_of(events) == []
    assert text_of(events) == "Six."


@pytest.mark.parametrize(
    ("mode", "unknown", "name"),
    [("suppress", "error", "add"), ("native", "ignore", "gone")],
)
async def test_an_answer_that_was_only_a_hidden_call_is_not_an_empty_one(
    mode, unknown, name
):
    events = await converse(Agent((*calling(name), CALLED)), mode, unknown)
    [failed] = [event for event in events if isinstance(event, Failed)]
    assert failed == Failed("tool_not_allowed", {"tool": name})


async def test_a_hidden_call_hides_nothing_else():
    said = (
        TextDelta("a"),
        ToolCallStarted("h", "gone"),
        TextDelta("b"),
        ToolCallArgumentsDelta("h", "{}"),
        ReasoningDelta("c"),
        ToolCallCompleted("h", "gone", "{}"),
        TextDelta("d"),
        Finished(),
    )
    events = await converse(Agent(said), "native", "ignore")
    assert events == [
        TextDelta("a"),
        TextDelta("b"),
        ReasoningDelta("c"),
        TextDelta("d"),
        Finished(),
    ]


async def test_of_a_known_and_an_unknown_call_the_known_one_is_left():
    calls = (*ADD_CALL, *calling("gone", call_id="b"), CALLED)
    agent = Agent(calls)
    events = await converse(agent, "native", "error")
    assert left_to_the_caller(events) == ["add"]
    assert results_of(events)["b"].failed
    assert not [event for event in events if isinstance(event, Failed)]
    assert len(agent.turns) == 1


async def test_a_tool_only_the_host_knows_can_be_run():
    """Open WebUI adds tools of its own that are not among the offered ones."""
    agent, runner = Agent((*calling("hidden"), CALLED), ANSWERED), Runner(("hidden",))
    await converse(agent, "execute", runner=runner)
    assert runner.ran == [("hidden", "{}")]


async def test_closing_the_answer_closes_the_agent():
    agent = Agent((TextDelta("a"), TextDelta("b"), Finished()))
    policy = ToolPolicy("native", "error", 10, SPECS)
    answer = answer_with_tools(agent.run, Turn((ASKED,)), policy)
    async with aclosing(answer):
        assert await anext(answer) == TextDelta("a")
    assert agent.closed == 1


async def test_a_stop_while_tools_run_stops_them():
    running, stopped = asyncio.Event(), asyncio.Event()

    class Hanging(Runner):
        async def run(self, call):
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

    agent = Agent((*calling("clock"), CALLED), ANSWERED)
    task = asyncio.create_task(converse(agent, "execute", runner=Hanging()))
    async with asyncio.timeout(PATIENCE):
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert stopped.is_set()
    assert len(agent.turns) == 1
