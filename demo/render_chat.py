"""An answer as Chat Completions: chunks of a stream, or one document.

Shapes: OpenAI's API reference, "Chat" (chat.completion and chat.completion.chunk).
Beyond it, as servers commonly send them: `reasoning_content` for reasoning, `images`
for pictures and, for tools the server ran itself, `tool_calls` followed by a delta
`{"role": "tool", "tool_call_id", "content"}` with the result.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any, Literal

from demo.acts import Call, Citation, OwnCall, Picture, Reply, Say, Think, pieces
from demo.delivery import Frame

Kind = Literal["think", "text", "tool", "other"]
DONE = Frame("[DONE]")


def stream(reply: Reply) -> Iterator[Frame]:
    """The frames of a streamed answer, `[DONE]` included."""
    index = offset = 0
    yield _chunk(reply, {"role": "assistant", "content": ""})
    for act in reply.acts:
        match act:
            case Think(text):
                for piece in pieces(text):
                    yield _chunk(reply, {reply.reasoning_field: piece}, "think")
            case Say(text, citations, fine):
                for piece in pieces(text, fine):
                    yield _chunk(reply, {"content": piece}, "text")
                if citations:
                    notes = [_annotation(source, offset) for source in citations]
                    yield _chunk(reply, {"annotations": notes})
                offset += len(text)
            case Call() | OwnCall():
                yield from _call(reply, act, index)
                index += 1
            case Picture(png):
                yield _chunk(reply, {"images": [_image(png)]})
    yield _chunk(reply, {}, finish_reason=_finish_reason(reply))
    if reply.include_usage:
        yield _frame(reply, {"choices": [], "usage": _usage(reply)})
    yield DONE


def document(reply: Reply) -> dict[str, Any]:
    """The whole answer as one `chat.completion`.

    The agent's own calls are left out: a call in a finished answer is one which the
    caller has to run.
    """
    thoughts = [act.text for act in reply.acts if isinstance(act, Think)]
    said = [act for act in reply.acts if isinstance(act, Say)]
    calls = [act for act in reply.acts if isinstance(act, Call)]
    images = [_image(act.png) for act in reply.acts if isinstance(act, Picture)]
    message: dict[str, Any] = {"role": "assistant"}
    message["content"] = "".join(act.text for act in said) or None
    if thoughts:
        message[reply.reasoning_field] = "\n\n".join(thoughts)
    if calls:
        message["tool_calls"] = [_tool_call(reply, c, i) for i, c in enumerate(calls)]
    if images:
        message["images"] = images
    offset = 0
    for act in said:
        notes = [_annotation(source, offset) for source in act.citations]
        message.setdefault("annotations", []).extend(notes)
        offset += len(act.text)
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(reply)}
    head = _head(reply, "chat.completion")
    return {**head, "choices": [choice], "usage": _usage(reply)}


def error(reply: Reply, number: int) -> list[Frame]:
    """An error inside a stream that has begun."""
    body = {
        "message": "The demo agent broke off, as it was asked to.",
        "type": "server_error",
        "param": None,
        "code": "demo_break",
    }
    return [Frame(json.dumps({"error": body})), DONE]


def _call(reply: Reply, call: Call | OwnCall, index: int) -> Iterator[Frame]:
    """A call in fragments: id and name, then the arguments, then perhaps a result."""
    whole = _tool_call(reply, call, index)
    arguments = whole["function"]["arguments"]
    opening = {**whole, "function": {"name": call.name, "arguments": ""}}
    yield _chunk(reply, {"tool_calls": [{"index": index, **opening}]}, "tool")
    for piece in pieces(arguments):
        fragment = {"index": index, "function": {"arguments": piece}}
        yield _chunk(reply, {"tool_calls": [fragment]}, "tool")
    if isinstance(call, OwnCall):
        result = {"role": "tool", "tool_call_id": whole["id"], "content": call.output}
        yield _chunk(reply, result, "tool")


def _tool_call(reply: Reply, call: Call | OwnCall, index: int) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {
        "id": f"call_{reply.digest}_{index}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _annotation(source: Citation, offset: int) -> dict[str, Any]:
    cited = {
        "url": source.url,
        "title": source.title,
        "start_index": source.start + offset,
        "end_index": source.end + offset,
    }
    return {"type": "url_citation", "url_citation": cited}


def _image(png: bytes) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.usage.prompt,
        "completion_tokens": reply.usage.answer,
        "total_tokens": reply.usage.total,
        "completion_tokens_details": {"reasoning_tokens": reply.usage.reasoning},
    }


def _finish_reason(reply: Reply) -> str:
    if reply.truncated:
        return "length"
    return "tool_calls" if reply.calls else "stop"


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{reply.digest}",
        "object": kind,
        "created": reply.created,
        "model": reply.model,
    }


def _chunk(
    reply: Reply,
    delta: dict[str, Any],
    kind: Kind = "other",
    finish_reason: str | None = None,
) -> Frame:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _frame(reply, {"choices": [choice]}, kind)


def _frame(reply: Reply, fields: dict[str, Any], kind: Kind = "other") -> Frame:
    body = {**_head(reply, "chat.completion.chunk"), **fields}
    return Frame(json.dumps(body, ensure_ascii=False), kind=kind)
