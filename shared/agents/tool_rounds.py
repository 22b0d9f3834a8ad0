"""Tool calls between an agent and whoever runs the tools."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import orjson

from shared.backends.base import Turn
from shared.events import (
    AgentEvent,
    Failed,
    Finished,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
)


class ToolRunner(Protocol):
    """Whoever can run tools on this side."""

    def knows(self, name: str) -> bool: ...

    async def run(self, call: ToolCallCompleted) -> ToolResult: ...


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """What becomes of an agent's tool calls.

    `specs` maps the names of the offered tools to their parameter schemas.
    `runner` is set where the calls are run here (mode `execute`).
    """

    mode: Literal["native", "execute", "passthrough", "suppress"]
    unknown: Literal["error", "ignore", "passthrough"]
    max_rounds: int
    specs: Mapping[str, Mapping[str, Any]]
    runner: ToolRunner | None = None

    def hidden(self, name: str) -> bool:
        """Whether a call of this tool is shown only if the agent runs it itself."""
        if self.mode == "suppress":
            return True
        return self.unknown == "ignore" and name not in self.specs


@dataclass(slots=True)
class ToolRound:
    """What one model call said: passes events on, holds back hidden calls."""

    policy: ToolPolicy
    text: list[str] = field(default_factory=list)
    pending: dict[str, ToolCallCompleted] = field(default_factory=dict)
    finished: Finished = field(default_factory=Finished)
    _held: dict[str, list[AgentEvent]] = field(default_factory=dict)
    _held_names: dict[str, str] = field(default_factory=dict)

    @property
    def dropped(self) -> list[str]:
        """The tools of the calls that were held back to the end."""
        return list(self._held_names.values())

    def take(self, event: AgentEvent) -> list[AgentEvent]:
        """The events that may be shown now that this one came."""
        match event:
            case TextDelta(text):
                self.text.append(text)
            case Finished():
                self.finished = event
                return []
            case ToolCallStarted(call_id, name) if self.policy.hidden(name):
                self._held[call_id] = [event]
                self._held_names[call_id] = name
                return []
            case ToolCallArgumentsDelta(call_id) if call_id in self._held:
                self._held[call_id].append(event)
                return []
            case ToolCallCompleted(call_id):
                if call_id in self._held:
                    self._held[call_id].append(event)
                    return []
                self.pending[call_id] = event
            case ToolResult(call_id):
                self.pending.pop(call_id, None)
                self._held_names.pop(call_id, None)
                return [*self._held.pop(call_id, []), event]
        return [event]


async def answer_with_tools(
    run: Callable[[Turn], AsyncGenerator[AgentEvent, None]],
    turn: Turn,
    policy: ToolPolicy,
) -> AsyncGenerator[AgentEvent, None]:
    """An agent's answer, its tool calls treated by the policy.

    What is run or answered here goes back to the agent in a further model call, at
    most `max_rounds` times; then the agent is asked once more without tools, and
    what it calls all the same is refused. Calls that are left without a result when
    this ends are for the caller to run.
    """
    said = False
    for rounds_left in range(policy.max_rounds, -1, -1):
        if not rounds_left:
            turn = turn.without_tools()
        current = ToolRound(policy)
        events = run(turn)
        try:
            async for event in events:
                for shown in current.take(event):
                    yield shown
        finally:
            await events.aclose()
        said = said or bool(current.text)
        results: list[ToolResult] = []
        for call in current.pending.values():
            # One after another, as Open WebUI does: a later one may need the first.
            result = (
                await settle_call(call, policy)
                if rounds_left
                else failed_result(call, {"error": "No more calls are allowed."})
            )
            if result is not None:
                results.append(result)
                yield result
        answered = {result.call_id for result in results}
        if not answered or answered != set(current.pending):
            break
        turn = turn.with_messages(*round_messages(current, results))
    if current.dropped and not said and not current.pending:
        yield Failed("tool_not_allowed", {"tool": current.dropped[0]})
    if answered and not rounds_left and not current.text:
        yield Failed("too_many_tool_rounds", {"limit": policy.max_rounds})
    all_answered = bool(answered) and answered == set(current.pending)
    yield Finished() if all_answered else current.finished


async def settle_call(call: ToolCallCompleted, policy: ToolPolicy) -> ToolResult | None:
    """The result of one call, or None where it is the caller's to run."""
    runs_here = policy.runner is not None and policy.runner.knows(call.name)
    if call.name not in policy.specs and not runs_here:
        if policy.mode == "passthrough" or policy.unknown != "error":
            return None
        unknown = f"There is no tool `{call.name}`."
        return failed_result(call, {"error": unknown, "tools": [*policy.specs]})
    if policy.runner is None or not runs_here:
        return None
    error = arguments_error(call, policy.specs.get(call.name) or {})
    if error is not None:
        return failed_result(call, error)
    return await policy.runner.run(call)


def failed_result(call: ToolCallCompleted, error: Mapping[str, Any]) -> ToolResult:
    return ToolResult(call.call_id, orjson.dumps(error).decode(), failed=True)


def arguments_error(
    call: ToolCallCompleted, schema: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What a model needs to mend its call, or None where the call can be run.

    Names what is missing and gives an example and the schema.
    """
    try:
        arguments = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        arguments = None
    help_ = {"example": example_arguments(schema), "schema": dict(schema)}
    if not isinstance(arguments, dict):
        return {"error": "The arguments are not a JSON object.", **help_}
    missing = [name for name in schema.get("required") or () if name not in arguments]
    if not missing:
        return None
    return {"error": "Required arguments are missing.", "missing": missing, **help_}


EXAMPLE_VALUES: Mapping[str, Any] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


def example_arguments(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A value of the right type for each required property of a JSON schema."""
    properties = schema.get("properties") or {}
    names = schema.get("required") or list(properties)[:1]
    return {name: example_value(properties.get(name) or {}) for name in names}


def example_value(schema: Mapping[str, Any]) -> Any:
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    return EXAMPLE_VALUES.get(str(kind), "text")


def round_messages(
    current: ToolRound, results: list[ToolResult]
) -> list[dict[str, Any]]:
    """A round as messages: what the agent said and called, and what came back."""
    calls = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in current.pending.values()
    ]
    said = "".join(current.text) or None
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": said, "tool_calls": calls}
    ]
    for result in results:
        messages.append(
            {
                "role": "tool",
                "tool_call_id": result.call_id,
                "content": result.output,
            }
        )
    return messages
