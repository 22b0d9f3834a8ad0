"""What a LangGraph graph asks a human, and the value that lets it go on.

Formats: LangChain's `HumanInTheLoopMiddleware` (a HITLRequest is answered by
`{"decisions": […]}`); any other value is a question that the user's words answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from shared.backends.dialogs import ApprovalRequest, Dialogs, UserQuestion
from shared.backends.langgraph_stream import GraphInterrupt

QUESTION_KEYS = ("question", "message", "query", "prompt", "description", "text")
CHOICE_KEYS = ("choices", "options")
DENIED = "The user did not allow this."


async def settle_interrupts(
    dialogs: Dialogs, interrupts: Sequence[GraphInterrupt]
) -> Any | None:
    """The `resume` of a Command for these, or None where the user gave no answer."""
    values: dict[str, Any] = {}
    for interrupt in interrupts:
        value = await settle_interrupt(dialogs, interrupt.value)
        if value is None:
            return None
        values[interrupt.interrupt_id] = value
    return resume_value(values)


def resume_value(values: Mapping[str, Any]) -> Any:
    """Answers by the ids of their interrupts; a single one stands by itself."""
    return values if len(values) > 1 else next(iter(values.values()))


async def settle_interrupt(dialogs: Dialogs, value: Any) -> Any | None:
    actions = value.get("action_requests") if isinstance(value, Mapping) else None
    if not actions:
        return await dialogs.ask(interrupt_question(value))
    decisions = []
    for action in actions:
        allowed = await dialogs.approve(action_approval(action))
        decisions.append(
            {"type": "approve"} if allowed else {"type": "reject", "message": DENIED}
        )
    return {"decisions": decisions}


def action_approval(action: Mapping[str, Any]) -> ApprovalRequest:
    """The permission that an ActionRequest {name, args, description} asks for."""
    arguments = action.get("args") or {}
    name = str(action.get("name") or "")
    paths = [
        value
        for key, value in arguments.items()
        if isinstance(value, str) and ("path" in key.lower() or "file" in key.lower())
    ]
    detail = orjson.dumps(arguments, option=orjson.OPT_INDENT_2).decode()
    return ApprovalRequest(name, name, detail, tuple(paths))


def interrupt_question(value: Any) -> UserQuestion:
    """The question in an interrupt's value: a text, or an object with one in it."""
    if isinstance(value, str):
        return UserQuestion(value)
    if isinstance(value, Mapping):
        for key in QUESTION_KEYS:
            if isinstance(value.get(key), str) and value[key]:
                return UserQuestion(value[key], question_choices(value))
    return UserQuestion(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def question_choices(value: Mapping[str, Any]) -> tuple[str, ...]:
    """The answers to choose among, where the object names them as texts."""
    for key in CHOICE_KEYS:
        choices = value.get(key)
        if isinstance(choices, list) and all(isinstance(c, str) for c in choices):
            return tuple(choices)
    return ()
