"""From agent events to the response that Open WebUI hands on."""

import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from starlette.responses import StreamingResponse

from shared.errors import AqueductError
from shared.events import AgentEvent, Failed
from shared.host.dialogs import Emit
from shared.json_text import dump_json
from shared.render.chunks import CompletionRenderer
from shared.render.items import ChatRenderer, status_event
from shared.render.joining import joined

answers_log = logging.getLogger("aqueduct.agents")

HTTP_STATUS_OF_CODE = {
    "status_429": 429,
    "status_429_wait": 429,
    "silent_first": 504,
    "silent_between": 504,
    "connect_timeout": 504,
    "unknown_agent": 404,
    "queue_busy": 429,
    "queue_busy_wait": 429,
    "queue_expired": 504,
    "upstreams_shut": 503,
    "internal": 500,
}


class Renderer(Protocol):
    """Whatever turns events into pieces to send."""

    def stream(self, event: AgentEvent) -> list[bytes]: ...


def failure_of(error: Exception) -> Failed:
    """The event for an error: its sentence, or the number of its traceback."""
    if isinstance(error, AqueductError):
        answers_log.info("Turn failed: %r", error)
        return Failed(error.code, error.fields)
    error_id = uuid.uuid4().hex[:8]
    answers_log.error("Turn failed, error %s", error_id, exc_info=error)
    return Failed("internal", {"id": error_id})


async def rendered(
    events: AsyncGenerator[AgentEvent, None],
    renderer: Renderer,
    at_end: Callable[[], Awaitable[None]] | None = None,
) -> AsyncGenerator[bytes, None]:
    """The events as they are sent, an error as the last of them.

    Open WebUI loses the partial answer when a started generator raises, so nothing
    is raised here. `at_end` is called however this ends, also when it is stopped.
    """
    try:
        async with aclosing(events):
            async for event in events:
                for piece in renderer.stream(event):
                    yield piece
    except Exception as error:  # noqa: BLE001
        for piece in renderer.stream(failure_of(error)):
            yield piece
    finally:
        if at_end is not None:
            await at_end()
    yield b"data: [DONE]\n\n"


def event_stream(body: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """Bytes that Open WebUI passes on or reads, one event in each piece.

    A response of our own, where Open WebUI would wrap a generator, keeps our
    finish_reason: its wrapper ends every stream with `stop`.
    """
    return StreamingResponse(body, media_type="text/event-stream")


def chat_stream(
    events: AsyncGenerator[AgentEvent, None],
    renderer: ChatRenderer,
    emit: Emit | None,
) -> AsyncGenerator[bytes, None]:
    """The turn as output items, for a chat."""

    async def close_status() -> None:
        # Stopped: nothing can be yielded any more, but a status must not shimmer on.
        if renderer.open_status is not None and emit is not None:
            await emit(status_event(renderer.open_status, True)["event"])

    return rendered(joined(events), renderer, close_status)


def completion_stream(
    events: AsyncGenerator[AgentEvent, None], renderer: CompletionRenderer
) -> AsyncGenerator[bytes, None]:
    """The turn as Chat Completions chunks, for an API caller, in the agent's pieces."""
    return rendered(events, renderer)


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
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Failed):
                    failed = event
                renderer.add(event)
    except Exception as error:  # noqa: BLE001
        failed = failure_of(error)
    if failed is None:
        return renderer.completion()
    [payload] = renderer.render(failed)
    return payload if in_chat else error_response(failed, payload)


def error_response(failed: Failed, error: Mapping[str, Any]) -> StreamingResponse:
    # Of several attempts the last one tells what to do.
    tried = [(failed.code, failed.fields), *failed.fields.get("attempts", ())]
    code, fields = tried[-1]
    status = HTTP_STATUS_OF_CODE.get(code, 502)
    seconds = fields.get("seconds") if status == 429 else None
    headers = {"Retry-After": str(seconds)} if seconds is not None else {}
    return StreamingResponse(
        iter([dump_json(error)]),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )
