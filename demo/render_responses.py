"""An answer as the Responses API sends it: named events, or one document.

Shapes: OpenAI's API reference, "Responses" and its streaming events. A tool the agent
ran itself is an `mcp_call` item, a tool of the caller a `function_call` item.
Reasoning comes as raw `reasoning_text`, or as a summary when the request asks for one.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

from demo.acts import Act, Call, Citation, OwnCall, Picture, Reply, Say, Think, pieces
from demo.delivery import Frame
from demo.render_chat import Kind

SERVER_LABEL = "aqueduct-demo"

Events = Iterator[tuple[str, dict[str, Any]]]


def stream(reply: Reply) -> Iterator[Frame]:
    """The frames of a streamed answer, from `response.created` to its end."""
    for number, (name, fields) in enumerate(_events(reply)):
        yield _frame(number, name, fields)


def document(reply: Reply) -> dict[str, Any]:
    """The whole answer as one `response`: what the last event of a stream carries."""
    response: dict[str, Any] = {}
    for _, fields in _events(reply):
        response = fields.get("response", response)
    return response


def error(reply: Reply, number: int) -> list[Frame]:
    """An error inside a stream that has begun, as its events from `number` on."""
    problem = {
        "code": "server_error",
        "message": "The demo agent broke off, as it was asked to.",
    }
    failed = {**_response(reply, "failed", []), "error": problem}
    return [
        _frame(number, "error", {**problem, "param": None}),
        _frame(number + 1, "response.failed", {"response": failed}),
    ]


def _events(reply: Reply) -> Events:
    """Names and fields of all events; each output item is added, filled and done."""
    output: list[dict[str, Any]] = []
    opening = {"response": _response(reply, "in_progress", [])}
    yield "response.created", opening
    yield "response.in_progress", opening
    for index, act in enumerate(reply.acts):
        item, filling = _item(reply, act, index)
        place = {"output_index": index}
        at = {"item_id": item["id"], **place}
        yield "response.output_item.added", {**place, "item": _emptied(item)}
        for name, fields in filling:
            yield f"response.{name}", {**at, **fields}
        yield "response.output_item.done", {**place, "item": item}
        output.append(item)
    status = "incomplete" if reply.truncated else "completed"
    yield f"response.{status}", {"response": _response(reply, status, output)}


def _item(reply: Reply, act: Act, index: int) -> tuple[dict[str, Any], Events]:
    """The finished output item of an act, and the events which fill it."""
    key = f"{reply.digest}_{index}"
    match act:
        case Think(text):
            return _reasoning(key, text, reply.summarize)
        case Say(text, citations, fine):
            return _message(key, text, citations, fine)
        case OwnCall():
            return _mcp_call(key, act)
        case Call(name, arguments):
            item = {
                "type": "function_call",
                "id": f"fc_{key}",
                "call_id": f"call_{key}",
                "name": name,
                "arguments": json.dumps(arguments, ensure_ascii=False),
                "status": "completed",
            }
            return item, _arguments("function_call_arguments", item)
        case Picture(png):
            item = {
                "type": "image_generation_call",
                "id": f"ig_{key}",
                "status": "completed",
                "result": base64.b64encode(png).decode(),
            }
            steps = ("in_progress", "generating", "completed")
            return item, ((f"image_generation_call.{step}", {}) for step in steps)


def _reasoning(key: str, text: str, summarize: bool) -> tuple[dict[str, Any], Events]:
    part = {"type": "summary_text" if summarize else "reasoning_text", "text": text}
    item = {
        "type": "reasoning",
        "id": f"rs_{key}",
        "summary": [part] if summarize else [],
        "content": [] if summarize else [part],
        "status": "completed",
    }
    return item, _summary(part) if summarize else _thought(part)


def _summary(part: dict[str, Any]) -> Events:
    at = {"summary_index": 0}
    yield "reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}
    for piece in pieces(part["text"]):
        yield "reasoning_summary_text.delta", {**at, "delta": piece}
    yield "reasoning_summary_text.done", {**at, "text": part["text"]}
    yield "reasoning_summary_part.done", {**at, "part": part}


def _thought(part: dict[str, Any]) -> Events:
    for piece in pieces(part["text"]):
        yield "reasoning_text.delta", {"content_index": 0, "delta": piece}
    yield "reasoning_text.done", {"content_index": 0, "text": part["text"]}


def _message(
    key: str, text: str, citations: tuple[Citation, ...], fine: bool
) -> tuple[dict[str, Any], Events]:
    notes = [_annotation(source) for source in citations]
    part = {"type": "output_text", "text": text, "annotations": notes, "logprobs": []}
    item = {
        "type": "message",
        "id": f"msg_{key}",
        "role": "assistant",
        "content": [part],
        "status": "completed",
    }
    return item, _text(part, fine)


def _text(part: dict[str, Any], fine: bool) -> Events:
    at = {"content_index": 0}
    empty = {**part, "text": "", "annotations": []}
    yield "content_part.added", {**at, "part": empty}
    for piece in pieces(part["text"], fine):
        yield "output_text.delta", {**at, "delta": piece, "logprobs": []}
    for number, note in enumerate(part["annotations"]):
        fields = {**at, "annotation_index": number, "annotation": note}
        yield "output_text.annotation.added", fields
    yield "output_text.done", {**at, "text": part["text"], "logprobs": []}
    yield "content_part.done", {**at, "part": part}


def _mcp_call(key: str, call: OwnCall) -> tuple[dict[str, Any], Events]:
    status = "failed" if call.failed else "completed"
    item = {
        "type": "mcp_call",
        "id": f"mcp_{key}",
        "server_label": SERVER_LABEL,
        "name": call.name,
        "arguments": json.dumps(call.arguments, ensure_ascii=False),
        "output": None if call.failed else call.output,
        "error": call.output if call.failed else None,
        "status": status,
    }
    return item, _own_call(item)


def _own_call(item: dict[str, Any]) -> Events:
    yield "mcp_call.in_progress", {}
    yield from _arguments("mcp_call_arguments", item)
    yield f"mcp_call.{item['status']}", {}


def _arguments(name: str, item: dict[str, Any]) -> Events:
    for piece in pieces(item["arguments"]):
        yield f"{name}.delta", {"delta": piece}
    done = {"arguments": item["arguments"]}
    if item["type"] == "function_call":
        done["name"] = item["name"]
    yield f"{name}.done", done


def _emptied(item: dict[str, Any]) -> dict[str, Any]:
    """The item as it is announced, before anything is in it."""
    blank = {"arguments": "", "content": [], "summary": []}
    unknown = dict.fromkeys(("output", "error", "result"))
    gone = {key: value for key, value in (blank | unknown).items() if key in item}
    return {**item, **gone, "status": "in_progress"}


def _annotation(source: Citation) -> dict[str, Any]:
    return {
        "type": "url_citation",
        "url": source.url,
        "title": source.title,
        "start_index": source.start,
        "end_index": source.end,
    }


def _response(
    reply: Reply, status: str, output: list[dict[str, Any]]
) -> dict[str, Any]:
    details = {"reason": "max_output_tokens"} if status == "incomplete" else None
    return {
        "id": f"resp_{reply.digest}",
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "model": reply.model,
        "output": output,
        "error": None,
        "incomplete_details": details,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _usage(reply) if status in ("completed", "incomplete") else None,
    }


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "input_tokens": reply.usage.prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": reply.usage.answer,
        "output_tokens_details": {"reasoning_tokens": reply.usage.reasoning},
        "total_tokens": reply.usage.total,
    }


def _frame(number: int, name: str, fields: dict[str, Any]) -> Frame:
    body = {"type": name, "sequence_number": number, **fields}
    return Frame(json.dumps(body, ensure_ascii=False), name, _kind(name))


def _kind(name: str) -> Kind:
    if not name.endswith(".delta"):
        return "other"
    if "reasoning" in name:
        return "think"
    return "text" if "output_text" in name else "tool"
