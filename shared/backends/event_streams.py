"""Server-sent events of a response as they arrive: the reading that backends share."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx

from shared.backends.http import SilenceClock, read_bytes
from shared.backends.payloads import error_detail, load_json
from shared.backends.sse import ServerSentEvent, SSEReader
from shared.errors import UpstreamBroken


async def read_events(
    response: httpx.Response, clock: SilenceClock
) -> AsyncGenerator[ServerSentEvent, None]:
    """Every event of the body; a keep-alive comment is none and moves no clock.

    Bare lines, as of JSON where a stream was asked for, come as events named `line`.
    Call `clock.token()` for what is of substance.
    """
    sse = SSEReader()
    async with aclosing(read_bytes(response, clock)) as body:
        async for data in body:
            for event in sse.feed(data):
                yield event
    for event in sse.finish():
        yield event


def check_is_event(event: ServerSentEvent) -> None:
    """Raise UpstreamBroken for a bare line, telling the error where it is one."""
    if event.name == "line":
        detail = error_detail(load_json(event.data))
        raise UpstreamBroken("said_error" if detail else "unreadable", detail=detail)
