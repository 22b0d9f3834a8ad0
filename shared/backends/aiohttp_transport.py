"""httpx on aiohttp's connections: httpx's interface and errors, a faster way below.

httpx reads a chunked body through h11 and anyio, in Python and one chunk at a time;
aiohttp parses in C and gives all that has arrived.
"""

import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import yarl

# Servers on uvicorn (vLLM and many more) close an idle connection after 5 seconds. A
# request sent at that very moment would be lost, so ours are given up before.
KEEP_ALIVE_SECONDS = 4.0

# httpx puts a generator around every body, which each of its pieces has to pass.
UNWRAPPED_BODY = "aqueduct_body"

# In this order: the first class that fits counts.
HTTPX_ERRORS: tuple[tuple[type[Exception], type[httpx.RequestError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.ClientOSError, httpx.ReadError),
    (aiohttp.ClientError, httpx.RemoteProtocolError),
    (ValueError, httpx.LocalProtocolError),  # a line break in a header, say
)


def httpx_error(error: Exception, request: httpx.Request) -> httpx.RequestError:
    """The error of httpx for one of aiohttp's."""
    wanted = next(to for known, to in HTTPX_ERRORS if isinstance(error, known))
    return wanted(str(error), request=request)


class AiohttpBody(httpx.AsyncByteStream):
    """A response's body, in the pieces that arrive."""

    def __init__(
        self, response: aiohttp.ClientResponse, request: httpx.Request
    ) -> None:
        self._response = response
        self._request = request

    def __aiter__(self) -> "AiohttpBody":
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, ValueError) as error:
            raise httpx_error(error, self._request) from error
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end."""
        self._response.close()


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient`, to be used in one event loop.

    It keeps to httpx's certificates and timeouts (`connect` and `read` seconds) and
    to the shell's proxies. Connections are not limited in number. `socket_factory`
    makes the sockets and may refuse an address; then no proxy is used, which would
    be the only address to look at.
    """

    def __init__(
        self, socket_factory: Callable[[tuple[Any, ...]], socket.socket] | None = None
    ) -> None:
        self._socket_factory = socket_factory
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raises httpx's errors."""
        timeout = request.extensions.get("timeout", {})
        body = await request.aread()
        try:
            response = await self._opened().request(
                request.method,
                yarl.URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                skip_auto_headers=("accept", "accept-encoding", "user-agent"),
                data=body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=timeout.get("connect"), sock_read=timeout.get("read")
                ),
            )
        except (aiohttp.ClientError, ValueError) as error:
            raise httpx_error(error, request) from error
        stream = AiohttpBody(response, request)
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=stream,
            extensions={UNWRAPPED_BODY: stream},
            request=request,
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=httpx.create_ssl_context(),
                # The system's, as httpx asks it: aiohttp's own knows only DNS.
                resolver=aiohttp.ThreadedResolver(),
                socket_factory=self._socket_factory,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=self._socket_factory is None,
            )
        return self._session
