"""A turn as a request of Anthropic's Messages API.

Format: docs.claude.com, "Create a Message", "Tool use", "Extended thinking" and
"Prompt caching".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from shared.backends.base import Turn
from shared.backends.openai_chat import content_text
from shared.backends.transcript import TurnFile, message_files, message_text

DEFAULT_ANSWER_TOKENS = 8192
# Chat Completions parameters that the API does not know, or knows by another name.
NOT_ANTHROPIC = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "repeat_penalty",
        "response_format",
        "seed",
        "stop",
        "stream_options",
        "tool_choice",
        "top_logprobs",
        "user",
    }
)
# With thinking, the API takes none of these.
ANTHROPIC_SAMPLING = frozenset({"temperature", "top_p", "top_k"})
ANTHROPIC_EFFORTS = ("low", "medium", "high", "xhigh", "max")
ANTHROPIC_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
CACHE_MARK = {"cache_control": {"type": "ephemeral"}}

# The content of answers that called tools, as it came, by the id of the first call.
KeptAnswers = Mapping[str, Sequence[Mapping[str, Any]]]


def anthropic_body(
    model: str,
    turn: Turn,
    kept: KeptAnswers,
    server_tools: Sequence[Mapping[str, Any]] = (),
    cache: bool = True,
) -> dict[str, Any]:
    """The request for this turn, always streaming.

    The API demands the thinking before a call back, which only `kept` has. Where that
    is gone, the rounds after this call do without thinking. With `cache`, what the
    next request will repeat is marked for the prompt cache.
    """
    system = [anthropic_text(t) for t in system_prompts(turn.messages)]
    messages = anthropic_messages(turn.messages, kept)
    tools = [*map(anthropic_tool, turn.tools), *map(dict, server_tools)]
    params = anthropic_params(turn.params, bool(tools))
    if lacks_thoughts(turn.messages, kept):
        params.pop("thinking", None)
    if params.get("thinking"):
        params = {k: v for k, v in params.items() if k not in ANTHROPIC_SAMPLING}
    if cache:
        mark_for_cache(system, tools, messages)
    body = {
        **params,
        "model": model,
        "system": system,
        "messages": messages,
        "tools": tools,
        "stream": True,
    }
    return {k: v for k, v in body.items() if v not in (None, [])}


def anthropic_params(params: Mapping[str, Any], with_tools: bool) -> dict[str, Any]:
    """Chat Completions parameters in the API's names; its own go through as they are."""
    mapped = {k: v for k, v in params.items() if k not in NOT_ANTHROPIC}
    limit = params.get("max_completion_tokens") or params.get("max_tokens")
    budget = (mapped.get("thinking") or {}).get("budget_tokens") or 0
    mapped["max_tokens"] = limit or DEFAULT_ANSWER_TOKENS + budget
    stop = params.get("stop")
    if stop:
        mapped["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if params.get("reasoning_effort") in ANTHROPIC_EFFORTS:
        effort = {"effort": params["reasoning_effort"]}
        mapped["output_config"] = {**effort, **(mapped.get("output_config") or {})}
    if with_tools:
        mapped["tool_choice"] = anthropic_choice(params)
    return mapped


def anthropic_choice(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """`tool_choice` and `parallel_tool_calls` in the API's words."""
    wanted = params.get("tool_choice")
    choice: dict[str, Any] | None = None
    if isinstance(wanted, Mapping):
        function = wanted.get("function") or {}
        choice = {"type": "tool", "name": function.get("name")}
    elif wanted:
        choice = {"type": {"required": "any"}.get(wanted, wanted)}
    if params.get("parallel_tool_calls") is False:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return choice


def anthropic_tool(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tool of Chat Completions as the API's."""
    function = spec.get("function") or spec
    return {
        "name": function.get("name"),
        "description": function.get("description") or "",
        "input_schema": function.get("parameters") or {"type": "object"},
    }


def system_prompts(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    found = (m for m in messages if m.get("role") in ("system", "developer"))
    return [text for text in map(message_text, found) if text]


def anthropic_messages(
    messages: Iterable[Mapping[str, Any]], kept: KeptAnswers
) -> list[dict[str, Any]]:
    """Chat Completions messages as the API's: only user and assistant, by turns.

    All results of a round of calls have to stand in one message.
    """
    merged: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.get("role") == "assistant" else "user"
        if message.get("role") in ("system", "developer"):
            continue
        blocks = anthropic_blocks(message, kept)
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        elif blocks:
            merged.append({"role": role, "content": blocks})
    if merged and merged[-1]["role"] == "assistant":
        trim_last_text(merged[-1]["content"])
    return merged


def anthropic_blocks(
    message: Mapping[str, Any], kept: KeptAnswers
) -> list[dict[str, Any]]:
    """The content blocks of one message; the API takes no empty texts."""
    text = message_text(message)
    if message.get("role") == "tool":
        result = content_text(message.get("content"))
        return [
            {
                "type": "tool_result",
                "tool_use_id": message.get("tool_call_id"),
                "content": result or "(no output)",
            }
        ]
    blocks = [anthropic_text(text)] if text.strip() else []
    if message.get("role") == "assistant":
        calls = message.get("tool_calls") or ()
        if calls and (content := kept.get(str(calls[0].get("id")))):
            return [*map(dict, content)]
        return [*blocks, *map(tool_use_block, calls)]
    return [*map(attachment_block, message_files(message)), *blocks]


def anthropic_text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def tool_use_block(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of an assistant message; arguments that are no object become none."""
    function = call.get("function") or {}
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        arguments = {}
    return {
        "type": "tool_use",
        "id": call.get("id"),
        "name": function.get("name"),
        "input": arguments if isinstance(arguments, dict) else {},
    }


def attachment_block(file: TurnFile) -> dict[str, Any]:
    """An attachment: pictures, PDF and text; the model is told of any other by name."""
    kind = "image" if file.mime_type in ANTHROPIC_PICTURES else "document"
    readable = kind == "image" or file.mime_type == "application/pdf"
    if not file.inline and readable:
        return {"type": kind, "source": {"type": "url", "url": file.url}}
    if file.inline and file.mime_type.startswith("text/"):
        text = (file.read() or b"").decode("utf-8", "replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
        return {"type": "document", "source": source, "title": file.name}
    if not file.inline or not readable:
        return anthropic_text(f"(A file that cannot be read: {file.name}.)")
    source = {
        "type": "base64",
        "media_type": file.mime_type,
        "data": file.encoded,
    }
    return {"type": kind, "source": source}


def trim_last_text(blocks: list[dict[str, Any]]) -> None:
    """An answer that is to be continued must not end in white space."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()


def lacks_thoughts(messages: Sequence[Mapping[str, Any]], kept: KeptAnswers) -> bool:
    """Whether a call since the user's last message has lost the thoughts before it."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return False
        calls = message.get("tool_calls") or ()
        if calls and not kept.get(str(calls[0].get("id"))):
            return True
    return False


def mark_for_cache(
    system: list[dict[str, Any]],
    tools: list[dict[str, Any]],
    messages: list[dict[str, Any]],
) -> None:
    """Mark the ends of what stays the same; the API allows four marks.

    The tools, the system prompt, and the last two user messages: the one before this
    turn is where the turn before it has left its mark.
    """
    if tools:
        tools[-1] = {**tools[-1], **CACHE_MARK}
    if system:
        system[-1] |= CACHE_MARK
    users = [m for m in messages if m["role"] == "user"]
    for message in users[-2:]:
        message["content"][-1] |= CACHE_MARK
