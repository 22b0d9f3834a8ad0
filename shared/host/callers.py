"""Programs that call over the API, and hang up."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse

# What servers say, for their logs alone, to a caller that is gone (nginx's number).
CLIENT_CLOSED_REQUEST = 499

Answered = TypeVar("Answered")


async def unless_hung_up(
    request: Request | None, work: Coroutine[Any, Any, Answered]
) -> Answered | StreamingResponse:
    """What `work` gives; it is cancelled when the caller's connection closes first.

    A server ends a stream when its reader is gone, but lets a handler that answers in
    one piece go on. Only the completion route is watched: other requests may have been
    answered before the work that they began is done.
    """
    if request is None or not request.url.path.endswith("/chat/completions"):
        return await work
    answering = asyncio.create_task(work)
    leaving = asyncio.create_task(hang_up(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        return StreamingResponse(iter(()), status_code=CLIENT_CLOSED_REQUEST)
    finally:
        answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


async def hang_up(request: Request) -> None:
    """Return when the caller's connection closes; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
