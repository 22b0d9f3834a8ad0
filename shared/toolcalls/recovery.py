"""Tool-call recovery as Open WebUI's filter hooks need it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.toolcalls.choices import ChoiceStream
from shared.toolcalls.cleaning import append_text, clean_messages
from shared.toolcalls.options import RecoveryOptions
from shared.toolcalls.pieces import RecoveredCall
from shared.toolcalls.sentences import recovery_sentence
from shared.toolcalls.streams import MessageStream, StreamStore

ChunkEvent = dict[str, Any]

_MARK_KEY = "aqueduct_recovery_mark"
_TOOLS_KEY = "aqueduct_tool_specs"


@dataclass(slots=True)
class RecoveryCall:
    """What Open WebUI tells a hook about the request; what it leaves out is empty."""

    options: RecoveryOptions
    metadata: Mapping[str, Any]
    body: Mapping[str, Any]
    model: Mapping[str, Any]
    request: Any = None

    def key(self, event: ChunkEvent) -> str:
        """Whose stream of which message it is; API callers have no message, only the
        request and the completion's id."""
        message = self.metadata.get("message_id")
        if not message:
            message = f"{self._request_mark()}:{event.get('id')}"
        return f"{self.metadata.get('user_id')}:{message}"

    def _request_mark(self) -> str:
        """A mark of the request itself: ids of objects are used again."""
        state = getattr(self.request, "state", None)
        if state is None:
            return ""
        if not hasattr(state, _MARK_KEY):
            setattr(state, _MARK_KEY, uuid.uuid4().hex)
        return str(getattr(state, _MARK_KEY))

    def tools(self) -> list[Mapping[str, Any]]:
        """The specs of the request's tools: those sent, and those found on demand."""
        state = getattr(self.request, "state", None)
        sent = self.body.get("tools") or getattr(state, _TOOLS_KEY, None) or ()
        kept = self.metadata.get("tools") or {}
        tools = kept.values() if isinstance(kept, Mapping) else kept
        return [*sent, *(tool.get("spec", tool) for tool in tools)]

    def remember_tools(self) -> None:
        """Keep the tools of a request for its stream, which may not be told them."""
        state = getattr(self.request, "state", None)
        if state is not None:
            setattr(state, _TOOLS_KEY, list(self.body.get("tools") or ()))


def recover_event(
    event: ChunkEvent, call: RecoveryCall, streams: StreamStore
) -> tuple[ChunkEvent | None, Sequence[RecoveredCall]]:
    """A streamed event as it goes on (None: not at all), and what was recovered in it.

    Events that are no chat.completion.chunk, such as the Responses events of pipes,
    pass untouched.
    """
    choices = event.get("choices")
    if not isinstance(choices, list):
        return event, ()
    key = call.key(event)
    stream = streams.get(key)
    if stream is None:
        if not choices or (stream := _new_stream(call)) is None:
            return event, ()
        streams.add(key, stream)
    passed: ChunkEvent | None = event
    if choices:
        passed = stream.pass_on(event)
    elif event.get("usage") and not event.get("error"):
        # Usage comes last: no chunk has said that the message ended.
        event["choices"] = stream.end()
    return passed, stream.take_found()


def _new_stream(call: RecoveryCall) -> MessageStream | None:
    """A stream for a message whose tools are known and whose model is not left out."""
    options = call.options
    if options.off_for_models and options.is_off_for(call.model):
        return None
    tools = distinct_tools(call.tools())
    if not tools:
        return None
    notice = recovery_sentence("cut", call.metadata)
    return MessageStream(
        lambda: ChoiceStream(
            tools,
            leave_out=options.left_out(),
            thoughts=options.scan_thoughts,
            cut_notice=notice,
        )
    )


def distinct_tools(specs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first spec of each name."""
    found: dict[str, Mapping[str, Any]] = {}
    for spec in specs:
        name = (spec.get("function") or spec).get("name")
        if isinstance(name, str):
            found.setdefault(name, spec)
    return list(found.values())


def mend_saved(body: dict[str, Any], call: RecoveryCall, streams: StreamStore) -> None:
    """Clean an outlet's messages in place.

    What a stream still held when it broke off is added to its message; leaked markup of
    known tools is taken out of all the branch. Nothing is executed.
    """
    messages = body.get("messages") or []
    stream = streams.pop(call.key(body))
    if stream is not None:
        held = "".join(one["delta"].get("content", "") for one in stream.end())
        own = next((m for m in messages if m.get("id") == body.get("id")), None)
        if own is not None:
            append_text(own, held)
    if call.options.off_for_models and call.options.is_off_for(call.model):
        return
    tools = distinct_tools(call.tools())
    if tools:
        clean_messages(messages, tools, call.options.left_out())
