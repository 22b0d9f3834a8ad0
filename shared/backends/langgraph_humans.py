"""What a LangGraph graph asks a human, and the value that lets it go on.

Formats: LangChain's `HumanInTheLoopMiddleware` (a HITLRequest is answered by
`{"decisions": […]}`), and LangGraph's HumanInterrupt before it (a list, answered by a
list). Any other value is a question that the user's words answer.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from shared.backends.call_paths import call_paths
from shared.backends.dialogs import ApprovalRequest, Dialogs, UserQuestion
from shared.backends.langgraph_stream import GraphInterrupt

QUESTION_KEYS = ("question", "message", "query", "prompt", "description", "text")
CHOICE_KEYS = ("choices", "options")
DENIED = "The user did not allow this."
UNANSWERED = "The user did not answer."


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
    if isinstance(value, Mapping) and value.get("action_requests"):
        allowed = {
            config.get("action_name"): config.get("allowed_decisions") or ()
            for config in value.get("review_configs") or ()
        }
        decisions = [
            await decide(dialogs, action, allowed.get(action.get("name"), ()))
            for action in value["action_requests"]
        ]
        return {"decisions": decisions}
    if isinstance(value, list) and value and is_inbox_request(value[0]):
        return [await decide_in_inbox(dialogs, request) for request in value]
    return await dialogs.ask(interrupt_question(value))


async def decide(
    dialogs: Dialogs, action: Mapping[str, Any], allowed: Collection[str]
) -> dict[str, Any]:
    """A decision about an ActionRequest {name, args, description}.

    Where a human can only respond, the tool is itself a question to them.
    """
    if "respond" in allowed and "approve" not in allowed:
        question = interrupt_question(action.get("args") or action)
        said = await dialogs.ask(question)
        return {"type": "respond", "message": said or UNANSWERED}
    if await dialogs.approve(action_approval(action)):
        return {"type": "approve"}
    if allowed and "reject" not in allowed and "respond" in allowed:
        return {"type": "respond", "message": DENIED}
    return {"type": "reject", "message": DENIED}


def is_inbox_request(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(
        value.get("action_request"), Mapping
    )


async def decide_in_inbox(
    dialogs: Dialogs, request: Mapping[str, Any]
) -> dict[str, Any]:
    """A decision about a HumanInterrupt {action_request: {action, args}, …}."""
    asked = request["action_request"]
    action = {"name": asked.get("action"), "args": asked.get("args")}
    if await dialogs.approve(action_approval(action)):
        return {"type": "accept", "args": None}
    return {"type": "ignore", "args": None}


def action_approval(action: Mapping[str, Any]) -> ApprovalRequest:
    """The permission that an action needs, its arguments in full."""
    arguments = action.get("args") or {}
    name = str(action.get("name") or "")
    detail = orjson.dumps(arguments, option=orjson.OPT_INDENT_2).decode()
    return ApprovalRequest(name, name, detail, call_paths(arguments))


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
