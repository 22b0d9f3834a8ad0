"""What an HTTP server says when it refuses, as our error."""

import asyncio
import email.utils
import re
import time
from typing import Any

import httpx
import orjson

from shared.backends.payloads import error_detail
from shared.errors import UpstreamRefused

ERROR_BODY_BYTES = 64 * 1024


async def check_status(response: httpx.Response) -> None:
    """Raise UpstreamRefused, with what the server said of it, unless the status is 2xx."""
    if response.is_success:
        return
    status = response.status_code
    detail = await read_error_detail(response)
    code = {401: "status_401", 403: "status_403", 404: "status_404"}.get(status)
    fields: dict[str, Any] = {"detail": detail}
    seconds = parse_retry_after(response.headers.get("retry-after"))
    if seconds is not None:
        fields["retry_after"] = seconds
    if status == 429:
        code = "status_429" if seconds is None else "status_429_wait"
        fields["seconds"] = seconds
    elif code is None:
        code = "status_5xx" if status >= 500 else "status_other"
        code = "status_moved" if status < 400 else code
    raise UpstreamRefused(code, status, **fields)


async def read_error_detail(response: httpx.Response) -> str:
    """The server's own sentence about its refusal, or ""."""
    body = b""
    try:
        async with asyncio.timeout(5.0):
            if response.is_stream_consumed:
                body = response.content
            else:
                async for data in response.aiter_bytes():
                    body += data
                    if len(body) > ERROR_BODY_BYTES:
                        break
    except (TimeoutError, httpx.TransportError):
        return ""
    try:
        return error_detail(orjson.loads(body))
    except orjson.JSONDecodeError:
        return ""


def parse_retry_after(value: str | None) -> int | None:
    """Seconds to wait from a Retry-After header (RFC 9110, 10.2.3), or None."""
    value = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return max(0, round(moment.timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None
