"""From agent events to the response that Open WebUI hands on."""

import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from starlette.responses import StreamingResponse

from shared.errors import AqueductError
from shared.events import AgentEvent, Failed
from shared.render.chunks import CompletionRenderer
from shared.render.items import ChatRenderer, status_event
from shared.render.joining import joined

EventEmitter = Callable[[dict[str, Any]], Awaitable[None]]

answers_log = logging.getLogger("aqueduct.agents")

HTTP_STATUS_OF_CODE = {
    "status_429": 429,
    "status_429_wait": 429,
    "silent_first": 504,
    "silent_between": 504,
    "connect_timeout": 504,
    "unknown_agent": 404,
    "internal": 500,
}


async def guarded(
    events: AsyncGenerator[AgentEvent, None], names: Mapping[str, Any]
) -> AsyncGenerator[AgentEvent, None]:
    """The same events; whatever is raised becomes a last `Failed`.

    Open WebUI loses the partial answer when a started generator raises. `names`
    (agent and host) fill the sentence.
    """
    try:
        async for event in events:
            if isinstance(event, Failed):
                event = Failed(event.code, {**names, **event.fields})
            yield event
    except AqueductError as error:
        answers_log.info("Turn failed: %r", error)
        yield Failed(error.code, {**names, **error.fields})
    except Exception:  # noqa: BLE001
        # The entry point: a fault of ours must end in a sentence, too.
        error_id = uuid.uuid4().hex[:8]
        answers_log.exception("Turn failed, error %s", error_id)
        yield Failed("internal", {**names, "id": error_id})
    finally:
        await events.aclose()


def server_sent(payload: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def event_stream(body: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """Bytes that Open WebUI passes on or reads, one event in each piece.

    A response of our own, where Open WebUI would wrap a generator, keeps our
    finish_reason: its wrapper ends every stream with `stop`.
    """
    return StreamingResponse(body, media_type="text/event-stream")


async def chat_stream(
    events: AsyncGenerator[AgentEvent, None],
    renderer: ChatRenderer,
    emit: EventEmitter | None,
) -> AsyncGenerator[bytes, None]:
    """The turn as output items, for a chat."""
    try:
        async with aclosing(joined(events)) as turn:
            async for event in turn:
                for item in renderer.render(event):
                    yield server_sent(item)
        yield b"data: [DONE]\n\n"
    finally:
        # Stopped: nothing can be yielded any more, but a status must not shimmer on.
        if renderer.open_status is not None and emit is not None:
            await emit(status_event(renderer.open_status, True)["event"])


async def completion_stream(
    events: AsyncGenerator[AgentEvent, None], renderer: CompletionRenderer
) -> AsyncGenerator[bytes, None]:
    """The turn as Chat Completions chunks, for an API caller."""
    async with aclosing(joined(events, frame=0.0)) as turn:
        async for event in turn:
            for chunk in renderer.render(event):
                yield server_sent(chunk)
    yield b"data: [DONE]\n\n"


async def whole_completion(
    events: AsyncGenerator[AgentEvent, None],
    renderer: CompletionRenderer,
    in_chat: bool,
) -> dict[str, Any] | StreamingResponse:
    """The turn as one Chat Completions object, or its error.

    Open WebUI answers 200 whatever a pipe returns, save for a response of its own
    kind: so an API caller's client gets the status that belongs to the error.
    """
    failed: Failed | None = None
    try:
        async for event in events:
            if isinstance(event, Failed):
                failed = event
            renderer.add(event)
    finally:
        await events.aclose()
    if failed is None:
        return renderer.completion()
    [error] = renderer.render(failed)
    if in_chat:
        return error
    return error_response(failed, error)


def error_response(failed: Failed, error: Mapping[str, Any]) -> StreamingResponse:
    status = HTTP_STATUS_OF_CODE.get(failed.code, 502)
    seconds = failed.fields.get("seconds") if status == 429 else None
    headers = {"Retry-After": str(seconds)} if seconds is not None else {}
    return StreamingResponse(
        iter([orjson.dumps(error)]),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )
