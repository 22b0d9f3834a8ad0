"""Calls with the wrong arguments go back to the model with a way to mend them."""

import json

import pytest

from shared.agents.tool_rounds import arguments_error, example_arguments
from shared.events import ToolCallCompleted
from tests.unit.agents.conversation import (
    ADD,
    ANSWERED,
    CALLED,
    Agent,
    Runner,
    calling,
    converse,
    results_of,
)


async def test_missing_arguments_go_back_with_a_way_to_mend_them():
    agent = Agent((*calling("add", '{"x": 1}'), CALLED), ANSWERED)
    runner = Runner()
    events = await converse(agent, "execute", runner=runner)
    [result] = results_of(events).values()
    assert result.failed
    error = json.loads(result.output)
    assert error["missing"] == ["unit"]
    assert error["example"] == {"x": 1, "unit": "kg"}
    assert error["schema"] == ADD
    assert error["error"]
    assert runner.ran == []
    assert agent.turns[1].messages[-1]["content"] == result.output


@pytest.mark.parametrize("arguments", ["", "{", "[]", "null", '"x"', "5"])
async def test_arguments_that_are_no_object_go_back_too(arguments):
    agent = Agent((*calling("add", arguments), CALLED), ANSWERED)
    runner = Runner()
    [result] = results_of(await converse(agent, "execute", runner=runner)).values()
    assert result.failed
    assert json.loads(result.output)["schema"] == ADD
    assert runner.ran == []


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({}, {}),
        (ADD, {"x": 1, "unit": "kg"}),
        (
            {"properties": {"q": {"type": "string"}, "n": {"type": "integer"}}},
            {"q": "text"},
        ),
        (
            {
                "properties": {
                    "a": {"type": "number", "default": 2.5},
                    "b": {"type": ["boolean", "null"]},
                    "c": {"type": "array"},
                    "d": {"type": "object"},
                    "e": {"examples": ["like this"]},
                    "f": {},
                },
                "required": ["a", "b", "c", "d", "e", "f", "g"],
            },
            {
                "a": 2.5,
                "b": True,
                "c": [],
                "d": {},
                "e": "like this",
                "f": "text",
                "g": "text",
            },
        ),
    ],
)
def test_an_example_for_a_schema(schema, example):
    assert example_arguments(schema) == example


def test_an_example_is_a_call_that_could_be_run():
    example = json.dumps(example_arguments(ADD))
    assert arguments_error(ToolCallCompleted("a", "add", example), ADD) is None
