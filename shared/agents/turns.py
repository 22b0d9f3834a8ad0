"""From Open WebUI's request to the turn an agent is given."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.agents.config import AgentConfig
from shared.backends.base import Turn
from shared.backends.dialogs import NOBODY, Dialogs

# What Open WebUI keeps in a request for itself; everything else is a parameter.
HOST_KEYS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "metadata",
        "params",
        "files",
        "features",
        "variables",
        "chat_id",
        "session_id",
        "id",
        "message_id",
        "message_ids",
        "parent_id",
        "parent_message",
        "user_message",
        "folder_id",
        "filter_ids",
        "tool_ids",
        "tool_servers",
        "skill_ids",
        "terminal_id",
        "background_tasks",
        "model_item",
        "user",
        "num_ctx",
        "keep_alive",
        "n",
        "chat_variables",
        "function_calling",
    }
)
MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")


def build_turn(
    agent: AgentConfig,
    body: Mapping[str, Any],
    *,
    user_id: str = "",
    chat_id: str = "",
    session: Mapping[str, Any] | None = None,
    forks: bool = False,
    dialogs: Dialogs = NOBODY,
    with_tools: bool = True,
) -> Turn:
    """The turn for this request: history without our own cards, the agent's prompt.

    The chat's own parameters win over the agent's.
    """
    offered = with_tools and agent.tools != "suppress"
    tools = tuple(body.get("tools") or ()) if offered else ()
    params = {
        key: value
        for key, value in body.items()
        if key not in HOST_KEYS and not key.startswith("_") and value is not None
    }
    if not tools:
        params.pop("tool_choice", None)
        params.pop("parallel_tool_calls", None)
    messages = clean_history(body.get("messages") or (), tool_names(tools))
    return Turn(
        messages=tuple(add_system_prompt(messages, agent.system)),
        tools=tools,
        params={**agent.params, **params},
        session=session,
        forks=forks,
        dialogs=dialogs,
        user_id=user_id,
        chat_id=chat_id,
    )


def tool_names(tools: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The names in Chat Completions tool specifications."""
    return frozenset(
        str((tool.get("function") or tool).get("name", "")) for tool in tools
    )


def call_ids(messages: Iterable[Mapping[str, Any]]) -> set[str]:
    """The ids of all tool calls in these messages."""
    return {
        str(call.get("id"))
        for message in messages
        for call in message.get("tool_calls") or ()
    }


def clean_history(
    messages: Iterable[Mapping[str, Any]], offered: frozenset[str]
) -> list[dict[str, Any]]:
    """The messages an agent gets: earlier turns without our own cards.

    What follows the last user message is this turn's own loop and stays whole: a
    call whose result went missing would be made again without end.
    """
    clean = [{k: m[k] for k in MESSAGE_KEYS if k in m} for m in messages]
    asked = max((i for i, m in enumerate(clean) if m.get("role") == "user"), default=0)
    return [*undo_own_cards(clean[:asked], offered), *clean[asked:]]


def undo_own_cards(
    messages: Iterable[Mapping[str, Any]], offered: frozenset[str]
) -> list[dict[str, Any]]:
    """History without the calls of tools that this request does not offer.

    Open WebUI replays every card of a chat as a tool call, also those of tools an
    agent ran by itself, which its server would not know as its caller's.
    """
    dropped: set[str] = set()
    kept: list[dict[str, Any]] = []
    for message in messages:
        if message.get("role") == "tool" and message.get("tool_call_id") in dropped:
            continue
        clean = dict(message)
        calls = clean.pop("tool_calls", None) or []
        known = [c for c in calls if (c.get("function") or {}).get("name") in offered]
        dropped |= call_ids([{"tool_calls": calls}]) - call_ids([{"tool_calls": known}])
        if known:
            clean["tool_calls"] = known
        elif calls and not clean.get("content"):
            continue
        previous = kept[-1] if kept else {}
        if can_merge(previous, clean):
            previous["content"] = f"{previous['content']}\n\n{clean['content']}"
        else:
            kept.append(clean)
    return kept


def can_merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two messages are halves of one answer, cut where a card was taken out."""
    return all(
        message.get("role") == "assistant"
        and isinstance(message.get("content"), str)
        and not message.get("tool_calls")
        for message in (first, second)
    )


def add_system_prompt(
    messages: list[dict[str, Any]], system: str
) -> list[dict[str, Any]]:
    """The agent's prompt before the chat's, in one system message."""
    if not system:
        return messages
    if messages and messages[0].get("role") == "system":
        content = messages[0].get("content")
        if isinstance(content, str):
            content = f"{system}\n\n{content}"
        else:
            content = [{"type": "text", "text": system}, *(content or [])]
        return [{**messages[0], "content": content}, *messages[1:]]
    return [{"role": "system", "content": system}, *messages]
