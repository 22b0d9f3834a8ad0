"""Leaked tool calls in the pipe: made real, everything else left in its order."""

import pytest

from shared.agents.recovery import recover_leaked_calls
from shared.backends.base import Turn
from shared.errors import UpstreamBroken
from shared.events import (
    Citation,
    Finished,
    ReasoningDelta,
    Status,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    Usage,
)
from tests.unit.backends.support import (
    calls_of,
    collect,
    reason_of,
    text_of,
    thoughts_of,
)

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"x": {"type": "integer"}},
            "required": ["x"],
        },
    },
}
TURN = Turn(({"role": "user", "content": "Hi"},), (ADD,))
LEAK = '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>'
CALLED = [("add", '{"x":1}')]


def sentence(code, fields):
    return f"[{code} {dict(fields)}]"


async def recover(*said, error=None):
    async def source():
        for event in said:
            yield event
        if error:
            raise error

    told, raised = await collect(recover_leaked_calls(source(), TURN, sentence))
    assert raised is error
    return told


def compact(calls):
    return [(name, arguments.replace(" ", "")) for name, arguments in calls]


async def test_what_leaks_nothing_is_passed_on_as_it_is():
    said = [
        ReasoningDelta("Hm"),
        TextDelta("Six "),
        Citation("https://x"),
        TextDelta("apples."),
        Usage({"n": 1}),
        Finished("length"),
    ]
    told = await recover(*said)
    assert (thoughts_of(told), text_of(told)) == ("Hm", "Six apples.")
    assert [e for e in told if isinstance(e, Citation | Usage | Finished)] == [
        said[2],
        said[4],
        said[5],
    ]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_leaked_call_becomes_a_real_one(size):
    text = f"Let me see.\n{LEAK}"
    pieces = [TextDelta(text[i : i + size]) for i in range(0, len(text), size)]
    told = await recover(*pieces, Finished())
    assert text_of(told).strip() == "Let me see."
    assert compact(calls_of(told)) == CALLED
    assert reason_of(told) == "tool_calls"


async def test_a_user_is_told_of_it_and_the_line_does_not_go_on():
    told = await recover(TextDelta(LEAK), Finished())
    statuses = [event for event in told if isinstance(event, Status)]
    assert statuses == [Status("[recovered {'tool': 'add'}]", done=True)]


async def test_a_call_leaked_in_a_thought_is_a_call_too():
    told = await recover(ReasoningDelta(f"Hm.\n{LEAK}"), Finished())
    assert thoughts_of(told).strip() == "Hm."
    assert compact(calls_of(told)) == CALLED


async def test_text_comes_before_a_real_call_that_follows_it():
    call = (
        ToolCallStarted("a", "add"),
        ToolCallArgumentsDelta("a", '{"x": 2}'),
        ToolCallCompleted("a", "add", '{"x": 2}'),
    )
    told = await recover(TextDelta("Look: <"), *call, Finished("tool_calls"))
    assert told[0] == TextDelta("Look: <") or text_of(told[:2]) == "Look: <"
    assert told[-4:] == [*call, Finished("tool_calls")]


async def test_a_call_that_was_cut_at_the_limit_is_explained_and_not_run():
    told = await recover(TextDelta("Hm. " + LEAK[:30]), Finished("length"))
    assert calls_of(told) == []
    assert "[cut {}]" in text_of(told)
    assert reason_of(told) == "length"


async def test_nothing_is_run_and_no_text_lost_when_the_stream_breaks():
    error = UpstreamBroken("cut_short")
    told = await recover(TextDelta("Hm. " + LEAK[:30]), error=error)
    assert calls_of(told) == []
    assert text_of(told).startswith("Hm.")
    told = await recover(TextDelta("a <"), error=error)
    assert text_of(told) == "a <"
