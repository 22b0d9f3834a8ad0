"""An agent that follows a script, and somebody to run its tools."""

import asyncio

from shared.agents.tool_rounds import ToolPolicy, answer_with_tools
from shared.backends.base import Turn
from shared.events import (
    Finished,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
)

PATIENCE = 10.0  # seconds until a condition that does not come about fails a test
ADD = {
    "type": "object",
    "properties": {
        "x": {"type": "integer"},
        "unit": {"type": "string", "enum": ["kg", "lb"]},
        "note": {"type": "string"},
    },
    "required": ["x", "unit"],
}
SPECS = {"add": ADD, "clock": {"type": "object", "properties": {}}}
TOOLS = tuple(
    {"type": "function", "function": {"name": name, "parameters": parameters}}
    for name, parameters in SPECS.items()
)
ASKED = {"role": "user", "content": "How much?"}


class Agent:
    """An agent that says what is written for its n-th turn, the last one for good."""

    def __init__(self, *rounds) -> None:
        self.rounds = rounds
        self.turns = []
        self.closed = 0

    async def run(self, turn):
        self.turns.append(turn)
        said = self.rounds[min(len(self.turns), len(self.rounds)) - 1]
        try:
            for event in said:
                yield event
        finally:
            self.closed += 1


class Runner:
    """Runs `add` and `clock`; what they give back is a test's to say."""

    def __init__(self, names=("add", "clock"), output="six") -> None:
        self.names = names
        self.output = output
        self.ran = []

    def knows(self, name):
        return name in self.names

    async def run(self, call):
        self.ran.append((call.name, call.arguments))
        return ToolResult(call.call_id, self.output)


def calling(name, arguments="{}", call_id="a"):
    """The events of one call."""
    return (
        ToolCallStarted(call_id, name),
        ToolCallArgumentsDelta(call_id, arguments),
        ToolCallCompleted(call_id, name, arguments),
    )


ADD_CALL = calling("add", '{"x": 1, "unit": "kg"}')
CALLED = Finished("tool_calls")
ANSWERED = (TextDelta("Six."), Finished())


async def converse(
    agent, mode="native", unknown="error", runner=None, rounds=10, specs=SPECS
):
    if mode == "execute" and runner is None:
        runner = Runner()
    policy = ToolPolicy(mode, unknown, rounds, specs, runner)
    turn = Turn((ASKED,), TOOLS, {"tool_choice": "auto"})
    async with asyncio.timeout(PATIENCE):
        return [e async for e in answer_with_tools(agent.run, turn, policy)]


def results_of(events):
    return {e.call_id: e for e in events if isinstance(e, ToolResult)}


def left_to_the_caller(events):
    """The tools whose calls got no result."""
    done = results_of(events)
    return [
        e.name
        for e in events
        if isinstance(e, ToolCallCompleted) and e.call_id not in done
    ]
