"""JSON that agents send: read leniently, and their fault where it cannot be read."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from shared.errors import UpstreamBroken
from shared.events import AgentEvent


def load_json(data: bytes) -> Any:
    """JSON as servers write it; raises UpstreamBroken for what is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return load_lenient_json(data)


def load_lenient_json(data: bytes) -> Any:
    """JSON that a strict reader refuses; raises UpstreamBroken for what is none.

    Python's servers write NaN, and JavaScript's cut an emoji in half: neither should
    end an answer.
    """
    try:
        lenient = json.dumps(json.loads(data), ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise UpstreamBroken("unreadable") from error
    halves = lenient.encode("utf-16", "surrogatepass")
    return json.loads(halves.decode("utf-16", "replace"))


def must_be_object(payload: Any) -> Mapping[str, Any]:
    """The payload; raises UpstreamBroken where it is no JSON object."""
    if not isinstance(payload, Mapping):
        raise UpstreamBroken("unreadable")
    return payload


def events_of(feed: Callable[..., list[AgentEvent]], *payload: Any) -> list[AgentEvent]:
    """What a decoder makes of a payload.

    JSON of another shape than the protocol's is the server's fault: UpstreamBroken.
    """
    try:
        return feed(*payload)
    except (AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise UpstreamBroken("unreadable") from error


def error_detail(payload: Any) -> str:
    """The sentence in an error object of any of the usual shapes, on one line.

    Shapes: {"error": {"message"}}, {"error": "…"}, {"detail"}, {"message"}.
    """
    for key in ("error", "detail", "message", "msg"):
        if isinstance(payload, Mapping) and payload.get(key):
            return error_detail(payload[key])
    if isinstance(payload, list) and payload:
        return error_detail(payload[0])
    return " ".join(payload.split()) if isinstance(payload, str) else ""
