"""HTTP to an agent's server: one way to open a stream, one place that maps errors."""

import asyncio
import socket
import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from shared.backends.addresses import AddressRefused, public_socket
from shared.backends.aiohttp_transport import UNWRAPPED_BODY, AiohttpTransport
from shared.backends.refusals import check_status
from shared.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamSilent,
    UpstreamUnreachable,
)
from shared.json_text import dump_json

ERROR_DETAIL_CHARS = 300
TRAILER_SECONDS = 5.0
END_MARK_SECONDS = 0.1
# A task that never has to wait cannot be cancelled by anyio, which runs an API
# caller's request: with a server always faster than we are, a hang-up went unnoticed.
PIECES_WITHOUT_PAUSE = 8
SECRET_CHARS = 7


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, to the first token, and between one token and the next."""

    connect: float = 10.0
    first_token: float = 120.0
    between_tokens: float = 120.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is and how to speak to it.

    `agent` is the name users know, for error sentences. The others may carry
    secrets, hence no repr.
    """

    agent: str
    url: str = field(repr=False)
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeouts: Timeouts = Timeouts()

    @property
    def host(self) -> str:
        """Host and port, the part of the address that may be shown."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def request_headers(self) -> dict[str, str]:
        """The configured headers win over the ones made from the key."""
        headers = {"accept": "text/event-stream, application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        return headers | {name.lower(): value for name, value in self.headers.items()}


def new_http_client(only_public: bool = False) -> httpx.AsyncClient:
    """A client for all agents: no limit on connections, no time limit on reads.

    Reads are timed by `SilenceClock`, which knows a token from a keep-alive. It keeps
    no cookies: one user's must not reach a server in another's turn. `only_public`
    makes one that connects to no private address.
    """
    return httpx.AsyncClient(
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        transport=AiohttpTransport(public_socket if only_public else None),
        timeout=httpx.Timeout(30.0, read=None, pool=None),
    )


class SilenceClock:
    """Ends a read that waits too long for a token, for the price of two stores.

    A timer per token would cost more than reading one does, so one timer looks when
    its deadline has come whether that has moved. Keep-alives do not move it. The
    clock stands still while `paused`: the time our own reader takes is not the
    upstream's.
    """

    def __init__(self, timeouts: Timeouts, scope: asyncio.Timeout) -> None:
        self._loop = asyncio.get_running_loop()
        self._between = timeouts.between_tokens
        self._scope = scope
        self.paused = False
        self._deadline = self._loop.time() + timeouts.first_token
        self._timer = self._loop.call_at(self._deadline, self._look)
        self.heard = False
        self.complete = False

    def token(self) -> None:
        """The upstream said something of substance."""
        self._deadline = self._loop.time() + self._between
        if not self.heard:
            self.heard = True
            self._look_at_deadline()

    def answer_complete(self) -> None:
        """All of substance was said; what trails behind (usage) gets a short time."""
        self.heard = self.complete = True
        self._between = min(self._between, TRAILER_SECONDS)
        self._deadline = self._loop.time() + self._between
        self._look_at_deadline()

    def close(self) -> None:
        self._timer.cancel()

    def _look_at_deadline(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if self.paused:
            self._deadline = now + self._between
        if now >= self._deadline:
            self._scope.reschedule(now)
        else:
            self._look_at_deadline()


@contextmanager
def upstream_errors(endpoint: Endpoint) -> Iterator[None]:
    """Turn every error of the HTTP library into one of ours.

    What a server said of an error loses our secrets here, before anybody reads it.
    """
    try:
        yield
    except httpx.HTTPError as error:
        raise as_upstream_error(error, endpoint) from error
    except (httpx.InvalidURL, UnicodeError):
        # Not "from": an encoding error holds the whole header, the key in it.
        raise UpstreamUnreachable("bad_address") from None
    except UpstreamError as error:
        if "detail" in error.fields:
            shown = shown_detail(error.fields["detail"], endpoint)
            error.fields = {**error.fields, "detail": shown}
        raise


def as_upstream_error(error: httpx.HTTPError, endpoint: Endpoint) -> UpstreamError:
    """Our error for one of the library's."""
    if isinstance(error, httpx.ConnectTimeout):
        return UpstreamSilent("connect_timeout", seconds=endpoint.timeouts.connect)
    if isinstance(error, httpx.ConnectError):
        return UpstreamUnreachable(connect_failure_code(error), host=endpoint.host)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return UpstreamUnreachable("bad_address")
    if isinstance(error, httpx.ProxyError):
        return UpstreamUnreachable("unreachable")
    if isinstance(error, httpx.DecodingError):
        return UpstreamBroken("unreadable")
    return UpstreamBroken("cut_short")


def connect_failure_code(error: BaseException) -> str:
    """In which way a connection failed, from the chain of causes."""
    seen: list[BaseException] = [error]
    for cause in seen:
        if isinstance(cause, AddressRefused):
            return "address_refused"
        if isinstance(cause, ssl.SSLError):
            return "tls_failed"
        if isinstance(cause, socket.gaierror):
            return "unknown_host"
        if isinstance(cause, ConnectionRefusedError):
            return "connection_refused"
        if isinstance(cause, BaseExceptionGroup):
            seen.extend(cause.exceptions)
        linked = cause.__cause__ or cause.__context__
        if linked is not None and linked not in seen:
            seen.append(linked)
    return "unreachable"


@asynccontextmanager
async def open_stream(
    client: httpx.AsyncClient,
    endpoint: Endpoint,
    path: str,
    body: Mapping[str, Any] | None,
    method: str = "POST",
) -> AsyncIterator[tuple[httpx.Response, SilenceClock]]:
    """Send JSON and give the response, its status checked, with the silence clock.

    Raises UpstreamError for everything that goes wrong, also inside the block;
    what goes wrong after `clock.answer_complete()` only ends the block. The block
    has to be entered and left in one task.
    """
    timeouts = endpoint.timeouts
    with upstream_errors(endpoint):
        try:
            async with asyncio.timeout(None) as scope:
                clock = SilenceClock(timeouts, scope)
                try:
                    async with client.stream(
                        method,
                        endpoint.url.rstrip("/") + path,
                        **json_request(endpoint, body),
                        timeout=httpx.Timeout(
                            30.0, connect=timeouts.connect, read=None, pool=None
                        ),
                    ) as response:
                        await check_status(response)
                        yield response, clock
                finally:
                    clock.close()
        except (TimeoutError, httpx.TransportError) as error:
            if clock.complete:
                return
            if isinstance(error, httpx.TransportError):
                raise
            code = "silent_between" if clock.heard else "silent_first"
            limit = timeouts.between_tokens if clock.heard else timeouts.first_token
            raise UpstreamSilent(code, seconds=limit) from error


async def read_bytes(
    response: httpx.Response, clock: SilenceClock
) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, the clock running only while waiting for it."""
    # What httpx does to a body costs more than reading it; only a packed one needs it.
    packed = "content-encoding" in response.headers
    unwrapped = response.extensions.get(UNWRAPPED_BODY, response.stream)
    pieces = response.aiter_bytes() if packed else unwrapped
    assert isinstance(pieces, AsyncIterable)
    since_pause = 0
    async for data in pieces:
        since_pause += 1
        if since_pause == PIECES_WITHOUT_PAUSE:
            since_pause = 0
            await asyncio.sleep(0)
        clock.paused = True
        yield data
        clock.paused = False


async def read_to_end(body: AsyncIterator[bytes], clock: SilenceClock) -> None:
    """Read what follows the last event: as a rule only the end mark of the body.

    A connection can be used again only when its body was read to the end. A new one
    to a distant server would cost the next answer's first word several ways there.
    """
    clock.answer_complete()
    with suppress(TimeoutError):
        async with asyncio.timeout(END_MARK_SECONDS):
            async for _ in body:
                pass


def json_request(endpoint: Endpoint, body: Mapping[str, Any] | None) -> dict[str, Any]:
    """Headers and content of a request, for httpx; without a body where it is None."""
    headers = endpoint.request_headers()
    if body is None:
        return {"headers": headers}
    headers["content-type"] = "application/json"
    return {"headers": headers, "content": dump_json(body)}


async def get_json(client: httpx.AsyncClient, endpoint: Endpoint, path: str) -> Any:
    """GET a JSON document, as `call_json` does."""
    return await call_json(client, endpoint, "GET", path)


async def call_json(
    client: httpx.AsyncClient,
    endpoint: Endpoint,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
) -> Any:
    """The JSON that answers a request within the connect and 5 more seconds.

    None for an answer without a body. Raises UpstreamError.
    """
    limit = endpoint.timeouts.connect + 5.0
    with upstream_errors(endpoint):
        try:
            async with asyncio.timeout(limit):
                response = await client.request(
                    method,
                    endpoint.url.rstrip("/") + path,
                    **json_request(endpoint, body),
                )
            await check_status(response)
            return orjson.loads(response.content) if response.content else None
        except TimeoutError as error:
            raise UpstreamSilent("silent_first", seconds=limit) from error
        except orjson.JSONDecodeError as error:
            raise UpstreamBroken("unreadable") from error


def shown_detail(text: str, endpoint: Endpoint) -> str:
    """What a server said, clipped, without our key or headers: servers echo them.

    Of a header such as `Bearer …` the parts count too; short ones are no secrets.
    """
    values = [endpoint.key, *endpoint.headers.values()]
    words = [word for value in values for word in (value, *value.split())]
    for secret in sorted(set(words), key=len, reverse=True):
        if len(secret) >= SECRET_CHARS:
            text = text.replace(secret, "•••")
    if len(text) > ERROR_DETAIL_CHARS:
        text = text[:ERROR_DETAIL_CHARS].rstrip() + "…"
    return text
