"""
title: Agents
author: Aqueduct
version: 0.1.0
description: External agents as models: live thoughts, tool cards, citations and a real Stop.
license: MIT
required_open_webui_version: 0.12.0
"""

# Aqueduct 0.1.0. Copyright (c) 2026 The Aqueduct authors.
# SPDX-License-Identifier: MIT
#
# Built from functions/agents.py and what it uses from shared/.
# Make changes there: the next update replaces this file.
# Content hash: f97def6b6f0a9f58

import asyncio
import base64
import binascii
import codecs
import contextlib
import difflib
import email.utils
import hashlib
import hmac
import html
import inspect
import io
import ipaddress
import json
import logging
import math
import mimetypes
import os
import random
import re
import shlex
import shutil
import signal
import socket
import ssl
import stat
import threading
import time
import uuid
from base64 import b64encode
from bisect import bisect_left, insort
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from http.cookiejar import CookieJar, DefaultCookiePolicy
from itertools import accumulate
from json import JSONDecoder
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Protocol, TypeVar
from urllib.parse import quote, urlsplit
from weakref import WeakSet

import aiohttp
import httpx
import jsonschema
import orjson
import psutil
import yaml
import yarl
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from redis.asyncio.connection import parse_url
from redis.exceptions import (
    AskError,
    ClusterError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from referencing.exceptions import Unresolvable
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

# --- shared/routing/settings.py ---

# In the order in which they are served.
REQUEST_CLASSES = ("person", "background", "task")
UNLIMITED = 1_000_000


class ClassSeconds(BaseModel):
    """Seconds for each class of requests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    person: float = Field(default=300.0, gt=0)
    background: float = Field(default=900.0, gt=0)
    task: float = Field(default=60.0, gt=0)


class ClassCounts(BaseModel):
    """How many requests of each class may wait."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    person: int = Field(default=200, ge=0)
    background: int = Field(default=200, ge=0)
    task: int = Field(default=50, ge=0)


class QueueSettings(BaseModel):
    """Who waits how long. `per_user` and `per_model` limit what runs; 0 is no limit.

    `ageing`: a request of a lower class is served like one of the next higher class
    that came so many seconds later. By default a task comes to that before its
    deadline.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_waiting: ClassCounts = ClassCounts()
    deadline: ClassSeconds = ClassSeconds()
    per_user: int = Field(default=0, ge=0)
    per_model: int = Field(default=0, ge=0)
    ageing: float = Field(default=20.0, gt=0)
    notify_after: float = Field(default=1.2, ge=0)


class AffinitySettings(BaseModel):
    """How long a chat keeps its upstream after its last request there, in seconds.

    `wait`: how long a request waits for that upstream while others may be free.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl: float = Field(default=600.0, ge=0)
    wait: float = Field(default=5.0, ge=0)


class RetrySettings(BaseModel):
    """Attempts in all, and the seconds that may pass before the last one begins.

    Before the same upstream is asked again, a random time is waited: up to `base`
    seconds, then up to twice as many, at most `cap`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: int = Field(default=3, ge=1, le=20)
    budget: float = Field(default=30.0, ge=0)
    base: float = Field(default=0.5, gt=0)
    cap: float = Field(default=8.0, gt=0)


class BreakerSettings(BaseModel):
    """When an upstream is left alone, and for how many seconds.

    After `failures` in a row, or when `error_rate` of at least `min_requests` of the
    last `window` seconds failed. `health`: ask the server itself before a request is
    risked on it again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    failures: int = Field(default=5, ge=1)
    error_rate: float = Field(default=0.5, gt=0, le=1)
    min_requests: int = Field(default=10, ge=1)
    window: float = Field(default=60.0, gt=0)
    open_for: float = Field(default=15.0, gt=0)
    health: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamSlots:
    """One upstream as the queue sees it: how many requests it takes at once.

    `id` is its host, which may be shown; it holds no secret. `own_key`: all who use it
    show the same one.
    """

    id: str
    concurrency: int = 1
    weight: float = 1.0
    own_key: bool = False


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool: its upstreams and rules."""

    name: str
    upstreams: tuple[UpstreamSlots, ...]
    queue: QueueSettings = field(default_factory=QueueSettings)
    affinity: AffinitySettings = field(default_factory=AffinitySettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


# --- shared/agents/pools.py ---

POOL_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class HttpServer(BaseModel):
    """Where a server is, and what it wants to see."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://", repr=False)
    key: SecretStr = SecretStr("")
    headers: dict[str, SecretStr] = {}

    @field_validator("url")
    @classmethod
    def _has_a_host(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.port is None or parts.port > 0
        except ValueError as error:
            raise ValueError("this is not a valid address") from error
        if not (parts.hostname and usable):
            raise ValueError("the address names no host")
        return url

    @field_validator("key", "headers")
    @classmethod
    def _can_be_sent(cls, value: Any) -> Any:
        """HTTP headers are ASCII; the message must not hold the value."""
        secrets = value.values() if isinstance(value, dict) else [value]
        for secret in secrets:
            text = secret.get_secret_value()
            if not (text.isascii() and text.isprintable()):
                raise ValueError("there is a character that no HTTP header can hold")
            if "${" in text:
                raise ValueError("write ${env:NAME} or ${secret:NAME}")
        return value


class UpstreamSettings(HttpServer):
    """One server of a pool. What it does not say of key, headers and model, the
    agent says."""

    model: str = ""
    concurrency: int = Field(default=1, ge=1, le=100_000)
    weight: float = Field(default=1.0, gt=0)


class PoolRules(BaseModel):
    """The rules of a queue; where none is given, requests are not queued at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: QueueSettings | None = None
    affinity: AffinitySettings | None = None
    retry: RetrySettings | None = None
    breaker: BreakerSettings | None = None


class PoolEntry(PoolRules):
    """An entry of AGENTS that is a pool: servers that several agents share."""

    pool: str = Field(pattern=POOL_NAME)
    upstreams: tuple[UpstreamSettings, ...] = Field(min_length=1)


# --- shared/errors.py ---


class AqueductError(Exception):
    """An error a user is told of: `code` names the sentence, `fields` fill it."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.code = code
        self.fields: Mapping[str, Any] = fields

    def __repr__(self) -> str:
        fields = ", ".join(f"{key}={value!r}" for key, value in self.fields.items())
        return f"{type(self).__name__}({self.code}: {fields})"

    __str__ = __repr__


class UpstreamError(AqueductError):
    """The agent's server failed; nothing of our own is at fault."""


class UpstreamUnreachable(UpstreamError):
    """No connection came about."""


class UpstreamRefused(UpstreamError):
    """The server answered with an HTTP status of 400 or more."""

    def __init__(self, code: str, status: int, **fields: Any) -> None:
        super().__init__(code, status=status, **fields)
        self.status = status


class UpstreamSilent(UpstreamError):
    """Nothing came for as long as the configuration allows."""


class UpstreamBroken(UpstreamError):
    """The stream ended early, could not be read, or carried an error."""


# --- shared/backends/addresses.py ---

NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(OSError):
    """A connection was about to go to an address that is not public."""


@dataclass(frozen=True, slots=True)
class HostRules:
    """Host names, with `*` and `?` as in a shell; in lower case.

    `named` are the administrator's own and may be private. What is in `denied` is
    never contacted, `*` being all that is not named.
    """

    named: tuple[str, ...]
    denied: tuple[str, ...] = ()

    def trusts(self, url: str) -> bool:
        """Whether the administrator named this host."""
        return matches_host(url, self.named)

    def denies(self, url: str) -> bool:
        """Whether this address is not to be contacted at all."""
        if urlsplit(url).scheme not in ("http", "https"):
            return True
        return matches_host(url, self.denied) and not self.trusts(url)


def matches_host(url: str, patterns: Collection[str]) -> bool:
    host = (urlsplit(url).hostname or "").rstrip(".")
    return any(fnmatchcase(host, pattern) for pattern in patterns)


def path_part(identifier: str) -> str:
    """An id as one part of a path; UpstreamBroken for what would lead elsewhere."""
    if identifier in (".", ".."):
        raise UpstreamBroken("unreadable")
    return quote(identifier, safe="")


def is_link(url: str) -> bool:
    """Whether a user may be given this address of a file: no script, no local file."""
    return url.startswith(("https://", "http://", "data:"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's.

    Not so: private, loopback, link-local, shared (RFC 6598), multicast and reserved
    ranges, and IPv6 addresses that carry an IPv4 address of these.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
        if ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast


def public_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for an entry of `getaddrinfo`; raises AddressRefused.

    aiohttp asks for one whenever it is about to connect, having resolved the name.
    """
    family, kind, protocol, _, place = address
    if not is_public(str(place[0])):
        raise AddressRefused("the address is not public")
    return socket.socket(family, kind, protocol)


# --- shared/backends/aiohttp_transport.py ---

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


# --- shared/events.py ---


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer.

    `raw` is the JSON of the Chat Completions chunk that said this and nothing else,
    where there was one: an API caller can have it as it came.
    """

    text: str
    raw: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the agent's thoughts; `raw` as in TextDelta."""

    text: str
    raw: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A tool call has a name; its arguments follow."""

    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArgumentsDelta:
    """More of the JSON text of a call's arguments."""

    call_id: str
    delta: str


@dataclass(frozen=True, slots=True)
class ToolCallCompleted:
    """A call is whole; `arguments` is JSON text, normally of an object."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back. `files` and `embeds` are Open WebUI's own shapes."""

    call_id: str
    output: str
    failed: bool = False
    files: tuple[Mapping[str, Any], ...] = ()
    embeds: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """A source of the answer; `text` is the passage where the agent gave one."""

    url: str
    title: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class FileOutput:
    """A file or an image the agent made; `url` is http(s) or a data URL.

    `file_id` and `size` (bytes) are those of Open WebUI's storage, once it is there.
    One without a `url` was made, but there is no room for it.
    """

    url: str
    mime_type: str
    name: str = ""
    file_id: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """A line about what is going on; `done` stops its shimmer."""

    text: str
    done: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one model call, in the names the upstream gave them."""

    counts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionState:
    """What continues this conversation on the agent's side (a thread or response id).

    `seal` says that we kept it, and where; it is put on once the backend is done.
    """

    data: Mapping[str, Any]
    seal: str = ""


@dataclass(frozen=True, slots=True)
class Handover:
    """From here on another agent answers, as the one that was asked could not."""

    agent_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The turn ended in an error: a key of the table of texts and its fields."""

    code: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """The turn ended; `reason` is a Chat Completions finish_reason."""

    reason: str = "stop"


AgentEvent = (
    TextDelta
    | ReasoningDelta
    | ToolCallStarted
    | ToolCallArgumentsDelta
    | ToolCallCompleted
    | ToolResult
    | Citation
    | FileOutput
    | Status
    | Usage
    | SessionState
    | Handover
    | Failed
    | Finished
)


# --- shared/backends/payloads.py ---


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


# --- shared/backends/refusals.py ---

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


# --- shared/json_text.py ---


def dump_json(value: Any) -> bytes:
    """JSON as UTF-8; raises TypeError for what JSON cannot hold.

    Half a character (a lone surrogate, as in undecodable file names) becomes a
    question mark, since it would end a whole turn otherwise.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


# --- shared/backends/http.py ---

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


# --- shared/agents/config.py ---

# Models of the pipe that are no agents.
RESERVED_IDS = ("configuration-error", "not-configured")


class TimeoutSettings(BaseModel):
    """Seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect: float = Field(default=10.0, gt=0)
    first_token: float = Field(default=120.0, gt=0)
    between_tokens: float = Field(default=120.0, gt=0)


class AllowedTool(BaseModel):
    """What an agent may do without asking: shell-style patterns of names and paths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str = "*"
    paths: tuple[str, ...] = ()


class ApprovalSettings(BaseModel):
    """What becomes of an agent's requests for permission."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["ask", "deny"] = "ask"
    allow: tuple[AllowedTool, ...] = ()
    seconds: int = Field(default=120, ge=60, le=240)


class AgentConfig(PoolRules):
    """One entry of AGENTS. docs/agents.md and docs/routing.md explain every key."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # The keys in which ${env:NAME} and ${secret:NAME} are filled in.
    WITH_VARIABLES: ClassVar[tuple[str, ...]] = ()

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    name: str = ""
    description: str = ""
    backend: str = "openai"
    model: str = ""
    system: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    timeouts: TimeoutSettings = TimeoutSettings()
    discover: bool = False
    session: bool = True
    tools: Literal["native", "execute", "passthrough", "suppress"] = "native"
    unknown_tool: Literal["error", "ignore", "passthrough"] = "error"
    max_tool_rounds: int = Field(default=10, ge=1, le=100)
    recover_tool_calls: bool = True
    task_model: str = ""
    files: Literal["text", "attach"] = "text"
    approvals: ApprovalSettings = ApprovalSettings()
    access: Literal["private", "public"] = "private"
    pool: str = ""
    concurrency: int | None = Field(default=None, ge=1, le=100_000)
    fallback: tuple[str, ...] = ()

    @field_validator("id")
    @classmethod
    def _is_not_ours(cls, agent_id: str) -> str:
        if agent_id in RESERVED_IDS:
            raise ValueError(f"`{agent_id}` is an id of our own")
        return agent_id

    @model_validator(mode="after")
    def _leaves_rules_to_its_pool(self) -> "AgentConfig":
        if self.pool:
            own = {*PoolRules.model_fields, "concurrency", "upstreams"}
            if said := sorted(own & self.model_fields_set):
                raise ValueError(f"with `pool`, write `{said[0]}` there")
        return self

    @property
    def label(self) -> str:
        """The name users know."""
        return self.name or self.id

    @property
    def place(self) -> str:
        """Where the agent is, as far as users may be told: a host or a program."""
        return ""

    @property
    def timeout_seconds(self) -> Timeouts:
        return Timeouts(**self.timeouts.model_dump())


class HttpAgent(AgentConfig, HttpServer):
    """An agent that is reached over HTTP."""

    WITH_VARIABLES: ClassVar[tuple[str, ...]] = ("url", "key", "headers", "upstreams")

    upstreams: tuple[UpstreamSettings, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _is_where_its_upstreams_are(cls, data: Any) -> Any:
        """With `upstreams` an agent needs no `url` of its own."""
        upstreams = data.get("upstreams")
        if "url" in data or not (isinstance(upstreams, list) and upstreams):
            return data
        first = upstreams[0]
        return {**data, "url": first.get("url")} if isinstance(first, dict) else data

    @property
    def place(self) -> str:
        return self.endpoint.host

    @property
    def endpoint(self) -> Endpoint:
        """Where its server is and how to speak to it."""
        return Endpoint(
            agent=self.label,
            url=self.url,
            key=self.key.get_secret_value(),
            headers={k: v.get_secret_value() for k, v in self.headers.items()},
            timeouts=self.timeout_seconds,
        )


# --- shared/backends/a2a_stream.py ---

STATUS_CHARS = 200
FAILED_STATES = {
    "failed": "said_error",
    "rejected": "a2a_rejected",
    "canceled": "a2a_canceled",
    "auth-required": "agent_login_required",
}
WAITING_STATES = ("input-required",)
# The keys of a result in a dialect without `kind`.
ENVELOPES = {
    "task": "task",
    "message": "message",
    "msg": "message",
    "statusUpdate": "status-update",
    "artifactUpdate": "artifact-update",
}


class A2ADecoder:
    """Reads one turn, which may be several requests and streams of the same task.

    A stream that is attached again begins with the whole task, so everything is
    told only as far as it was not told before. `state` is the task's last one, in
    the words of 0.3 ("" before there is one); `said` the text with it.
    """

    def __init__(self) -> None:
        self.task_id = ""
        self.context_id = ""
        self.state = ""
        self.said = ""
        self.answered = False  # by a message, which needs no task
        self.told = False
        self._worded = False  # in the answer to the latest message of the user
        self._line = ""
        self._artifacts: dict[str, str] = {}
        self._files: set[FileOutput] = set()

    @property
    def ended(self) -> bool:
        """Whether nothing more follows in this stream."""
        closed = ("completed", *FAILED_STATES, *WAITING_STATES)
        return self.answered or self.state in closed

    @property
    def waiting(self) -> bool:
        """Whether the agent wants an answer to `said`."""
        return self.state in WAITING_STATES

    @property
    def unfinished(self) -> bool:
        """Whether the task would go on: it works, or waits for an answer."""
        return self.waiting or not self.ended

    def go_on(self) -> None:
        """The user answers, and the same task goes on."""
        self.state = self.said = self._line = ""
        self._worded = False

    def feed(self, result: Mapping[str, Any]) -> list[AgentEvent]:
        """One result; raises UpstreamBroken where the task failed."""
        kind, content = unwrap_kind(result)
        self.context_id = str(content.get("contextId") or self.context_id)
        events: list[AgentEvent] = []
        if kind == "task":
            self.task_id = str(content.get("id") or self.task_id)
            for artifact in content.get("artifacts") or ():
                events += self._artifact(artifact, append=False)
            events += self._status(content.get("status") or {})
            events += self._last_words(content.get("history") or ())
        elif kind == "message":
            self.answered = True
            events = self._parts("message", part_list(content))
        elif kind == "status-update":
            self.task_id = str(content.get("taskId") or self.task_id)
            events = self._status(content.get("status") or {})
        elif kind == "artifact-update":
            self.task_id = str(content.get("taskId") or self.task_id)
            append = bool(content.get("append"))
            events = self._artifact(content.get("artifact") or {}, append)
        return events

    def _status(self, status: Mapping[str, Any]) -> list[AgentEvent]:
        """A new state. While the agent works, what it says with it is a status line."""
        self.state = state_name(status.get("state")) or self.state
        parts = part_list(status.get("message") or {})
        said = "\n\n".join(part_text(part) for part in parts if part_text(part))
        self.said = said or ("" if self.ended else self.said)
        if self.state in FAILED_STATES:
            raise UpstreamBroken(FAILED_STATES[self.state], detail=said)
        if self.state == "completed":
            return self._completed(parts)
        line = " ".join(said.split())[:STATUS_CHARS]
        if self.ended or not line or line == self._line:
            return []
        self._line = line
        return [Status(line)]

    def _completed(self, parts: list[Mapping[str, Any]]) -> list[AgentEvent]:
        """Words at the end repeat the artifacts, if there were any."""
        if self._worded:
            return []
        return self._parts("message", parts)

    def _last_words(self, history: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        """Some agents leave their answer in the task's history alone."""
        if self.state != "completed" or self._worded:
            return []
        messages = [m for m in history if str(m.get("role")).lower().endswith("agent")]
        return self._parts("message", part_list(messages[-1])) if messages else []

    def _artifact(self, artifact: Mapping[str, Any], append: bool) -> list[AgentEvent]:
        artifact_id = str(artifact.get("artifactId") or "")
        parts = part_list(artifact)
        said = "".join(part_text(part) or part_data(part) for part in parts)
        known = self._artifacts.get(artifact_id, "")
        events: list[AgentEvent] = []
        if append or not known:
            thoughts = (part for part in parts if is_thought(part))
            events += [ReasoningDelta(str(part["text"])) for part in thoughts]
        if not append and said.startswith(known):
            said = said[len(known) :]
        elif not append:  # another text in its place, or not yet all that we know
            said = "" if known.startswith(said) else f"\n\n{said}"
        return [*events, *self._told_of(artifact_id, said), *self._sent(parts)]

    def _told_of(self, artifact_id: str, text: str) -> list[AgentEvent]:
        """More text of an artifact; each artifact is a paragraph of its own."""
        if not text:
            return []
        begins = artifact_id not in self._artifacts and bool(self._artifacts)
        self._artifacts[artifact_id] = self._artifacts.get(artifact_id, "") + text
        self.told = self._worded = True
        return [TextDelta(f"\n\n{text}" if begins else text)]

    def _parts(self, owner: str, parts: list[Mapping[str, Any]]) -> list[AgentEvent]:
        """The parts of a message as the answer."""
        said = "\n\n".join(filter(None, (part_text(p) or part_data(p) for p in parts)))
        return [*self._told_of(owner, said), *self._sent(parts)]

    def _sent(self, parts: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        """The files among these parts, each of them once."""
        events: list[AgentEvent] = []
        for part in parts:
            file = part_file(part)
            if file is not None and file not in self._files:
                self._files.add(file)
                self.told = True
                events.append(file)
        return events


def unwrap_kind(result: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """What a result is, and its content.

    0.3 names it in `kind`; the others put it into an envelope with one key. The answer
    to GetTask is a task in no envelope.
    """
    if "kind" in result:
        return str(result["kind"]), result
    for key, kind in ENVELOPES.items():
        content = result.get(key)
        if isinstance(content, Mapping):
            return kind, content
    return ("task", result) if "status" in result else ("", result)


def state_name(state: Any) -> str:
    """A state in the words of 0.3: `TASK_STATE_INPUT_REQUIRED` is `input-required`."""
    name = str(state or "").removeprefix("TASK_STATE_").lower().replace("_", "-")
    return "canceled" if name == "cancelled" else name


def part_list(holder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts of a message or an artifact; 0.3 over REST calls them `content`."""
    parts = holder.get("parts") or holder.get("content") or ()
    return [part for part in parts if isinstance(part, Mapping)]


def is_thought(part: Mapping[str, Any]) -> bool:
    """Whether Google's ADK marked a text as one of the model's thoughts."""
    return bool((part.get("metadata") or {}).get("adk_thought")) and "text" in part


def part_text(part: Mapping[str, Any]) -> str:
    return "" if is_thought(part) else str(part.get("text") or "")


def part_data(part: Mapping[str, Any]) -> str:
    """Structured output as a block of JSON, "" for a part of another kind."""
    data = part.get("data")
    if data is None:
        return ""
    shown = orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()
    return f"\n```json\n{shown}\n```\n"


def part_file(part: Mapping[str, Any]) -> FileOutput | None:
    """The file of a part: `raw` or `url` in 1.0, an object `file` in 0.3."""
    file = part.get("file")
    if isinstance(file, Mapping):
        encoded = file.get("bytes")
        if twice := file.get("fileWithBytes"):  # as in A2AInterface._file_part
            encoded = base64.b64decode(twice).decode()
        url = file.get("uri") or file.get("fileWithUri")
        mime, name = file.get("mimeType"), file.get("name")
    else:
        encoded, url = part.get("raw"), part.get("url")
        mime, name = part.get("mediaType"), part.get("filename")
    mime = str(mime or "application/octet-stream")
    if encoded:
        url = f"data:{mime};base64,{encoded}"
    link = str(url or "")
    return FileOutput(link, mime, str(name or "")) if is_link(link) else None


# --- shared/backends/encoding.py ---

# Bytes that make whole groups of three, and their characters in groups of four.
PIECE_BYTES = 3 * 64 * 1024
PIECE_CHARS = 4 * 64 * 1024


def encode_base64(data: bytes) -> str:
    """Bytes as base64."""
    starts = range(0, len(data), PIECE_BYTES)
    pieces = [base64.b64encode(data[start : start + PIECE_BYTES]) for start in starts]
    return b"".join(pieces).decode()


def decode_base64(text: str) -> bytes:
    """The bytes of base64, also of one with line breaks; raises binascii.Error."""
    starts = range(0, len(text), PIECE_CHARS)
    pieces = (text[start : start + PIECE_CHARS] for start in starts)
    try:
        return b"".join([base64.b64decode(piece, validate=True) for piece in pieces])
    except binascii.Error:
        return base64.b64decode(text)


# --- shared/backends/transcript.py ---

SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool result"}
SYSTEM_HEADING = "Instructions"
EARLIER_HEADING = "The conversation so far"
NOW_HEADING = "Now the user says"


@dataclass(frozen=True, slots=True)
class TurnFile:
    """A file the user sent; its `url` is a data URL, or says where it is."""

    name: str
    mime_type: str
    url: str = field(repr=False)

    @property
    def inline(self) -> bool:
        """Whether its bytes are here."""
        return self.url.startswith("data:")

    @property
    def encoded(self) -> str:
        """The bytes of an inline file as base64, as they came."""
        return self.url.partition(",")[2]

    def read(self) -> bytes | None:
        """The bytes, where they are here and readable. Slow: call it in a thread."""
        if not self.inline:
            return None
        with suppress(binascii.Error):
            return decode_base64(self.encoded)
        return None


def message_text(message: Mapping[str, Any]) -> str:
    """The text of a message, its parts divided by blank lines."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [
        str(part.get("text") or "")
        for part in content or ()
        if part.get("type") in ("text", "input_text", "output_text")
    ]
    return "\n\n".join(text for text in texts if text)


def message_files(message: Mapping[str, Any]) -> tuple[TurnFile, ...]:
    """The images and files in a message's parts.

    Shapes: {type: image_url, image_url: {url}} and {type: file, file: {filename,
    file_data}}, where an address may be a data URL.
    """
    content = message.get("content")
    files: list[TurnFile] = []
    for part in content if isinstance(content, list) else ():
        if part.get("type") == "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, Mapping) else image
            files.append(turn_file(f"image-{len(files) + 1}", str(url or "")))
        elif part.get("type") == "file":
            file = part.get("file") or {}
            name = str(file.get("filename") or f"file-{len(files) + 1}")
            files.append(turn_file(name, str(file.get("file_data") or "")))
    return tuple(files)


def turn_file(name: str, url: str) -> TurnFile:
    """A file from its address; a name without an ending gets that of its type."""
    if not url.startswith("data:"):
        mime = mimetypes.guess_type(name)[0] or mimetypes.guess_type(url)[0]
        return TurnFile(name, mime or "application/octet-stream", url)
    head = url[: url.find(",")]
    mime = head[5:].split(";")[0] or "text/plain"
    if "." not in name:
        name += mimetypes.guess_extension(mime) or ""
    return TurnFile(name, mime, url)


def transcript(messages: Iterable[Mapping[str, Any]]) -> str:
    """A branch as one prompt, for an agent that takes only text.

    A single message is given as it is; of several, the last one stands apart, so
    that the agent answers it and not the ones before.
    """
    told = [m for m in messages if message_text(m)]
    system = [message_text(m) for m in told if m.get("role") == "system"]
    spoken = [m for m in told if m.get("role") != "system"]
    sections = [f"# {SYSTEM_HEADING}\n\n{text}" for text in system]
    if len(spoken) > 1:
        earlier = "\n\n".join(spoken_line(m) for m in spoken[:-1])
        sections.append(f"# {EARLIER_HEADING}\n\n{earlier}")
    if spoken:
        last = message_text(spoken[-1])
        sections.append(f"# {NOW_HEADING}\n\n{last}" if sections else last)
    return "\n\n".join(sections)


def spoken_line(message: Mapping[str, Any]) -> str:
    """One earlier message with its speaker."""
    speaker = SPEAKERS.get(str(message.get("role")), "Other")
    return f"{speaker}: {message_text(message)}"


# --- shared/backends/a2a_wire.py ---

Operation = Literal["send", "stream", "subscribe", "get", "cancel"]

# The JSON-RPC methods of 1.0 and of 0.3.
RPC_METHODS: Mapping[Operation, tuple[str, str]] = {
    "send": ("SendMessage", "message/send"),
    "stream": ("SendStreamingMessage", "message/stream"),
    "subscribe": ("SubscribeToTask", "tasks/resubscribe"),
    "get": ("GetTask", "tasks/get"),
    "cancel": ("CancelTask", "tasks/cancel"),
}
REST_PATHS: Mapping[Operation, tuple[str, str]] = {
    "send": ("POST", "/message:send"),
    "stream": ("POST", "/message:stream"),
    "subscribe": ("POST", "/tasks/{id}:subscribe"),
    "get": ("GET", "/tasks/{id}"),
    "cancel": ("POST", "/tasks/{id}:cancel"),
}


@dataclass(frozen=True, slots=True)
class A2ARequest:
    """An HTTP request; `path` is added to the interface's address."""

    method: str
    path: str
    body: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class A2AInterface:
    """One way to speak with an agent, as its card names it."""

    url: str
    rest: bool
    legacy: bool  # version 0.3
    tenant: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Without this header a server takes a request for one of version 0.3."""
        return {} if self.legacy else {"A2A-Version": "1.0"}

    def request(self, operation: Operation, params: Mapping[str, Any]) -> A2ARequest:
        """The request for an operation; `params` holds `message` or a task's `id`."""
        if self.rest:
            return self._rest_request(operation, params)
        if self.tenant:
            params = {**params, "tenant": self.tenant}
        body = {
            "jsonrpc": "2.0",
            "id": str(uuid.uuid4()),
            "method": RPC_METHODS[operation][self.legacy],
            "params": params,
        }
        # An address is joined without its last slash, which some servers insist on.
        return A2ARequest("POST", "/" if self.url.endswith("/") else "", body)

    def _rest_request(
        self, operation: Operation, params: Mapping[str, Any]
    ) -> A2ARequest:
        method, path = REST_PATHS[operation]
        prefix = "/v1" if self.legacy else f"/{self.tenant}" if self.tenant else ""
        path = prefix + path.replace("{id}", path_part(str(params.get("id", ""))))
        if method == "GET":
            return A2ARequest(method, path, None)
        body = {key: value for key, value in params.items() if key != "id"}
        return A2ARequest(method, path, body)

    def message(
        self,
        text: str,
        files: Iterable[TurnFile] = (),
        context_id: str = "",
        task_id: str = "",
    ) -> dict[str, Any]:
        """A user's message in this dialect."""
        plain_legacy = self.legacy and not self.rest
        message: dict[str, Any] = {
            "messageId": str(uuid.uuid4()),
            "role": "user" if plain_legacy else "ROLE_USER",
        }
        parts = [self._text_part(text)] if text else []
        parts += [self._file_part(file) for file in files]
        message["content" if self.legacy and self.rest else "parts"] = parts
        if plain_legacy:
            message["kind"] = "message"
        if context_id:
            message["contextId"] = context_id
        if task_id:
            message["taskId"] = task_id
        return message

    def _text_part(self, text: str) -> dict[str, Any]:
        if self.legacy and not self.rest:
            return {"kind": "text", "text": text}
        return {"text": text}

    def _file_part(self, file: TurnFile) -> dict[str, Any]:
        encoded = file.encoded if file.inline else ""
        if not self.legacy:
            place = {"raw": encoded} if encoded else {"url": file.url}
            return {**place, "mediaType": file.mime_type, "filename": file.name}
        named = {"mimeType": file.mime_type, "name": file.name}
        if self.rest:
            # The protocol's own SDK encodes the text of an encoding once more.
            twice = encode_base64(encoded.encode())
            field = "fileWithBytes" if encoded else "fileWithUri"
            return {"file": {field: twice or file.url, **named}}
        field = "bytes" if encoded else "uri"
        return {"kind": "file", "file": {field: encoded or file.url, **named}}


def unwrap_result(payload: Any) -> Mapping[str, Any]:
    """What an answer or event of either binding says; raises UpstreamBroken.

    JSON-RPC wraps it in {jsonrpc, id, result}; an error is {error: {message}} in both.
    """
    answer = must_be_object(payload)
    if answer.get("error"):
        raise UpstreamBroken("said_error", detail=error_detail(answer))
    return must_be_object(answer.get("result", answer))


def card_interfaces(card: Mapping[str, Any]) -> list[A2AInterface]:
    """The interfaces of a card that we can speak with, in the agent's order.

    Cards of 1.0 list them; those of 0.3 have one in `url` and more beside it.
    """
    listed = [*(card.get("supportedInterfaces") or ())]
    if not listed:
        version = card.get("protocolVersion") or "0.3"
        main = {
            "url": card.get("url"),
            "protocolBinding": card.get("preferredTransport") or "JSONRPC",
        }
        listed = [
            {**entry, "protocolVersion": version}
            for entry in (main, *(card.get("additionalInterfaces") or ()))
        ]
    found: list[A2AInterface] = []
    for entry in listed:
        binding = str(entry.get("protocolBinding") or entry.get("transport") or "")
        url = entry.get("url")
        if url and binding.upper() in ("JSONRPC", "HTTP+JSON"):
            rest = binding.upper() == "HTTP+JSON"
            legacy = str(entry.get("protocolVersion") or "1.0").startswith("0.")
            tenant = str(entry.get("tenant") or "")
            found.append(A2AInterface(str(url), rest, legacy, tenant))
    return found


def choose_interface(
    card: Mapping[str, Any], binding: str = "", version: str = ""
) -> A2AInterface:
    """The agent's first interface, 1.0 before 0.3; raises UpstreamUnreachable.

    `binding` ("jsonrpc" or "http+json") and `version` ("1.0" or "0.3") limit it.
    """
    fitting = [
        interface
        for interface in card_interfaces(card)
        if (not binding or interface.rest == (binding == "http+json"))
        and (not version or interface.legacy == (version == "0.3"))
    ]
    if not fitting:
        raise UpstreamUnreachable("a2a_no_interface")
    return min(fitting, key=lambda interface: interface.legacy)


# --- shared/backends/dialogs.py ---


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """An agent wants to act and asks first.

    `tool` is the name that an allow-list knows; `title` says what is to be done in a
    line, `detail` in full (arguments, a command, a diff), `paths` where.
    """

    tool: str
    title: str
    detail: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserQuestion:
    """An agent cannot go on before the user says something."""

    message: str
    choices: tuple[str, ...] = ()


class Dialogs(Protocol):
    """Whoever can ask the user of this turn."""

    async def approve(self, request: ApprovalRequest) -> bool:
        """Whether the agent may do this, once.

        False too where nobody can be asked or nobody answers in time. What may be
        done for the rest of the chat is remembered on this side: an agent is never
        told "always".
        """

    async def ask(self, question: UserQuestion) -> str | None:
        """The user's words, or None where there are none."""


class Nobody:
    """No browser is there to ask."""

    async def approve(self, request: ApprovalRequest) -> bool:
        return False

    async def ask(self, question: UserQuestion) -> str | None:
        return None


NOBODY = Nobody()


# --- shared/backends/base.py ---


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, as an agent needs it.

    `messages` are Chat Completions messages of the whole branch, oldest first;
    `tools` are Chat Completions tool specifications; `params` are request
    parameters in Chat Completions names; `session` is the `SessionState.data` of
    the message this turn answers to, or None. `forks` says that another turn went on
    from there already (the user edited or regenerated), so that an agent with one
    history for a session has to fork it or start anew. `dialogs` asks the user.
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, Any] | None = None
    forks: bool = False
    user_id: str = ""
    chat_id: str = ""
    dialogs: Dialogs = field(default=NOBODY, compare=False)

    @property
    def continued(self) -> Mapping[str, Any] | None:
        """The session to go on with, where its history is that of this branch."""
        return None if self.forks else self.session

    @property
    def anew(self) -> "Turn | None":
        """This turn with no session to go on with; None where it has none."""
        return replace(self, session=None) if self.session else None

    def news(self) -> tuple[Mapping[str, Any], ...]:
        """What an agent that keeps `continued` has not heard yet.

        That is what follows the last answer; without a session, the whole branch.
        """
        if self.continued is None:
            return self.messages
        return messages_since_answer(self.messages)

    def with_messages(self, *more: Mapping[str, Any]) -> "Turn":
        """The turn that follows when these messages are added."""
        return replace(self, messages=(*self.messages, *more))

    def without_tools(self) -> "Turn":
        """The same turn for an agent that now has to answer."""
        params = {k: v for k, v in self.params.items() if k != "tool_choice"}
        return replace(self, tools=(), params=params)


def messages_since_answer(
    messages: tuple[Mapping[str, Any], ...],
) -> tuple[Mapping[str, Any], ...]:
    """What came after the agent's last finished answer, system messages left out.

    An assistant message that only calls tools is no finished answer: its results
    follow it and belong to what the agent does not know yet.
    """
    start = 0
    for index, message in enumerate(messages):
        if message.get("role") == "assistant" and not message.get("tool_calls"):
            start = index + 1
    return tuple(
        m for m in messages[start:] if m.get("role") not in ("system", "developer")
    )


@dataclass(frozen=True, slots=True)
class DiscoveredModel:
    """A model that a server offers."""

    id: str
    name: str


class Backend(Protocol):
    """One protocol spoken with one agent. Every method may raise UpstreamError."""

    async def discover(self) -> list[DiscoveredModel]:
        """The models or agents the server offers."""

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The agent's events for this turn, ended by `Finished`.

        Closing or cancelling the generator closes the connection.
        """

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Tell the agent to stop what this session runs, where closing is not enough."""

    async def health(self) -> None:
        """Return when the server answers."""


# --- shared/backends/cancelling.py ---

CANCEL_SECONDS = 5.0

cancel_log = logging.getLogger("aqueduct.cancel")
# asyncio keeps no task alive by itself.
running_cancels: set["asyncio.Task[None]"] = set()


async def run_cancel(cancel: Coroutine[Any, Any, None]) -> None:
    """Run a backend's own cancel to its end or its time limit; never raises for it.

    For the `finally` of a run that did not end by itself. It is a task of its own,
    since anyio cancels every further `await` of a scope that was cancelled: then
    this returns at once and the task goes on.
    """
    task = asyncio.create_task(bounded_cancel(cancel))
    running_cancels.add(task)
    task.add_done_callback(running_cancels.discard)
    await asyncio.shield(task)


async def bounded_cancel(cancel: Coroutine[Any, Any, None]) -> None:
    """The cancel itself; what fails in it is logged."""
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await cancel
    except TimeoutError:
        cancel_log.warning("An agent did not stop within %g s", CANCEL_SECONDS)
    except (AqueductError, OSError) as error:
        cancel_log.warning("An agent could not be told to stop: %r", error)


# --- shared/backends/sse.py ---

MAX_LINE_BYTES = 8 * 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_FIELD = re.compile(rb"[A-Za-z_-]+(:|$)")


@dataclass(slots=True)
class ServerSentEvent:
    """One dispatched event: its `event:` name ("" when absent) and joined `data:`."""

    name: str
    data: bytes


class LineBuffer:
    """Cuts a byte stream into lines (without their ends), whatever the chunking.

    Raises UpstreamBroken for a line over `limit` bytes: no event of a chat is that
    long, and buffering without end would let one server take the process's memory.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        if b"\n" not in data:
            self._hold(data)
            return []
        if self._parts:
            data = b"".join([*self._parts, data])
            self._parts.clear()
            self._size = 0
        *lines, rest = data.split(b"\n")
        if rest:
            self._hold(rest)
        if len(data) > self._limit and any(len(line) > self._limit for line in lines):
            raise UpstreamBroken("line_too_long", limit=self._limit / 2**20)
        if b"\r" not in data:
            return lines
        return [line.removesuffix(b"\r") for line in lines]

    def finish(self) -> list[bytes]:
        """The last line, when the stream ended without an end of line."""
        if not self._parts:
            return []
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return [line]

    def _hold(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._limit:
            raise UpstreamBroken("line_too_long", limit=self._limit / 2**20)


class SSEDecoder:
    """Turns lines into events; comments and unknown fields are passed over.

    A line that is neither a field nor a comment goes out as an event named
    `line`, since servers answer a streaming request with bare JSON or HTML.
    """

    def __init__(self) -> None:
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, line: bytes) -> ServerSentEvent | None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            return None
        if not line:
            return self.finish()
        if line.startswith(BYTE_ORDER_MARK):
            return self.feed(line.removeprefix(BYTE_ORDER_MARK))
        if line.startswith(b"event:"):
            self._name = line[6:].decode("utf-8", "replace").strip()
            return None
        if line.startswith(b":") or OTHER_FIELD.match(line):
            return None
        return ServerSentEvent("line", line)

    def finish(self) -> ServerSentEvent | None:
        """The event under way, at a blank line or the end of the stream."""
        if not self._data:
            self._name = ""
            return None
        event = ServerSentEvent(self._name, b"\n".join(self._data))
        self._name = ""
        self._data.clear()
        return event


class SSEReader:
    """Turns a byte stream into events, whatever the chunking."""

    def __init__(self) -> None:
        self._lines = LineBuffer()
        self._decoder = SSEDecoder()
        self._between = True  # two events: nothing is held

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete; raises UpstreamBroken as LineBuffer."""
        if self._between and is_one_event(data):
            return [ServerSentEvent("", data[6:-2])]
        self._between = data.endswith(b"\n\n")
        return self._events(self._lines.feed(data))

    def finish(self) -> list[ServerSentEvent]:
        """What remains when the stream has ended."""
        last = [*self._events(self._lines.finish()), self._decoder.finish()]
        return [event for event in last if event is not None]

    def _events(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events = map(self._decoder.feed, lines)
        return [event for event in events if event is not None]


def is_one_event(data: bytes) -> bool:
    """Whether this is one line of data and no more: nearly all that live servers send."""
    return (
        data.startswith(b"data: ")
        and data.find(b"\n") == len(data) - 2
        and data.endswith(b"\n\n")
        and not data.endswith(b"\r\n\n")
        and len(data) <= MAX_LINE_BYTES
    )


# --- shared/backends/event_streams.py ---


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


# --- shared/backends/forgotten.py ---


async def answer_or_begin_anew(
    answer: Callable[[Turn], AsyncGenerator[AgentEvent, None]],
    turn: Turn,
    anew: Turn | None,
    forgotten: Callable[[UpstreamError], bool],
) -> AsyncGenerator[AgentEvent, None]:
    """The events of a turn, or of `anew` where an error says its session is forgotten.

    An answer that said or did something already is not begun again.
    """
    begun = False
    try:
        async with aclosing(answer(turn)) as events:
            async for event in events:
                begun = begun or not isinstance(event, SessionState | Usage)
                yield event
        return
    except UpstreamError as error:
        if begun or anew is None or not forgotten(error):
            raise
    async with aclosing(answer(anew)) as events:
        async for event in events:
            yield event


def is_not_found(error: UpstreamError) -> bool:
    """What a server says that does not know a session."""
    return isinstance(error, UpstreamRefused) and error.status == 404


# --- shared/backends/think_tags.py ---

# The tags Open WebUI itself reads as thoughts, opening and closing.
THINK_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<reason>": "</reason>",
    "<reasoning>": "</reasoning>",
    "<thought>": "</thought>",
    "<Thought>": "</Thought>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "◁think▷": "◁/think▷",
}


def held_suffix(text: str, marker: str) -> int:
    """How many characters at the end of `text` may be the beginning of `marker`."""
    for size in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-size:]):
            return size
    return 0


class ThinkTagSplitter:
    """Tells thoughts from text in a stream of text.

    Only a tag that opens the answer counts: further on, text about tags is far
    more likely than thoughts. `passing` is True once nothing is looked for, so
    that the caller can spare itself the call.
    """

    def __init__(self) -> None:
        self.passing = False
        self._closer = ""
        self._held = ""
        self._trim = False

    def feed(self, text: str) -> list[AgentEvent]:
        if self.passing:
            return [TextDelta(text)]
        text = self._held + text
        self._held = ""
        if not self._closer:
            return self._look_for_opener(text)
        return self._look_for_closer(text)

    def finish(self) -> list[AgentEvent]:
        """What was held back, when the stream has ended."""
        held, self._held = self._held, ""
        self.passing = True
        if not held:
            return []
        return [ReasoningDelta(held) if self._closer else TextDelta(held)]

    def _look_for_opener(self, text: str) -> list[AgentEvent]:
        start = text.lstrip()
        if self._trim:
            text = start
        if not start or any(tag.startswith(start) for tag in THINK_TAGS):
            self._held = text
            return []
        for opener, closer in THINK_TAGS.items():
            if start.startswith(opener):
                self._closer = closer
                return self._look_for_closer(start[len(opener) :].lstrip("\n"))
        self.passing = True
        return [TextDelta(text)]

    def _look_for_closer(self, text: str) -> list[AgentEvent]:
        thought, found, rest = text.partition(self._closer)
        if found:
            # The answer may open a second thought; blank lines between are nobody's.
            self._closer = ""
            self._trim = True
            events: list[AgentEvent] = [ReasoningDelta(thought)] if thought else []
            return events + (self._look_for_opener(rest) if rest else [])
        held = held_suffix(text, self._closer)
        if held:
            self._held = text[-held:]
            text = text[:-held]
        return [ReasoningDelta(text)] if text else []


# --- shared/ids.py ---


def new_id(kind: str) -> str:
    """A new identifier such as `call_…`, as long as those of the OpenAI APIs."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


# --- shared/backends/tool_fragments.py ---


@dataclass(slots=True)
class PartialToolCall:
    """A call under way."""

    call_id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    completed: bool = False


class ToolCallAssembler:
    """Merges fragments by index into calls, and tells of them as they grow.

    Servers differ: some leave `index` out, some give every call the index 0 and a
    new id, some send arguments as an object. All of these are one call each here.
    """

    def __init__(self) -> None:
        self._calls: list[PartialToolCall] = []
        self._by_index: dict[int, PartialToolCall] = {}

    def feed(self, fragments: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        """Fragments of `delta.tool_calls` in, events out."""
        events: list[AgentEvent] = []
        for fragment in fragments:
            function = fragment.get("function") or {}
            call = self._find(fragment, function)
            name = str(function.get("name") or "")
            if name and not call.name:
                call.name = name
                events.append(ToolCallStarted(call.call_id, name))
                held = "".join(call.arguments)
                if held:
                    events.append(ToolCallArgumentsDelta(call.call_id, held))
            arguments = function.get("arguments")
            if arguments is None or arguments == "":
                continue
            if not isinstance(arguments, str):
                arguments = orjson.dumps(arguments).decode()
            call.arguments.append(arguments)
            if call.name:
                events.append(ToolCallArgumentsDelta(call.call_id, arguments))
        return events

    def complete(self) -> list[AgentEvent]:
        """Every call begun so far is whole; a call without arguments has `{}`."""
        events: list[AgentEvent] = []
        for call in self._calls:
            if not call.completed and call.name:
                call.completed = True
                arguments = "".join(call.arguments).strip() or "{}"
                events.append(ToolCallCompleted(call.call_id, call.name, arguments))
        self._by_index.clear()
        return events

    def _find(
        self, fragment: Mapping[str, Any], function: Mapping[str, Any]
    ) -> PartialToolCall:
        index = fragment.get("index")
        call_id = str(fragment.get("id") or "")
        if index is None:
            same = [c for c in self._calls if not c.completed and c.call_id == call_id]
            known = same[-1] if same else None
            if known is None and not call_id and not function.get("name"):
                known = self._calls[-1] if self._calls else None
        else:
            known = self._by_index.get(index)
            if (
                known is not None
                and call_id
                and call_id != known.call_id
                and function.get("name")
            ):
                known = None
        if known is None:
            if not call_id or any(call.call_id == call_id for call in self._calls):
                call_id = new_id("call")
            known = PartialToolCall(call_id)
            self._calls.append(known)
            if index is not None:
                self._by_index[index] = known
        return known


# --- shared/backends/openai_chat.py ---

# What servers write, in the words of the API; all else is a normal end.
FINISH_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def chat_completions_body(model: str, turn: Turn) -> dict[str, Any]:
    """The request for this turn, always streaming; parameters of None are left out."""
    body: dict[str, Any] = {
        "stream_options": {"include_usage": True},
        **turn.params,
        "model": model,
        "messages": list(turn.messages),
        "stream": True,
    }
    if turn.tools:
        body["tools"] = list(turn.tools)
    return {key: value for key, value in body.items() if value is not None}


# What a chunk may hold for us besides its choices; most hold none of it.
BESIDE_CHOICES = frozenset(
    {"usage", "timings", "search_results", "citations", "sources"}
)


class ChatCompletionsDecoder:
    """Chunks of one Chat Completions stream in, agent events out.

    `ended` turns True with the finish_reason or `[DONE]`: a stream that stops
    before was cut short.
    """

    def __init__(self) -> None:
        self.ended = False
        self._think = ThinkTagSplitter()
        self._tools = ToolCallAssembler()
        self._usage: dict[str, Any] = {}
        self._cited: set[str] = set()
        self._reason = ""

    def feed(self, name: str, payload: Any, raw: bytes = b"") -> list[AgentEvent]:
        """One chunk, decoded and (for `TextDelta.raw`) as it came.

        Raises UpstreamBroken where it reports an error.
        """
        if not isinstance(payload, dict):
            raise UpstreamBroken("unreadable")
        if payload.get("error") or name == "error":
            raise UpstreamBroken("said_error", detail=error_detail(payload))
        events: list[AgentEvent] = []
        choices = payload.get("choices")
        # An agent gives one answer; a second choice is not a part of it.
        if choices and not choices[0].get("index"):
            choice = choices[0]
            delta = choice.get("delta") or choice.get("message")
            if choice.get("finish_reason"):
                self._reason = str(choice["finish_reason"])
                self.ended = True
            if delta:
                events = self._delta(delta, raw if self._plain(payload) else b"")
        if BESIDE_CHOICES.isdisjoint(payload):
            return events
        for key in ("usage", "timings"):  # llama.cpp sends timings
            if payload.get(key):
                self._usage.update(read_counts(payload[key]))
        for key in ("search_results", "citations", "sources"):
            if payload.get(key):  # Perplexity, Open WebUI
                events.extend(self._cite(payload[key]))
        return events

    def _plain(self, payload: Mapping[str, Any]) -> bool:
        """Whether anybody can read this chunk, and it does not end the answer."""
        return (
            payload.get("object") == "chat.completion.chunk"
            and len(payload["choices"]) == 1
            and "delta" in payload["choices"][0]
            and not self.ended
        )

    def done(self) -> None:
        """The `[DONE]` line came."""
        self.ended = True

    def held(self) -> list[AgentEvent]:
        """What was not yet told, when the stream broke."""
        return self._think.finish()

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the stream has ended."""
        events = [*self._think.finish(), *self._tools.complete()]
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished(FINISH_REASONS.get(self._reason, "stop"))]

    def _delta(self, delta: Mapping[str, Any], raw: bytes) -> list[AgentEvent]:
        content = delta.get("content")
        if delta.get("role") == "tool":  # a server that ran the tool itself
            return [
                *self._tools.complete(),
                ToolResult(str(delta.get("tool_call_id", "")), content_text(content)),
            ]
        if isinstance(content, str) and says_only("content", delta):
            return self._text(content, raw)
        events: list[AgentEvent] = []
        reasoning = (
            delta.get("reasoning_content")
            or delta.get("reasoning")
            or delta.get("thinking")
        )
        if reasoning:
            raw = raw if says_only("reasoning_content", delta) else b""
            events.append(ReasoningDelta(content_text(reasoning), raw))
        if content:
            if isinstance(content, str):
                events.extend(self._text(content))
            else:
                events.extend(self._parts(content))
        if delta.get("refusal"):
            events.append(TextDelta(str(delta["refusal"])))
        calls = delta.get("tool_calls")
        if not calls and delta.get("function_call"):  # before tools had that name
            calls = [{"index": 0, "function": delta["function_call"]}]
        if calls:
            events.extend(self._think.finish())
            events.extend(self._tools.feed(calls))
        if delta.get("images"):
            events.extend(image_outputs(delta["images"]))
        if delta.get("annotations"):
            events.extend(self._cite(delta["annotations"]))
        return events

    def _text(self, text: str, raw: bytes = b"") -> list[AgentEvent]:
        delta = TextDelta(text, raw)
        if self._think.passing:
            return [delta]
        events = self._think.feed(text)
        return [delta] if events == [delta] else events

    def _parts(self, parts: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        for part in parts:
            kind = part.get("type")
            if kind == "thinking":  # Mistral
                events.append(ReasoningDelta(content_text(part.get("thinking"))))
            elif kind == "image_url":
                events.extend(image_outputs([part]))
            elif part.get("text"):
                events.extend(self._text(str(part["text"])))
        return events

    def _cite(self, entries: Iterable[Any]) -> list[AgentEvent]:
        """Each source once, however often the server repeats its list."""
        events: list[AgentEvent] = []
        for entry in entries:
            citation = read_citation(entry)
            if citation and citation.url not in self._cited:
                self._cited.add(citation.url)
                events.append(citation)
        return events


def says_only(name: str, delta: Mapping[str, Any]) -> bool:
    """Whether a delta has nothing but this to say."""
    if len(delta) == 1:
        return name in delta
    return [k for k, value in delta.items() if value and k != "role"] == [name]


def read_counts(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a usage object; servers put null where they did not count."""
    counts: dict[str, Any] = {}
    for key, value in usage.items():
        if isinstance(value, Mapping):
            counts[key] = read_counts(value)
        elif isinstance(value, int | float):
            counts[key] = value
    return counts


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or parts with `text` in them."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            str(part.get("text") or part.get("refusal") or "")
            for part in content
            if isinstance(part, dict)
        )
    return "" if content is None else str(content)


def image_outputs(images: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
    """Images of `delta.images` or of content parts: {image_url: {url}} or {image_url}."""
    events: list[AgentEvent] = []
    for image in images:
        link = image.get("image_url")
        url = link.get("url") if isinstance(link, Mapping) else link
        if url:
            url = must_be_text(url)
            mime = url[5:].partition(";")[0] if url.startswith("data:") else "image/*"
            events.append(FileOutput(url, mime))
    return events


def read_citation(entry: Any) -> Citation | None:
    """A source in any of its shapes, or None where it has no address.

    Shapes: "https://…"; {url, title}; {type: url_citation, url_citation: {…}};
    Open WebUI's {source: {name, url}, document: […], metadata: [{source: url}]}.
    """
    if isinstance(entry, str):
        return Citation(entry, entry)
    if not isinstance(entry, Mapping):
        return None
    inner = entry.get("url_citation") or entry.get("source") or entry
    if not isinstance(inner, Mapping):
        return None
    pages = [str(page.get("source", "")) for page in entry.get("metadata") or ()]
    page = next((page for page in pages if page.startswith("http")), "")
    url = inner.get("url") or page
    if not url:
        return None
    title = inner.get("title") or inner.get("name") or url
    documents = entry.get("document")
    text = documents[0] if isinstance(documents, list) and documents else ""
    return Citation(must_be_text(url), str(title), str(inner.get("content") or text))


def must_be_text(value: Any) -> str:
    """The value; raises TypeError where it is no string, as the API says it is."""
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return value


# --- shared/backends/openai_responses.py ---

# Chat Completions parameters that the Responses API does not know.
CHAT_ONLY_PARAMS = frozenset(
    {
        "stop",
        "seed",
        "n",
        "logit_bias",
        "logprobs",
        "frequency_penalty",
        "presence_penalty",
        "stream_options",
    }
)

CONTENT_PART_TYPES = {
    "text": "input_text",
    "image_url": "input_image",
    "file": "input_file",
}


TEXT_DELTAS = frozenset({"response.output_text.delta", "response.refusal.delta"})
REASONING_DELTAS = frozenset(
    {"response.reasoning_text.delta", "response.reasoning_summary_text.delta"}
)
ARGUMENT_DELTAS = frozenset(
    {
        "response.function_call_arguments.delta",
        "response.mcp_call_arguments.delta",
    }
)
CALL_ITEMS = frozenset({"function_call", "mcp_call"})


def responses_body(model: str, turn: Turn, keep_session: bool) -> dict[str, Any]:
    """The request for this turn, always streaming.

    With `keep_session` the server keeps the conversation: it gets the id of the
    response that this turn follows, and only what was said since.
    """
    messages: Iterable[Mapping[str, Any]] = turn.messages
    previous = (turn.session or {}).get("response_id") if keep_session else None
    if previous:
        # A response does not carry its instructions on to those that follow it.
        system = (m for m in turn.messages if m.get("role") in ("system", "developer"))
        messages = [*system, *messages_since_answer(turn.messages)]
    body: dict[str, Any] = {
        **responses_params(turn.params),
        "model": model,
        "input": [item for message in messages for item in input_items(message)],
        "stream": True,
        "previous_response_id": previous,
    }
    if keep_session:
        body["store"] = True
    if turn.tools:
        body["tools"] = [
            {"type": "function", **(tool.get("function") or tool)}
            for tool in turn.tools
        ]
    return {key: value for key, value in body.items() if value is not None}


def responses_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Chat Completions parameters in the names of the Responses API."""
    mapped = {k: v for k, v in params.items() if k not in CHAT_ONLY_PARAMS}
    limit = mapped.pop("max_completion_tokens", None) or mapped.pop("max_tokens", None)
    mapped.pop("max_tokens", None)
    if limit is not None:
        mapped["max_output_tokens"] = limit
    effort = mapped.pop("reasoning_effort", None)
    if effort is not None:
        mapped["reasoning"] = {"effort": effort, **(mapped.get("reasoning") or {})}
    shape = mapped.pop("response_format", None)
    if shape is not None:
        schema = shape.get("json_schema") or {}
        mapped["text"] = {"format": {"type": shape.get("type"), **schema}}
    choice = mapped.get("tool_choice")
    if isinstance(choice, Mapping) and "function" in choice:
        mapped["tool_choice"] = {"type": "function", **choice["function"]}
    return mapped


def input_items(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One Chat Completions message as items of `input`."""
    role = message.get("role")
    content = message.get("content")
    if role == "tool":
        output = content_text(content)
        call_id = message.get("tool_call_id")
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    items: list[dict[str, Any]] = []
    if content:
        parts: Any = content
        if not isinstance(content, str):
            parts = [input_part(part, role == "assistant") for part in content]
        items.append({"role": role, "content": parts})
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        items.append(
            {
                "type": "function_call",
                "call_id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments") or "{}",
            }
        )
    return items


def input_part(part: Mapping[str, Any], answered: bool) -> dict[str, Any]:
    """A content part in the names of the Responses API."""
    kind = str(part.get("type"))
    if kind == "text":
        name = "output_text" if answered else CONTENT_PART_TYPES[kind]
        return {"type": name, "text": part.get("text", "")}
    if kind == "image_url":
        link = part.get("image_url")
        url = link.get("url") if isinstance(link, Mapping) else link
        return {"type": CONTENT_PART_TYPES[kind], "image_url": url}
    if kind == "file":
        return {"type": CONTENT_PART_TYPES[kind], **(part.get("file") or {})}
    return dict(part)


def item_key(payload: Mapping[str, Any]) -> str:
    """What names an item in the events of one stream.

    Some gateways give an item another id in every event; its place stays the same.
    """
    return str(payload.get("output_index", payload.get("item_id", "")))


class ResponsesDecoder:
    """Events of one Responses stream in, agent events out.

    Texts that come again whole in a `done` event are told once. `ended` turns True
    with `response.completed` or `response.incomplete`.
    """

    def __init__(self, keep_session: bool = False) -> None:
        self.ended = False
        self._keep_session = keep_session
        self._session: SessionState | None = None
        self._usage: dict[str, Any] = {}
        self._reason = "stop"
        self._told: set[str] = set()  # items whose deltas came, by `item_key`
        self._call_ids: dict[str, str] = {}
        self._cited: set[str] = set()

    def feed(self, name: str, payload: Any, raw: bytes = b"") -> list[AgentEvent]:
        """One decoded event. Raises UpstreamBroken where it reports an error."""
        if not isinstance(payload, dict):
            raise UpstreamBroken("unreadable")
        kind = payload.get("type") or name
        if payload.get("object") == "response" and "output" in payload:
            return self._whole(payload)
        if kind == "error" or (payload.get("error") and "type" not in payload):
            raise UpstreamBroken("said_error", detail=error_detail(payload))
        key = item_key(payload)
        if kind in TEXT_DELTAS:
            self._told.add(key)
            return [TextDelta(must_be_text(payload.get("delta", "")))]
        if kind in REASONING_DELTAS:
            self._told.add(key)
            return [ReasoningDelta(must_be_text(payload.get("delta", "")))]
        if kind in ARGUMENT_DELTAS:
            call_id = self._call_ids.get(key, "")
            delta = must_be_text(payload.get("delta", ""))
            return [ToolCallArgumentsDelta(call_id, delta)]
        if kind == "response.reasoning_summary_part.added":
            return [ReasoningDelta("\n\n")] if payload.get("summary_index") else []
        if kind == "response.output_text.annotation.added":
            return self._cite([payload.get("annotation")])
        if kind == "response.output_item.added":
            return self._item_added(key, payload.get("item") or {})
        if kind == "response.output_item.done":
            return self._item_done(key, payload.get("item") or {})
        return self._progress(kind, payload.get("response") or {})

    def done(self) -> None:
        """The `[DONE]` line that some gateways add."""
        self.ended = True

    def held(self) -> list[AgentEvent]:
        """What was not yet told, when the stream broke: nothing is held here."""
        return []

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the stream has ended."""
        events: list[AgentEvent] = []
        if self._session:
            events.append(self._session)
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished(self._reason)]

    def _progress(self, kind: str, response: Mapping[str, Any]) -> list[AgentEvent]:
        if kind == "response.failed":
            raise UpstreamBroken("said_error", detail=error_detail(response))
        if kind in ("response.completed", "response.incomplete"):
            self.ended = True
            self._usage.update(read_counts(response.get("usage") or {}))
            if self._keep_session and response.get("id"):
                self._session = SessionState({"response_id": response["id"]})
            cause = (response.get("incomplete_details") or {}).get("reason")
            if cause == "max_output_tokens":
                self._reason = "length"
            elif cause:
                self._reason = "content_filter"
        return []

    def _whole(self, response: Mapping[str, Any]) -> list[AgentEvent]:
        """A response that came at once, as plain JSON."""
        if response.get("status") == "failed":
            raise UpstreamBroken("said_error", detail=error_detail(response))
        events: list[AgentEvent] = []
        for index, item in enumerate(response["output"]):
            events.extend(self._item_added(str(index), item))
            events.extend(self._item_done(str(index), item))
        self._progress("response.completed", response)
        return events

    def _item_added(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        if item.get("type") not in CALL_ITEMS or key in self._call_ids:
            return []
        call_id = str(item.get("call_id") or item.get("id") or key)
        self._call_ids[key] = call_id
        return [ToolCallStarted(call_id, str(item.get("name") or ""))]

    def _item_done(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        kind = item.get("type")
        if kind in CALL_ITEMS:
            return self._call_done(key, item)
        if kind == "message":
            return self._message_done(key, item)
        if kind == "reasoning" and key not in self._told:
            parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
            text = "\n\n".join(content_text([part]) for part in parts)
            return [ReasoningDelta(text)] if text else []
        if kind == "image_generation_call" and item.get("result"):
            mime = f"image/{item.get('output_format') or 'png'}"
            return [FileOutput(f"data:{mime};base64,{item['result']}", mime)]
        return []

    def _call_done(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        """A whole call; one of an MCP server was run on the agent's side."""
        events = self._item_added(key, item)
        call_id = self._call_ids[key]
        arguments = item.get("arguments") or "{}"
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        name = str(item.get("name") or "")
        events.append(ToolCallCompleted(call_id, name, arguments))
        if item.get("type") == "mcp_call":
            error = item.get("error")
            output = error_detail(error) if error else content_text(item.get("output"))
            events.append(ToolResult(call_id, output, failed=bool(error)))
        else:
            self._reason = "tool_calls"
        return events

    def _message_done(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        parts = item.get("content") or []
        if key not in self._told:
            text = content_text(parts)
            events.extend([TextDelta(text)] if text else [])
        for part in parts:
            events.extend(self._cite(part.get("annotations") or []))
        return events

    def _cite(self, annotations: Iterable[Any]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        for annotation in annotations:
            citation = read_citation(annotation)
            if citation and citation.url not in self._cited:
                self._cited.add(citation.url)
                events.append(citation)
        return events


# --- shared/backends/openai.py ---

PLAIN_ANSWER_MIB = 64


class StreamDecoder(Protocol):
    """One API's events in, agent events out."""

    ended: bool

    def feed(self, name: str, payload: Any, raw: bytes = b"") -> list[AgentEvent]: ...

    def done(self) -> None: ...

    def held(self) -> list[AgentEvent]: ...

    def finish(self) -> list[AgentEvent]: ...


@dataclass(frozen=True, slots=True)
class OpenAIBackend:
    """An OpenAI-compatible server behind `endpoint`, and one of its models.

    `keep_session` (Responses only) lets the server keep the conversation.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    model: str
    api: Literal["chat", "responses"] = "chat"
    keep_session: bool = False

    async def discover(self) -> list[DiscoveredModel]:
        """The models of GET /models, in the server's order."""
        payload = await get_json(self.client, self.endpoint, "/models")
        entries = payload.get("data") if isinstance(payload, Mapping) else payload
        if not isinstance(entries, list):
            raise UpstreamBroken("unreadable")
        return [
            DiscoveredModel(str(entry["id"]), str(entry.get("name") or entry["id"]))
            for entry in entries
            if isinstance(entry, Mapping) and entry.get("id")
        ]

    async def health(self) -> None:
        await self.discover()

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: these servers stop when the connection closes."""

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator closes the connection."""
        if turn.anew is None:
            return self._run_once(turn)
        return answer_or_begin_anew(
            self._run_once, turn, turn.anew, is_unknown_response
        )

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        path, body, decoder = self._request(turn)
        told = turn.messages[-1].get("role") != "user"
        try:
            async with open_stream(self.client, self.endpoint, path, body) as opened:
                response, clock = opened
                if "application/json" in response.headers.get("content-type", ""):
                    payload = load_json(await read_plain_answer(response, clock))
                    check_plain_answer(payload)
                    for event in events_of(decoder.feed, "", payload):
                        told = True
                        yield event
                    decoder.done()
                else:
                    reader = AnswerReader(decoder)
                    async with aclosing(read_bytes(response, clock)) as pieces:
                        async for data in pieces:
                            for event in reader.feed(data):
                                clock.token()
                                told = True
                                yield event
                            if reader.done:
                                await read_to_end(pieces, clock)
                                break
                            if decoder.ended and not clock.complete:
                                clock.answer_complete()
                    for event in reader.finish():
                        told = True
                        yield event
            if not decoder.ended:
                raise UpstreamBroken("cut_short")
            rest = decoder.finish()
            # After a tool's result some models have nothing to add: that is no error.
            if not told and all(isinstance(e, Usage | Finished) for e in rest):
                raise UpstreamBroken("empty_answer")
        except UpstreamError:
            for event in decoder.held():
                yield event
            raise
        for event in rest:
            yield event

    def _request(self, turn: Turn) -> tuple[str, dict[str, Any], StreamDecoder]:
        if self.api == "responses":
            body = responses_body(self.model, turn, self.keep_session)
            return "/responses", body, ResponsesDecoder(self.keep_session)
        body = chat_completions_body(self.model, turn)
        return "/chat/completions", body, ChatCompletionsDecoder()


class AnswerReader:
    """The bytes of an answer's stream in, agent events out.

    `done` turns True with `[DONE]`: what follows it is nothing to us.
    """

    def __init__(self, decoder: StreamDecoder) -> None:
        self._sse = SSEReader()
        self._decoder = decoder
        self.done = False

    def feed(self, data: bytes) -> Iterator[AgentEvent]:
        """What these bytes say; raises UpstreamBroken after what came before it."""
        return self._read(self._sse.feed(data))

    def finish(self) -> Iterator[AgentEvent]:
        """What remains when the stream has ended."""
        return self._read([] if self.done else self._sse.finish())

    def _read(self, messages: list[ServerSentEvent]) -> Iterator[AgentEvent]:
        for message in messages:
            if message.data == b"[DONE]":
                self._decoder.done()
                self.done = True
                return
            yield from read_message(self._decoder, message)


def is_unknown_response(error: UpstreamError) -> bool:
    """Whether the server says that it does not have the previous response."""
    said = str(error.fields.get("detail")).lower()
    return isinstance(error, UpstreamRefused) and (
        error.status == 404 or "previous" in said
    )


def read_message(decoder: StreamDecoder, message: ServerSentEvent) -> list[AgentEvent]:
    """One message of the stream; what is not JSON makes the stream unreadable."""
    try:
        payload, raw = orjson.loads(message.data), message.data
    except orjson.JSONDecodeError:
        payload, raw = load_lenient_json(message.data), b""
    if b"\n" in raw:  # an event in several lines, not one as we would send it
        raw = b""
    return events_of(decoder.feed, message.name, payload, raw)


def check_plain_answer(payload: Any) -> None:
    """Raise UpstreamBroken for JSON at status 200 that is no answer."""
    if not isinstance(payload, Mapping) or not {"choices", "output"} & payload.keys():
        detail = error_detail(payload)
        raise UpstreamBroken("said_error" if detail else "unreadable", detail=detail)


async def read_plain_answer(response: httpx.Response, clock: SilenceClock) -> bytes:
    """The body of an upstream that answers a streaming request with plain JSON."""
    parts: list[bytes] = []
    size = 0
    async for data in read_bytes(response, clock):
        parts.append(data)
        size += len(data)
        if size > PLAIN_ANSWER_MIB * 1024 * 1024:
            raise UpstreamBroken("line_too_long", limit=PLAIN_ANSWER_MIB)
    return b"".join(parts)


# --- shared/backends/a2a.py ---

CARD_PATHS = ("/.well-known/agent-card.json", "/.well-known/agent.json")
MAX_QUESTIONS = 50
# How often in a row the agent may be out of reach while its task is watched.
MAX_FAILURES = 4
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class A2AConnection:
    """An agent that can be spoken with: its interface, and the way to it."""

    client: httpx.AsyncClient
    endpoint: Endpoint
    interface: A2AInterface
    streaming: bool

    async def call(
        self, operation: Operation, params: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The result of a short operation."""
        asked = self.interface.request(operation, params)
        answer = await call_json(
            self.client, self.endpoint, asked.method, asked.path, asked.body
        )
        return unwrap_result(answer)

    async def results(
        self, operation: Operation, params: Mapping[str, Any]
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """The results of a stream, or the one of an answer in plain JSON."""
        asked = self.interface.request(operation, params)
        opening = open_stream(
            self.client, self.endpoint, asked.path, asked.body, asked.method
        )
        async with opening as (response, clock):
            if "application/json" in response.headers.get("content-type", ""):
                plain = await read_plain_answer(response, clock)
                yield unwrap_result(load_json(plain))
                return
            async with aclosing(read_events(response, clock)) as messages:
                async for message in messages:
                    clock.token()
                    yield unwrap_result(load_json(message.data))


@dataclass(frozen=True, slots=True)
class A2ABackend:
    """The agent whose card is at `endpoint`, or in the usual places below it.

    `public_client` connects to nothing private: it is for hosts that only the card
    names. `binding` and `version` limit the interfaces, as in `choose_interface`.
    """

    client: httpx.AsyncClient
    public_client: httpx.AsyncClient
    endpoint: Endpoint
    rules: HostRules
    binding: str = ""
    version: str = ""

    async def discover(self) -> list[DiscoveredModel]:
        """A card describes one agent."""
        card = await self._card()
        return [DiscoveredModel("agent", str(card.get("name") or "agent"))]

    async def health(self) -> None:
        await self._card()

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Cancel the task `task_id`."""
        await cancel_task(await self._connect(), str(session["task_id"]))

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; on closing it the task is cancelled."""
        connection = await self._connect()
        task_id = str((turn.continued or {}).get("task_id") or "")
        if task_id and not await still_waits(connection, task_id):
            # Another branch answered its question, or the agent forgot the task.
            turn = replace(turn, session=None)
        with upstream_errors(connection.endpoint):
            async with aclosing(run_task(connection, A2ADecoder(), turn)) as events:
                async for event in events:
                    yield event

    async def _card(self) -> Mapping[str, Any]:
        """The agent's card: at the address itself where that names a file."""
        places = ("",) if self.endpoint.url.endswith(".json") else CARD_PATHS
        for place in places:
            try:
                card = await get_json(self.client, self.endpoint, place)
            except UpstreamRefused as error:
                if error.status == 404 and place != places[-1]:
                    continue
                raise
            return must_be_object(card)
        raise UpstreamBroken("unreadable")

    async def _connect(self) -> A2AConnection:
        """The way to the agent. A host that only the card names gets no secrets."""
        card = await self._card()
        interface = choose_interface(card, self.binding, self.version)
        if self.rules.denies(interface.url):
            host = replace(self.endpoint, url=interface.url).host
            raise UpstreamUnreachable("address_refused", host=host)
        trusted = self.rules.trusts(interface.url)
        endpoint = replace(
            self.endpoint,
            url=interface.url,
            key=self.endpoint.key if trusted else "",
            headers={
                **(self.endpoint.headers if trusted else {}),
                **interface.headers,
            },
        )
        client = self.client if trusted else self.public_client
        streaming = bool((card.get("capabilities") or {}).get("streaming"))
        return A2AConnection(client, endpoint, interface, streaming)


async def run_task(
    connection: A2AConnection, decoder: A2ADecoder, turn: Turn
) -> AsyncGenerator[AgentEvent, None]:
    """A turn from the user's message to its end, the task cancelled on the way out."""
    answered = False
    try:
        async with aclosing(answer_turn(connection, decoder, turn)) as events:
            async for event in events:
                yield event
        answered = True
    finally:
        if not answered and decoder.task_id and decoder.unfinished:
            await run_cancel(cancel_task(connection, decoder.task_id))


async def still_waits(connection: A2AConnection, task_id: str) -> bool:
    """Whether a task has a question that nobody answered yet."""
    with suppress(UpstreamError):
        decoder = A2ADecoder()
        read_result(decoder, await connection.call("get", {"id": task_id}))
        return decoder.waiting
    return False


async def cancel_task(connection: A2AConnection, task_id: str) -> None:
    """Cancel a task, unless it has ended already."""
    with suppress(UpstreamRefused, UpstreamBroken):
        await connection.call("cancel", {"id": task_id})


async def answer_turn(
    connection: A2AConnection, decoder: A2ADecoder, turn: Turn
) -> AsyncGenerator[AgentEvent, None]:
    """The agent's answer; whenever it asks something, the user is asked."""
    message = await asyncio.to_thread(first_message, connection.interface, turn)
    for _ in range(MAX_QUESTIONS):
        async with aclosing(follow_task(connection, decoder, message)) as events:
            async for event in events:
                yield event
        if not decoder.waiting:
            break
        question = decoder.said
        reply = await turn.dialogs.ask(UserQuestion(question))
        if reply is None:
            # Then the question is the answer, and what the user says next goes on.
            yield TextDelta(f"\n\n{question}" if decoder.told else question)
            break
        message = connection.interface.message(
            reply, (), decoder.context_id, decoder.task_id
        )
        decoder.go_on()
    if not decoder.told and not decoder.waiting:
        raise UpstreamBroken("empty_answer")
    if decoder.waiting:
        yield SessionState(
            {"context_id": decoder.context_id, "task_id": decoder.task_id}
        )
    yield Finished()


def first_message(interface: A2AInterface, turn: Turn) -> dict[str, Any]:
    """The user's message; an agent that was not there gets the whole branch with it."""
    session = turn.continued or {}
    news = turn.news()
    files: list[TurnFile] = []
    for message in news:
        if message.get("role") == "user":
            files += message_files(message)
    return interface.message(
        transcript(news),
        files,
        str(session.get("context_id", "")),
        str(session.get("task_id", "")),
    )


async def follow_task(
    connection: A2AConnection, decoder: A2ADecoder, message: Mapping[str, Any]
) -> AsyncGenerator[AgentEvent, None]:
    """Send a message and follow its task to the end, also past a lost stream."""
    operation: Operation = "stream" if connection.streaming else "send"
    try:
        async with aclosing(
            connection.results(operation, {"message": message})
        ) as results:
            async for result in results:
                for event in read_result(decoder, result):
                    yield event
    except UpstreamError as error:
        if decoder.ended or not (decoder.task_id and lost(error)):
            raise
    if decoder.ended:
        return
    if not decoder.task_id:
        raise UpstreamBroken("cut_short")
    async with aclosing(watch_task(connection, decoder)) as events:
        async for event in events:
            yield event


async def watch_task(
    connection: A2AConnection, decoder: A2ADecoder
) -> AsyncGenerator[AgentEvent, None]:
    """Catch up with a task again and again until it has ended."""
    limit = connection.endpoint.timeouts.between_tokens
    loop = asyncio.get_running_loop()
    heard = loop.time()
    failures = 0
    while loop.time() - heard <= limit:
        try:
            async with aclosing(catch_up(connection, decoder)) as events:
                async for event in events:
                    heard = loop.time()
                    yield event
            failures = 0
        except UpstreamError as error:
            failures += 1
            if decoder.ended or failures > MAX_FAILURES or not lost(error):
                raise
        if decoder.ended:
            return
        await asyncio.sleep(PAUSE_SECONDS)
    raise UpstreamSilent("silent_between", seconds=limit)


async def catch_up(
    connection: A2AConnection, decoder: A2ADecoder
) -> AsyncGenerator[AgentEvent, None]:
    """What was missed of a task, and then its stream, where it can be attached to."""
    params = {"id": decoder.task_id}
    for event in read_result(decoder, await connection.call("get", params)):
        yield event
    if decoder.ended or not connection.streaming:
        return
    try:
        async with aclosing(connection.results("subscribe", params)) as results:
            async for result in results:
                for event in read_result(decoder, result):
                    yield event
    except UpstreamError:
        # Whatever kept us from listening, the task can be looked at again.
        if decoder.ended:
            raise


def read_result(decoder: A2ADecoder, result: Mapping[str, Any]) -> list[AgentEvent]:
    """The events of a result, after the session's id when that comes to be known."""
    known = decoder.context_id
    events = events_of(decoder.feed, result)
    if decoder.context_id and not known:
        return [SessionState({"context_id": decoder.context_id}), *events]
    return events


def lost(error: UpstreamError) -> bool:
    """Whether a connection broke, while the task may well go on."""
    return error.code == "cut_short" or isinstance(error, UpstreamUnreachable)


# --- shared/host/resources.py ---

STATE_KEY = "aqueduct"

Resource = TypeVar("Resource")


def shared_resource(name: str, make: Callable[[], Resource]) -> Resource:
    """The server-wide object of this name, made on first use.

    Call it in the event loop only: there, nothing runs between look-up and store.
    """
    from open_webui.main import app

    kept: dict[str, Any] | None = getattr(app.state, STATE_KEY, None)
    if kept is None:
        kept = {}
        setattr(app.state, STATE_KEY, kept)
    if name not in kept:
        kept[name] = make()
    return kept[name]


# --- shared/agents/kinds/a2a.py ---


class A2AAgent(HttpAgent):
    """An agent with a card: `url` is the card's address, or the one it lies below.

    `allow_hosts` are further hosts that the card may name, `deny_hosts` such that it
    may not; both with `*` and `?`.
    """

    binding: Literal["", "jsonrpc", "http+json"] = ""
    version: Literal["", "1.0", "0.3"] = ""
    allow_hosts: tuple[str, ...] = ()
    deny_hosts: tuple[str, ...] = ()

    @field_validator("version", mode="before")
    @classmethod
    def _as_text(cls, version: Any) -> Any:
        """In YAML 1.0 is a number."""
        return str(version) if isinstance(version, float) else version

    @field_validator("allow_hosts", "deny_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if any("/" in host or ":" in host for host in hosts):
            raise ValueError("write host names, without `http://` and a port")
        return tuple(host.lower() for host in hosts)

    @property
    def rules(self) -> HostRules:
        own = urlsplit(self.url).hostname or ""
        return HostRules((own, *self.allow_hosts), self.deny_hosts)


def make_a2a(agent: A2AAgent, model: str) -> Backend:
    """The backend for the agent; a card has no models to choose among."""
    return A2ABackend(
        client=shared_resource("http client", new_http_client),
        public_client=shared_resource("public http client", new_public_client),
        endpoint=agent.endpoint,
        rules=agent.rules,
        binding=agent.binding,
        version=agent.version,
    )


def new_public_client() -> Any:
    """A client that connects to no private address."""
    return new_http_client(only_public=True)


# --- shared/backends/processes.py ---

# What a program gets of the server's environment. Everything else may be a secret.
# fmt: off
INHERITED_VARIABLES = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL",
    "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK",
    "NODE_EXTRA_CA_CERTS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
    "https_proxy", "no_proxy",
))
# fmt: on
# Names the run a process belongs to: the server's mark and a number of its own. A shell
# in a session of its own whose parent died is nobody's child, but it still has this.
RUN_MARK = "AQUEDUCT_RUN"
# Ctrl-C first: some agents leave their children alone on SIGTERM.
STOP_STEPS = ((signal.SIGINT, 1.5), (signal.SIGTERM, 1.0), (signal.SIGKILL, 1.0))
EOF_SECONDS = 1.0
WRITE_SECONDS = 60.0
SAME_START_SECONDS = 3600
ERROR_LINES_KEPT = 20
# How ssh ends when it is ssh that failed, and its words for why. The rest of its lines,
# accounts and addresses, is for the log.
SSH_FAILED = 255
SSH_REASONS = re.compile(
    r"Permission denied|Host key verification failed|Could not resolve hostname"
    r"|Connection (?:refused|timed out|closed|reset)|No route to host"
    r"|Network is unreachable|not responding"
)
READ_BYTES = 64 * 1024

processes_log = logging.getLogger("aqueduct.processes")


@dataclass(frozen=True, slots=True)
class Program:
    """What to start: an argument list, and what its environment has on top."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return Path(self.command[0]).name


class AgentProcess:
    """A running program with its family: what it started, and what that started."""

    def __init__(
        self, program: Program, process: asyncio.subprocess.Process, mark: str
    ) -> None:
        self._program = program
        self._process = process
        self._mark = mark
        self._root = process_of(process.pid)
        self._errors: deque[str] = deque(maxlen=ERROR_LINES_KEPT)
        self._listening = asyncio.create_task(self._keep_errors())

    @classmethod
    async def start(cls, program: Program, folder: Path) -> "AgentProcess":
        """Start it in `folder`; UpstreamUnreachable when there is no such program."""
        mark = f"{server_mark()} {uuid.uuid4().hex}"
        env = program_environment(program.env) | {RUN_MARK: mark}
        try:
            process = await asyncio.create_subprocess_exec(
                find_program(program, env),
                *program.command[1:],
                cwd=folder,
                env=env,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            processes_log.warning("%s did not start: %s", program.name, error.strerror)
            raise UpstreamUnreachable("program_missing", program=program.name) from None
        return cls(program, process, mark)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def write(self, data: bytes) -> None:
        """Give it input; UpstreamError when it does not take it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            async with asyncio.timeout(WRITE_SECONDS):
                await self._process.stdin.drain()
        except TimeoutError:
            raise UpstreamSilent("program_silent", seconds=WRITE_SECONDS) from None
        except (OSError, RuntimeError) as error:
            raise UpstreamBroken("program_ended") from error

    def close_input(self) -> None:
        """Tell it that no more input comes."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def read(self) -> bytes:
        """Some of its output; nothing at its end.

        When it has ended, what it left running may still hold its output open.
        """
        assert self._process.stdout is not None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EOF_SECONDS):
                    return await self._process.stdout.read(READ_BYTES)
            if not self.running:
                return b""

    async def exit_code(self) -> int | None:
        """How it ended, once its output is over; None when it lives on regardless.

        What a failed one said on stderr is logged. UpstreamBroken when it was not the
        program that failed, but ssh to where it is.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EOF_SECONDS):
                await self._process.wait()
        await asyncio.wait([self._listening], timeout=EOF_SECONDS)
        code = self._process.returncode
        if code:
            words = self.without_secrets(" | ".join(self._errors))
            processes_log.warning(
                "%s ended with %s: %s", self._program.name, code, words
            )
            if self._program.name == "ssh" and code == SSH_FAILED:
                reason = SSH_REASONS.search(words)
                raise UpstreamBroken("ssh_failed", detail=reason[0] if reason else "")
        return code

    async def ending(self) -> UpstreamBroken:
        """The error for a program that ended in the middle of a talk."""
        try:
            return program_ended(await self.exit_code())
        except UpstreamBroken as error:
            return error

    def without_secrets(self, text: str) -> str:
        """Its words without the values of its own variables, which may be keys."""
        for value in self._program.env.values():
            if len(value) > 7:
                text = text.replace(value, "***")
        return text

    async def family(self) -> set[int]:
        """The ids of the processes that live because of this one, itself included."""
        found = await asyncio.to_thread(process_family, self._root, self._mark)
        return {process.pid for process in found}

    async def end_all_but(self, kept: set[int]) -> None:
        """End what it has started since `kept` was its family."""
        await asyncio.to_thread(end_family, self._root, self._mark, kept)

    async def stop(self, gently: bool = False) -> None:
        """End it and its family; `gently` lets it first go by itself.

        Harmless when it has ended: what it started may still be there.
        """
        self.close_input()
        if gently and self.running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EOF_SECONDS):
                    await self._process.wait()
        await asyncio.to_thread(end_family, self._root, self._mark)
        self._listening.cancel()

    async def _keep_errors(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-READ_BYTES:]
            self._errors.extend(line.decode("utf-8", "replace") for line in lines)
        self._errors.append(rest.decode("utf-8", "replace"))


def program_ended(code: int | None) -> UpstreamBroken:
    """The error for a program that ended with this code before its work was done."""
    detail = "" if code is None else f"exit code {code}"
    return UpstreamBroken("program_ended", detail=detail)


def find_program(program: Program, env: Mapping[str, str]) -> str:
    """Where the program is: a path from the server's folder, or a name on the PATH."""
    found = shutil.which(program.command[0], path=env.get("PATH"))
    if found is None:
        raise UpstreamUnreachable("program_missing", program=program.name)
    return os.path.abspath(found)


def program_environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program: what everybody needs, and its own variables."""
    kept = {k: v for k, v in os.environ.items() if k in INHERITED_VARIABLES}
    return kept | dict(own)


def server_mark() -> str:
    """This server: the namespace its id counts in, its id, and when it was started."""
    return f"{pid_namespace()} {os.getpid()} {psutil.Process().create_time():.0f}"


def pid_namespace() -> str:
    """Tells apart containers, whose processes have the same ids; "0" elsewhere."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "0"


def process_of(pid: int) -> psutil.Process | None:
    """The process of this id, or None when it is gone already."""
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def process_family(root: psutil.Process | None, mark: str) -> list[psutil.Process]:
    """The process, its descendants, and those that carry its mark."""
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.Error):
        if root is not None and root.is_running():
            found = {process.pid: process for process in root.children(recursive=True)}
            found[root.pid] = root
    for process, its_mark in marked_processes():
        if its_mark == mark:
            found.setdefault(process.pid, process)
    return [process for process in found.values() if lives(process)]


def marked_processes() -> Iterable[tuple[psutil.Process, str]]:
    """Every process of this machine that an agent's run has to do with."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark := process.environ().get(RUN_MARK):
                yield process, mark


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; one that only waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_family(
    root: psutil.Process | None, mark: str, kept: Iterable[int] = frozenset()
) -> None:
    """End a process and its family but for those `kept`. Blocks for some seconds.

    The family is counted before each step: it may have grown, and whose child a
    process was can only be seen while its parent lives.
    """
    known: dict[int, psutil.Process] = {}
    for number, seconds in STOP_STEPS:
        for process in process_family(root, mark):
            if process.pid not in kept:
                known[process.pid] = process
        alive = [process for process in known.values() if lives(process)]
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        deadline = time.monotonic() + seconds
        while any(lives(process) for process in alive):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)


def end_orphans() -> None:
    """End what agents of servers have left that were killed. Blocks."""
    here = pid_namespace()
    for process, mark in list(marked_processes()):
        namespace, pid, started, *_ = [*mark.split(), "", "", ""]
        if namespace == here and pid.isdigit() and not is_server(int(pid), started):
            processes_log.info("Ending %s, left by a server that is gone", process.pid)
            end_family(process, mark)


def is_server(pid: int, started: str) -> bool:
    """Whether the server that made a mark still runs.

    Rather once too often than not: the clock by which a start is told may be set.
    """
    server = process_of(pid)
    if server is None or not started.isdigit():
        return server is not None
    return abs(server.create_time() - int(started)) < SAME_START_SECONDS


# --- shared/agents/kinds/programs.py ---

WORKSPACES = "aqueduct/workspaces"


class ProgramTimeouts(TimeoutSettings):
    """Agents are slow to start, and silent while a command of theirs runs."""

    connect: float = Field(default=60.0, gt=0)
    first_token: float = Field(default=300.0, gt=0)
    between_tokens: float = Field(default=900.0, gt=0)


class ProgramAgent(AgentConfig):
    """An agent that is started on this machine, or from it over ssh."""

    WITH_VARIABLES: ClassVar[tuple[str, ...]] = ("env",)

    command: tuple[str, ...] = Field(repr=False)
    env: dict[str, SecretStr] = Field(default_factory=dict)
    timeouts: ProgramTimeouts = ProgramTimeouts()
    recover_tool_calls: bool = False
    files: Literal["text", "attach"] = "attach"

    @field_validator("command", mode="before")
    @classmethod
    def _is_a_list(cls, command: Any) -> Any:
        """A command in one line is taken apart as a shell does, but none runs it."""
        if not isinstance(command, str):
            return command
        try:
            return shlex.split(command)
        except ValueError as error:
            raise ValueError("a quotation mark in the command is not closed") from error

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if not command or not command[0]:
            raise ValueError("the command names no program")
        return command

    @property
    def place(self) -> str:
        return PurePath(self.command[0]).name

    @property
    def program(self) -> Program:
        """What to start."""
        env = {name: value.get_secret_value() for name, value in self.env.items()}
        return Program(self.command, env)

    @property
    def fingerprint(self) -> str:
        """Changes whenever something else would be started."""
        program = self.program
        told = repr((program.command, sorted(program.env.items())))
        return hashlib.sha256(told.encode()).hexdigest()[:16]


# --- shared/backends/processes_errors.py ---

LOGIN_WORDS = re.compile(
    r"\b401\b|unauthori[sz]ed|invalid (api|x-api)[ -]key|api key (not|is not) valid"
    r"|authentication[ _](required|failed|error)|(not|please|must) log(ged)? ?in"
    r"|(token|session|login|credentials?) (has |have )?expired|/login\b",
    re.IGNORECASE,
)
JSON_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
MAX_DETAIL = 300


def failure_code(detail: str) -> str:
    """The code of the sentence for this failure: a login's end has one of its own."""
    return "login_expired" if LOGIN_WORDS.search(detail) else "said_error"


def plain_detail(text: str) -> str:
    """The sentence in what a program said, on one line.

    Some hand on a whole JSON error object, between words of their own.
    """
    found = JSON_OBJECT.search(text)
    if found:
        with contextlib.suppress(orjson.JSONDecodeError):
            text = error_detail(orjson.loads(found.group())) or text
    text = " ".join(text.split()).removeprefix("Internal error: ")
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


# --- shared/backends/acp_wire.py ---

# A line holds a whole message, with a file or a picture in it.
MAX_ACP_LINE = 64 * 1024 * 1024
METHOD_NOT_FOUND = -32601
# ACP's "authentication required", and the HTTP status that some hand through.
LOGIN_NUMBERS = (-32000, 401)

acp_log = logging.getLogger("aqueduct.acp")

AcpMessage = Mapping[str, Any]


class AcpRefused(UpstreamBroken):
    """The agent answered a request with a JSON-RPC error; `number` is its code."""

    def __init__(self, code: str, number: int, detail: str) -> None:
        super().__init__(code, detail=detail)
        self.number = number


class AcpConnection:
    """The talk with one agent's process.

    What the agent says by itself waits in `incoming`, in order, and so does the
    response to a request that was `sent` and not `called`; None is the end, whose
    reason is `end`.
    """

    def __init__(self, process: AgentProcess) -> None:
        self.process = process
        self.incoming: asyncio.Queue[AcpMessage | None] = asyncio.Queue()
        self.end: UpstreamError | None = None
        self._last_id = 0
        self._calls: dict[int, asyncio.Future[AcpMessage]] = {}
        self._reading = asyncio.create_task(self._read())

    async def call(
        self, method: str, params: Mapping[str, Any], seconds: float
    ) -> Mapping[str, Any]:
        """The result of a request; AcpRefused for an error, UpstreamSilent for none."""
        if self.end is not None:
            raise self.end
        number = self.new_id()
        response = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._send({"id": number, "method": method, "params": params})
                return self.result(await response)
        except TimeoutError:
            error = UpstreamSilent("program_silent", seconds=seconds)
            self._ended(error)
            raise error from None
        finally:
            self._calls.pop(number, None)

    def new_id(self) -> int:
        """An id for a request, to be known before it is sent."""
        self._last_id += 1
        return self._last_id

    async def send(self, number: int, method: str, params: Mapping[str, Any]) -> None:
        """Send a request: the response comes into `incoming`."""
        await self._send({"id": number, "method": method, "params": params})

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        await self._send({"method": method, "params": params})

    async def answer(self, request: AcpMessage, result: Mapping[str, Any]) -> None:
        """Answer a request of the agent."""
        await self._send({"id": request["id"], "result": result})

    async def decline(self, request: AcpMessage) -> None:
        """Tell the agent that we do not do what it requests."""
        error = {"code": METHOD_NOT_FOUND, "message": "Method not found"}
        await self._send({"id": request["id"], "error": error})

    def result(self, response: AcpMessage) -> Mapping[str, Any]:
        """What a response holds; raises AcpRefused when that is an error."""
        error = response.get("error")
        if error is None:
            return as_object(response.get("result"))
        shown = self.process.without_secrets(error_sentence(as_object(error)))
        raise acp_error(as_object(error), shown)

    def forget_incoming(self) -> None:
        """Drop what the agent said so far, such as a replayed history."""
        while not self.incoming.empty():
            if self.incoming.get_nowait() is None:
                self.incoming.put_nowait(None)
                return

    async def close(self, gently: bool = False) -> None:
        """End the agent and all it started."""
        await self.process.stop(gently)
        self._reading.cancel()
        self._ended(UpstreamBroken("program_ended"))

    async def _send(self, message: dict[str, Any]) -> None:
        await self.process.write(dump_json({"jsonrpc": "2.0", **message}) + b"\n")

    async def _read(self) -> None:
        lines = LineBuffer(MAX_ACP_LINE)
        try:
            while data := await self.process.read():
                for line in lines.feed(data):
                    self._receive(line)
            self._ended(await self.process.ending())
        except UpstreamBroken as error:
            self._ended(error)
        except OSError:
            self._ended(UpstreamBroken("program_ended"))

    def _receive(self, line: bytes) -> None:
        try:
            message = load_json(line)
        except UpstreamBroken:
            # Some agents print to stdout what belongs on stderr.
            acp_log.debug("An agent sent a line that is no JSON (%d bytes)", len(line))
            return
        if not isinstance(message, Mapping):
            return
        call, number = None, message.get("id")
        if "method" not in message and isinstance(number, int):
            call = self._calls.pop(number, None)
        if call is None:
            self.incoming.put_nowait(message)
        elif not call.done():
            call.set_result(message)

    def _ended(self, error: UpstreamError) -> None:
        self.end = self.end or error
        for call in self._calls.values():
            if not call.done():
                call.set_exception(self.end)
        self._calls.clear()
        self.incoming.put_nowait(None)


def as_object(value: Any) -> Mapping[str, Any]:
    """An object, or an empty one in place of whatever else an agent sent."""
    return value if isinstance(value, Mapping) else {}


def acp_error(error: Mapping[str, Any], detail: str) -> AcpRefused:
    """The error for a JSON-RPC error object; `detail` is its sentence."""
    number = error.get("code")
    code = "login_expired" if number in LOGIN_NUMBERS else failure_code(detail)
    return AcpRefused(code, number if isinstance(number, int) else 0, detail)


def error_sentence(error: Mapping[str, Any]) -> str:
    """The sentence of a JSON-RPC error object, as agents fill it.

    Some have it in `data.message` or `data.details`, others a whole JSON text in
    `message`.
    """
    data = error.get("data")
    told = data.get("details", data) if isinstance(data, Mapping) else None
    return plain_detail(error_detail(told) or str(error.get("message") or ""))


# --- shared/backends/workspaces.py ---

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# What tools keep for themselves; nobody wants it as attachments.
PASSED_OVER = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
MAX_FILES_SEEN = 5_000
MAX_FILES_OUT = 10
MAX_BYTES_OUT = 10 * 1024 * 1024

# Path from the workspace -> (time of the last change in ns, size in bytes).
Snapshot = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder to work in. Everything here blocks: call it in a thread.

    A `temporary` one belongs to a single turn, which removes it at its end.
    """

    folder: Path
    temporary: bool = False

    @classmethod
    def of_chat(cls, root: Path, user_id: str, chat_id: str) -> "Workspace":
        """The folder of this user's chat, made when it is not there.

        What belongs to no chat, or to one that is not saved, has a temporary one.
        """
        temporary = not is_lasting_chat(chat_id)
        place = f"turn-{uuid.uuid4().hex}" if temporary else folder_name(chat_id)
        folder = root / folder_name(user_id) / place
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(folder, temporary)

    def leave(self) -> None:
        """Remove a temporary folder with all that is in it; others stay."""
        if self.temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def save(self, name: str, data: bytes) -> Path:
        """Put a file in under its name, or under one like it when that is taken."""
        stem, ending = os.path.splitext(file_name(name))
        for number in range(1, MAX_FILES_SEEN):
            shown = f"{stem}-{number}" if number > 1 else stem
            path = self.folder / f"{shown}{ending}"
            try:
                # "x" makes a new file, so it follows no link out of the folder.
                with path.open("xb") as file:
                    file.write(data)
                return path
            except FileExistsError:
                if read_plain_file(path, len(data)) == data:
                    return path
        raise FileExistsError(self.folder / file_name(name))

    def snapshot(self) -> Snapshot:
        """The files there are now."""
        return dict(plain_files(self.folder))

    def made_since(self, before: Snapshot) -> list[FileOutput]:
        """Files that are new or changed; where there is no room, their names alone."""
        outputs: list[FileOutput] = []
        left_out: list[FileOutput] = []
        room = MAX_BYTES_OUT
        for name, seen in sorted(plain_files(self.folder)):
            if before.get(name) == seen:
                continue
            if len(outputs) == MAX_FILES_OUT or seen[1] > room:
                left_out.append(FileOutput("", "", name, size=seen[1]))
                continue
            data = read_plain_file(self.folder / name, room)
            if data is not None:
                room -= len(data)
                outputs.append(file_output(name, data))
        return [*outputs, *left_out]


def is_lasting_chat(chat_id: str) -> bool:
    """Whether this is a chat of its own: no temporary one, and no channel.

    Those have ids like `temporary:…`, and another temporary chat may get the same.
    """
    return bool(chat_id) and ":" not in chat_id


def folder_name(identifier: str) -> str:
    """An id as the name of a folder; what could be a path or is odd gets a hash."""
    if PLAIN_NAME.fullmatch(identifier):
        return identifier
    return "x" + hashlib.sha256(identifier.encode("utf-8", "replace")).hexdigest()[:40]


def file_name(name: str) -> str:
    """A user's file name without folders, never a hidden file's, of 200 bytes at most."""
    plain = re.sub(r"[\x00-\x1f\x7f]", "", re.split(r"[/\\]", name)[-1])
    short = plain.encode("utf-8", "replace")[-200:].decode("utf-8", "ignore")
    return short.strip().lstrip(".") or "file"


def plain_files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Files below a folder with time and size: no links, nothing hidden."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if n[0] != "." and n not in PASSED_OVER]
        for name in names:
            seen += 1
            if seen > MAX_FILES_SEEN:
                return
            if name.startswith("."):
                continue
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                facts = os.lstat(path)
                if stat.S_ISREG(facts.st_mode):
                    found = (facts.st_mtime_ns, facts.st_size)
                    yield os.path.relpath(path, folder), found


def read_plain_file(path: Path, limit: int) -> bytes | None:
    """A file's bytes; None for a link, a device, or more than `limit` bytes."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(opened, "rb") as file:
        data = file.read(limit + 1)
    return data if len(data) <= limit else None


def file_output(name: str, data: bytes) -> FileOutput:
    """A file as an attachment of the answer."""
    mime_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    url = f"data:{mime_type};base64,{encode_base64(data)}"
    return FileOutput(url=url, mime_type=mime_type, name=name, size=len(data))


# --- shared/backends/acp_pool.py ---


@dataclass(eq=False, slots=True)
class AcpAgentProcess:
    """An agent that has been started and greeted.

    `capabilities` are its `agentCapabilities`, `sessions` what it has open: the
    response to session/new or session/load of each id. `selected` is what was chosen
    there as (session id, "mode" or "model").
    """

    key: tuple[str, ...]
    connection: AcpConnection
    capabilities: dict[str, Any] = field(default_factory=dict)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    selected: dict[tuple[str, str], str] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        return self.connection.process.running and self.connection.end is None


class AcpPool:
    """All agent processes of this server.

    A process belongs to one key (agent, user and chat) and serves one turn at a time.
    `key[0]` names the agent, whose processes are counted together.
    """

    def __init__(self) -> None:
        self.known_models: dict[tuple[str, ...], dict[str, str]] = {}
        self._idle: dict[tuple[str, ...], AcpAgentProcess] = {}
        self._busy: dict[AcpAgentProcess, None] = {}
        self._starting: list[str] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._retired = False
        self._background(asyncio.to_thread(end_orphans))

    async def lease(
        self,
        key: tuple[str, ...],
        limit: int,
        start: Callable[[], Awaitable[AcpAgentProcess]],
    ) -> AcpAgentProcess:
        """The key's idle process, or a new one; UpstreamError when all are busy.

        At most `limit` processes of an agent live: the one idle for longest makes room.
        """
        kept = self._take(key)
        if kept is not None and kept.usable:
            self._busy[kept] = None
            return kept
        if kept is not None:
            self.discard(kept)
        self._make_room(key[0], limit)
        self._starting.append(key[0])
        try:
            process = await start()
        finally:
            self._starting.remove(key[0])
        self._busy[process] = None
        return process

    def keep(self, process: AcpAgentProcess, seconds: float) -> None:
        """Take a process back that may wait so long for its chat's next turn."""
        if self._retired or not process.usable:
            self.discard(process)
            return
        self._busy.pop(process, None)
        other = self._take(process.key)
        if other is not None:
            self.discard(other, gently=True)
        loop = asyncio.get_running_loop()
        process.timer = loop.call_later(seconds, self._expire, process)
        self._idle[process.key] = process

    def discard(
        self,
        process: AcpAgentProcess,
        gently: bool = False,
        workspace: Workspace | None = None,
    ) -> None:
        """End a process, and then leave the folder it worked in."""
        self._busy.pop(process, None)
        self._background(end_process(process, gently, workspace))

    def find(self, session_id: str) -> AcpAgentProcess | None:
        """The process that is at work on this session."""
        return next((p for p in self._busy if session_id in p.sessions), None)

    def retire(self) -> None:
        """End what idles now and what works when it is done: another pool takes over."""
        self._retired = True
        for process in list(self._idle.values()):
            self._expire(process)

    async def close(self) -> None:
        """End everything, for the server's shutdown."""
        self.retire()
        for process in list(self._busy):
            self.discard(process)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _make_room(self, agent: str, limit: int) -> None:
        idle = [p for key, p in self._idle.items() if key[0] == agent]
        busy = [p for p in self._busy if p.key[0] == agent]
        if len(busy) + self._starting.count(agent) >= limit:
            raise UpstreamError("too_many_programs", limit=limit)
        if len(idle) + len(busy) + self._starting.count(agent) >= limit:
            self._expire(idle[0])

    def _take(self, key: tuple[str, ...]) -> AcpAgentProcess | None:
        process = self._idle.pop(key, None)
        if process is not None and process.timer is not None:
            process.timer.cancel()
        return process

    def _expire(self, process: AcpAgentProcess) -> None:
        if self._take(process.key) is not None:
            self.discard(process, gently=True)

    def _background(self, work: Awaitable[None]) -> None:
        # asyncio keeps no task alive by itself.
        task = asyncio.ensure_future(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def end_process(
    process: AcpAgentProcess, gently: bool, workspace: Workspace | None
) -> None:
    """End a process and its family, then leave the folder they worked in."""
    await process.connection.close(gently)
    if workspace is not None:
        await asyncio.to_thread(workspace.leave)


# --- shared/backends/acp_updates.py ---

TOOL_NAME = re.compile(r"[A-Za-z][\w.-]{0,40}")
# Claude Code wraps what tools say for a Markdown view; a card is none.
CONSOLE_BLOCK = re.compile(r"\A```(?:console)?\n(.*?)\n?```\s*\Z", re.DOTALL)
# Where a tool's raw output has its text; the second name is Codex's.
OUTPUT_NAMES = ("output", "formatted_output")
# What Codex notes about a call beside what is called, and its proposals for more rights.
BOOKKEEPING = frozenset((
    "call_id", "turn_id", "process_id", "started_at_ms", "source", "parsed_cmd",
    "auto_approved", "available_decisions", "proposed_execpolicy_amendment",
))  # fmt: skip
MAX_RESULT_CHARS = 100_000
MAX_DIFF_LINES = 400
ACP_FINISH_REASONS = {
    "max_tokens": "length",
    "max_turn_requests": "length",
    "refusal": "content_filter",
}
ACP_USAGE_NAMES = {
    "inputTokens": "prompt_tokens",
    "outputTokens": "completion_tokens",
    "totalTokens": "total_tokens",
}


@dataclass(slots=True)
class AcpToolCall:
    """A tool call as far as it is known; updates replace what they name."""

    id: str
    facts: dict[str, Any] = field(default_factory=dict)
    told: bool = False
    ended: bool = False


class AcpDecoder:
    """The events of one turn. `folder` is where the agent works, "" if elsewhere."""

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._calls: dict[str, AcpToolCall] = {}
        self._message_id = ""
        self._in_text = False

    def feed(self, update: Mapping[str, Any]) -> list[AgentEvent]:
        """The events of one `session/update`."""
        match update.get("sessionUpdate"):
            case "agent_message_chunk":
                return self._message_chunk(update)
            case "agent_thought_chunk":
                return acp_content(update.get("content"), ReasoningDelta)
            case "tool_call":
                return self._tool_call(update)
            case "tool_call_update":
                return self._tool_call(update, again=True)
            case "plan":
                return plan_events(update.get("entries"))
        return []

    def permission(
        self, params: Mapping[str, Any]
    ) -> tuple[list[AgentEvent], ApprovalRequest]:
        """The card of the call that needs a permission, and what to ask the user."""
        asked = params.get("toolCall")
        facts = asked if isinstance(asked, Mapping) else {}
        events = self._tool_call(facts)
        call = self._calls[call_id_of(facts)]
        events += self._arguments(call)
        known = call.facts
        diffs = [b for b in blocks(known.get("content")) if b.get("type") == "diff"]
        # The rest is said to whom is asked, and nothing that came of the call.
        known["content"] = diffs
        title = str(known.get("title") or tool_name(known))
        given = input_lines(raw_input(known), title)
        request = ApprovalRequest(
            tool=tool_name(known),
            title=title,
            detail="\n".join(map(diff_text, diffs)) or given,
            paths=tuple(self._shown_paths(known)),
        )
        return events, request

    def finish(self, result: Mapping[str, Any]) -> list[AgentEvent]:
        """The turn's end, from the result of `session/prompt`."""
        reason = ACP_FINISH_REASONS.get(str(result.get("stopReason")), "stop")
        return [*self.close(), *usage_events(result), Finished(reason)]

    def close(self) -> list[AgentEvent]:
        """Give calls a result that never got one: else they would be run again."""
        events: list[AgentEvent] = []
        for call in self._calls.values():
            if not call.ended:
                events += [*self._arguments(call), *self._result(call)]
        return events

    def _message_chunk(self, update: Mapping[str, Any]) -> list[AgentEvent]:
        """Text of the answer; a further message begins a paragraph of its own."""
        events = acp_content(update.get("content"), TextDelta)
        message_id = str(update.get("messageId") or "")
        if events and message_id != self._message_id:
            if self._message_id and self._in_text:
                events.insert(0, TextDelta("\n\n"))
            self._message_id = message_id
        self._in_text = self._in_text or bool(events)
        return events

    def _tool_call(
        self, update: Mapping[str, Any], again: bool = False
    ) -> list[AgentEvent]:
        call_id = call_id_of(update)
        events: list[AgentEvent] = []
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = AcpToolCall(call_id)
            call.facts |= {k: v for k, v in update.items() if v is not None}
            self._in_text = False
            events.append(ToolCallStarted(call_id, tool_name(call.facts)))
        elif call.ended:
            return []
        else:
            call.facts |= {k: v for k, v in update.items() if v is not None}
        status = call.facts.get("status")
        if status == "in_progress" or (again and update.get("rawInput")):
            events += self._arguments(call)
        if status in ("completed", "failed"):
            events += [*self._arguments(call), *self._result(call)]
        return events

    def _arguments(self, call: AcpToolCall) -> list[AgentEvent]:
        """The call as a whole, once: later updates seldom change what it is given."""
        if call.told:
            return []
        call.told = True
        facts = call.facts
        given = raw_input(facts)
        if not (isinstance(given, Mapping) and given):
            given = {"title": str(facts.get("title") or "")}
            if paths := list(self._shown_paths(facts)):
                given["paths"] = paths
        arguments = dump_json(given).decode()
        return [ToolCallCompleted(call.id, tool_name(facts), arguments)]

    def _result(self, call: AcpToolCall) -> list[AgentEvent]:
        call.ended = True
        facts = call.facts
        content = blocks(facts.get("content"))
        text = "\n\n".join(filter(None, map(block_text, content)))
        text = text or input_text(facts.get("rawOutput"))
        wrapped = CONSOLE_BLOCK.match(text)
        output = (wrapped.group(1) if wrapped else text)[:MAX_RESULT_CHARS]
        failed = facts.get("status") == "failed"
        result = ToolResult(call.id, output, failed=failed)
        inner = [block.get("content") for block in content]
        images = [image for block in inner for image in acp_images(block)]
        return [result, *images]

    def _shown_paths(self, facts: Mapping[str, Any]) -> Iterable[str]:
        """Where a call acts: within the workspace relative to it."""
        for place in blocks(facts.get("locations")):
            path = PurePath(os.path.normpath(str(place.get("path") or "")))
            if self._folder and path.is_relative_to(self._folder):
                path = path.relative_to(self._folder)
            yield str(path)


def call_id_of(facts: Mapping[str, Any]) -> str:
    """The id of a call; an agent that names none has one call at a time."""
    return str(facts.get("toolCallId") or "call")


def blocks(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list, whatever else an agent put there."""
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def acp_content(
    block: Any, kind: type[TextDelta] | type[ReasoningDelta]
) -> list[AgentEvent]:
    """A content block of the answer or of a thought."""
    text = acp_text(block)
    return [kind(text)] if text else [*acp_images(block)]


def acp_text(block: Any) -> str:
    """The text of a content block: text, a link, or an embedded text resource."""
    if not isinstance(block, Mapping):
        return ""
    if block.get("type") == "resource_link":
        return str(block.get("uri") or "")
    resource = block.get("resource")
    held = resource if isinstance(resource, Mapping) else block
    text = held.get("text")
    return text if isinstance(text, str) else ""


def acp_images(block: Any) -> list[FileOutput]:
    """The picture of a content block, if it is one."""
    if not isinstance(block, Mapping) or block.get("type") != "image":
        return []
    mime_type = str(block.get("mimeType") or "image/png")
    url = f"data:{mime_type};base64,{block.get('data') or ''}"
    return [FileOutput(url=url, mime_type=mime_type)]


def block_text(block: Mapping[str, Any]) -> str:
    """One block of what a tool made, as a card shows it."""
    if block.get("type") == "diff":
        return f"```diff\n{diff_text(block)}\n```"
    return acp_text(block.get("content"))


def diff_text(block: Mapping[str, Any]) -> str:
    """A change of a file as a unified diff."""
    name = PurePath(str(block.get("path") or "")).name
    old = str(block.get("oldText") or "").splitlines()
    new = str(block.get("newText") or "").splitlines()
    lines = [*difflib.unified_diff(old, new, name, name, lineterm="")]
    if len(lines) > MAX_DIFF_LINES:
        lines = [*lines[:MAX_DIFF_LINES], "…"]
    return "\n".join(lines)


def raw_input(facts: Mapping[str, Any]) -> Any:
    """What a call is given, without what Codex notes there for itself."""
    given = facts.get("rawInput")
    if not (isinstance(given, Mapping) and given.keys() >= {"call_id", "turn_id"}):
        return given
    return {name: value for name, value in given.items() if name not in BOOKKEEPING}


def input_text(value: Any) -> str:
    """A tool's raw input or output as text."""
    if isinstance(value, Mapping):
        for name in OUTPUT_NAMES:
            if isinstance(value.get(name), str):
                return str(value[name])
    if isinstance(value, str) or not value:
        return value or ""
    return dump_json(value).decode()


def input_lines(value: Any, title: str) -> str:
    """A tool's input for people, a line each; what the title says is left out."""
    if not isinstance(value, Mapping):
        return input_text(value)
    told = ((name, input_text(given)) for name, given in value.items())
    return "\n".join(f"{name}: {text}" for name, text in told if text not in title)


def tool_name(facts: Mapping[str, Any]) -> str:
    """The name of a call's card, and what an allow-list knows.

    ACP has only a title for people, which may be the whole command, and a kind. Claude
    Code tells the tool's name on the side.
    """
    meta = facts.get("_meta")
    claude = meta.get("claudeCode") if isinstance(meta, Mapping) else None
    if isinstance(claude, Mapping) and isinstance(claude.get("toolName"), str):
        return str(claude["toolName"])
    kind, title = str(facts.get("kind") or "other"), str(facts.get("title") or "")
    return title if kind == "other" and TOOL_NAME.fullmatch(title) else kind


def plan_events(entries: Any) -> list[AgentEvent]:
    """The plan as a line: how many steps are done, and the one under way."""
    steps = blocks(entries)
    if not steps:
        return []
    done = [step for step in steps if step.get("status") == "completed"]
    rest = [step for step in steps if step.get("status") != "completed"]
    current = [step for step in rest if step.get("status") == "in_progress"] or rest
    shown = (current or done[-1:])[0].get("content")
    line = f"{len(done)}/{len(steps)} · {' '.join(str(shown).split())}"
    return [Status(line, done=not rest)]


def usage_events(result: Mapping[str, Any]) -> list[AgentEvent]:
    """Token counts, in the names of Chat Completions where there is such a name."""
    usage = result.get("usage")
    if not isinstance(usage, Mapping):
        return []
    counts = {
        ACP_USAGE_NAMES.get(str(name), str(name)): value
        for name, value in usage.items()
        if isinstance(value, int)
    }
    return [Usage(counts)] if any(counts.values()) else []


# --- shared/backends/acp_prompt.py ---

AcpBlock = dict[str, Any]


async def prompt_blocks(
    messages: Sequence[Mapping[str, Any]],
    capabilities: Mapping[str, Any],
    workspace: Workspace | None,
) -> list[AcpBlock]:
    """The blocks for these messages: their text, then their files.

    `capabilities` are the agent's `promptCapabilities`. Files are put into the
    `workspace`, where the agent's tools find them; without one, as for an agent on
    another machine, they are embedded.
    """
    files = [file for message in messages for file in message_files(message)]
    attached: list[AcpBlock] = []
    for file in files:
        attached += await file_blocks(file, capabilities, workspace)
    text = transcript(messages)
    said = [{"type": "text", "text": text}] if text or not attached else []
    return [*said, *attached]


async def file_blocks(
    file: TurnFile, capabilities: Mapping[str, Any], workspace: Workspace | None
) -> list[AcpBlock]:
    """One file: seen at once where the agent can, and lying in the workspace."""
    data = await asyncio.to_thread(file.read)
    if data is None:
        return [{"type": "resource_link", "uri": file.url, "name": file.name}]
    found: list[AcpBlock] = []
    kind = file.mime_type.partition("/")[0]
    if kind in ("image", "audio") and capabilities.get(kind):
        shown = {"mimeType": file.mime_type, "data": file.encoded}
        found.append({"type": kind, **shown})
    if workspace is not None:
        path = await asyncio.to_thread(workspace.save, file.name, data)
        link = {"type": "resource_link", "uri": path.as_uri(), "name": path.name}
        found.append({**link, "mimeType": file.mime_type})
    elif not found and capabilities.get("embeddedContext"):
        found.append(embedded_file(file, data))
    if not found:
        found.append({"type": "text", "text": f"[{file.name} cannot be shown here]"})
    return found


def embedded_file(file: TurnFile, data: bytes) -> AcpBlock:
    """A file inside the prompt, as text where its bytes are text."""
    resource = {"uri": f"file:///{file.name}", "mimeType": file.mime_type}
    try:
        resource["text"] = data.decode()
    except UnicodeDecodeError:
        resource["blob"] = file.encoded
    return {"type": "resource", "resource": resource}


def selectable(session: Mapping[str, Any], category: str) -> dict[str, str]:
    """What a new session offers as `mode` or `model`: ids and names.

    Sessions list them as `modes` and `models`, or, since 2026, as config options.
    """
    option = config_option(session, category)
    if option is not None:
        entries, id_key = flat_options(option), "value"
    else:
        plural = f"{category}s"
        state = as_object(session.get(plural))
        entries = blocks(state.get(f"available{plural.title()}"))
        id_key = "id" if category == "mode" else "modelId"
    ids = [(str(entry.get(id_key) or ""), entry) for entry in entries]
    return {id_: str(entry.get("name") or id_) for id_, entry in ids if id_}


def config_option(
    session: Mapping[str, Any], category: str
) -> Mapping[str, Any] | None:
    """The session's config option of this category."""
    options = blocks(session.get("configOptions"))
    return next((o for o in options if o.get("category") == category), None)


def flat_options(option: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The values of a config option, which may stand in groups."""
    flat: list[Mapping[str, Any]] = []
    for entry in blocks(option.get("options")):
        flat += flat_options(entry) if "options" in entry else [entry]
    return flat


def selection(
    session: Mapping[str, Any], category: str, wanted: str
) -> tuple[str, dict[str, str]]:
    """The request that selects a mode or model: its method and parameters."""
    option = config_option(session, category)
    if option is not None:
        chosen = {"configId": str(option.get("id")), "value": wanted}
        return "session/set_config_option", chosen
    return f"session/set_{category}", {f"{category}Id": wanted}


# --- shared/backends/acp_sessions.py ---

ACP_VERSION = 1
# No files and no terminals of ours: agents use their own tools, in their workspace.
CLIENT_CAPABILITIES = {
    "fs": {"readTextFile": False, "writeTextFile": False},
    "terminal": False,
}
CLIENT_INFO = {"name": "aqueduct", "title": "Open WebUI", "version": "1"}


@dataclass(frozen=True, slots=True)
class AcpSettings:
    """How an agent is started and kept.

    `key` tells apart agents and what they are started with. `remote_folder` is where
    one on another machine works. `idle_seconds` is 0 for a process per turn.
    """

    key: tuple[str, ...]
    program: Program
    timeouts: Timeouts
    idle_seconds: float = 600.0
    max_processes: int = 8
    remote_folder: str = ""
    mode: str = ""
    auth: str = ""


async def start_agent(
    settings: AcpSettings, key: tuple[str, ...], folder: Path
) -> AcpAgentProcess:
    """Start an agent in a folder and greet it."""
    connection = AcpConnection(await AgentProcess.start(settings.program, folder))
    seconds = settings.timeouts.connect
    try:
        greeting = await connection.call(
            "initialize",
            {
                "protocolVersion": ACP_VERSION,
                "clientCapabilities": CLIENT_CAPABILITIES,
                "clientInfo": CLIENT_INFO,
            },
            seconds,
        )
        if settings.auth:
            chosen = {"methodId": settings.auth}
            await connection.call("authenticate", chosen, seconds)
    except BaseException:
        await run_cancel(connection.close())
        raise
    return AcpAgentProcess(
        key, connection, dict(as_object(greeting.get("agentCapabilities")))
    )


async def open_session(
    agent: AcpAgentProcess, settings: AcpSettings, turn: Turn, folder: str
) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """A session for this turn, and what it still has to hear.

    That is only the news where the agent has the chat's session or can open it again,
    else the whole branch in a new one.
    """
    wanted = str((turn.continued or {}).get("session_id") or "")
    if wanted and await has_session(agent, settings, wanted, folder):
        return wanted, turn.news()
    opened = await agent.connection.call(
        "session/new", session_place(folder), settings.timeouts.connect
    )
    session_id = str(opened.get("sessionId") or "")
    if not session_id:
        raise UpstreamBroken("unreadable")
    agent.sessions[session_id] = dict(opened)
    return session_id, turn.messages


async def has_session(
    agent: AcpAgentProcess, settings: AcpSettings, session_id: str, folder: str
) -> bool:
    """Whether the agent has this session open, if need be after opening it again."""
    if session_id in agent.sessions:
        return True
    if (
        as_object(agent.capabilities.get("sessionCapabilities")).get("resume")
        is not None
    ):
        method = "session/resume"
    elif agent.capabilities.get("loadSession"):
        method = "session/load"
    else:
        return False
    params = {"sessionId": session_id, **session_place(folder)}
    try:
        opened = await agent.connection.call(method, params, settings.timeouts.connect)
    except AcpRefused:
        return False  # it has forgotten the session
    agent.sessions[session_id] = dict(opened)
    return True


def session_place(folder: str) -> dict[str, Any]:
    return {"cwd": folder, "mcpServers": []}


async def select_in_session(
    agent: AcpAgentProcess,
    settings: AcpSettings,
    session_id: str,
    category: str,
    wanted: str,
) -> None:
    """Choose a `mode` or `model` for a session; UpstreamBroken where it has no such."""
    if not wanted or agent.selected.get((session_id, category)) == wanted:
        return
    offered = selectable(agent.sessions[session_id], category)
    if wanted not in offered:
        names = ", ".join(offered)
        raise UpstreamBroken(f"{category}_unknown", wanted=wanted, detail=names)
    method, chosen = selection(agent.sessions[session_id], category, wanted)
    params = {"sessionId": session_id, **chosen}
    await agent.connection.call(method, params, settings.timeouts.connect)
    agent.selected[session_id, category] = wanted


# --- shared/backends/acp.py ---

# How long a cancelled prompt may take to come back before its agent is ended.
CANCELLED_SECONDS = 2.0
CANCELLED = {"outcome": {"outcome": "cancelled"}}


@dataclass(slots=True)
class AcpExchange:
    """One turn with an agent.

    `folder` is where the agent works, on its machine. `prompt_id` is set while the
    prompt is under way, `asked` while the agent waits for a permission. `files` and
    `family` are the files and processes there were before.
    """

    agent: AcpAgentProcess
    workspace: Workspace
    folder: str
    session_id: str = ""
    prompt_id: int | None = None
    asked: AcpMessage | None = None
    heard: bool = False
    files: Snapshot = field(default_factory=dict)
    family: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class AcpBackend:
    """One agent, and one of its models ("" for its default).

    Below `workspaces`, every chat of every user has a folder of its own.
    """

    pool: AcpPool
    settings: AcpSettings
    workspaces: Path
    model: str = ""

    async def discover(self) -> list[DiscoveredModel]:
        """The models that a session of the agent offers.

        Starting an agent takes seconds, so it is done once for this: later the list
        is that of the last session.
        """
        if self.settings.key not in self.pool.known_models:
            await self.health()
        models = self.pool.known_models[self.settings.key]
        return [DiscoveredModel(id_, name) for id_, name in models.items()]

    async def health(self) -> None:
        """Return when the agent has opened a session; its models are then known."""
        exchange = await self._begin(Turn(()))
        try:
            await self._open(exchange, Turn(()))
        finally:
            await run_cancel(self._end(exchange))

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Cancel what this session runs."""
        session_id = str(session.get("session_id") or "")
        agent = self.pool.find(session_id)
        if agent is not None:
            params = {"sessionId": session_id}
            await agent.connection.notify("session/cancel", params)

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator cancels the agent's prompt."""
        exchange = await self._begin(turn)
        try:
            messages = await self._open(exchange, turn)
            session_id = exchange.session_id
            yield SessionState({"session_id": session_id})
            wishes = {"mode": self.settings.mode, "model": self.model}
            for category, wanted in wishes.items():
                await select_in_session(
                    exchange.agent, self.settings, session_id, category, wanted
                )
            await self._send_prompt(exchange, messages)
            decoder = AcpDecoder(exchange.folder)
            while exchange.prompt_id is not None:
                message = await self._next(exchange)
                events = self._heard(exchange, turn, decoder, message)
                async with aclosing(events):
                    async for event in events:
                        yield event
        finally:
            await run_cancel(self._end(exchange))

    async def _begin(self, turn: Turn) -> AcpExchange:
        """A process in the chat's folder."""
        workspace = await asyncio.to_thread(
            Workspace.of_chat, self.workspaces, turn.user_id, turn.chat_id
        )
        key = (*self.settings.key, str(workspace.folder))
        start = partial(start_agent, self.settings, key, workspace.folder)
        try:
            agent = await self.pool.lease(key, self.settings.max_processes, start)
        except BaseException:
            await asyncio.to_thread(workspace.leave)
            raise
        folder = self.settings.remote_folder or str(workspace.folder)
        return AcpExchange(agent, workspace, folder)

    async def _open(
        self, exchange: AcpExchange, turn: Turn
    ) -> Sequence[Mapping[str, Any]]:
        """Open the turn's session; what it still has to hear."""
        agent = exchange.agent
        exchange.session_id, messages = await open_session(
            agent, self.settings, turn, exchange.folder
        )
        models = selectable(agent.sessions[exchange.session_id], "model")
        self.pool.known_models[self.settings.key] = models
        return messages

    async def _send_prompt(
        self, exchange: AcpExchange, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        connection = exchange.agent.connection
        prompt = await prompt_blocks(
            messages,
            as_object(exchange.agent.capabilities.get("promptCapabilities")),
            None if self.settings.remote_folder else exchange.workspace,
        )
        exchange.files = await asyncio.to_thread(exchange.workspace.snapshot)
        exchange.family = await connection.process.family()
        connection.forget_incoming()
        params = {"sessionId": exchange.session_id, "prompt": prompt}
        # Known before it is sent: a Stop may come while it is being written.
        exchange.prompt_id = connection.new_id()
        await connection.send(exchange.prompt_id, "session/prompt", params)

    async def _next(self, exchange: AcpExchange) -> AcpMessage:
        """What the agent says next; UpstreamError when it is silent or gone."""
        timeouts = self.settings.timeouts
        seconds, code = timeouts.first_token, "silent_first"
        if exchange.heard:
            seconds, code = timeouts.between_tokens, "silent_between"
        connection = exchange.agent.connection
        try:
            async with asyncio.timeout(seconds):
                message = await connection.incoming.get()
        except TimeoutError:
            raise UpstreamSilent(code, seconds=seconds) from None
        if message is None:
            raise connection.end or UpstreamBroken("program_ended")
        exchange.heard = True
        return message

    async def _heard(
        self,
        exchange: AcpExchange,
        turn: Turn,
        decoder: AcpDecoder,
        message: AcpMessage,
    ) -> AsyncGenerator[AgentEvent, None]:
        """The events of one message; its questions are answered."""
        method, params = message.get("method"), as_object(message.get("params"))
        if is_response(message, exchange.prompt_id):
            exchange.prompt_id = None
            *said, finished = decoder.finish(exchange.agent.connection.result(message))
            for event in [*said, *await self._new_files(exchange), finished]:
                yield event
        elif method == "session/update":
            if params.get("sessionId") == exchange.session_id:
                for event in decoder.feed(as_object(params.get("update"))):
                    yield event
        elif method == "session/request_permission":
            exchange.asked = message
            events, request = decoder.permission(params)
            for event in events:
                yield event
            allowed = await turn.dialogs.approve(request)
            outcome = permission_outcome(params, allowed)
            await exchange.agent.connection.answer(message, outcome)
            exchange.asked = None
        elif method is not None and "id" in message:
            await exchange.agent.connection.decline(message)

    async def _new_files(self, exchange: AcpExchange) -> list[AgentEvent]:
        """The files that the agent made or changed, as attachments."""
        made = exchange.workspace.made_since
        return [*await asyncio.to_thread(made, exchange.files)]

    async def _end(self, exchange: AcpExchange) -> None:
        """Keep the agent for the chat's next turn if it is at rest, else end it."""
        rested = False
        try:
            rested = exchange.prompt_id is None or await self._cancelled(exchange)
        finally:
            idle_seconds, workspace = self.settings.idle_seconds, exchange.workspace
            if rested and idle_seconds and not workspace.temporary:
                self.pool.keep(exchange.agent, idle_seconds)
            else:
                self.pool.discard(exchange.agent, rested, workspace)

    async def _cancelled(self, exchange: AcpExchange) -> bool:
        """Cancel the prompt; whether the agent came to rest, its tools ended."""
        connection = exchange.agent.connection
        if connection.end is not None:
            return False
        if exchange.asked is not None:
            await connection.answer(exchange.asked, CANCELLED)
        # The session may be another turn's too, on a connection of its own.
        await connection.notify("session/cancel", {"sessionId": exchange.session_id})
        try:
            async with asyncio.timeout(CANCELLED_SECONDS):
                while (message := await connection.incoming.get()) is not None:
                    if is_response(message, exchange.prompt_id):
                        break
                    if message.get("method") == "session/request_permission":
                        await connection.answer(message, CANCELLED)
                else:
                    return False
        except TimeoutError:
            return False
        await connection.process.end_all_but(exchange.family)
        return True


def is_response(message: AcpMessage, request_id: int | None) -> bool:
    """Whether a message is the response to this request of ours."""
    return "method" not in message and message.get("id") == request_id


def permission_outcome(params: Mapping[str, Any], allowed: bool) -> dict[str, Any]:
    """The answer to a request for permission, chosen by the kind of its options.

    Never an "always": the first option that allows may well be that.
    """
    wanted = "allow_once" if allowed else "reject_once"
    for option in blocks(params.get("options")):
        if option.get("kind") == wanted:
            chosen = {"outcome": "selected", "optionId": option.get("optionId")}
            return {"outcome": chosen}
    return CANCELLED


# --- shared/host/database.py ---


def data_folder() -> Path:
    """Open WebUI's DATA_DIR."""
    from open_webui.env import DATA_DIR

    return Path(DATA_DIR)


# --- shared/host/shutdown.py ---

SHUTDOWN_EVENT = "system.shutdown.started"

ShutdownHook = Callable[[], Awaitable[None]]


class ShutdownSink:
    """A receiver of Open WebUI's events, beside its own (`events.EVENT_SINKS`)."""

    def __init__(self, hooks: Mapping[str, ShutdownHook]) -> None:
        self._hooks = hooks

    async def handle_event(self, app: Any, event: Any, request: Any = None) -> None:
        """Open WebUI waits for this, unlike for event functions."""
        if event.event == SHUTDOWN_EVENT:
            for hook in list(self._hooks.values()):
                await hook()


def at_shutdown(name: str, hook: ShutdownHook) -> None:
    """Await `hook` when Open WebUI shuts down; it replaces an earlier one so named."""
    from open_webui.events import EVENT_SINKS

    hooks: dict[str, ShutdownHook] = shared_resource("shutdown hooks", dict)
    if not hooks:
        EVENT_SINKS.append(ShutdownSink(hooks))
    hooks[name] = hook


# --- shared/agents/kinds/acp.py ---


class AcpAgent(ProgramAgent):
    """An agent that is started by `command` and speaks ACP on its stdin and stdout.

    `cwd` is the folder of one that works on another machine.
    """

    cwd: str = ""
    keep: Literal["chat", "turn"] = "chat"
    idle_seconds: float = Field(default=600, gt=0)
    max_processes: int = Field(default=8, ge=1)
    mode: str = ""
    auth: str = ""


def make_acp(agent: AcpAgent, model: str) -> Backend:
    """The backend for one of the agent's models."""
    settings = AcpSettings(
        key=(agent.id, agent.fingerprint),
        program=agent.program,
        timeouts=agent.timeout_seconds,
        idle_seconds=agent.idle_seconds if agent.keep == "chat" else 0,
        max_processes=agent.max_processes,
        remote_folder=agent.cwd,
        mode=agent.mode,
        auth=agent.auth,
    )
    return AcpBackend(acp_pool(), settings, data_folder() / WORKSPACES, model)


def acp_pool() -> AcpPool:
    """The server's pool of agents.

    One that another version of this function has left ends its processes, those at
    work when they are done, or when the server shuts down.
    """
    kept: dict[str, Any] = shared_resource("acp agents", dict)
    pool = kept.get("pool")
    if not isinstance(pool, AcpPool):
        if pool is not None:
            pool.retire()
        pool = kept["pool"] = AcpPool()
        # Weak: whoever works on an agent holds its pool.
        pools: WeakSet[Any] = kept.setdefault("pools", WeakSet())
        pools.add(pool)

        async def close_all() -> None:
            for each in list(pools):
                await each.close()

        at_shutdown("acp agents", close_all)
    return pool


# --- shared/backends/adk_stream.py ---

CONFIRMATION = "adk_request_confirmation"
CREDENTIAL = "adk_request_credential"
FINISH_REASON_OF_GEMINI = {
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "BLOCKLIST": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A tool call that waits for permission: the id to answer to, and the call."""

    request_id: str
    name: str
    arguments: Mapping[str, Any]


class ADKDecoder:
    """Reads the runs of one turn: after a confirmation, a further run goes on.

    `confirmations` are what the run waits for, `artifacts` the names and versions of
    files that were saved, `invocation_id` the server's name for this turn.
    """

    def __init__(self) -> None:
        self.confirmations: list[Confirmation] = []
        self.artifacts: list[tuple[str, int]] = []
        self.invocation_id = ""
        self.told = False
        self._partial = False  # whether the text of the next whole event was streamed
        self._unanswered: dict[str, None] = {}
        self._usage: dict[str, Any] = {}
        self._cited: set[str] = set()
        self._reason = "stop"

    def feed(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """One event; raises UpstreamBroken where it reports an error.

        An `errorCode` alone is none: it repeats the finish reason.
        """
        if payload.get("error") or payload.get("errorMessage"):
            said = payload.get("errorMessage") or error_detail(payload)
            raise UpstreamBroken("said_error", detail=str(said))
        self.invocation_id = str(payload.get("invocationId") or self.invocation_id)
        partial = bool(payload.get("partial"))
        reason = payload.get("finishReason")
        self._reason = FINISH_REASON_OF_GEMINI.get(str(reason), self._reason)
        actions = payload.get("actions") or {}
        awaited = actions.get("requestedToolConfirmations") or {}
        events: list[AgentEvent] = []
        for part in (payload.get("content") or {}).get("parts") or ():
            events += self._part(part, partial, awaited)
        if not partial:
            for key, count in read_counts(payload.get("usageMetadata") or {}).items():
                if not isinstance(count, Mapping):
                    self._usage[key] = self._usage.get(key, 0) + count
            self.artifacts += (actions.get("artifactDelta") or {}).items()
            events += self._citations(payload.get("groundingMetadata") or {})
        self._partial = partial
        self.told = self.told or bool(events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains; a call without a result gets an empty one."""
        events: list[AgentEvent] = [ToolResult(i, "") for i in self._unanswered]
        if any(self._usage.values()):
            events.append(Usage(self._usage))
        return [*events, Finished(self._reason)]

    def _part(
        self, part: Mapping[str, Any], partial: bool, awaited: Mapping[str, Any]
    ) -> list[AgentEvent]:
        if text := part.get("text"):
            if self._partial and not partial:  # a whole event repeats its pieces
                return []
            return [ReasoningDelta(text) if part.get("thought") else TextDelta(text)]
        if partial:
            return []
        if call := part.get("functionCall"):
            return self._call(call)
        if response := part.get("functionResponse"):
            return self._result(response, awaited)
        if data := part.get("inlineData"):
            return [inline_file(data, str(data.get("displayName") or ""))]
        return []

    def _call(self, call: Mapping[str, Any]) -> list[AgentEvent]:
        name, arguments = str(call.get("name")), call.get("args") or {}
        if name == CREDENTIAL:
            raise UpstreamBroken("agent_login_required")
        if name == CONFIRMATION:
            original = arguments["originalFunctionCall"]
            self.confirmations.append(
                Confirmation(call["id"], original["name"], original.get("args") or {})
            )
            return []
        call_id = str(call["id"])
        self._unanswered[call_id] = None
        return [ToolCallCompleted(call_id, name, orjson.dumps(arguments).decode())]

    def _result(
        self, response: Mapping[str, Any], awaited: Mapping[str, Any]
    ) -> list[AgentEvent]:
        call_id = str(response.get("id"))
        if call_id not in self._unanswered or call_id in awaited:
            return []
        del self._unanswered[call_id]
        said = response.get("response") or {}
        shown = said.get("result") if said.keys() == {"result"} else said
        if not isinstance(shown, str):
            shown = orjson.dumps(shown).decode()
        return [ToolResult(call_id, shown, failed="error" in said)]

    def _citations(self, grounding: Mapping[str, Any]) -> list[AgentEvent]:
        """The pages of Google's search, each once."""
        events: list[AgentEvent] = []
        for chunk in grounding.get("groundingChunks") or ():
            page = chunk.get("web") or {}
            url = str(page.get("uri") or "")
            if url and url not in self._cited:
                self._cited.add(url)
                events.append(Citation(url, str(page.get("title") or "")))
        return events


def inline_file(data: Mapping[str, Any], name: str) -> FileOutput:
    """A file of {mimeType, data}; its base64 is of the kind for addresses."""
    mime = str(data.get("mimeType") or "application/octet-stream")
    encoded = str(data.get("data") or "").replace("-", "+").replace("_", "/")
    return FileOutput(f"data:{mime};base64,{encoded}", mime, name)


# --- shared/backends/call_paths.py ---

PATH_WORDS = ("path", "file", "dir", "folder")


def call_paths(arguments: str | Mapping[str, Any]) -> tuple[str, ...]:
    """Everything in a call's arguments that is a path, or may be one.

    Rather too much than too little: an entry of the list covers a call only if it
    covers all of its paths.
    """
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return ()
    return tuple(dict.fromkeys(named_paths("", arguments)))


def named_paths(key: str, value: Any) -> Iterator[str]:
    """The paths in a value that stands under `key`."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from named_paths(str(name).lower(), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from named_paths(key, inner)
    elif isinstance(value, str) and value:
        looks_like_one = "/" in value or "\\" in value or value.startswith("~")
        if looks_like_one or any(word in key for word in PATH_WORDS):
            yield value


# --- shared/backends/adk.py ---

MAX_CONFIRMATIONS = 50


@dataclass(frozen=True, slots=True)
class ADKBackend:
    """The app `app` of the server behind `endpoint`."""

    client: httpx.AsyncClient
    endpoint: Endpoint
    app: str

    async def discover(self) -> list[DiscoveredModel]:
        """The server's apps."""
        found = await get_json(self.client, self.endpoint, "/list-apps")
        if not isinstance(found, list):
            raise UpstreamBroken("unreadable")
        return [DiscoveredModel(str(name), str(name)) for name in found]

    async def health(self) -> None:
        await self.discover()

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: the server stops a run when the connection closes."""

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator closes the connection."""
        return answer_or_begin_anew(self._run_once, turn, turn.anew, is_not_found)

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        sessions = self._sessions(turn)
        session_id, continued = await self._open_session(turn, sessions)
        decoder = ADKDecoder()
        message = user_content(replace(turn, forks=not continued))
        for _ in range(MAX_CONFIRMATIONS):
            async with aclosing(
                self._stream(turn, session_id, message, decoder)
            ) as events:
                async for event in events:
                    yield event
            waiting, decoder.confirmations = decoder.confirmations, []
            if not waiting:
                break
            message = await confirmed(turn.dialogs, waiting)
        if not decoder.told:
            raise UpstreamBroken("empty_answer")
        for name, version in decoder.artifacts:
            place = f"{sessions}/{quote(session_id, safe='')}/artifacts"
            path = f"{place}/{quote(name, safe='')}/versions/{version}"
            # A file that cannot be fetched takes nothing from the answer.
            with suppress(UpstreamError):
                part = must_be_object(await get_json(self.client, self.endpoint, path))
                if data := part.get("inlineData"):
                    yield inline_file(data, name)
        for event in decoder.finish():
            yield event

    def _sessions(self, turn: Turn) -> str:
        user_id = quote(turn.user_id or "user", safe="")
        return f"/apps/{quote(self.app, safe='')}/users/{user_id}/sessions"

    async def _open_session(self, turn: Turn, sessions: str) -> tuple[str, bool]:
        """The session of a turn, and whether it knows what was said before."""
        events: list[Mapping[str, Any]] = []
        if turn.session:
            known = str(turn.session["session_id"])
            path = f"{sessions}/{quote(known, safe='')}"
            old = must_be_object(await get_json(self.client, self.endpoint, path))
            events = events_until(old, str(turn.session.get("invocation_id")))
            if events and len(events) == len(old["events"]):
                return known, True
        body = {"sessionId": str(uuid.uuid4()), "events": events}
        made = await call_json(self.client, self.endpoint, "POST", sessions, body)
        return str(must_be_object(made).get("id")), bool(events)

    async def _stream(
        self,
        turn: Turn,
        session_id: str,
        message: Mapping[str, Any],
        decoder: ADKDecoder,
    ) -> AsyncGenerator[AgentEvent, None]:
        """The events of one run."""
        request = {
            "appName": self.app,
            "userId": turn.user_id or "user",
            "sessionId": session_id,
            "newMessage": message,
            "streaming": True,
        }
        opening = open_stream(self.client, self.endpoint, "/run_sse", request)
        async with (
            opening as (response, clock),
            aclosing(read_events(response, clock)) as messages,
        ):
            async for sent in messages:
                check_is_event(sent)
                known = decoder.invocation_id
                events = events_of(decoder.feed, load_json(sent.data))
                clock.token()
                if decoder.invocation_id != known:
                    invocation = {"invocation_id": decoder.invocation_id}
                    yield SessionState({"session_id": session_id, **invocation})
                for event in events:
                    yield event


def events_until(
    session: Mapping[str, Any], invocation_id: str
) -> list[Mapping[str, Any]]:
    """A session's events to the end of this invocation; [] where it is not there."""
    events = session.get("events") or []
    ids = [event.get("invocationId") for event in events]
    if invocation_id not in ids:
        return []
    return events[: len(ids) - ids[::-1].index(invocation_id)]


def user_content(turn: Turn) -> dict[str, Any]:
    """What the agent has not heard, with the user's files, as a content of Gemini's."""
    news = turn.news()
    parts: list[dict[str, Any]] = [{"text": transcript(news)}]
    for message in news:
        for file in message_files(message) if message.get("role") == "user" else ():
            kind = {"mimeType": file.mime_type, "displayName": file.name}
            if file.inline:
                parts.append({"inlineData": {**kind, "data": file.encoded}})
            else:
                parts.append({"fileData": {**kind, "fileUri": file.url}})
    return {"role": "user", "parts": parts}


async def confirmed(dialogs: Dialogs, waiting: list[Confirmation]) -> dict[str, Any]:
    """The user's decisions about these calls, as the content that goes on."""
    parts = []
    for asked in waiting:
        detail = orjson.dumps(asked.arguments, option=orjson.OPT_INDENT_2).decode()
        paths = call_paths(asked.arguments)
        request = ApprovalRequest(asked.name, asked.name, detail, paths)
        response = {"confirmed": await dialogs.approve(request)}
        answer = {"id": asked.request_id, "name": "adk_request_confirmation"}
        parts.append({"functionResponse": {**answer, "response": response}})
    return {"role": "user", "parts": parts}


# --- shared/agents/kinds/adk.py ---


class ADKAgent(HttpAgent):
    """An app of the server: `model` is its name."""

    @model_validator(mode="after")
    def _names_an_app(self) -> "ADKAgent":
        if not self.model and not self.discover:
            raise ValueError(
                "give the name of an app as `model`, or `discover: true` to list all"
            )
        return self


def make_adk(agent: ADKAgent, model: str) -> Backend:
    """The backend for one of the server's apps."""
    client = shared_resource("http client", new_http_client)
    return ADKBackend(client, agent.endpoint, model)


# --- shared/backends/agui_stream.py ---

AGUI_THOUGHTS = frozenset(
    {
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_CHUNK",
        "THINKING_TEXT_MESSAGE_CONTENT",
    }
)
AGUI_COUNTS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "totalTokens": "total_tokens",
    "reasoningTokens": "reasoning_tokens",
    "cachedInputTokens": "cached_input_tokens",
}


@dataclass(slots=True)
class AGUICall:
    """A tool call of this run."""

    name: str
    arguments: list[str] = field(default_factory=list)
    completed: bool = False


class AGUIDecoder:
    """Reads the runs of one turn: after an interrupt, a further run goes on.

    `interrupts` are what the latest run stopped for, as the protocol has them, and
    `ended` turns True with its RUN_FINISHED. `state` is the agent's shared state.
    `messages` are what was said, as Chat Completions messages: an agent that keeps no
    history has to hear it again.
    """

    def __init__(self, state: Any = None) -> None:
        self.state = state
        self.messages: list[dict[str, Any]] = []
        self.told = False
        self._calls: dict[str, AGUICall] = {}
        self._message_id = ""
        self._foreign: set[str] = set()
        self._snapshot: list[Mapping[str, Any]] = []
        self._usage: dict[str, int] = {}
        self.begin_run()

    def begin_run(self) -> None:
        """A further run follows."""
        self.ended = False
        self.interrupts: list[Mapping[str, Any]] = []
        self._open_call = ""

    def feed(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """One event, decoded; raises UpstreamBroken where it reports an error."""
        if "type" not in payload:  # an error in plain JSON
            raise UpstreamBroken("said_error", detail=error_detail(payload))
        kind = str(payload["type"])
        events = [] if kind == "TOOL_CALL_CHUNK" else self._end_chunked_call()
        if kind.startswith("TEXT_MESSAGE_"):
            events += self._said(kind, payload)
        elif kind in AGUI_THOUGHTS:
            thought = must_be_text(payload.get("delta") or "")
            events += [ReasoningDelta(thought)] if thought else []
        elif kind.startswith("TOOL_CALL_"):
            events += self._called(kind, payload)
        elif kind.startswith("RUN_"):
            self._run(kind, payload)
        elif kind.startswith(("STEP_", "SUBAGENT_", "ACTIVITY_")):
            events += agui_progress(kind, payload)
        elif kind == "STATE_SNAPSHOT":
            self.state = payload.get("snapshot")
        elif kind == "STATE_DELTA":
            self.state = patched(self.state, payload["delta"])
        elif kind == "MESSAGES_SNAPSHOT":
            self._snapshot = list(payload["messages"])
        self.told = self.told or any(not isinstance(e, Status) for e in events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the run has ended.

        A run that streamed nothing may have its answer in a snapshot.
        """
        events = self._end_chunked_call()
        if not self.told and (text := snapshot_answer(self._snapshot)):
            events.append(TextDelta(text))
            self.told = True
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished()]

    def call_of(self, interrupt: Mapping[str, Any]) -> tuple[str, str]:
        """The name and the arguments of the tool call that an interrupt is about."""
        call = self._calls.get(str(interrupt.get("toolCallId")))
        return (call.name, "".join(call.arguments)) if call else ("", "")

    def _said(self, kind: str, payload: Mapping[str, Any]) -> list[AgentEvent]:
        message_id = str(payload.get("messageId") or self._message_id)
        if payload.get("role", "assistant") != "assistant":
            self._foreign.add(message_id)  # the agent repeats what it was told
        delta = must_be_text(payload.get("delta") or "")
        if not delta or message_id in self._foreign:
            return []
        said = self._answer_under_way()
        if said["content"] and message_id != self._message_id:
            delta = f"\n\n{delta}"
        self._message_id = message_id
        said["content"] += delta
        return [TextDelta(delta)]

    def _answer_under_way(self) -> dict[str, Any]:
        """The last message, where it is the agent's and has no calls yet."""
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant" or "tool_calls" in last:
            last = {"role": "assistant", "content": ""}
            self.messages.append(last)
        return last

    def _called(self, kind: str, payload: Mapping[str, Any]) -> list[AgentEvent]:
        call_id = str(payload.get("toolCallId") or self._open_call)
        events: list[AgentEvent] = []
        if kind == "TOOL_CALL_RESULT":
            output = content_text(payload.get("content"))
            result = {"role": "tool", "tool_call_id": call_id, "content": output}
            self.messages.append(result)
            return [ToolResult(call_id, output)]
        if kind == "TOOL_CALL_CHUNK" and call_id != self._open_call:
            events += self._end_chunked_call()
            self._open_call = call_id
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = AGUICall(str(payload["toolCallName"]))
            events.append(ToolCallStarted(call_id, call.name))
        if delta := must_be_text(payload.get("delta") or ""):
            call.arguments.append(delta)
            events.append(ToolCallArgumentsDelta(call_id, delta))
        if kind == "TOOL_CALL_END":
            events += self._complete(call_id)
        return events

    def _end_chunked_call(self) -> list[AgentEvent]:
        """A call in chunks has no end event: the next other event ends it."""
        call_id, self._open_call = self._open_call, ""
        return self._complete(call_id) if call_id else []

    def _complete(self, call_id: str) -> list[AgentEvent]:
        call = self._calls[call_id]
        if call.completed:
            return []
        call.completed = True
        arguments = "".join(call.arguments).strip() or "{}"
        self._keep_call(call_id, call.name, arguments)
        return [ToolCallCompleted(call_id, call.name, arguments)]

    def _keep_call(self, call_id: str, name: str, arguments: str) -> None:
        last = self.messages[-1] if self.messages else {}
        said = last if last.get("role") == "assistant" else self._answer_under_way()
        function = {"name": name, "arguments": arguments}
        call = {"id": call_id, "type": "function", "function": function}
        said.setdefault("tool_calls", []).append(call)

    def _run(self, kind: str, payload: Mapping[str, Any]) -> None:
        for counts in payload.get("usage") or ():
            for theirs, ours in AGUI_COUNTS.items():
                if counts.get(theirs):
                    self._usage[ours] = self._usage.get(ours, 0) + int(counts[theirs])
        if kind == "RUN_ERROR":
            raise UpstreamBroken("said_error", detail=str(payload.get("message") or ""))
        if kind == "RUN_FINISHED":
            self.ended = True
            outcome = payload.get("outcome") or {}
            self.interrupts = list(outcome.get("interrupts") or ())


def agui_progress(kind: str, payload: Mapping[str, Any]) -> list[AgentEvent]:
    """A status line for a step, a sub-agent or another activity."""
    name = payload.get("stepName") or payload.get("name") or payload.get("activityType")
    done = kind.endswith(("_FINISHED", "_ERROR"))
    return [Status(str(name).replace("_", " "), done)] if name else []


def snapshot_answer(messages: list[Mapping[str, Any]]) -> str:
    """What the agent said after the user's last message."""
    texts: list[str] = []
    for message in messages:
        if message.get("role") == "user":
            texts.clear()
        elif message.get("role") == "assistant" and message.get("content"):
            texts.append(content_text(message["content"]))
    return "\n\n".join(texts)


def patched(state: Any, patch: list[Mapping[str, Any]]) -> Any:
    """The state after a JSON patch (RFC 6902); raises ValueError where it fits not."""
    import jsonpatch

    try:
        return jsonpatch.apply_patch(state if state is not None else {}, patch)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise ValueError("a patch that does not fit the state") from error


# --- shared/backends/agui.py ---

AGUI_DENIED = "The user did not allow this."
# An agent that asks again and again what nobody allows would go on for ever.
MAX_AGUI_RUNS = 50


@dataclass(frozen=True, slots=True)
class AGUIBackend:
    """The agent that takes runs at the address of `endpoint`.

    `keeps_threads` says that the server remembers what was said in a thread;
    `forwarded` goes into every run as `forwardedProps`.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    keeps_threads: bool = False
    forwarded: Mapping[str, Any] = field(default_factory=dict)

    async def discover(self) -> list[DiscoveredModel]:
        """None: the protocol has no list of agents."""
        return []

    async def health(self) -> None:
        """Any answer will do: the address takes nothing but runs."""
        with upstream_errors(self.endpoint):
            await self.client.get(self.endpoint.url)

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: a run ends with its connection."""

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; a further run answers each of the agent's questions."""
        session = (turn.continued if self.keeps_threads else None) or {}
        request = {
            "threadId": session.get("thread_id") or str(uuid.uuid4()),
            "tools": [agui_tool(tool) for tool in turn.tools],
            "context": [],
            "forwardedProps": dict(self.forwarded),
        }
        told = turn.news() if session else turn.messages
        decoder = AGUIDecoder(session.get("state") or {})
        resume: list[dict[str, Any]] = []
        for _ in range(MAX_AGUI_RUNS):
            again = () if self.keeps_threads and resume else [*told, *decoder.messages]
            request["messages"] = agui_messages(again)
            if resume:
                request["resume"] = resume
            async with aclosing(self._run_once(request, decoder)) as events:
                async for event in events:
                    yield event
            if not decoder.interrupts:
                break
            resume = await settle(turn.dialogs, decoder)
        last = decoder.finish()
        if not decoder.told:
            raise UpstreamBroken("empty_answer")
        for event in last:
            yield event

    async def _run_once(
        self, request: Mapping[str, Any], decoder: AGUIDecoder
    ) -> AsyncGenerator[AgentEvent, None]:
        decoder.begin_run()
        body = {**request, "runId": str(uuid.uuid4()), "state": decoder.state}
        path = "/" if self.endpoint.url.endswith("/") else ""
        async with open_stream(self.client, self.endpoint, path, body) as opened:
            response, clock = opened
            if self.keeps_threads:
                yield SessionState({"thread_id": request["threadId"]})
            async with aclosing(read_events(response, clock)) as messages:
                async for message in messages:
                    events = events_of(decoder.feed, load_json(message.data))
                    clock.token()
                    for event in events:
                        yield event
                    if decoder.ended and not clock.complete:
                        clock.answer_complete()
        if not decoder.ended:
            raise UpstreamBroken("cut_short")
        if self.keeps_threads and decoder.state:
            state = {"thread_id": request["threadId"], "state": decoder.state}
            yield SessionState(state)


def agui_tool(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tool of Chat Completions as the protocol's Tool."""
    function = spec.get("function") or spec
    return {
        "name": function.get("name"),
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {},
    }


def agui_messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chat Completions messages as the protocol's, each with an id of its own."""
    return [
        {"id": str(uuid.uuid4()), **agui_message(message)}
        for message in messages
        if message.get("role") in ("system", "developer", "user", "assistant", "tool")
    ]


def agui_message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = str(message["role"])
    text = message_text(message)
    if role == "tool":
        call_id = str(message.get("tool_call_id"))
        return {"role": role, "content": text, "toolCallId": call_id}
    if role == "assistant" and message.get("tool_calls"):
        return {"role": role, "content": text, "toolCalls": message["tool_calls"]}
    if role == "user" and (files := message_files(message)):
        texts = [{"type": "text", "text": text}] if text else []
        parts = [agui_part(file.mime_type, file.url) for file in files]
        return {"role": role, "content": [*texts, *parts]}
    return {"role": role, "content": text}


def agui_part(mime_type: str, url: str) -> dict[str, Any]:
    """An attachment, its bytes inline where we have them."""
    kind = mime_type.partition("/")[0]
    _, inline, value = url.partition(";base64,")
    source = {"type": "data" if inline else "url", "value": value or url}
    return {
        "type": kind if kind in ("image", "audio", "video") else "document",
        "source": {**source, "mimeType": mime_type},
    }


async def settle(dialogs: Dialogs, decoder: AGUIDecoder) -> list[dict[str, Any]]:
    """The `resume` entries that answer what a run stopped for."""
    return [
        {
            "interruptId": interrupt["id"],
            **await settled(dialogs, interrupt, *decoder.call_of(interrupt)),
        }
        for interrupt in decoder.interrupts
    ]


async def settled(
    dialogs: Dialogs, interrupt: Mapping[str, Any], tool: str, arguments: str
) -> dict[str, Any]:
    """The status and payload for one interrupt.

    One whose answer has a field `approved` asks for permission; any other is a
    question. A question whose answer is an object gets it in its first field.
    """
    message = str(interrupt.get("message") or interrupt.get("reason") or "")
    schema = interrupt.get("responseSchema") or {}
    fields = schema.get("properties") or {}
    if "approved" in fields or (tool and not fields):
        title = tool or message
        asked = ApprovalRequest(
            title, message or title, arguments, call_paths(arguments)
        )
        allowed = await dialogs.approve(asked)
        payload: Any = {"approved": allowed}
        if not allowed and "reason" in fields:
            payload["reason"] = AGUI_DENIED
        return {"status": "resolved", "payload": payload}
    answer = await dialogs.ask(UserQuestion(message))
    if answer is None:
        return {"status": "cancelled"}
    payload = {next(iter(fields)): answer} if fields else answer
    return {"status": "resolved", "payload": payload}


# --- shared/agents/kinds/agui.py ---


class AGUIAgent(HttpAgent):
    """One agent; `session: true` says that its server keeps what was said."""

    session: bool = False
    forwarded_props: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_one_agent(self) -> "AGUIAgent":
        if self.discover:
            raise ValueError("AG-UI has no list of agents: `discover` does not work")
        return self


def make_agui(agent: AGUIAgent, model: str) -> Backend:
    """The backend for this agent."""
    client = shared_resource("http client", new_http_client)
    return AGUIBackend(client, agent.endpoint, agent.session, agent.forwarded_props)


# --- shared/backends/anthropic_messages.py ---

DEFAULT_ANSWER_TOKENS = 8192
# Chat Completions parameters that the API does not know, or knows by another name.
NOT_ANTHROPIC = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "repeat_penalty",
        "response_format",
        "seed",
        "stop",
        "stream_options",
        "tool_choice",
        "top_logprobs",
        "user",
    }
)
# With thinking, the API takes none of these.
ANTHROPIC_SAMPLING = frozenset({"temperature", "top_p", "top_k"})
ANTHROPIC_EFFORTS = ("low", "medium", "high", "xhigh", "max")
ANTHROPIC_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
CACHE_MARK = {"cache_control": {"type": "ephemeral"}}

# The content of answers that called tools, as it came, by the id of the first call.
KeptAnswers = Mapping[str, Sequence[Mapping[str, Any]]]


def anthropic_body(
    model: str,
    turn: Turn,
    kept: KeptAnswers,
    server_tools: Sequence[Mapping[str, Any]] = (),
    cache: bool = True,
) -> dict[str, Any]:
    """The request for this turn, always streaming.

    The API demands the thinking before a call back, which only `kept` has. Where that
    is gone, the rounds after this call do without thinking. With `cache`, what the
    next request will repeat is marked for the prompt cache.
    """
    system = [anthropic_text(t) for t in system_prompts(turn.messages)]
    messages = anthropic_messages(turn.messages, kept)
    tools = [*map(anthropic_tool, turn.tools), *map(dict, server_tools)]
    params = anthropic_params(turn.params, bool(tools))
    if lacks_thoughts(turn.messages, kept):
        params.pop("thinking", None)
    if params.get("thinking"):
        params = {k: v for k, v in params.items() if k not in ANTHROPIC_SAMPLING}
    if cache:
        mark_for_cache(system, tools, messages)
    body = {
        **params,
        "model": model,
        "system": system,
        "messages": messages,
        "tools": tools,
        "stream": True,
    }
    return {k: v for k, v in body.items() if v not in (None, [])}


def anthropic_params(params: Mapping[str, Any], with_tools: bool) -> dict[str, Any]:
    """Chat Completions parameters in the API's names; its own go through as they are."""
    mapped = {k: v for k, v in params.items() if k not in NOT_ANTHROPIC}
    limit = params.get("max_completion_tokens") or params.get("max_tokens")
    budget = (mapped.get("thinking") or {}).get("budget_tokens") or 0
    mapped["max_tokens"] = limit or DEFAULT_ANSWER_TOKENS + budget
    stop = params.get("stop")
    if stop:
        mapped["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if params.get("reasoning_effort") in ANTHROPIC_EFFORTS:
        effort = {"effort": params["reasoning_effort"]}
        mapped["output_config"] = {**effort, **(mapped.get("output_config") or {})}
    if with_tools:
        mapped["tool_choice"] = anthropic_choice(params)
    return mapped


def anthropic_choice(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """`tool_choice` and `parallel_tool_calls` in the API's words."""
    wanted = params.get("tool_choice")
    choice: dict[str, Any] | None = None
    if isinstance(wanted, Mapping):
        function = wanted.get("function") or {}
        choice = {"type": "tool", "name": function.get("name")}
    elif wanted:
        choice = {"type": {"required": "any"}.get(wanted, wanted)}
    if params.get("parallel_tool_calls") is False:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return choice


def anthropic_tool(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tool of Chat Completions as the API's."""
    function = spec.get("function") or spec
    return {
        "name": function.get("name"),
        "description": function.get("description") or "",
        "input_schema": function.get("parameters") or {"type": "object"},
    }


def system_prompts(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    found = (m for m in messages if m.get("role") in ("system", "developer"))
    return [text for text in map(message_text, found) if text]


def anthropic_messages(
    messages: Iterable[Mapping[str, Any]], kept: KeptAnswers
) -> list[dict[str, Any]]:
    """Chat Completions messages as the API's: only user and assistant, by turns.

    All results of a round of calls have to stand in one message.
    """
    merged: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.get("role") == "assistant" else "user"
        if message.get("role") in ("system", "developer"):
            continue
        blocks = anthropic_blocks(message, kept)
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        elif blocks:
            merged.append({"role": role, "content": blocks})
    if merged and merged[-1]["role"] == "assistant":
        trim_last_text(merged[-1]["content"])
    return merged


def anthropic_blocks(
    message: Mapping[str, Any], kept: KeptAnswers
) -> list[dict[str, Any]]:
    """The content blocks of one message; the API takes no empty texts."""
    text = message_text(message)
    if message.get("role") == "tool":
        result = content_text(message.get("content"))
        return [
            {
                "type": "tool_result",
                "tool_use_id": message.get("tool_call_id"),
                "content": result or "(no output)",
            }
        ]
    blocks = [anthropic_text(text)] if text.strip() else []
    if message.get("role") == "assistant":
        calls = message.get("tool_calls") or ()
        if calls and (content := kept.get(str(calls[0].get("id")))):
            return [*map(dict, content)]
        return [*blocks, *map(tool_use_block, calls)]
    return [*map(attachment_block, message_files(message)), *blocks]


def anthropic_text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def tool_use_block(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of an assistant message; arguments that are no object become none."""
    function = call.get("function") or {}
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        arguments = {}
    return {
        "type": "tool_use",
        "id": call.get("id"),
        "name": function.get("name"),
        "input": arguments if isinstance(arguments, dict) else {},
    }


def attachment_block(file: TurnFile) -> dict[str, Any]:
    """An attachment: pictures, PDF and text; the model is told of any other by name."""
    kind = "image" if file.mime_type in ANTHROPIC_PICTURES else "document"
    readable = kind == "image" or file.mime_type == "application/pdf"
    if not file.inline and readable:
        return {"type": kind, "source": {"type": "url", "url": file.url}}
    if file.inline and file.mime_type.startswith("text/"):
        text = (file.read() or b"").decode("utf-8", "replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
        return {"type": "document", "source": source, "title": file.name}
    if not file.inline or not readable:
        return anthropic_text(f"(A file that cannot be read: {file.name}.)")
    source = {
        "type": "base64",
        "media_type": file.mime_type,
        "data": file.encoded,
    }
    return {"type": kind, "source": source}


def trim_last_text(blocks: list[dict[str, Any]]) -> None:
    """An answer that is to be continued must not end in white space."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()


def lacks_thoughts(messages: Sequence[Mapping[str, Any]], kept: KeptAnswers) -> bool:
    """Whether a call since the user's last message has lost the thoughts before it."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return False
        calls = message.get("tool_calls") or ()
        if calls and not kept.get(str(calls[0].get("id"))):
            return True
    return False


def mark_for_cache(
    system: list[dict[str, Any]],
    tools: list[dict[str, Any]],
    messages: list[dict[str, Any]],
) -> None:
    """Mark the ends of what stays the same; the API allows four marks.

    The tools, the system prompt, and the last two user messages: the one before this
    turn is where the turn before it has left its mark.
    """
    if tools:
        tools[-1] = {**tools[-1], **CACHE_MARK}
    if system:
        system[-1] |= CACHE_MARK
    users = [m for m in messages if m["role"] == "user"]
    for message in users[-2:]:
        message["content"][-1] |= CACHE_MARK


# --- shared/backends/anthropic_stream.py ---

ANTHROPIC_STOPS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
ANTHROPIC_ERRORS = {"overloaded_error": "overloaded", "rate_limit_error": "status_429"}
ANTHROPIC_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")


@dataclass(slots=True)
class OpenBlock:
    """A content block under way: as it began, and what its deltas add."""

    start: Mapping[str, Any]
    said: list[str] = field(default_factory=list)
    json: list[str] = field(default_factory=list)
    signature: str = ""

    @property
    def arguments(self) -> str:
        """The JSON text of a call's input."""
        given = orjson.dumps(self.start.get("input") or {}).decode()
        return "".join(self.json).strip() or given

    def whole(self) -> dict[str, Any]:
        """The block as a further request has to repeat it.

        What has no deltas (a redacted thought, a result of the API's own tools) is as
        it came. A call that was cut off by the limit of tokens loses its input.
        """
        block = dict(self.start)
        for key in ("text", "thinking"):
            if key in block:
                block[key] = "".join(self.said)
        if self.signature:
            block["signature"] = self.signature
        if "input" in block:
            with suppress(orjson.JSONDecodeError):
                block["input"] = orjson.loads(self.arguments)
        return block


class AnthropicDecoder:
    """Reads one message, and those that go on after `pause_turn`.

    `content` is all that was said, in the API's words; `calls` are the ids of the
    calls that are for us to run. `paused` says that the API wants to be asked again
    with `content` to go on.
    """

    def __init__(self) -> None:
        self.ended = False
        self.told = False
        self.content: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self._blocks: dict[int, OpenBlock] = {}
        self._usage: dict[str, Any] = {}
        self._usage_before: dict[str, Any] = {}
        self._reason = ""

    @property
    def paused(self) -> bool:
        return self._reason == "pause_turn"

    @property
    def must_be_kept(self) -> bool:
        """Whether `content` holds what Chat Completions messages cannot."""
        plain = ("text", "tool_use")
        return any(block["type"] not in plain for block in self.content)

    def feed(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """One event, decoded; raises UpstreamBroken where it reports an error."""
        events = self._read(payload)
        self.told = self.told or bool(events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the message has ended."""
        usage = added_counts(self._usage_before, self._usage)
        counted: list[AgentEvent] = [Usage(usage)] if usage else []
        return [*counted, Finished(ANTHROPIC_STOPS.get(self._reason, "stop"))]

    def _read(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        match payload.get("type"):
            case "message_start":
                self._usage_before = added_counts(self._usage_before, self._usage)
                self._usage, self._reason, self.ended = {}, "", False
                self._count(payload["message"])
            case "content_block_start":
                return self._start(payload["index"], payload["content_block"])
            case "content_block_delta":
                return self._delta(self._blocks[payload["index"]], payload["delta"])
            case "content_block_stop":
                return self._stop(payload["index"])
            case "message_delta":
                self._count(payload)
                self._reason = str(payload["delta"].get("stop_reason") or "")
            case "message_stop":
                self.ended = True
            case "message":
                return self._whole(payload)
            case "error":
                raise anthropic_error(payload)
            case None:
                raise UpstreamBroken("said_error", detail=error_detail(payload))
        return []

    def _whole(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        """A message in one piece, from a server that does not stream."""
        events: list[AgentEvent] = []
        for index, block in enumerate(message["content"]):
            events += [*self._start(index, block), *self._stop(index)]
        self._count(message)
        self._reason = str(message.get("stop_reason") or "")
        self.ended = True
        return events

    def _count(self, counted: Mapping[str, Any]) -> None:
        """Counts are those so far, not those of one event."""
        self._usage.update(read_counts(counted.get("usage") or {}))

    def _start(self, index: int, block: Mapping[str, Any]) -> list[AgentEvent]:
        opened = self._blocks[index] = OpenBlock(block)
        kind = str(block.get("type"))
        if kind in ANTHROPIC_CALLS:
            return [ToolCallStarted(str(block["id"]), str(block["name"]))]
        if kind.endswith("_tool_result"):
            return [server_tool_result(block)]
        events: list[AgentEvent] = []
        for key in ("text", "thinking"):
            if block.get(key):
                said = {"type": f"{key}_delta", key: block[key]}
                events += self._delta(opened, said)
        for citation in block.get("citations") or ():
            events += cited(citation)
        return events

    def _delta(self, block: OpenBlock, delta: Mapping[str, Any]) -> list[AgentEvent]:
        match delta.get("type"):
            case "text_delta":
                text = must_be_text(delta["text"])
                block.said.append(text)
                return [TextDelta(text)] if text else []
            case "thinking_delta":
                thought = must_be_text(delta["thinking"])
                block.said.append(thought)
                return [ReasoningDelta(thought)] if thought else []
            case "signature_delta":
                block.signature += must_be_text(delta["signature"])
            case "input_json_delta":
                piece = must_be_text(delta["partial_json"])
                block.json.append(piece)
                call_id = str(block.start["id"])
                return [ToolCallArgumentsDelta(call_id, piece)] if piece else []
            case "citations_delta":
                return cited(delta["citation"])
        return []

    def _stop(self, index: int) -> list[AgentEvent]:
        block = self._blocks.pop(index)
        whole = block.whole()
        if whole.get("text") != "":  # the API takes no empty texts
            self.content.append(whole)
        kind = block.start.get("type")
        if kind not in ANTHROPIC_CALLS:
            return []
        if kind == "tool_use":
            self.calls.append(str(whole["id"]))
        name = str(whole["name"])
        return [ToolCallCompleted(str(whole["id"]), name, block.arguments)]


def added_counts(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts of two messages together; what is no number is the later one's."""
    total = {**one, **other}
    for key in one.keys() & other.keys():
        if isinstance(one[key], int) and isinstance(other[key], int):
            total[key] = one[key] + other[key]
    return total


def anthropic_error(payload: Mapping[str, Any]) -> UpstreamBroken:
    """The error in an event {type: error, error: {type, message}}."""
    kind = (payload.get("error") or {}).get("type")
    code = ANTHROPIC_ERRORS.get(str(kind), "said_error")
    return UpstreamBroken(code, detail=error_detail(payload))


def server_tool_result(block: Mapping[str, Any]) -> ToolResult:
    """What a tool gave back that the API has run itself, such as a web search."""
    content = block.get("content")
    if isinstance(content, list) and all("text" in part for part in content):
        output = content_text(content)
    elif isinstance(content, list):
        lines = (part.get("title") or part.get("url") for part in content)
        output = "\n".join(str(line) for line in lines if line)
    else:
        output = orjson.dumps(content).decode()
    failed = bool(block.get("is_error")) or "error_code" in output
    return ToolResult(str(block["tool_use_id"]), output, failed)


def cited(citation: Mapping[str, Any]) -> list[AgentEvent]:
    """A source with an address; passages of attached documents have none."""
    url = citation.get("url")
    if not url:
        return []
    title, text = citation.get("title") or url, citation.get("cited_text") or ""
    return [Citation(str(url), str(title), str(text))]


# --- shared/backends/anthropic.py ---

ANTHROPIC_VERSION = "2023-06-01"
OVERLOADED_STATUS = 529
# A chat's tool rounds take seconds to minutes; so many answers may come in between.
MAX_KEPT_ANSWERS = 200
# An API that pauses again and again would go on for ever.
MAX_PAUSES = 20


@dataclass(frozen=True, slots=True)
class AnthropicBackend:
    """One model of the API behind `endpoint`.

    `kept` holds answers that called tools, by (user, chat, id of the first call):
    with its result the API wants the thinking before it back, which Open WebUI does
    not keep. It may serve several backends.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    model: str
    server_tools: Sequence[Mapping[str, Any]] = ()
    cache: bool = True
    kept: dict[tuple[str, str, str], list[dict[str, Any]]] = field(default_factory=dict)

    async def discover(self) -> list[DiscoveredModel]:
        """The models of GET /models, newest first."""
        found = await get_json(self.client, self.endpoint, "/models?limit=1000")
        entries = found.get("data") if isinstance(found, Mapping) else None
        if not isinstance(entries, list):
            raise UpstreamBroken("unreadable")
        return [
            DiscoveredModel(str(e["id"]), str(e.get("display_name") or e["id"]))
            for e in entries
            if isinstance(e, Mapping) and e.get("id")
        ]

    async def health(self) -> None:
        await self.discover()

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: an answer ends with its connection."""

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator closes the connection."""
        decoder = AnthropicDecoder()
        kept = self._kept_of(turn)
        # In a thread, as it decodes files.
        body = await asyncio.to_thread(
            anthropic_body, self.model, turn, kept, self.server_tools, self.cache
        )
        asked = list(body["messages"])
        for _ in range(MAX_PAUSES):
            async with aclosing(self._stream(body, decoder)) as events:
                async for event in events:
                    yield event
            if not decoder.paused:
                break
            said = {"role": "assistant", "content": decoder.content}
            body["messages"] = [*asked, said]
        # After a tool's result a model may have nothing to add: that is no error.
        if not decoder.told and turn.messages[-1].get("role") == "user":
            raise UpstreamBroken("empty_answer")
        if decoder.calls and (decoder.must_be_kept or body.get("thinking")):
            self._keep(turn, decoder)
        for event in decoder.finish():
            yield event

    async def _stream(
        self, body: Mapping[str, Any], decoder: AnthropicDecoder
    ) -> AsyncGenerator[AgentEvent, None]:
        opening = open_stream(self.client, self.endpoint, "/messages", body)
        async with (
            overload_told(),
            opening as (response, clock),
            aclosing(read_events(response, clock)) as messages,
        ):
            async for message in messages:
                events = events_of(decoder.feed, load_json(message.data))
                if events:  # a ping is none
                    clock.token()
                for event in events:
                    yield event
                if decoder.ended and not clock.complete:
                    clock.answer_complete()
        if not decoder.ended:
            raise UpstreamBroken("cut_short")

    def _kept_of(self, turn: Turn) -> dict[str, list[dict[str, Any]]]:
        """What is kept of this user's chat, by the ids of the calls."""
        place = (turn.user_id, turn.chat_id)
        return {key[2]: said for key, said in self.kept.items() if key[:2] == place}

    def _keep(self, turn: Turn, decoder: AnthropicDecoder) -> None:
        while len(self.kept) >= MAX_KEPT_ANSWERS:
            del self.kept[next(iter(self.kept))]
        self.kept[turn.user_id, turn.chat_id, decoder.calls[0]] = decoder.content


@asynccontextmanager
async def overload_told() -> AsyncIterator[None]:
    """The API's own status for "try again soon" has its own sentence."""
    try:
        yield
    except UpstreamRefused as error:
        if error.status == OVERLOADED_STATUS:
            error.code = "overloaded"
        raise


def anthropic_endpoint(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the API's own headers; configured ones win."""
    headers = {"anthropic-version": ANTHROPIC_VERSION}
    if endpoint.key:
        headers["x-api-key"] = endpoint.key
    configured = {name.lower(): value for name, value in endpoint.headers.items()}
    return Endpoint(
        agent=endpoint.agent,
        url=endpoint.url,
        headers={**headers, **configured},
        timeouts=endpoint.timeouts,
    )


# --- shared/agents/kinds/anthropic.py ---


class AnthropicAgent(HttpAgent):
    """A model of Claude's; `server_tools` are tools that the API runs itself."""

    url: str = Field(
        default="https://api.anthropic.com/v1", pattern=r"^https?://", repr=False
    )
    session: bool = False
    cache: bool = True
    server_tools: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _names_one(self) -> "AnthropicAgent":
        if self.session:
            raise ValueError("the Messages API keeps no sessions")
        if not self.model and not self.discover:
            raise ValueError("give a `model`, or `discover: true` to list them all")
        if any(not (t.get("type") and t.get("name")) for t in self.server_tools):
            raise ValueError("each of `server_tools` needs a `type` and a `name`")
        return self


def make_anthropic(agent: AnthropicAgent, model: str) -> Backend:
    """The backend for one of the models."""
    return AnthropicBackend(
        client=shared_resource("http client", new_http_client),
        endpoint=anthropic_endpoint(agent.endpoint),
        model=model,
        server_tools=agent.server_tools,
        cache=agent.cache,
        kept=shared_resource("anthropic answers", dict),
    )


# --- shared/backends/cli_lines.py ---

TERMINAL_CODES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")
# What a line of Codex's says beside the call itself.
CODEX_RESULT_KEYS = frozenset(
    {"id", "type", "status", "aggregated_output", "exit_code", "result", "error"}
)


class CliDecoder(Protocol):
    """One format's lines in, agent events out.

    `done` says that the program told the turn's end; `error` is what it told of a turn
    that failed.
    """

    done: bool
    error: UpstreamBroken | None

    def feed(self, line: bytes) -> list[AgentEvent]: ...


class JsonLines:
    """Lines of JSON objects; a line that is none, or of an odd shape, is noise."""

    def __init__(self) -> None:
        self.done = False
        self.error: UpstreamBroken | None = None

    def feed(self, line: bytes) -> list[AgentEvent]:
        try:
            return self.event(load_json(line))
        except (UpstreamBroken, AttributeError, LookupError, TypeError, ValueError):
            return []

    def event(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """The events of one line."""
        raise NotImplementedError

    def end(self) -> None:
        """The turn has ended well."""
        self.done = True

    def fail(self, detail: str) -> None:
        """The turn has ended, and not well."""
        self.done = True
        self.error = UpstreamBroken(failure_code(detail), detail=detail)


class GeminiLines(JsonLines):
    """The lines of `gemini -o stream-json`."""

    def event(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        call_id = str(payload.get("tool_id") or "")
        match payload.get("type"):
            case "init":
                return [SessionState({"session_id": str(payload.get("session_id"))})]
            case "message" if payload.get("role") == "assistant":
                return [TextDelta(str(payload.get("content") or ""))]
            case "tool_use":
                given = dump_json(payload.get("parameters") or {}).decode()
                return whole_call(call_id, str(payload.get("tool_name")), given)
            case "tool_result":
                failed = payload.get("status") != "success"
                output = payload.get("output") or said_in(payload.get("error"))
                return [ToolResult(call_id, str(output or ""), failed=failed)]
            case "result":
                if payload.get("status") == "success":
                    self.end()
                else:
                    self.fail(said_in(payload.get("error")))
                return token_counts(payload.get("stats"))
        return []


class CodexLines(JsonLines):
    """The lines of `codex exec --json`; only `turn.*` says how a turn ended."""

    def __init__(self) -> None:
        super().__init__()
        self._started: set[str] = set()
        self._in_text = False

    def event(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        match payload.get("type"):
            case "thread.started":
                return [SessionState({"session_id": str(payload.get("thread_id"))})]
            case "item.started" | "item.updated" | "item.completed" as kind:
                item = payload.get("item")
                whole = kind == "item.completed"
                return self._item(item, whole) if isinstance(item, Mapping) else []
            case "turn.completed":
                self.end()
                return token_counts(payload.get("usage"))
            case "turn.failed":
                self.fail(said_in(payload.get("error")))
        return []

    def _item(self, item: Mapping[str, Any], whole: bool) -> list[AgentEvent]:
        text = str(item.get("text") or "")
        match item.get("type"):
            case "agent_message":
                # A further message begins a paragraph of its own.
                text = f"\n\n{text}" if self._in_text else text
                self._in_text = self._in_text or whole
                return [TextDelta(text)] if whole else []
            case "reasoning":
                return [ReasoningDelta(f"{text}\n\n")] if whole else []
            case "todo_list":
                return todo_events(item.get("items"))
            case "error":
                return []  # a warning: the turn goes on
        self._in_text = False
        return self._tool(item, whole)

    def _tool(self, item: Mapping[str, Any], whole: bool) -> list[AgentEvent]:
        """A command, a change of files, a search: everything that is a tool's."""
        call_id = str(item.get("id") or "")
        events: list[AgentEvent] = []
        if call_id not in self._started:
            self._started.add(call_id)
            given = {k: v for k, v in item.items() if k not in CODEX_RESULT_KEYS}
            name = str(item.get("tool") or item.get("type"))
            events += whole_call(call_id, name, dump_json(given).decode())
        if whole:
            failed = item.get("status") in ("failed", "declined")
            told = item.get("aggregated_output") or said_in(item.get("error"))
            told = told or item.get("result") or ""
            output = told if isinstance(told, str) else dump_json(told).decode()
            events.append(ToolResult(call_id, output, failed=failed))
        return events


class TextLines:
    """What a program prints, without its noise and the codes for a terminal.

    Lines that one of the `noise` patterns matches as a whole are left out.
    """

    def __init__(self, noise: Sequence[str] = ()) -> None:
        self._noise = [re.compile(pattern) for pattern in noise]
        self._begun = False
        # Text has no other end than the program's.
        self.done = True
        self.error: UpstreamBroken | None = None

    def feed(self, line: bytes) -> list[AgentEvent]:
        text = TERMINAL_CODES.sub("", line.decode("utf-8", "replace")).rstrip("\r\n")
        if any(pattern.fullmatch(text.strip()) for pattern in self._noise):
            return []
        if not self._begun and not text.strip():
            return []
        self._begun = True
        return [TextDelta(f"{text}\n")]


def whole_call(call_id: str, name: str, arguments: str) -> list[AgentEvent]:
    """A call whose arguments are known at once."""
    call = ToolCallCompleted(call_id, name, arguments)
    return [ToolCallStarted(call_id, name), call]


def said_in(error: Any) -> str:
    """The sentence of an error object."""
    message = error.get("message") if isinstance(error, Mapping) else error
    return plain_detail(str(message)) if message else ""


def token_counts(usage: Any) -> list[AgentEvent]:
    """Token counts, in the names of Chat Completions where there is such a name."""
    names = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
    counts = {
        names.get(str(name), str(name)): count
        for name, count in (usage.items() if isinstance(usage, Mapping) else ())
        if isinstance(count, int) and "token" in str(name)
    }
    return [Usage(counts)] if any(counts.values()) else []


def todo_events(items: Any) -> list[AgentEvent]:
    """A list of steps as a line: how many are done, and the next one."""
    steps = [step for step in items or () if isinstance(step, Mapping)]
    rest = [step for step in steps if not step.get("completed")]
    if not steps:
        return []
    shown = " ".join(str((rest or steps[-1:])[0].get("text") or "").split())
    line = f"{len(steps) - len(rest)}/{len(steps)} · {shown}"
    return [Status(line, done=not rest)]


# --- shared/backends/cli_claude.py ---

# The model of messages that Claude Code writes itself, such as its errors.
SYNTHETIC = "<synthetic>"


class ClaudeLines(JsonLines):
    """The lines of one turn; what subagents say among themselves is left out."""

    def __init__(self) -> None:
        super().__init__()
        self._streamed: set[str] = set()
        # The calls whose arguments are coming, by the index of their block.
        self._calls: dict[int, tuple[str, str, list[str]]] = {}

    def event(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        if payload.get("parent_tool_use_id"):
            return []
        message = payload.get("message")
        match payload.get("type"):
            case "system" if payload.get("subtype") == "init":
                return [SessionState({"session_id": str(payload.get("session_id"))})]
            case "system" if payload.get("error_status") == 401:
                # It would try ten times, for minutes.
                self.fail("401")
            case "stream_event" if isinstance(payload.get("event"), Mapping):
                return self._stream_event(payload["event"])
            case "assistant" if isinstance(message, Mapping):
                return self._whole_message(message)
            case "user" if isinstance(message, Mapping):
                return tool_results(message.get("content"))
            case "result":
                self._result(payload)
                return token_counts(payload.get("usage"))
        return []

    def _stream_event(self, event: Mapping[str, Any]) -> list[AgentEvent]:
        index = int(event.get("index") or 0)
        match event.get("type"):
            case "message_start":
                self._streamed.add(str(event["message"].get("id")))
            case "content_block_start":
                block = event["content_block"]
                if block.get("type") == "tool_use":
                    call_id, name = str(block["id"]), str(block["name"])
                    self._calls[index] = (call_id, name, [])
                    return [ToolCallStarted(call_id, name)]
            case "content_block_delta":
                return self._delta(index, event["delta"])
            case "content_block_stop" if index in self._calls:
                call_id, name, parts = self._calls.pop(index)
                return [ToolCallCompleted(call_id, name, "".join(parts) or "{}")]
        return []

    def _delta(self, index: int, delta: Mapping[str, Any]) -> list[AgentEvent]:
        match delta.get("type"):
            case "text_delta":
                return [TextDelta(str(delta["text"]))]
            case "thinking_delta":
                return [ReasoningDelta(str(delta["thinking"]))]
            case "input_json_delta" if index in self._calls:
                call_id, _, parts = self._calls[index]
                parts.append(str(delta["partial_json"]))
                return [ToolCallArgumentsDelta(call_id, parts[-1])]
        return []

    def _result(self, result: Mapping[str, Any]) -> None:
        """The end; its `subtype` may say success all the same when it failed."""
        if not result.get("is_error"):
            return self.end()
        errors = "; ".join(map(str, result.get("errors") or ()))
        return self.fail(plain_detail(str(result.get("result") or errors)))

    def _whole_message(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        """A message that was not streamed; errors come again in `result`."""
        streamed = str(message.get("id")) in self._streamed
        if streamed or message.get("model") == SYNTHETIC:
            return []
        events: list[AgentEvent] = []
        for block in message.get("content") or ():
            match block.get("type"):
                case "text":
                    events.append(TextDelta(str(block["text"])))
                case "thinking":
                    events.append(ReasoningDelta(str(block["thinking"])))
                case "tool_use":
                    given = dump_json(block.get("input") or {}).decode()
                    events += whole_call(str(block["id"]), str(block["name"]), given)
        return events


def tool_results(content: Any) -> list[AgentEvent]:
    """The results of tools in a user message."""
    return [
        ToolResult(
            str(block.get("tool_use_id")),
            result_text(block.get("content")),
            failed=bool(block.get("is_error")),
        )
        for block in (content if isinstance(content, list) else ())
        if block.get("type") == "tool_result"
    ]


def result_text(content: Any) -> str:
    """A tool's result: text, or a list of blocks of which the texts are taken."""
    if isinstance(content, str):
        return content
    blocks: Iterable[Any] = content if isinstance(content, list) else ()
    return "\n".join(str(b.get("text")) for b in blocks if b.get("type") == "text")


# --- shared/backends/cli.py ---

# All three formats name sessions by UUIDs.
SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
MAX_PRINTED_LINE = 64 * 1024 * 1024


class CliPlace:
    """The place of a program that is about to start: it counts from the outset."""

    async def stop(self) -> None:
        """Nothing runs yet."""


# The processes under way, and the agents they belong to.
CliRuns = MutableMapping[AgentProcess | CliPlace, str]


@dataclass(frozen=True, slots=True)
class CliFormat:
    """How a program is told to print what `decoder` reads.

    Its command is followed by `flags`, by `model` and `resume` before their values,
    and by `last`. The prompt comes on its stdin, out of everybody's sight.
    """

    decoder: Callable[[], CliDecoder]
    flags: tuple[str, ...] = ()
    model: str = ""
    resume: str = ""
    last: tuple[str, ...] = ()


CLI_FORMATS: Mapping[str, CliFormat] = {
    "claude": CliFormat(
        ClaudeLines,
        flags=(
            *("-p", "--output-format", "stream-json"),
            *("--include-partial-messages", "--verbose"),
        ),
        model="--model",
        resume="--resume",
    ),
    "gemini": CliFormat(
        GeminiLines, flags=("-o", "stream-json"), model="-m", resume="--resume"
    ),
    "codex": CliFormat(
        CodexLines,
        flags=("--json", "--skip-git-repo-check"),
        model="-m",
        resume="resume",
        last=("-",),
    ),
}


@dataclass(frozen=True, slots=True)
class CliSettings:
    """How a program is run. `noise` are patterns of lines that are no answer."""

    agent_id: str
    program: Program
    timeouts: Timeouts
    format: str = "text"
    noise: tuple[str, ...] = ()
    max_processes: int = 8


@dataclass(slots=True)
class CliRun:
    """One run of the program: what it has said, and the files there were before."""

    process: AgentProcess
    decoder: CliDecoder
    workspace: Workspace
    files: Snapshot
    writing: "asyncio.Task[None]"
    answered: bool = False
    waiting: dict[str, None] = field(default_factory=dict)

    def note(self, event: AgentEvent) -> None:
        if isinstance(event, TextDelta | ToolCallStarted):
            self.answered = True
        if isinstance(event, ToolCallStarted):
            self.waiting[event.call_id] = None
        elif isinstance(event, ToolResult):
            self.waiting.pop(event.call_id, None)

    def last_events(self) -> list[AgentEvent]:
        """What ends a turn; a call without a result would be run again."""
        results = [ToolResult(call_id, "") for call_id in self.waiting]
        return [*results, *self.workspace.made_since(self.files), Finished()]


@dataclass(frozen=True, slots=True)
class CliBackend:
    """One program, and one of its models ("" for its default).

    Below `workspaces`, every chat of every user has a folder of its own. `runs` is
    shared by all that run programs, so that a shutdown can end them.
    """

    settings: CliSettings
    workspaces: Path
    runs: CliRuns
    model: str = ""

    async def discover(self) -> list[DiscoveredModel]:
        """Programs have no list of their models."""
        return []

    async def health(self) -> None:
        """Return when the program is there."""
        program = self.settings.program
        find_program(program, program_environment(program.env))

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: closing the run ends the program."""

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator ends the program."""
        anew = turn.anew if session_of(turn) else None
        return answer_or_begin_anew(self._run_once, turn, anew, may_have_forgotten)

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        run = await self._begin(turn)
        try:
            async with aclosing(self._lines(run)) as lines:
                async for line in lines:
                    for event in run.decoder.feed(line):
                        run.note(event)
                        yield event
                    if run.decoder.error is not None:
                        break
            await self._check_end(run)
            for event in await asyncio.to_thread(run.last_events):
                yield event
        finally:
            await run_cancel(self._end(run))

    async def _begin(self, turn: Turn) -> CliRun:
        """Start the program, unless as many as may run at a time do so."""
        settings = self.settings
        working = sum(agent == settings.agent_id for agent in self.runs.values())
        if working >= settings.max_processes:
            raise UpstreamError("too_many_programs", limit=settings.max_processes)
        place = CliPlace()
        self.runs[place] = settings.agent_id
        try:
            return await self._start(turn)
        finally:
            self.runs.pop(place, None)

    async def _start(self, turn: Turn) -> CliRun:
        """Start the program in the chat's folder and give it the prompt."""
        settings = self.settings
        workspace = await asyncio.to_thread(
            Workspace.of_chat, self.workspaces, turn.user_id, turn.chat_id
        )
        try:
            prompt = await prompt_text(turn, workspace)
            files = await asyncio.to_thread(workspace.snapshot)
            command = cli_command(settings, self.model, session_of(turn))
            program = replace(settings.program, command=command)
            process = await AgentProcess.start(program, workspace.folder)
        except BaseException:
            await asyncio.to_thread(workspace.leave)
            raise
        self.runs[process] = settings.agent_id
        return CliRun(
            process,
            new_decoder(settings),
            workspace,
            files,
            asyncio.create_task(give_prompt(process, prompt)),
        )

    async def _lines(self, run: CliRun) -> AsyncGenerator[bytes, None]:
        """The lines it prints; UpstreamSilent when none come for too long."""
        timeouts = self.settings.timeouts
        seconds, code = timeouts.first_token, "silent_first"
        lines = LineBuffer(MAX_PRINTED_LINE)
        while True:
            try:
                async with asyncio.timeout(seconds):
                    data = await run.process.read()
            except TimeoutError:
                raise UpstreamSilent(code, seconds=seconds) from None
            if not data:
                break
            seconds, code = timeouts.between_tokens, "silent_between"
            for line in lines.feed(data):
                yield line
        for line in lines.finish():
            yield line

    async def _check_end(self, run: CliRun) -> None:
        """Raise what went wrong; an exit code of 0 does not say that nothing did."""
        error = run.decoder.error
        if error is not None:
            detail = run.process.without_secrets(error.fields["detail"])
            raise UpstreamBroken(error.code, detail=detail)
        code = await run.process.exit_code()
        if not run.decoder.done or code:
            raise program_ended(code)
        if not run.answered:
            raise UpstreamBroken("empty_answer")

    async def _end(self, run: CliRun) -> None:
        """End the program and what it left running."""
        run.writing.cancel()
        try:
            await run.process.stop()
        finally:
            self.runs.pop(run.process, None)
            await asyncio.to_thread(run.workspace.leave)


def may_have_forgotten(error: UpstreamError) -> bool:
    """Whether an error may be about the session: programs have no code for it."""
    return isinstance(error, UpstreamBroken) and error.code != "login_expired"


def session_of(turn: Turn) -> str:
    """The program's session that this turn goes on with, or "".

    It was kept in the chat, which its user can change: only what looks like the id of
    a session becomes an argument.
    """
    session_id = str((turn.continued or {}).get("session_id") or "")
    return session_id if SESSION_ID.fullmatch(session_id) else ""


def cli_command(settings: CliSettings, model: str, session_id: str) -> tuple[str, ...]:
    """The command with what the format needs."""
    command = settings.program.command
    format_ = CLI_FORMATS.get(settings.format)
    if format_ is None:
        return command
    chosen = (format_.model, model) if model else ()
    resumed = (format_.resume, session_id) if session_id else ()
    return (*command, *format_.flags, *chosen, *resumed, *format_.last)


def new_decoder(settings: CliSettings) -> CliDecoder:
    format_ = CLI_FORMATS.get(settings.format)
    return format_.decoder() if format_ else TextLines(settings.noise)


async def prompt_text(turn: Turn, workspace: Workspace) -> str:
    """What the program is told; files lie in its folder and are named."""
    messages = turn.news() if session_of(turn) else turn.messages
    names = []
    for file in (file for message in messages for file in message_files(message)):
        data = await asyncio.to_thread(file.read)
        if data is not None:
            path = await asyncio.to_thread(workspace.save, file.name, data)
            names.append(path.name)
    listed = "\n".join(f"- {name}" for name in names)
    files = f"\n\nFiles in the working folder:\n{listed}" if names else ""
    return transcript(messages) + files


async def give_prompt(process: AgentProcess, prompt: str) -> None:
    """Write the prompt while the output is read: a program may print first."""
    with suppress(UpstreamError):  # its end tells more
        await process.write(prompt.encode("utf-8", "replace"))
    process.close_input()


# --- shared/agents/kinds/cli.py ---

# What programs print to stdout beside their answer.
USUAL_NOISE = (
    r"Loaded cached credentials\.?",
    r"\(node:\d+\) \w*Warning: .*",
    r"\(Use `node --trace-.*",
)


class CliAgent(ProgramAgent):
    """A program that takes a prompt on stdin and prints its answer as `format`."""

    format: Literal["claude", "gemini", "codex", "text"] = "text"
    noise: tuple[str, ...] = USUAL_NOISE
    max_processes: int = Field(default=8, ge=1)

    @field_validator("noise")
    @classmethod
    def _are_patterns(cls, noise: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in noise:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"this is no regular expression: {error}") from error
        return noise

    @model_validator(mode="after")
    def _offers_what_programs_can(self) -> "CliAgent":
        if self.discover:
            raise ValueError("`discover` is not possible: programs list no models")
        if self.model and self.format == "text":
            raise ValueError("write the model into the `command` of a text program")
        return self


def make_cli(agent: CliAgent, model: str) -> Backend:
    """The backend for a program and the model it is started with."""
    settings = CliSettings(
        agent_id=agent.id,
        program=agent.program,
        timeouts=agent.timeout_seconds,
        format=agent.format,
        noise=agent.noise,
        max_processes=agent.max_processes,
    )
    return CliBackend(settings, data_folder() / WORKSPACES, cli_runs(), model)


def cli_runs() -> MutableMapping[Any, str]:
    """The programs that run now, whatever version of this function started them."""
    runs: dict[Any, str] = shared_resource("cli programs", dict)

    async def end_all() -> None:
        for process in list(runs):
            await process.stop()

    at_shutdown("cli programs", end_all)
    shared_resource("orphaned programs", ending_orphans)
    return runs


def ending_orphans() -> threading.Thread:
    """A thread that ends what a killed server has left; a turn need not wait for it."""
    thread = threading.Thread(target=end_orphans, daemon=True)
    thread.start()
    return thread


# --- shared/backends/langgraph_stream.py ---

FINISH_REASON_OF_STOP = {"length": "length", "max_tokens": "length"}


@dataclass(frozen=True, slots=True)
class GraphInterrupt:
    """A graph that waits for a human: what it wants to know, and under which id."""

    interrupt_id: str
    value: Any


class LangGraphDecoder:
    """Reads the runs of one turn: after an interrupt, a further run goes on.

    `run_id` is that of the latest run; `interrupts` are what it waits for.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self.interrupts: list[GraphInterrupt] = []
        self.told = False
        self._calls: dict[str, ToolCallAssembler] = {}
        self._unanswered: dict[str, None] = {}
        self._streamed: set[str] = set()
        self._usage: dict[str, Any] = {}
        self._reason = "stop"

    def feed(self, name: str, payload: Any) -> list[AgentEvent]:
        """One event, decoded; raises UpstreamBroken where it reports an error."""
        kind = name.partition("|")[0]  # those of a subgraph end in `|` and its path
        events: list[AgentEvent] = []
        if kind == "metadata":
            self.run_id = str(payload.get("run_id") or self.run_id)
        elif kind == "messages":
            events = self._message(payload[0])
        elif kind == "updates":
            events = self._update(payload)
        elif kind == "error":
            raise UpstreamBroken("said_error", detail=run_error(payload))
        self.told = self.told or bool(events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the last run has ended.

        A call without a result gets an empty one: Open WebUI would run it itself.
        """
        events = self._complete_calls()
        events += [ToolResult(call_id, "") for call_id in self._unanswered]
        self._unanswered.clear()
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished(self._reason)]

    def _message(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        match message.get("type"):
            case "AIMessageChunk":
                return self._chunk(message)
            case "ai":
                return self._whole(message)
            case "tool" | "ToolMessageChunk":
                return self._result(message)
        return []

    def _chunk(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        message_id = str(message.get("id"))
        self._streamed.add(message_id)
        events = self._said(message)
        if fragments := message.get("tool_call_chunks"):
            calls = self._calls.setdefault(message_id, ToolCallAssembler())
            events += calls.feed(map(openai_fragment, fragments))
        if message.get("chunk_position") == "last":
            events += self._complete_calls()
        return events

    def _whole(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        """A message that no model streamed; one that was streamed is a repetition."""
        message_id = str(message.get("id"))
        if message_id in self._streamed:
            return []
        self._streamed.add(message_id)
        events = [*self._complete_calls(), *self._said(message)]
        for call in message.get("tool_calls") or ():
            arguments = orjson.dumps(call.get("args") or {}).decode()
            whole = ToolCallCompleted(str(call["id"]), str(call["name"]), arguments)
            self._unanswered[whole.call_id] = None
            events.append(whole)
        return events

    def _said(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        """Thoughts, text and images of a message or of a chunk of one."""
        for key, value in read_counts(message.get("usage_metadata") or {}).items():
            if not isinstance(value, Mapping):
                self._usage[key] = self._usage.get(key, 0) + value
        response = message.get("response_metadata") or {}
        stopped = response.get("finish_reason") or response.get("stop_reason")
        if stopped:
            self._reason = FINISH_REASON_OF_STOP.get(str(stopped), "stop")
        events: list[AgentEvent] = []
        # DeepSeek and others, by way of their LangChain packages.
        thought = (message.get("additional_kwargs") or {}).get("reasoning_content")
        if isinstance(thought, str) and thought:
            events.append(ReasoningDelta(thought))
        content = message.get("content")
        if isinstance(content, str):
            return [*events, TextDelta(content)] if content else events
        for block in content or ():
            events += block_events(block)
        return events

    def _result(self, message: Mapping[str, Any]) -> list[AgentEvent]:
        events = self._complete_calls()
        call_id = str(message.get("tool_call_id"))
        if call_id not in self._unanswered:
            return events
        del self._unanswered[call_id]
        failed = message.get("status") == "error"
        output = content_text(message.get("content"))
        return [*events, ToolResult(call_id, output, failed)]

    def _update(self, update: Mapping[str, Any]) -> list[AgentEvent]:
        """What the nodes wrote. LangChain's messages in it repeat those streamed."""
        waiting = update.get("__interrupt__")
        for entry in waiting if isinstance(waiting, list) else ():
            found = GraphInterrupt(str(entry.get("id") or ""), entry.get("value"))
            self.interrupts.append(found)
        events = self._complete_calls()
        for written in update.values():
            if isinstance(written, Mapping):
                events += map(TextDelta, plain_answers(written.get("messages")))
        return events

    def _complete_calls(self) -> list[AgentEvent]:
        events = [e for calls in self._calls.values() for e in calls.complete()]
        self._calls.clear()
        for event in events:
            if isinstance(event, ToolCallCompleted):
                self._unanswered[event.call_id] = None
        return events


def plain_answers(written: Any) -> list[str]:
    """The agent's words among messages that a node wrote without LangChain's classes.

    Shapes: (role, text) and {role, content}; these are in no event of `messages`.
    What stands before a user's message is the past.
    """
    said: list[str] = []
    for entry in written if isinstance(written, list) else [written]:
        if isinstance(entry, list) and len(entry) == 2:
            role, content = entry
        elif isinstance(entry, Mapping) and "role" in entry:
            role, content = entry["role"], entry.get("content")
        else:
            continue
        if role in ("user", "human"):
            said = []
        elif role in ("assistant", "ai") and (text := content_text(content)):
            said.append(text)
    return said


def openai_fragment(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """LangChain's ToolCallChunk as a fragment of Chat Completions."""
    function = {"name": chunk.get("name"), "arguments": chunk.get("args")}
    return {"index": chunk.get("index"), "id": chunk.get("id"), "function": function}


def block_events(block: Any) -> list[AgentEvent]:
    """One content block: LangChain's own kinds and those of OpenAI and Anthropic."""
    if isinstance(block, str):
        return [TextDelta(block)] if block else []
    kind = block.get("type")
    if kind == "text" and block.get("text"):
        return [TextDelta(str(block["text"]))]
    if kind in ("reasoning", "thinking"):
        summary = block.get("summary")
        thought = block.get(kind) or content_text(summary)
        return [ReasoningDelta(str(thought))] if thought else []
    if kind == "image_url":
        return image_outputs([block])
    if kind in ("image", "file"):
        return file_block(block)
    return []


def file_block(block: Mapping[str, Any]) -> list[AgentEvent]:
    """LangChain's multimodal block: {mime_type, base64} or {mime_type, url}."""
    mime = str(block.get("mime_type") or "application/octet-stream")
    data, url = block.get("base64") or block.get("data"), block.get("url")
    if isinstance(data, str) and data:
        url = f"data:{mime};base64,{data}"
    name = str(block.get("filename") or block.get("name") or "")
    link = str(url or "")
    return [FileOutput(link, mime, name)] if is_link(link) else []


def run_error(payload: Any) -> str:
    """What an `error` event says: {error: class, message: text}."""
    if not isinstance(payload, Mapping):
        return str(payload or "")
    said: Iterable[Any] = (payload.get("error"), payload.get("message"))
    return ": ".join(str(part) for part in said if part)


# --- shared/backends/langgraph_humans.py ---

QUESTION_KEYS = ("question", "message", "query", "prompt", "description", "text")
CHOICE_KEYS = ("choices", "options")
DENIED = "The user did not allow this."
UNANSWERED = "The user did not answer."


async def settle_interrupts(
    dialogs: Dialogs, interrupts: Sequence[GraphInterrupt]
) -> Any | None:
    """The `resume` of a Command for these, or None where the user gave no answer."""
    values: dict[str, Any] = {}
    for interrupt in interrupts:
        value = await settle_interrupt(dialogs, interrupt.value)
        if value is None:
            return None
        values[interrupt.interrupt_id] = value
    return resume_value(values)


def resume_value(values: Mapping[str, Any]) -> Any:
    """Answers by the ids of their interrupts; a single one stands by itself."""
    return values if len(values) > 1 else next(iter(values.values()))


async def settle_interrupt(dialogs: Dialogs, value: Any) -> Any | None:
    if isinstance(value, Mapping) and value.get("action_requests"):
        allowed = {
            config.get("action_name"): config.get("allowed_decisions") or ()
            for config in value.get("review_configs") or ()
        }
        decisions = [
            await decide(dialogs, action, allowed.get(action.get("name"), ()))
            for action in value["action_requests"]
        ]
        return {"decisions": decisions}
    if isinstance(value, list) and value and is_inbox_request(value[0]):
        return [await decide_in_inbox(dialogs, request) for request in value]
    return await dialogs.ask(interrupt_question(value))


async def decide(
    dialogs: Dialogs, action: Mapping[str, Any], allowed: Collection[str]
) -> dict[str, Any]:
    """A decision about an ActionRequest {name, args, description}.

    Where a human can only respond, the tool is itself a question to them.
    """
    if "respond" in allowed and "approve" not in allowed:
        question = interrupt_question(action.get("args") or action)
        said = await dialogs.ask(question)
        return {"type": "respond", "message": said or UNANSWERED}
    if await dialogs.approve(action_approval(action)):
        return {"type": "approve"}
    if allowed and "reject" not in allowed and "respond" in allowed:
        return {"type": "respond", "message": DENIED}
    return {"type": "reject", "message": DENIED}


def is_inbox_request(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(
        value.get("action_request"), Mapping
    )


async def decide_in_inbox(
    dialogs: Dialogs, request: Mapping[str, Any]
) -> dict[str, Any]:
    """A decision about a HumanInterrupt {action_request: {action, args}, …}."""
    asked = request["action_request"]
    action = {"name": asked.get("action"), "args": asked.get("args")}
    if await dialogs.approve(action_approval(action)):
        return {"type": "accept", "args": None}
    return {"type": "ignore", "args": None}


def action_approval(action: Mapping[str, Any]) -> ApprovalRequest:
    """The permission that an action needs, its arguments in full."""
    arguments = action.get("args") or {}
    name = str(action.get("name") or "")
    detail = orjson.dumps(arguments, option=orjson.OPT_INDENT_2).decode()
    return ApprovalRequest(name, name, detail, call_paths(arguments))


def interrupt_question(value: Any) -> UserQuestion:
    """The question in an interrupt's value: a text, or an object with one in it."""
    if isinstance(value, str):
        return UserQuestion(value)
    if isinstance(value, Mapping):
        for key in QUESTION_KEYS:
            if isinstance(value.get(key), str) and value[key]:
                return UserQuestion(value[key], question_choices(value))
    return UserQuestion(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def question_choices(value: Mapping[str, Any]) -> tuple[str, ...]:
    """The answers to choose among, where the object names them as texts."""
    for key in CHOICE_KEYS:
        choices = value.get(key)
        if isinstance(choices, list) and all(isinstance(c, str) for c in choices):
            return tuple(choices)
    return ()


# --- shared/backends/listing_pages.py ---

ENTRIES_A_PAGE = 100
MAX_ENTRIES = 1_000

Entries = Sequence[Mapping[str, Any]]

pages_log = logging.getLogger("aqueduct.backends.discovery")


async def all_entries(
    next_page: Callable[[Entries], Awaitable[Any]], key: str, agent: str
) -> list[Mapping[str, Any]]:
    """The entries of all pages, 1,000 at most: whoever has more reads so in the log.

    `next_page` gets the entries so far; `key` names what tells them apart. A page that
    brings nothing new is the end, also of a server that gives the same page again.
    Raises UpstreamBroken for a page that is no list of objects with that key.
    """
    entries: dict[str, Mapping[str, Any]] = {}
    while True:
        page = await next_page(list(entries.values()))
        if not isinstance(page, list):
            raise UpstreamBroken("unreadable")
        known = len(entries)
        for entry in map(must_be_object, page):
            if key not in entry:
                raise UpstreamBroken("unreadable")
            entries.setdefault(str(entry[key]), entry)
        if len(entries) > MAX_ENTRIES:
            pages_log.warning("%s: only %d entries are listed", agent, MAX_ENTRIES)
        if len(entries) == known or len(entries) > MAX_ENTRIES:
            return list(entries.values())[:MAX_ENTRIES]


# --- shared/backends/langgraph.py ---

STREAM_MODES = ("messages-tuple", "updates")
# A graph that asks again and again what nobody allows would go on for ever.
MAX_INTERRUPTS = 50


@dataclass(slots=True)
class GraphRun:
    """A turn under way: its thread, and the run to cancel on Stop."""

    thread_id: str
    decoder: LangGraphDecoder = field(default_factory=LangGraphDecoder)
    run_id: str = ""

    @property
    def session(self) -> dict[str, Any]:
        return {"thread_id": self.thread_id, "run_id": self.run_id}


@dataclass(frozen=True, slots=True)
class LangGraphBackend:
    """An assistant (or graph) of the server behind `endpoint`.

    `config` and `context` go into every run as they are.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    assistant: str
    config: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)

    async def discover(self) -> list[DiscoveredModel]:
        """The assistants; those that the server made itself go by their graph's id."""

        async def next_page(known: Entries) -> Any:
            order = {"sort_by": "created_at", "sort_order": "asc"}
            page = {"limit": ENTRIES_A_PAGE, "offset": len(known), **order}
            place = "/assistants/search"
            return await call_json(self.client, self.endpoint, "POST", place, page)

        found = await all_entries(next_page, "assistant_id", self.endpoint.agent)
        return list(map(found_assistant, found))

    async def health(self) -> None:
        await get_json(self.client, self.endpoint, "/ok")

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Interrupt the run `run_id` of `thread_id`, unless it has ended already."""
        thread_id, run_id = (
            path_part(str(session[name])) for name in ("thread_id", "run_id")
        )
        path = f"/threads/{thread_id}/runs/{run_id}/cancel"
        with suppress(UpstreamRefused):
            query = "?wait=true&action=interrupt"
            await call_json(self.client, self.endpoint, "POST", path + query)

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; on closing it the server is told to stop."""
        return answer_or_begin_anew(self._run_once, turn, turn.anew, is_not_found)

    async def _continued(self, turn: Turn) -> dict[str, Any] | None:
        """The session to go on with, its checkpoint known; None begins a thread."""
        if not turn.session:
            return None
        session = dict(turn.session)
        if session.get("checkpoint_id") and not session.get("waiting"):
            return session
        # A graph resumes a checkpoint only once: whoever answers its question anew
        # would get what the first answer brought. A stopped answer has no checkpoint
        # yet, and models do not go on from calls that were left without results.
        state = await self._state(session)
        if state is None or (not session.get("waiting") and leaves_calls_open(state)):
            return None
        return {**session, "checkpoint_id": state["checkpoint"]["checkpoint_id"]}

    async def _state(self, session: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The thread as `run_id` left it; None where that cannot be known.

        Another branch of the chat may have gone on in the same thread meanwhile.
        """
        with suppress(UpstreamError):
            path = f"/threads/{path_part(session['thread_id'])}/state"
            found = await get_json(self.client, self.endpoint, path)
            state = must_be_object(found)
            if (state.get("metadata") or {}).get("run_id") == session.get("run_id"):
                return state
        return None

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        turn = replace(turn, session=await self._continued(turn))
        thread_id, body = first_run(turn)
        run = GraphRun(thread_id)
        ended = False
        try:
            async with aclosing(self._answer(turn, run, body)) as events:
                async for event in events:
                    yield event
            ended = True
        finally:
            if not ended and run.run_id:
                await run_cancel(self.cancel(run.session))

    async def _answer(
        self, turn: Turn, run: GraphRun, body: dict[str, Any]
    ) -> AsyncGenerator[AgentEvent, None]:
        """The first run, and one more for each time that the graph asks a human."""
        decoder = run.decoder
        waiting: list[GraphInterrupt] = []
        for _ in range(MAX_INTERRUPTS):
            async with aclosing(self._stream(run, body)) as events:
                async for event in events:
                    yield event
            waiting, decoder.interrupts = decoder.interrupts, []
            if not waiting:
                break
            resume = await settle_interrupts(turn.dialogs, waiting)
            if resume is None:
                # Then the question is the answer, and what the user says next resumes.
                yield TextDelta(interrupt_question(waiting[0].value).message)
                break
            body = {"command": {"resume": resume}, "if_not_exists": "reject"}
        if not (decoder.told or waiting):
            raise UpstreamBroken("empty_answer")
        session = run.session
        if waiting:
            session["waiting"] = [interrupt.interrupt_id for interrupt in waiting]
        if state := await self._state(session):
            session["checkpoint_id"] = state["checkpoint"]["checkpoint_id"]
        yield SessionState(session)
        for event in decoder.finish():
            yield event

    async def _stream(
        self, run: GraphRun, body: Mapping[str, Any]
    ) -> AsyncGenerator[AgentEvent, None]:
        """The events of one run."""
        path = f"/threads/{path_part(run.thread_id)}/runs/stream"
        request = {
            "assistant_id": self.assistant,
            "stream_mode": STREAM_MODES,
            "on_disconnect": "cancel",
            "multitask_strategy": "enqueue",
            **body,
        }
        if self.config:
            request["config"] = self.config
        if self.context:
            request["context"] = self.context
        async with open_stream(self.client, self.endpoint, path, request) as opened:
            response, clock = opened
            place = response.headers.get("content-location", "")
            run.run_id = place.partition("/runs/")[2].partition("/")[0]
            yield SessionState(run.session)
            async with aclosing(read_events(response, clock)) as messages:
                async for message in messages:
                    check_is_event(message)
                    payload = load_json(message.data)
                    events = events_of(run.decoder.feed, message.name, payload)
                    run.run_id = run.decoder.run_id or run.run_id
                    clock.token()
                    for event in events:
                        yield event


def found_assistant(entry: Mapping[str, Any]) -> DiscoveredModel:
    made_by_server = (entry.get("metadata") or {}).get("created_by") == "system"
    model_id = str(entry.get("graph_id" if made_by_server else "assistant_id"))
    return DiscoveredModel(model_id, str(entry.get("name") or model_id))


def leaves_calls_open(state: Mapping[str, Any]) -> bool:
    """Whether the last message is one of the model's that calls tools."""
    values = state.get("values")
    messages = values.get("messages") if isinstance(values, Mapping) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, Mapping) and bool(last.get("tool_calls"))


def first_run(turn: Turn) -> tuple[str, dict[str, Any]]:
    """The thread of a turn, and what its first run is told."""
    session = turn.session
    if session is None:
        body = {"input": graph_input(turn.messages), "if_not_exists": "create"}
        return str(uuid.uuid4()), body
    news = replace(turn, forks=False).news()
    body = {"checkpoint_id": session["checkpoint_id"], "if_not_exists": "reject"}
    if waiting := session.get("waiting"):
        said = message_text(news[-1]) if news else ""
        body["command"] = {"resume": resume_value(dict.fromkeys(waiting, said))}
    else:
        body["input"] = graph_input(news)
    return str(session["thread_id"]), body


def graph_input(messages: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
    """The state a graph begins with: the messages that people and the agent wrote."""
    spoken = ("system", "user", "assistant")
    return {
        "messages": [
            {"role": message["role"], "content": message.get("content") or ""}
            for message in messages
            if message.get("role") in spoken
        ]
    }


# --- shared/agents/kinds/langgraph.py ---


class LangGraphAgent(HttpAgent):
    """A graph, or an assistant made of one: `model` is the id of either."""

    config: dict[str, Any] = Field(default_factory=dict)
    context: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_a_graph(self) -> "LangGraphAgent":
        if not self.model and not self.discover:
            raise ValueError(
                "give the id of a graph or an assistant as `model`, or "
                "`discover: true` to list them all"
            )
        return self


def make_langgraph(agent: LangGraphAgent, model: str) -> Backend:
    """The backend for one of the server's assistants."""
    client = shared_resource("http client", new_http_client)
    return LangGraphBackend(client, agent.endpoint, model, agent.config, agent.context)


# --- shared/backends/letta_stream.py ---

LETTA_STOPS = {"max_steps": "length", "max_tokens_exceeded": "length"}
LETTA_FAILURES = frozenset(
    {
        "context_window_overflow_in_system_prompt",
        "error",
        "insufficient_credits",
        "invalid_llm_response",
        "invalid_tool_call",
        "llm_api_error",
        "no_tool_call",
    }
)

CONFLICT_STATUS = 409
# What may say more of a call that is under way; anything else ends it.
GROWING_CALLS = ("tool_call_message", "approval_request_message", "ping")


@dataclass(slots=True)
class LettaCall:
    """A tool call of the agent; `asked` says that the server waits for our word."""

    call_id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    asked: bool = False
    completed: bool = False
    answered: bool = False

    @property
    def whole_arguments(self) -> str:
        return "".join(self.arguments).strip() or "{}"


class LettaDecoder:
    """Reads the runs of one turn: what we answer begins a further run.

    `run_id` is that of the latest run, `waiting` are the calls it has stopped for.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self.told = False
        self._calls: dict[str, LettaCall] = {}
        self._usage: dict[str, Any] = {}
        self._text_id = ""
        self.begin_run()

    def begin_run(self) -> None:
        """A further run follows."""
        self.stop_reason = ""
        for call in self._calls.values():
            call.asked = False

    @property
    def waiting(self) -> list[LettaCall]:
        return [call for call in self._calls.values() if call.asked]

    def feed(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """One message, decoded; raises UpstreamError where it reports an error."""
        self.run_id = str(payload.get("run_id") or self.run_id)
        kind = payload.get("message_type")
        if kind == "error_message" or (kind is None and payload.get("error")):
            raise letta_error(payload)
        events = [] if kind in GROWING_CALLS else self._complete()
        match kind:
            case "assistant_message":
                events += self._said(payload)
            case "reasoning_message":
                thought = must_be_text(payload.get("reasoning") or "")
                events += [ReasoningDelta(thought)] if thought else []
            case "tool_call_message":
                events += self._called(payload, asked=False)
            case "approval_request_message":
                events += self._called(payload, asked=True)
            case "tool_return_message":
                events += self._returned(payload)
            case "event_message":
                events.append(Status(str(payload.get("event_type") or ""), done=True))
            case "stop_reason":
                self.stop_reason = str(payload["stop_reason"])
            case "usage_statistics":
                self._count(payload)
        self.told = self.told or any(not isinstance(e, Status) for e in events)
        return events

    def end_run(self) -> list[AgentEvent]:
        """What remains to be told of a run; raises UpstreamBroken where it failed."""
        if not self.stop_reason:
            raise UpstreamBroken("cut_short")
        if self.stop_reason in LETTA_FAILURES:
            reason = self.stop_reason.replace("_", " ")
            raise UpstreamBroken("said_error", detail=reason)
        return self._complete()

    def denied(self, call: LettaCall, reason: str) -> ToolResult:
        """The result of a call that will not be made: the server tells of none."""
        call.answered = True
        return ToolResult(call.call_id, reason, failed=True)

    def finish(self, for_us: Sequence[LettaCall] = ()) -> list[AgentEvent]:
        """The end of the turn; the calls `for_us` are left for us to run.

        Any other without a result gets an empty one: Open WebUI would run it itself.
        """
        events: list[AgentEvent] = [
            ToolResult(call.call_id, "")
            for call in self._calls.values()
            if not (call.answered or call in for_us)
        ]
        if self._usage:
            events.append(Usage(self._usage))
        reason = LETTA_STOPS.get(self.stop_reason, "stop")
        return [*events, Finished("tool_calls" if for_us else reason)]

    def _said(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        text = content_text(payload.get("content"))
        if not text:
            return []
        text_id = str(payload.get("otid") or payload.get("id"))
        if self._text_id not in ("", text_id):
            text = f"\n\n{text}"
        self._text_id = text_id
        return [TextDelta(text)]

    def _called(self, payload: Mapping[str, Any], asked: bool) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        self._text_id = ""
        for piece in call_pieces(payload):
            call_id = str(piece.get("tool_call_id") or next(reversed(self._calls)))
            call = self._calls.setdefault(call_id, LettaCall(call_id))
            call.asked = asked
            if piece.get("name") and not call.name:
                call.name = str(piece["name"])
                events.append(ToolCallStarted(call_id, call.name))
            # A call that was streamed before it is asked for comes whole once more.
            repeated = bool(piece.get("name") and call.arguments)
            if repeated or call.completed or not piece.get("arguments"):
                continue
            delta = must_be_text(piece["arguments"])
            call.arguments.append(delta)
            events.append(ToolCallArgumentsDelta(call_id, delta))
        return events

    def _complete(self) -> list[AgentEvent]:
        """Every call begun so far is whole: something else has come."""
        events: list[AgentEvent] = []
        for call in self._calls.values():
            if call.name and not call.completed:
                call.completed = True
                whole = call.whole_arguments
                events.append(ToolCallCompleted(call.call_id, call.name, whole))
        return events

    def _returned(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """The results of the tools that the server has run."""
        self._text_id = ""
        results: list[AgentEvent] = []
        for one in payload.get("tool_returns") or [payload]:
            call_id, output = str(one["tool_call_id"]), one.get("tool_return")
            failed = one.get("status") == "error"
            # The results that we have sent come back in the next run.
            call = self._calls.get(call_id)
            if call is not None and not call.answered:
                call.answered = True
                results.append(ToolResult(call_id, content_text(output), failed))
        return results

    def _count(self, payload: Mapping[str, Any]) -> None:
        """Add up the tokens over runs; all else is the latest run's."""
        for key, value in read_counts(payload).items():
            if key.endswith("_tokens") and key != "context_tokens":
                value += self._usage.get(key, 0)
            self._usage[key] = value


def call_pieces(payload: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The calls of a message, or the piece of one; `tool_call` is the older name."""
    calls = payload.get("tool_calls") or payload.get("tool_call") or []
    return calls if isinstance(calls, list) else [calls]


def letta_error(payload: Mapping[str, Any]) -> UpstreamError:
    """The error in a message; its detail says more than its message.

    A conversation that waits for an answer to a call takes no other message.
    """
    detail = str(payload.get("detail") or error_detail(payload))
    if "CONFLICT" in (detail + str(payload.get("message"))):
        return UpstreamRefused("said_error", CONFLICT_STATUS, detail=detail)
    return UpstreamBroken("said_error", detail=detail)


# --- shared/backends/letta.py ---

LETTA_DENIED = "The user did not allow this."
LETTA_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
LOST_STATUSES = (404, CONFLICT_STATUS)
MAX_LETTA_RUNS = 50
# Calls that Open WebUI is running right now, on the whole server.
MAX_PENDING_CALLS = 500


@dataclass(slots=True)
class LettaTurn:
    """A turn under way: where it is told, and what."""

    conversation_id: str
    messages: list[dict[str, Any]]
    client_tools: list[dict[str, Any]] = field(default_factory=list)
    decoder: LettaDecoder = field(default_factory=LettaDecoder)

    @property
    def offered(self) -> set[str]:
        return {tool["name"] for tool in self.client_tools}


@dataclass(frozen=True, slots=True)
class LettaBackend:
    """One agent of the server behind `endpoint`.

    `isolated` are the labels of memory blocks that each conversation gets a copy of.
    With `one_history` all chats of all users go into the agent's own history.
    `pending` says which conversation waits for the result of a call that Open WebUI
    runs, as (user, chat, call), and what was answered to other calls; it may serve
    several backends.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    agent_id: str
    isolated: tuple[str, ...] = ()
    one_history: bool = False
    pending: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    async def discover(self) -> list[DiscoveredModel]:
        """The server's agents."""

        async def next_page(known: Entries) -> Any:
            path = f"/v1/agents/?limit={ENTRIES_A_PAGE}"
            if known:
                path += f"&after={quote(str(known[-1]['id']), safe='')}"
            return await get_json(self.client, self.endpoint, path)

        found = await all_entries(next_page, "id", self.endpoint.agent)
        return [
            DiscoveredModel(str(agent["id"]), str(agent.get("name") or agent["id"]))
            for agent in found
        ]

    async def health(self) -> None:
        await get_json(self.client, self.endpoint, "/v1/health/")

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Cancel the run `run_id`, unless it has ended already."""
        path = f"/v1/agents/{self.agent_id}/messages/cancel"
        body = {"run_ids": [session["run_id"]]}
        with suppress(UpstreamRefused):
            await call_json(self.client, self.endpoint, "POST", path, body)

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; on closing it the server is told to stop."""
        anew = None
        if not self.one_history and (turn.continued or letta_results(turn)):
            anew = replace(turn, session=None, messages=letta_words(turn.messages))
        return answer_or_begin_anew(self._run_once, turn, anew, is_lost)

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        under_way = await self._begin(turn)
        if not self.one_history:
            yield SessionState({"conversation_id": under_way.conversation_id})
        ended = False
        try:
            async with aclosing(self._answer(turn, under_way)) as events:
                async for event in events:
                    yield event
            ended = True
        finally:
            run_id = under_way.decoder.run_id
            if not ended and run_id:
                await run_cancel(self.cancel({"run_id": run_id}))

    async def _begin(self, turn: Turn) -> LettaTurn:
        """Where this turn is told, and what: results of calls, or what is new."""
        tools = [letta_tool(tool) for tool in turn.tools]
        results = letta_results(turn)
        first = results[0]["tool_call_id"] if results else ""
        if waiting := self.pending.pop((turn.user_id, turn.chat_id, first), None):
            answers = {"type": "approval", "approvals": [*waiting["said"], *results]}
            return LettaTurn(waiting["conversation_id"], [answers], tools)
        messages = letta_words(turn.messages)
        if self.one_history:
            known = replace(turn, messages=messages, session={}, forks=False)
            return LettaTurn("", letta_messages(known.news()), tools)
        if turn.continued:
            news = replace(turn, messages=messages).news()
            conversation_id = str(turn.continued["conversation_id"])
            return LettaTurn(conversation_id, letta_messages(news), tools)
        return LettaTurn(
            await self._new_conversation(), letta_messages(messages), tools
        )

    async def _new_conversation(self) -> str:
        body = {"isolated_block_labels": list(self.isolated) or None}
        path = f"/v1/conversations/?agent_id={self.agent_id}"
        made = await call_json(self.client, self.endpoint, "POST", path, body)
        return str(made["id"])

    async def _answer(
        self, turn: Turn, under_way: LettaTurn
    ) -> AsyncGenerator[AgentEvent, None]:
        """The first run, and one more for each time that the agent asks us."""
        decoder = under_way.decoder
        for_us: list[LettaCall] = []
        for _ in range(MAX_LETTA_RUNS):
            async with aclosing(self._stream(under_way)) as events:
                async for event in events:
                    yield event
            for event in decoder.end_run():
                yield event
            if not decoder.waiting:
                break
            said = []
            for call in decoder.waiting:
                if call.name in under_way.offered:
                    continue
                answer = await letta_permission(turn, call)
                if not answer["approve"]:
                    yield decoder.denied(call, LETTA_DENIED)
                said.append(answer)
            for_us = [c for c in decoder.waiting if c.name in under_way.offered]
            if for_us:
                key = (turn.user_id, turn.chat_id, for_us[0].call_id)
                self._expect(key, under_way.conversation_id, said)
                break
            under_way.messages = [{"type": "approval", "approvals": said}]
        if not decoder.told:
            raise UpstreamBroken("empty_answer")
        for event in decoder.finish(for_us):
            yield event

    def _expect(
        self,
        key: tuple[str, str, str],
        conversation_id: str,
        said: list[dict[str, Any]],
    ) -> None:
        """Remember who waits for the result of a call, and of those beside it."""
        while len(self.pending) >= MAX_PENDING_CALLS:
            del self.pending[next(iter(self.pending))]
        waiting = {"conversation_id": conversation_id, "said": said}
        self.pending[key] = waiting

    async def _stream(self, under_way: LettaTurn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one run."""
        decoder = under_way.decoder
        decoder.begin_run()
        path = f"/v1/conversations/{path_part(under_way.conversation_id)}/messages"
        if self.one_history:
            path = f"/v1/agents/{self.agent_id}/messages/stream"
        body: dict[str, Any] = {
            "messages": under_way.messages,
            "streaming": True,
            "stream_tokens": True,
            "include_pings": True,
        }
        if under_way.client_tools:
            body["client_tools"] = under_way.client_tools
        async with open_stream(self.client, self.endpoint, path, body) as opened:
            response, clock = opened
            async with aclosing(read_events(response, clock)) as messages:
                async for message in messages:
                    if message.data == b"[DONE]":
                        clock.answer_complete()
                        continue
                    events = events_of(decoder.feed, load_json(message.data))
                    if events:  # a ping is none
                        clock.token()
                    for event in events:
                        yield event


def is_lost(error: UpstreamError) -> bool:
    """Whether a conversation is gone, or waits for an answer it will never get."""
    return isinstance(error, UpstreamRefused) and error.status in LOST_STATUSES


async def letta_permission(turn: Turn, call: LettaCall) -> dict[str, Any]:
    """What the user says to a call that the agent may not make by itself."""
    arguments = call.whole_arguments
    asked = ApprovalRequest(call.name, call.name, arguments, call_paths(arguments))
    allowed = await turn.dialogs.approve(asked)
    said = {"type": "approval", "tool_call_id": call.call_id, "approve": allowed}
    return said if allowed else {**said, "reason": LETTA_DENIED}


def letta_results(turn: Turn) -> list[dict[str, Any]]:
    """The results at the end of a turn's messages, as the server takes them."""
    results: list[dict[str, Any]] = []
    for message in reversed(turn.messages):
        if message.get("role") != "tool":
            break
        result = {
            "type": "tool",
            "tool_call_id": str(message.get("tool_call_id")),
            "tool_return": message_text(message),
            "status": "success",
        }
        results.insert(0, result)
    return results


def letta_words(messages: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """What was said, without tool calls and their results."""
    return tuple(
        message
        for message in messages
        if message.get("role") != "tool" and not message.get("tool_calls")
    )


def letta_messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One message of the user: what is new, with the branch before it where there is.

    Pictures are sent; of other files the agent learns only the name.
    """
    told = list(messages)
    parts: list[dict[str, Any]] = []
    names: list[str] = []
    for file in (file for message in told for file in message_files(message)):
        if file.mime_type in LETTA_PICTURES and file.inline:
            source = {"type": "base64", "media_type": file.mime_type}
            source["data"] = file.encoded
            parts.append({"type": "image", "source": source})
        else:
            names.append(file.name)
    texts = [transcript(told), *(f"(A file that cannot be read: {n}.)" for n in names)]
    text = "\n\n".join(text for text in texts if text)
    if not parts:
        return [{"role": "user", "content": text}]
    said = [{"type": "text", "text": text}] if text else []
    return [{"role": "user", "content": [*said, *parts]}]


def letta_tool(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tool of Chat Completions as a client-side tool."""
    function = spec.get("function") or spec
    return {
        "name": str(function.get("name")),
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {"type": "object"},
    }


# --- shared/agents/kinds/letta.py ---


class LettaAgent(HttpAgent):
    """An agent: `model` is its id, `url` the server's address without `/v1`.

    `isolated_blocks` are the labels of memory blocks that each chat has for itself.
    `one_history: true` puts all chats of all users into the agent's own history.
    """

    isolated_blocks: tuple[str, ...] = ()
    one_history: bool = False

    @model_validator(mode="after")
    def _names_an_agent(self) -> "LettaAgent":
        if self.url.rstrip("/").endswith("/v1"):
            raise ValueError("write the address of the server without `/v1`")
        if not self.model and not self.discover:
            raise ValueError(
                "give the id of an agent as `model`, or `discover: true` to list all"
            )
        if self.one_history and self.isolated_blocks:
            raise ValueError("one history has no blocks for each chat")
        return self


def make_letta(agent: LettaAgent, model: str) -> Backend:
    """The backend for one of the server's agents."""
    return LettaBackend(
        client=shared_resource("http client", new_http_client),
        endpoint=agent.endpoint,
        agent_id=model,
        isolated=agent.isolated_blocks,
        one_history=agent.one_history,
        pending=shared_resource("letta calls", dict),
    )


# --- shared/agents/kinds/openai.py ---


class OpenAIAgent(HttpAgent):
    """A model on a server with Chat Completions or Responses."""

    api: Literal["chat", "responses"] = "chat"
    session: bool = False

    @model_validator(mode="after")
    def _names_a_model(self) -> "OpenAIAgent":
        if self.session and self.api != "responses":
            raise ValueError("`session` needs `api: responses`")
        if not self.model and not self.discover:
            raise ValueError("give a `model`, or `discover: true` to list them all")
        return self


def make_openai(agent: OpenAIAgent, model: str) -> Backend:
    """The backend for one of the agent's models, on the server's shared client."""
    client = shared_resource("http client", new_http_client)
    return OpenAIBackend(client, agent.endpoint, model, agent.api, agent.session)


# --- shared/backends/webhook_paths.py ---

PATH_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\*|-?[0-9]+)\]")
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@lru_cache(maxsize=256)
def path_steps(path: str) -> tuple[str | int | None, ...]:
    """The keys and indices of a path, None for `[*]`; raises ValueError."""
    rest = path.removeprefix("$")
    steps: list[str | int | None] = []
    while rest:
        step = PATH_STEP.match(rest)
        if step is None:
            raise ValueError(f"`{path}` is no path such as `data.items[0].text`")
        name, index = step.groups()
        steps.append(name if name is not None else None if index == "*" else int(index))
        rest = rest[step.end() :]
    return tuple(steps)


def values_at(value: Any, path: str) -> list[Any]:
    """The values at a path, none of them null; [] where there is nothing."""
    found = [value]
    for step in path_steps(path):
        found = [below for one in found for below in step_down(one, step)]
    return [one for one in found if one is not None]


def step_down(value: Any, step: str | int | None) -> list[Any]:
    if step is None:
        return list(value) if isinstance(value, list) else []
    if isinstance(step, str):
        return [value[step]] if isinstance(value, Mapping) and step in value else []
    if isinstance(value, list) and -len(value) <= step < len(value):
        return [value[step]]
    return []


def placeholders(pattern: Any) -> set[str]:
    """The names of all `{name}` in the texts of a pattern."""
    if isinstance(pattern, str):
        return set(PLACEHOLDER.findall(pattern))
    if isinstance(pattern, Mapping):
        return {name for inner in pattern.values() for name in placeholders(inner)}
    if isinstance(pattern, list):
        return {name for inner in pattern for name in placeholders(inner)}
    return set()


def fill_in(pattern: Any, values: Mapping[str, Any]) -> Any:
    """The pattern with every `{name}` replaced by its value.

    A text that is nothing but one `{name}` becomes the value itself, which may be a
    list; inside a longer text a value stands as text. What is filled in is not
    searched again.
    """
    if isinstance(pattern, Mapping):
        return {key: fill_in(inner, values) for key, inner in pattern.items()}
    if isinstance(pattern, list):
        return [fill_in(inner, values) for inner in pattern]
    if not isinstance(pattern, str):
        return pattern
    whole = PLACEHOLDER.fullmatch(pattern)
    if whole:
        return values[whole[1]]
    return PLACEHOLDER.sub(lambda match: str(values[match[1]]), pattern)


# --- shared/backends/webhook_mapping.py ---

# The name of a server-sent event, where a condition asks for it.
EVENT_NAME = "@event"
# A text of this length that says all over again what was said is a repetition.
REPEATED_CHARS = 40


def checked_path(path: str) -> str:
    if path != EVENT_NAME:
        path_steps(path)
    return path


def as_picks(value: Any) -> Any:
    """A path alone, or a mapping alone, as a list of one."""
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple({"path": e} if isinstance(e, str) else e for e in entries)


def as_values(value: Any) -> Any:
    """What a value may be, as a list of texts: YAML knows more kinds."""
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple(shown_value(entry) for entry in entries)


def shown_value(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


ValuePath = Annotated[str, AfterValidator(checked_path)]
Values = Annotated[tuple[str, ...], BeforeValidator(as_values)]


class Pick(BaseModel):
    """A path, in those events only where every path of `when` has one of its values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: ValuePath = ""
    when: dict[ValuePath, Values] = {}

    def fits(self, payload: Any, name: str) -> bool:
        for path, allowed in self.when.items():
            found = [name] if path == EVENT_NAME else values_at(payload, path)
            if not any(shown_value(value) in allowed for value in found):
                return False
        return True

    def values(self, payload: Any, name: str) -> list[Any]:
        return values_at(payload, self.path) if self.fits(payload, name) else []


Picks = Annotated[tuple[Pick, ...], BeforeValidator(as_picks)]


class ToolPick(Pick):
    """Tool calls: the paths of a call's fields begin at the value that `path` names."""

    id: ValuePath = "id"
    name: ValuePath = "name"
    arguments: ValuePath = "arguments"
    result: ValuePath = "result"


class AnswerMapping(BaseModel):
    """Where everything is; of several picks the first one that finds something counts.

    For text and thoughts it counts to the end of the answer: once a pick found
    something, those behind it are not looked at any more, so that a last event with
    all of the text may stand behind the pieces. With `cumulative` every event has the
    whole text so far.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Picks = ()
    thoughts: Picks = ()
    session: Picks = ()
    task: Picks = ()
    usage: Picks = ()
    error: Picks = ()
    done: Picks = ()
    tools: Annotated[tuple[ToolPick, ...], BeforeValidator(as_picks)] = ()
    cumulative: bool = False


def picked(picks: tuple[Pick, ...], payload: Any, name: str) -> list[Any]:
    """What the first of these picks that finds something finds."""
    for pick in picks:
        if values := pick.values(payload, name):
            return values
    return []


def picked_text(picks: tuple[Pick, ...], payload: Any, name: str) -> str:
    return "".join(map(shown_value, picked(picks, payload, name)))


class WebhookDecoder:
    """Payloads of one answer in, agent events out.

    `session` and `task` are the ids that the other side gave, "" before; `ended` that
    it said it is done.
    """

    def __init__(self, mapping: AnswerMapping) -> None:
        self.session = ""
        self.task = ""
        self.ended = False
        self.told = False
        self._mapping = mapping
        self._said = {"text": "", "thoughts": ""}
        self._picks = {"text": mapping.text, "thoughts": mapping.thoughts}
        self._calls: dict[str, bool] = {}
        self._usage: dict[str, Any] = {}

    def feed(self, payload: Any, name: str = "") -> list[AgentEvent]:
        """One event, or the whole answer; raises UpstreamBroken for its error."""
        mapping = self._mapping
        if error := [said for said in picked(mapping.error, payload, name) if said]:
            detail = error_detail(error[0]) or shown_value(error[0])
            raise UpstreamBroken("said_error", detail=detail)
        self.session = picked_text(mapping.session, payload, name) or self.session
        self.task = picked_text(mapping.task, payload, name) or self.task
        for counts in picked(mapping.usage, payload, name):
            self._usage.update(read_counts(counts))
        thought = self._fresh("thoughts", payload, name)
        text = self._fresh("text", payload, name)
        events: list[AgentEvent] = [ReasoningDelta(thought)] if thought else []
        events += self._tools(payload, name)
        events += [TextDelta(text)] if text else []
        self.ended = self.ended or any(picked(mapping.done, payload, name))
        self.told = self.told or bool(events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains; a call without a result gets an empty one."""
        events: list[AgentEvent] = [
            ToolResult(call_id, "")
            for call_id, answered in self._calls.items()
            if not answered
        ]
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished()]

    def _fresh(self, kind: str, payload: Any, name: str) -> str:
        """The part of a text that was not yet said."""
        text = ""
        for number, pick in enumerate(self._picks[kind], start=1):
            if text := picked_text((pick,), payload, name):
                self._picks[kind] = self._picks[kind][:number]
                break
        said = self._said[kind]
        if self._mapping.cumulative:
            if text.startswith(said):
                self._said[kind] = text or said
                return text[len(said) :]
            self._said[kind] = text
            return f"\n\n{text}" if text else ""
        if text == said and len(text) >= REPEATED_CHARS:
            return ""
        self._said[kind] += text
        return text

    def _tools(self, payload: Any, name: str) -> list[AgentEvent]:
        return [
            event
            for pick in self._mapping.tools
            for call in pick.values(payload, name)
            for event in self._tool(pick, call)
        ]

    def _tool(self, pick: ToolPick, call: Any) -> list[AgentEvent]:
        """A call is told once; its result may come with it or in a later event."""
        called = "".join(map(shown_value, values_at(call, pick.name)))
        if not called:
            return []
        ids = values_at(call, pick.id)
        call_id = shown_value(ids[0]) if ids else new_id("call")
        events: list[AgentEvent] = []
        if call_id not in self._calls:
            self._calls[call_id] = False
            arguments = json_object_text(values_at(call, pick.arguments))
            events.append(ToolCallCompleted(call_id, called, arguments))
        results = [r for r in values_at(call, pick.result) if r != ""]
        if results and not self._calls[call_id]:
            self._calls[call_id] = True
            events.append(ToolResult(call_id, shown_value(results[0])))
        return events


def json_object_text(found: list[Any]) -> str:
    """A call's arguments as the JSON of an object, in which a plain text is `input`."""
    value = found[0] if found else {}
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = {"input": value} if value else {}
    if not isinstance(value, Mapping):
        value = {"input": value}
    return orjson.dumps(value).decode()


# --- shared/backends/webhook.py ---

# What a request may name in braces; docs/agent-backends.md explains each.
REQUEST_VALUES = (
    "prompt",
    "message",
    "messages",
    "system",
    "files",
    "thread",
    "session",
    "task",
    "user_id",
    "chat_id",
)


@dataclass(frozen=True, slots=True)
class StopRequest:
    """How to stop an answer: a POST to the address with `suffix` behind it."""

    suffix: str
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebhookBackend:
    """A service at `endpoint`; `request` is the JSON to send, with {names} in it.

    `form` says how it answers: "json" (one object, or one in each line), "sse",
    "text", or "" to tell by the content type.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    request: Mapping[str, Any]
    mapping: AnswerMapping
    form: str = ""
    stop: StopRequest | None = None

    async def discover(self) -> list[DiscoveredModel]:
        """A webhook is one agent and cannot tell of others."""
        return []

    async def health(self) -> None:
        """Nothing can be asked without running the flow behind it."""

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Stop `task`, given the values of its request, where there is a way to."""
        if self.stop is None:
            return
        quoted = {key: quote(str(value), safe="") for key, value in session.items()}
        path = str(fill_in(self.stop.suffix, quoted))
        body = fill_in(self.stop.request, session)
        await call_json(self.client, self.endpoint, "POST", path, body)

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing it closes the connection, or stops the task."""
        values = request_values(turn)
        decoder = WebhookDecoder(self.mapping)
        ended = False
        try:
            with upstream_errors(self.endpoint):
                async with aclosing(self._answer(values, decoder)) as events:
                    async for event in events:
                        yield event
            ended = True
        finally:
            if not ended and decoder.task:
                await run_cancel(self.cancel({**values, "task": decoder.task}))

    async def _answer(
        self, values: Mapping[str, Any], decoder: WebhookDecoder
    ) -> AsyncGenerator[AgentEvent, None]:
        body = fill_in(self.request, values)
        session = {"thread": values["thread"], "session": values["session"]}
        last: Any = None
        async with open_stream(self.client, self.endpoint, "", body) as opened:
            response, clock = opened
            yield SessionState(session)
            if self._is_text(response):
                async with aclosing(read_text(response, clock)) as texts:
                    async for event in texts:
                        decoder.told = True
                        yield event
            else:
                reading = self._payloads(response, clock)
                async with aclosing(reading) as payloads:
                    async for name, payload in payloads:
                        last = payload
                        for event in events_of(decoder.feed, payload, name):
                            clock.token()
                            yield event
                        if decoder.ended:
                            break
        if not decoder.told:
            detail = error_detail(last)
            raise UpstreamBroken(
                "said_error" if detail else "empty_answer", detail=detail
            )
        if decoder.session and decoder.session != session["session"]:
            yield SessionState({**session, "session": decoder.session})
        for event in decoder.finish():
            yield event

    def _is_text(self, response: httpx.Response) -> bool:
        kind = response.headers.get("content-type", "").partition(";")[0]
        by_type = kind.startswith("text/") and kind != "text/event-stream"
        return self.form == "text" or (not self.form and by_type)

    async def _payloads(
        self, response: httpx.Response, clock: SilenceClock
    ) -> AsyncGenerator[tuple[str, Any], None]:
        """The names and values of an answer's events; one with no name for plain JSON."""
        kind = response.headers.get("content-type", "")
        if self.form == "sse" or (not self.form and "event-stream" in kind):
            async with aclosing(read_events(response, clock)) as events:
                async for event in events:
                    if event.data == b"[DONE]":
                        return
                    yield event.name, load_json(event.data)
            if self.mapping.done:
                # The end has a mark of its own, and it did not come.
                raise UpstreamBroken("cut_short")
            return
        async with aclosing(read_json_lines(response, clock)) as values:
            async for value in values:
                yield "", value


def request_values(turn: Turn) -> dict[str, Any]:
    """What can stand in a request.

    `prompt` is what the service has not heard: the new message, or the whole branch
    as one text where a conversation begins. `thread` is our id of the conversation,
    `session` the one the service gave, "" before.
    """
    session = turn.continued or {}
    users = [m for m in turn.messages if m.get("role") == "user"]
    systems = [m for m in turn.messages if m.get("role") == "system"]
    last = users[-1] if users else {}
    return {
        "prompt": transcript(turn.news()),
        "message": message_text(last),
        "messages": list(turn.messages),
        "system": "\n\n".join(map(message_text, systems)),
        "files": [
            {"type": "file", "name": f.name, "mime": f.mime_type, "data": f.url}
            for f in message_files(last)
        ],
        "thread": session.get("thread") or str(uuid.uuid4()),
        "session": session.get("session", ""),
        "task": "",
        "user_id": turn.user_id,
        "chat_id": turn.chat_id,
    }


async def read_text(
    response: httpx.Response, clock: SilenceClock
) -> AsyncGenerator[AgentEvent, None]:
    """A body that is the answer itself, in UTF-8, as it arrives."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async with aclosing(read_bytes(response, clock)) as body:
        async for data in body:
            if text := decoder.decode(data):
                clock.token()
                yield TextDelta(text)
    if text := decoder.decode(b"", final=True):
        yield TextDelta(text)


async def read_json_lines(
    response: httpx.Response, clock: SilenceClock
) -> AsyncGenerator[Any, None]:
    """One JSON value in each line, or a single one over several lines."""
    lines = LineBuffer()
    rest: list[bytes] = []
    size = 0
    async with aclosing(read_bytes(response, clock)) as body:
        async for data in body:
            for line in lines.feed(data):
                if not rest and (value := whole_json(line)) is not None:
                    yield value
                elif line.strip():
                    size += len(line)
                    rest.append(line)
                if size > PLAIN_ANSWER_MIB * 1024 * 1024:
                    raise UpstreamBroken("line_too_long", limit=PLAIN_ANSWER_MIB)
    rest += lines.finish()
    if whole := b"\n".join(rest).strip():
        yield load_json(whole)


def whole_json(line: bytes) -> Any | None:
    """The value of a line that is JSON by itself, else None."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


# --- shared/backends/webhook_presets.py ---

WEBHOOK_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "n8n": {
        "request": {
            "action": "sendMessage",
            "sessionId": "{thread}",
            "chatInput": "{prompt}",
        },
        "answer": {
            "text": [
                {"path": "content", "when": {"type": "item"}},
                "output",
                "text",
                "[*].output",
                "[*].text",
            ],
            "error": [
                {"path": "content", "when": {"type": "error"}},
                # An agent that gave up names only its node.
                {"path": "metadata.nodeName", "when": {"type": "error"}},
                {"path": "message", "when": {"code": [0, 404, 500]}},
            ],
        },
    },
    "dify": {
        "request": {
            "inputs": {},
            "query": "{prompt}",
            "response_mode": "streaming",
            "conversation_id": "{session}",
            "user": "{user_id}",
        },
        "answer": {
            # An agent says all of its answer again in a last `message`.
            "text": [
                {"path": "answer", "when": {"event": "agent_message"}},
                {"path": "answer", "when": {"event": "message"}},
            ],
            "tools": [
                {
                    "when": {"event": "agent_thought"},
                    "name": "tool",
                    "arguments": "tool_input",
                    "result": "observation",
                }
            ],
            "session": "conversation_id",
            "task": "task_id",
            "usage": "metadata.usage",
            "error": [{"path": "message", "when": {"event": "error"}}],
            "done": [{"when": {"event": "message_end"}}],
        },
        "stop": {"suffix": "/{task}/stop", "request": {"user": "{user_id}"}},
    },
    "flowise": {
        "request": {
            "question": "{prompt}",
            "streaming": True,
            "overrideConfig": {"sessionId": "{thread}"},
            "uploads": "{files}",
        },
        "answer": {
            "text": [{"path": "data", "when": {"event": "token"}}, "text"],
            "tools": [
                {
                    "path": "data[*]",
                    "when": {"event": "usedTools"},
                    "name": "tool",
                    "arguments": "toolInput",
                    "result": "toolOutput",
                },
                {
                    "path": "usedTools[*]",
                    "name": "tool",
                    "arguments": "toolInput",
                    "result": "toolOutput",
                },
            ],
            "error": [{"path": "data", "when": {"event": "error"}}],
            "done": [{"when": {"event": "end"}}],
        },
    },
}


# --- shared/agents/kinds/webhook.py ---


class StopSettings(BaseModel):
    """How an answer is stopped, where closing the connection is not enough."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suffix: str
    request: dict[str, Any] = Field(default_factory=dict)


class WebhookAgent(HttpAgent):
    """A service that answers a POST. `preset` gives what the entry does not say."""

    preset: Literal["", "n8n", "dify", "flowise"] = ""
    request: dict[str, Any] = Field(default_factory=dict)
    answer: AnswerMapping = AnswerMapping()
    format: Literal["", "json", "sse", "text"] = ""
    stop: StopSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, entry: Any) -> Any:
        """Keys of `request` and `answer` go over those of the preset, one by one."""
        preset = WEBHOOK_PRESETS.get(str(entry.get("preset") or ""), {})
        merged = dict(entry)
        for key, usual in preset.items():
            own = entry.get(key)
            if own is None:
                merged[key] = usual
            elif isinstance(own, dict) and key != "stop":
                merged[key] = {**usual, **own}
        return merged

    @model_validator(mode="after")
    def _can_be_asked(self) -> "WebhookAgent":
        if not self.request:
            raise ValueError("give a `request` to send, or a `preset`")
        if self.format != "text" and not self.answer.text:
            raise ValueError("say in `answer` where the `text` is, or give a `preset`")
        if "${" in str(self.request):
            raise ValueError("secrets are sent with `key` or `headers` alone")
        stop = self.stop or StopSettings(suffix="")
        used = placeholders([self.request, stop.suffix, stop.request])
        if unknown := sorted(used - set(REQUEST_VALUES)):
            names = ", ".join(f"{{{name}}}" for name in REQUEST_VALUES)
            raise ValueError(f"`{{{unknown[0]}}}` is none of {names}")
        return self


def make_webhook(agent: WebhookAgent, model: str) -> Backend:
    """The backend for the service; it has no models to choose among."""
    stop = agent.stop
    return WebhookBackend(
        client=shared_resource("http client", new_http_client),
        endpoint=agent.endpoint,
        request=agent.request,
        mapping=agent.answer,
        form=agent.format,
        stop=StopRequest(stop.suffix, stop.request) if stop else None,
    )


# --- shared/agents/kinds/table.py ---

DEFAULT_BACKEND = "openai"


@dataclass(frozen=True, slots=True)
class AgentKind:
    """The keys of a protocol's entries, and what makes a backend of one.

    `make` gets an agent of class `settings` and one of its models ("" where none is
    named). `writes_titles` says that the agent is a plain model, cheap enough for
    Open WebUI's tasks; for others titles are made without it.
    """

    settings: type[AgentConfig]
    make: Callable[[Any, str], Backend]
    writes_titles: bool = False


AGENT_KINDS: Mapping[str, AgentKind] = {
    "openai": AgentKind(OpenAIAgent, make_openai, writes_titles=True),
    "anthropic": AgentKind(AnthropicAgent, make_anthropic, writes_titles=True),
    "acp": AgentKind(AcpAgent, make_acp),
    "cli": AgentKind(CliAgent, make_cli),
    "a2a": AgentKind(A2AAgent, make_a2a),
    "agui": AgentKind(AGUIAgent, make_agui),
    "letta": AgentKind(LettaAgent, make_letta),
    "langgraph": AgentKind(LangGraphAgent, make_langgraph),
    "webhook": AgentKind(WebhookAgent, make_webhook),
    "adk": AgentKind(ADKAgent, make_adk),
}


def make_backend(agent: AgentConfig, model: str) -> Backend:
    """The backend for one of the agent's models."""
    return AGENT_KINDS[agent.backend].make(agent, model)


# --- shared/agents/plans.py ---


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """A pool, and what differs from server to server for its agents."""

    spec: PoolSpec
    servers: Mapping[str, UpstreamSettings]

    def agent_at(self, agent: AgentConfig, upstream: str) -> AgentConfig:
        """The agent as it is reached at one upstream."""
        server = self.servers.get(upstream)
        if server is None:
            return agent
        said = server.model_fields_set - {"concurrency", "weight", "model"}
        return agent.model_copy(update={name: getattr(server, name) for name in said})

    def model_at(self, agent: AgentConfig, model: str, upstream: str) -> str:
        """What the agent's own model is called there; others go by one name."""
        server = self.servers.get(upstream)
        named = server is not None and server.model and model == agent.model
        return server.model if server is not None and named else model


def pool_plan(agent: AgentConfig, pools: Mapping[str, PoolEntry]) -> PoolPlan:
    """The pool of an agent: one that it names, or its own."""
    entry = pools.get(agent.pool)
    if entry is not None:
        return shared_plan(entry)
    upstreams = agent.upstreams if isinstance(agent, HttpAgent) else ()
    if upstreams:
        return plan_of(agent.id, upstreams, agent)
    slots = UpstreamSlots(agent.place or agent.id, agent.concurrency or UNLIMITED)
    return PoolPlan(spec_of(agent.id, (slots,), agent), {})


def shared_plan(entry: PoolEntry) -> PoolPlan:
    return plan_of(entry.pool, entry.upstreams, entry)


def plan_of(
    name: str, upstreams: tuple[UpstreamSettings, ...], rules: PoolRules
) -> PoolPlan:
    servers: dict[str, UpstreamSettings] = {}
    for server in upstreams:
        host = urlsplit(server.url).netloc.rpartition("@")[2]
        same = sum(known.partition("#")[0] == host for known in servers)
        servers[f"{host}#{same + 1}" if same else host] = server
    slots = tuple(
        UpstreamSlots(
            host, server.concurrency, server.weight, "key" in server.model_fields_set
        )
        for host, server in servers.items()
    )
    return PoolPlan(spec_of(name, slots, rules), servers)


def spec_of(
    name: str, upstreams: tuple[UpstreamSlots, ...], rules: PoolRules
) -> PoolSpec:
    """The rules that were given; the others stay as they are by default."""
    fields = {key: getattr(rules, key) for key in PoolRules.model_fields}
    given = {key: value for key, value in fields.items() if value is not None}
    return PoolSpec(name, upstreams, **given)


def is_routed(agent: AgentConfig) -> bool:
    """Whether this agent's requests go through a pool at all."""
    keys = {*PoolRules.model_fields, "concurrency", "upstreams", "pool", "fallback"}
    return bool(keys & agent.model_fields_set)


# --- shared/agents/roles.py ---

SLOT_NAME = re.compile(r"primary|backup_[1-9]")
ROLE_KEYS = frozenset({"id", "name", "description", "access", "slots", "offer_slots"})


class RoleAgent(AgentConfig):
    """`slots` names the agents, `primary` first, then `backup_1`, `backup_2` and so on.

    `offer_slots`: each slot is a model of its own, too, which never falls back.
    """

    slots: dict[str, str] = Field(min_length=1)
    offer_slots: bool = False

    @model_validator(mode="before")
    @classmethod
    def _is_no_agent_itself(cls, data: Any) -> Any:
        if strange := sorted(str(key) for key in data.keys() - ROLE_KEYS):
            raise ValueError(f"an entry with `slots` has no `{strange[0]}`")
        return data

    @field_validator("slots")
    @classmethod
    def _are_in_order(cls, slots: dict[str, str]) -> dict[str, str]:
        if "primary" not in slots or not all(map(SLOT_NAME.fullmatch, slots)):
            raise ValueError(
                "the slots are `primary`, `backup_1`, `backup_2` and so on"
            )
        return {name: slots[name] for name in sorted(slots, key=slot_order)}


def slot_order(name: str) -> int:
    return 0 if name == "primary" else int(name.removeprefix("backup_"))


# --- shared/agents/parsing.py ---

VARIABLE = re.compile(r"\$\{(env|secret):([A-Za-z_][A-Za-z0-9_]*)\}")
FIRST_ENTRY = re.compile(r"^ *- ", re.MULTILINE)
EntryLines = dict[tuple[str, ...], int]
# The keys that lead to what is wrong, and what is wrong with it.
Mistake = tuple[tuple[str, ...], str]
PLAIN_WORDS = {
    "extra_forbidden": "this key is not known",
    "missing": "this key is missing",
}
PATTERN_WORDS = {
    "id": "an id is made of a-z, 0-9, - and _, and begins with a letter or digit",
    "pool": "a name is made of a-z, 0-9, - and _, and begins with a letter or digit",
    "url": "an address begins with http:// or https://",
}


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """What is wrong with AGENTS, and where: `line` counts from 1."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}"
        return (
            f"{place}, `{self.key}`: {self.message}"
            if self.key
            else f"{place}: {self.message}"
        )


@dataclass(frozen=True, slots=True)
class AgentsConfig:
    """The agents that can be used, and the problems of the entries that cannot."""

    agents: tuple[AgentConfig, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()
    plans: Mapping[str, PoolPlan] = field(default_factory=dict)

    def find(self, agent_id: str) -> AgentConfig | None:
        return next((a for a in self.agents if a.id == agent_id), None)


@lru_cache(maxsize=8)
def parse_agents(text: str, secrets: str = "") -> AgentsConfig:
    """Read the AGENTS and SECRETS valves; never raises.

    `secrets` is a list of NAME=value, divided by white space. Every entry stands
    alone: a broken one is a problem and hides no other.
    """
    known = dict(pair.split("=", 1) for pair in secrets.split() if "=" in pair)
    agents: dict[str, AgentConfig] = {}
    pools: dict[str, PoolEntry] = {}
    lines: dict[str, EntryLines] = {}
    problems: list[ConfigProblem] = []
    nodes = entry_nodes(text, problems)
    for node, offset in sorted(nodes, key=lambda entry: not is_pool(entry[0])):
        entry = read_entry(node, offset, known, pools, problems)
        if entry is None:
            continue
        if isinstance(entry, PoolEntry):
            key, name = "pool", entry.pool
        else:
            key, name = "id", entry.id
        # An agent with servers of its own is the pool of its name.
        if name in agents or name in pools:
            line = node.start_mark.line + 1 + offset
            problems.append(ConfigProblem(line, key, f"`{name}` is used twice"))
            continue
        if isinstance(entry, PoolEntry):
            pools[name] = entry
            continue
        agents[entry.id] = entry
        lines[entry.id] = key_lines(node, offset)
    problems += strange_references(agents, lines)
    problems.sort(key=lambda problem: problem.line)
    plans = {agent.id: pool_plan(agent, pools) for agent in agents.values()}
    return AgentsConfig(tuple(agents.values()), tuple(problems), plans)


def is_pool(node: yaml.Node) -> bool:
    """Whether an entry is a pool, and no agent that names one."""
    if not isinstance(node, yaml.MappingNode):
        return False
    keys = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
    return "pool" in keys and "id" not in keys


def strange_references(
    agents: Mapping[str, AgentConfig], lines: Mapping[str, EntryLines]
) -> Iterator[ConfigProblem]:
    """Agents that another one falls back to, but which are not there."""
    for agent in agents.values():
        slots = agent.slots.values() if isinstance(agent, RoleAgent) else ()
        for key, names in (("fallback", agent.fallback), ("slots", slots)):
            for name in names:
                if name.partition(".")[0] not in agents:
                    line = lines[agent.id][(key,)]
                    yield ConfigProblem(line, key, f"there is no agent `{name}`")


def entry_nodes(
    text: str, problems: list[ConfigProblem]
) -> list[tuple[yaml.Node, int]]:
    """The nodes of the list's entries, each with the lines that stand above it.

    Where the text as a whole is no YAML, every top-level entry is read by itself,
    so that a slip in one leaves the others in use.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        part: list[ConfigProblem] = []
        starts = entry_starts(text)
        if len(starts) > 1:
            ends = [*starts[1:], len(text)]
            nodes = []
            for start, end in zip(starts, ends, strict=True):
                above = text.count("\n", 0, start)
                part.clear()
                found = entry_nodes(text[start:end], part)
                nodes += [(node, offset + above) for node, offset in found]
                problems += [replace(p, line=p.line + above) for p in part]
            return nodes
        problems.append(ConfigProblem(error_line(error, text), "", error_words(error)))
        return []
    if root is None:
        return []
    if not isinstance(root, yaml.SequenceNode):
        line = root.start_mark.line + 1
        message = "AGENTS has to be a list: each agent begins with `- id: …`"
        problems.append(ConfigProblem(line, "", message))
        return []
    return [(node, 0) for node in root.value]


def entry_starts(text: str) -> list[int]:
    """Where the pieces of a list begin: what stands above it, and every entry."""
    first = FIRST_ENTRY.search(text)
    if first is None:
        return []
    same = re.compile(f"^{first.group()}", re.MULTILINE)
    starts = [match.start() for match in same.finditer(text)]
    above = [line for line in text[: starts[0]].splitlines() if line.strip()]
    return [0, *starts] if any(line[0] != "#" for line in above) else starts


def error_line(error: Exception, text: str) -> int:
    """The line of a YAML error, counted from 1 and inside the text."""
    last = max(0, len(text.splitlines()) - 1)
    mark = getattr(error, "problem_mark", None)
    position = getattr(error, "position", None)
    if mark is not None:
        # What is never closed is noticed at the end; the context is where it opens.
        opened = getattr(error, "context_mark", None)
        line = opened.line if opened and mark.line >= last else mark.line
    else:
        line = text.count("\n", 0, position) if isinstance(position, int) else 0
    return min(line, last) + 1


def error_words(error: Exception) -> str:
    """What is wrong, without quoting a value: it may be a secret."""
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return str(error.problem or "this is not YAML")
    if isinstance(error, RecursionError):
        return "the brackets are nested too deeply"
    if isinstance(error, yaml.reader.ReaderError):
        return "there is a character that YAML does not allow"
    return "this value cannot be read; put it in quotes"


class UnusableEntry(Exception):
    """An entry that says what cannot be: the path and a sentence of each mistake."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes


def read_entry(
    node: yaml.Node,
    offset: int,
    secrets: Mapping[str, str],
    pools: Mapping[str, PoolEntry],
    problems: list[ConfigProblem],
) -> AgentConfig | PoolEntry | None:
    """One entry as an agent or a pool, or None with its problems added."""
    first_line = node.start_mark.line + 1 + offset
    lines = key_lines(node, offset)
    try:
        settings, data = entry_data(node, secrets, pools)
        return settings.model_validate(data)
    except UnusableEntry as error:
        mistakes = error.mistakes
    except ValidationError as error:
        mistakes = tuple(map(mistake_of, error.errors()))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        first_line = mark.line + 1 + offset if mark else first_line
        mistakes = (((), error_words(error)),)
    for path, message in mistakes:
        line = lines.get(path[:2]) or lines.get(path[:1]) or first_line
        problems.append(ConfigProblem(line, shown_path(path), message))
    return None


def entry_data(
    node: yaml.Node, secrets: Mapping[str, str], pools: Mapping[str, PoolEntry]
) -> tuple[type[AgentConfig] | type[PoolEntry], dict[str, Any]]:
    """What an entry is to be, and its values, variables filled in.

    Raises UnusableEntry, and what PyYAML raises for values it cannot read.
    """
    if not isinstance(node, yaml.MappingNode):
        raise UnusableEntry(((), "an agent is written as `key: value` lines"))
    data = yaml.SafeLoader("").construct_document(node)
    kind = AGENT_KINDS.get(data.get("backend", DEFAULT_BACKEND))
    if kind is None:
        message = f"the protocols are {', '.join(AGENT_KINDS)}"
        raise UnusableEntry((("backend",), message))
    settings: type[AgentConfig] | type[PoolEntry] = kind.settings
    variables = kind.settings.WITH_VARIABLES
    if is_pool(node):
        settings, variables = PoolEntry, ("upstreams",)
    elif "slots" in data:
        settings = RoleAgent
    elif "pool" in data and issubclass(settings, HttpAgent):
        if data["pool"] not in pools:
            raise UnusableEntry((("pool",), f"there is no pool `{data['pool']}`"))
        data.setdefault("url", pools[data["pool"]].upstreams[0].url)
    missing: list[Mistake] = []
    for key in variables:
        if key in data:
            data[key] = fill_variables(data[key], key, secrets, missing)
    if missing:
        raise UnusableEntry(*missing)
    return settings, data


def mistake_of(detail: Mapping[str, Any]) -> Mistake:
    """One of pydantic's errors."""
    path = tuple(str(part) for part in detail["loc"])
    usual = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "string_pattern_mismatch":
        return path, PATTERN_WORDS.get(path[-1], usual)
    return path, PLAIN_WORDS.get(detail["type"], usual)


def shown_path(path: tuple[str, ...]) -> str:
    """The keys that lead to a problem, as far as they can be no secret.

    A blank forgotten behind a colon makes a key of a value.
    """
    shown: list[str] = []
    for part in path[:2]:
        if not re.fullmatch(r"[a-z_]{1,20}", part):
            break
        shown.append(part)
        if part == "headers":
            break
    return ".".join(shown)


def key_lines(node: yaml.Node, offset: int) -> EntryLines:
    """The line of each key, and of each key one level below; none of what has none."""
    lines: dict[tuple[str, ...], int] = {}
    if not isinstance(node, yaml.MappingNode):
        return lines
    for key, value in node.value:
        lines[(str(key.value),)] = key.start_mark.line + 1 + offset
        if isinstance(value, yaml.MappingNode):
            for inner, _ in value.value:
                path = (str(key.value), str(inner.value))
                lines[path] = inner.start_mark.line + 1 + offset
    return lines


def fill_variables(
    value: Any,
    key: str,
    secrets: Mapping[str, str],
    missing: list[Mistake],
) -> Any:
    """Replace `${env:NAME}` and `${secret:NAME}`; what is not set goes to `missing`."""
    if isinstance(value, dict):
        return {k: fill_variables(v, key, secrets, missing) for k, v in value.items()}
    if isinstance(value, list):
        return [fill_variables(v, key, secrets, missing) for v in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        kind, name = match.groups()
        source: Mapping[str, str] = os.environ if kind == "env" else secrets
        if name not in source:
            where = "environment" if kind == "env" else "SECRETS valve"
            missing.append(((key,), f"`{name}` is not set in the {where}"))
        return source.get(name, "").strip()

    return VARIABLE.sub(fill, value)


# --- shared/agents/catalogue.py ---

DISCOVERY_TTL = 60.0
# How long the list of models waits for a server it knows nothing of yet, and how long
# the server has altogether: an agent that is started for it takes longer.
DISCOVERY_WAIT = 3.0
DISCOVERY_TIMEOUT = 60.0

# Ids and names, when the server was asked (monotonic), and a refresh under way.
KeptModels = tuple[list[tuple[str, str]], float, "asyncio.Task[None] | None"]

catalogue_log = logging.getLogger("aqueduct.catalogue")


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """One virtual model: `id` is the part after the pipe's own id.

    `pinned`: no other agent answers in its place.
    """

    id: str
    name: str
    agent: AgentConfig
    model: str
    pinned: bool = False


async def discover_models(
    agent: AgentConfig, backend: Backend, kept: dict[str, KeptModels]
) -> list[DiscoveredModel]:
    """What this server offers; the first time waited for, briefly: then it comes later.

    `kept` holds each agent's list between calls. One that is older than a minute is
    still given at once and asked for again in the background, so that a server that
    is down neither loses its models nor delays the list of all the others.
    """
    key = agent.model_dump_json()  # secrets are masked in it
    models, asked_at, refresh = kept.get(key, ([], float("-inf"), None))
    stale = time.monotonic() - asked_at >= DISCOVERY_TTL
    if stale and (refresh is None or refresh.done()):
        refresh = asyncio.create_task(refresh_models(agent, backend, kept, key))
        kept[key] = (models, asked_at, refresh)
    if refresh is not None and not models:
        await asyncio.wait([refresh], timeout=DISCOVERY_WAIT)
    return [DiscoveredModel(*model) for model in kept[key][0]]


async def refresh_models(
    agent: AgentConfig, backend: Backend, kept: dict[str, KeptModels], key: str
) -> None:
    """Ask the server for its models; a failure keeps the list it gave last."""
    models = kept.get(key, ([], 0.0, None))[0]
    try:
        async with asyncio.timeout(DISCOVERY_TIMEOUT):
            found = await backend.discover()
        models = [(model.id, model.name) for model in found]
    except (UpstreamError, TimeoutError) as error:
        catalogue_log.warning("Discovery of %s failed: %r", agent.id, error)
    kept[key] = (models, time.monotonic(), None)


def find_entry(config: AgentsConfig, model_id: str) -> AgentEntry | None:
    """The entry that a model id names.

    That is `agent`, `agent.model` of a discovery, or `role.slot` of a role.
    """
    agent = config.find(model_id)
    if agent is not None and not agent.discover:
        return AgentEntry(agent.id, agent.label, agent, agent.model)
    agent_id, _, rest = model_id.partition(".")
    agent = config.find(agent_id)
    if isinstance(agent, RoleAgent):
        return slot_entry(config, agent, rest)
    if agent is None or not agent.discover or not rest:
        return None
    return AgentEntry(model_id, f"{agent.label}: {rest}", agent, rest)


def slot_entry(config: AgentsConfig, role: RoleAgent, slot: str) -> AgentEntry | None:
    """The agent in a role's slot, as a model that never falls back."""
    if not role.offer_slots or slot not in role.slots:
        return None
    player = find_entry(config, role.slots[slot])
    if player is None:
        return None
    name = f"{role.label}: {slot}"
    return replace(player, id=f"{role.id}.{slot}", name=name, pinned=True)


def answering_chain(config: AgentsConfig, entry: AgentEntry | None) -> list[AgentEntry]:
    """Who may answer for a model, in order; empty where nobody is left."""
    if entry is None:
        return []
    if entry.pinned:
        return [entry]
    if isinstance(entry.agent, RoleAgent):
        names = [*entry.agent.slots.values()]
    else:
        names = [*entry.agent.fallback]
    found = [find_entry(config, name) for name in names]
    chain = {e.id: e for e in (entry, *found) if e is not None}
    return [e for e in chain.values() if not isinstance(e.agent, RoleAgent)]


# --- shared/host/models.py ---

PUBLIC_READ = {"principal_type": "user", "principal_id": "*", "permission": "read"}
MARK = "aqueduct"


async def publish_model(model_id: str, name: str, description: str) -> None:
    """Let every user see and use a model of a pipe.

    A model without an entry is for admins only. An entry keeps what an admin changed
    in it: it is renamed and described anew only while it says what we wrote.
    """
    from open_webui.models.models import ModelForm, Models
    from open_webui.models.users import Users
    from sqlalchemy.exc import IntegrityError

    said = {"name": name, "description": description}
    known = await Models.get_model_by_id(model_id)
    if known is not None:
        if said_before(known) not in (None, said):
            form = ModelForm(**known.model_dump())
            form.name = name
            form.meta = described(form.meta, said)
            await Models.update_model_by_id(model_id, form)
        return
    owner = await Users.get_super_admin_user()
    if owner is None:
        return
    form = ModelForm(
        id=model_id,
        base_model_id=None,
        name=name,
        meta=described(None, said),
        params={},
        access_grants=[PUBLIC_READ],
    )
    try:
        await Models.insert_new_model(form, owner.id)
    except IntegrityError:
        return  # another worker was faster


def said_before(entry: Any) -> dict[str, Any] | None:
    """What we wrote into an entry, or None where it is not ours as it stands."""
    meta = entry.meta.model_dump() if entry.meta else {}
    ours = meta.get(MARK)
    if not isinstance(ours, dict) or ours.get("name") != entry.name:
        return None
    if (ours.get("description") or None) != meta.get("description"):
        return None
    return ours


def described(meta: Any, said: dict[str, Any]) -> Any:
    """A model's meta with our description, and a mark of what we wrote."""
    from open_webui.models.models import ModelMeta

    kept = meta.model_dump() if meta is not None else {}
    ours = {"description": said["description"] or None, MARK: said}
    return ModelMeta(**{**kept, **ours})


# --- shared/agents/listing.py ---

PROBLEM_MODEL, EMPTY_MODEL = RESERVED_IDS

CONFIGURATION_EXAMPLE = """\
An agent is written like this:

```yaml
- id: my-agent
  name: My agent
  url: http://localhost:8000/v1
  model: my-model
  key: ${secret:MY_KEY}
```"""


async def list_models(config: AgentsConfig, pipe_id: str) -> list[dict[str, str]]:
    """The virtual models, in the order of AGENTS, as Open WebUI wants them."""
    # Change the name with the shape: a new version finds what an older one kept.
    kept: dict[str, Any] = shared_resource("discovered models 2", dict)
    published: set[str] = shared_resource("published models", set)
    per_agent = await asyncio.gather(*(entries_of(a, kept) for a in config.agents))
    entries = [entry for entries in per_agent for entry in entries]
    for entry in entries:
        described = f"{pipe_id}.{entry.id}\n{entry.name}\n{entry.agent.description}"
        if entry.agent.access == "public" and described not in published:
            model_id = f"{pipe_id}.{entry.id}"
            await publish_model(model_id, entry.name, entry.agent.description)
            published.add(described)
    models = [{"id": entry.id, "name": entry.name} for entry in entries]
    if config.problems:
        place = str(config.problems[0]).replace("`", "")  # no Markdown in a name
        name = clip(f"Agents: configuration error in {place}", 120)
        models.append({"id": PROBLEM_MODEL, "name": name})
    elif not config.agents:
        models.append({"id": EMPTY_MODEL, "name": "Agents: nothing configured yet"})
    return models


async def entries_of(agent: AgentConfig, kept: dict[str, Any]) -> list[AgentEntry]:
    """The virtual models of one agent: itself, its slots, or what its server offers."""
    if isinstance(agent, RoleAgent) and agent.offer_slots:
        slots = [(f"{agent.id}.{s}", f"{agent.label}: {s}") for s in agent.slots]
        names = [(agent.id, agent.label), *slots]
        return [AgentEntry(model_id, name, agent, "") for model_id, name in names]
    if not agent.discover:
        return [AgentEntry(agent.id, agent.label, agent, agent.model)]
    models = await discover_models(agent, make_backend(agent, ""), kept)
    return [
        AgentEntry(f"{agent.id}.{m.id}", f"{agent.label}: {m.name}", agent, m.id)
        for m in models
    ]


def clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def configuration_help(config: AgentsConfig) -> str:
    """What the model called "configuration error" answers: how to correct it."""
    lines = [f"- {problem}" for problem in config.problems]
    if lines:
        head = "The agents function has mistakes in its valve `AGENTS`"
    else:
        head = "The agents function has no agents yet: its valve `AGENTS` is empty"
    place = "(Admin Panel → Functions → Agents → the gear)."
    return "\n".join([f"{head} {place}", "", *lines, "", CONFIGURATION_EXAMPLE])


# --- shared/host/dialogs.py ---

EventCall = Callable[[dict[str, Any]], Awaitable[Any]]
Emit = Callable[[dict[str, Any]], Awaitable[None]]

# The longest that Open WebUI lets such a form stand open (socket/main.py).
FORM_SECONDS = 240


async def ask_form(
    event_call: EventCall,
    title: str,
    message: str,
    schema: Mapping[str, Any],
    seconds: int = FORM_SECONDS,
) -> dict[str, Any]:
    """What the user put into a form; AqueductError `cancelled` when they did not.

    `schema` is a flat JSON schema of strings, numbers and choices. The form stands
    open for `seconds`, of which Open WebUI allows 60 to 240.
    """
    answer = await event_call(
        {
            "type": "request:elicitation",
            "data": {
                "mode": "form",
                "server_name": title,
                "message": message,
                "requestedSchema": dict(schema),
                "timeout_ms": seconds * 1000,
            },
        }
    )
    if not isinstance(answer, dict) or "error" in answer:
        raise AqueductError("no_answer")
    if answer.get("action") != "accept":
        raise AqueductError("cancelled")
    return dict(answer.get("content") or {})


# --- shared/agents/request.py ---


@dataclass(frozen=True, slots=True)
class PipeRequest:
    """One call of the pipe, as Open WebUI makes it.

    `redis_url` is the valve's: which Redis keeps the queues.
    """

    body: Mapping[str, Any]
    user: Mapping[str, Any]
    metadata: Mapping[str, Any]
    request: Any = None
    emit: Emit | None = None
    event_call: EventCall | None = None
    task: str | None = None
    redis_url: str = field(default="", repr=False)

    @property
    def in_chat(self) -> bool:
        """Whether a chat shows this: an API call has the keys, but empty."""
        return bool(self.metadata.get("chat_id") and self.metadata.get("session_id"))

    @property
    def language(self) -> str:
        variables = self.metadata.get("variables") or {}
        return str(variables.get("{{USER_LANGUAGE}}") or "en")


# --- shared/host/redis.py ---


@dataclass(frozen=True, slots=True)
class HostRedis:
    """A connection of Open WebUI's making: single server, Sentinel or cluster.

    `prefix` begins all of its keys. A command may take at most `patience` seconds, or
    any time where that is None.
    """

    client: Any
    prefix: str
    patience: float | None


def host_redis(url: str = "") -> HostRedis | None:
    """The single server at `url`; without it what Open WebUI's own REDIS_URL and the
    variables beside it name, or None where they name nothing.

    Raises ValueError for a `url` that is none.
    """
    from open_webui.env import REDIS_KEY_PREFIX, REDIS_SOCKET_TIMEOUT
    from open_webui.utils.redis import get_redis_client, get_redis_connection

    if url:
        client = get_redis_connection(url, async_mode=True)
    else:
        client = get_redis_client(async_mode=True)
    if client is None:
        return None
    return HostRedis(client, REDIS_KEY_PREFIX, REDIS_SOCKET_TIMEOUT or None)


# --- shared/host/telemetry.py ---

# The boundaries that OpenTelemetry's conventions name for the duration of HTTP requests,
# and longer ones: people wait minutes for an agent.
SECOND_BOUNDARIES = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 1000.0),
)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is measured: `kind` is the end of a meter's method, `create_…`."""

    kind: str
    unit: str
    description: str


ROUTING_INSTRUMENTS: Mapping[str, Instrument] = {
    "aqueduct.routing.waiting": Instrument(
        "up_down_counter", "{request}", "Requests that wait for a place."
    ),
    "aqueduct.routing.wait": Instrument(
        "histogram", "s", "How long requests waited for a place."
    ),
    "aqueduct.routing.left": Instrument(
        "counter", "{request}", "Requests that left the queue without a place."
    ),
    "aqueduct.routing.fallbacks": Instrument(
        "counter", "{request}", "Requests that another pool or agent took over."
    ),
    "aqueduct.routing.running": Instrument(
        "up_down_counter", "{request}", "Requests that run on an upstream."
    ),
    "aqueduct.routing.attempts": Instrument(
        "counter", "{attempt}", "Attempts, by whether the chat stayed where it was."
    ),
    "aqueduct.routing.first_token": Instrument(
        "histogram", "s", "Time to the first token of an attempt."
    ),
    "aqueduct.routing.token_rate": Instrument(
        "histogram", "{token}/s", "Output tokens a second, after the first."
    ),
    "aqueduct.routing.errors": Instrument(
        "counter", "{attempt}", "Attempts that failed or were stopped, by error."
    ),
    "aqueduct.routing.retries": Instrument(
        "counter", "{attempt}", "Attempts after which the request was tried again."
    ),
    "aqueduct.routing.breaker": Instrument(
        "gauge", "1", "State of an upstream: 0 closed, 1 half open, 2 open."
    ),
}


class MeterRecorder:
    """Tells a meter what the routing counts."""

    def __init__(self, meter: Any) -> None:
        self._made = {
            name: make_instrument(meter, name, instrument)
            for name, instrument in ROUTING_INSTRUMENTS.items()
        }

    def add(self, name: str, amount: int, attributes: Mapping[str, str]) -> None:
        """Add to a counter."""
        self._made[name].add(amount, attributes)

    def record(self, name: str, value: float, attributes: Mapping[str, str]) -> None:
        """Count a value in a histogram, or set a gauge."""
        instrument = self._made[name]
        if ROUTING_INSTRUMENTS[name].kind == "gauge":
            instrument.set(value, attributes)
        else:
            instrument.record(value, attributes)


def make_instrument(meter: Any, name: str, instrument: Instrument) -> Any:
    make = getattr(meter, f"create_{instrument.kind}")
    given: dict[str, Any] = {
        "unit": instrument.unit,
        "description": instrument.description,
    }
    if instrument.unit == "s":
        given["explicit_bucket_boundaries_advisory"] = SECOND_BOUNDARIES
    return make(name, **given)


@lru_cache(maxsize=1)
def telemetry_recorder() -> MeterRecorder | None:
    """A recorder for Open WebUI's meter provider; None where its metrics are off."""
    from open_webui.env import ENABLE_OTEL, ENABLE_OTEL_METRICS

    if not (ENABLE_OTEL and ENABLE_OTEL_METRICS):
        return None
    from opentelemetry.metrics import get_meter

    return MeterRecorder(get_meter("aqueduct"))


# --- shared/routing/affinity.py ---


def affinity_key(
    user_id: str, chat_id: str, model: str, messages: Sequence[Mapping[str, Any]]
) -> str:
    """A hash of the chat; without one, of the model and how the conversation began.

    An API caller sends the whole conversation each time: its beginning, up to the
    first message of the user, is what an upstream has in its cache.
    """
    told: Any = chat_id
    if not chat_id:
        asked = [i for i, m in enumerate(messages) if m.get("role") == "user"]
        told = [dict(m) for m in messages[: asked[0] + 1 if asked else 1]]
    text = json.dumps([user_id, model, told], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=12).hexdigest()


# --- shared/routing/breaker.py ---

# An upstream that says these will say them again until an administrator acts.
KEY_CODES = ("status_401", "status_403")
LASTING_CODES = (*KEY_CODES, "status_404")
LONGEST_SHUT = 300.0
KEPT_OUTCOMES = 100


@dataclass(frozen=True, slots=True)
class BreakerRecord:
    """Outcomes as (seconds, failed), failures in a row, openings in a row."""

    outcomes: tuple[tuple[float, bool], ...] = ()
    in_a_row: int = 0
    openings: int = 0

    def to_json(self) -> list[Any]:
        return [[list(o) for o in self.outcomes], self.in_a_row, self.openings]

    @classmethod
    def from_json(cls, data: list[Any]) -> "BreakerRecord":
        outcomes = tuple((float(at), bool(failed)) for at, failed in data[0])
        return cls(outcomes, int(data[1]), int(data[2]))


@dataclass(frozen=True, slots=True)
class Shut:
    """An upstream gets nothing for some seconds.

    `code` is the error that shut it. Where it only asked for a pause (`paused`) it is
    used as before afterwards; else a single request tries it first.
    """

    seconds: float
    code: str
    paused: bool = False


def after_success(record: BreakerRecord, now: float) -> BreakerRecord:
    """The record after an answer has begun."""
    if record.openings:
        return BreakerRecord()
    outcomes = (*record.outcomes, (now, False))[-KEPT_OUTCOMES:]
    return BreakerRecord(outcomes)


def after_failure(
    record: BreakerRecord,
    now: float,
    code: str,
    probing: bool,
    rules: BreakerSettings,
) -> tuple[BreakerRecord, Shut | None]:
    """The record after a failure, and whether to leave the upstream alone.

    `probing`: the failed request was the one that tried an open upstream.
    """
    kept = tuple(o for o in record.outcomes if now - o[0] < rules.window)
    outcomes = (*kept, (now, True))[-KEPT_OUTCOMES:]
    record = replace(record, outcomes=outcomes, in_a_row=record.in_a_row + 1)
    failed = sum(1 for _, was_failure in outcomes if was_failure)
    opens = (
        probing
        # Those that were asked before it was shut say nothing new.
        or (code in LASTING_CODES and not record.openings)
        or record.in_a_row >= rules.failures
        or (
            len(outcomes) >= rules.min_requests
            and failed / len(outcomes) >= rules.error_rate
        )
    )
    if not opens:
        return record, None
    seconds = min(
        rules.open_for * 2**record.openings, max(LONGEST_SHUT, rules.open_for)
    )
    # After its trial the upstream is judged anew.
    return BreakerRecord(openings=min(record.openings + 1, 10)), Shut(seconds, code)


# --- shared/routing/tickets.py ---

Rank = tuple[float, int]


@dataclass(slots=True)
class Ticket:
    """A request for one model call.

    `priority` is the place of its class in REQUEST_CLASSES, `affinity` the key of its
    chat or "", `excluded` what it has tried in vain. `ahead` puts it first in its
    class: it was served before and goes on, `entered` being when it first came.
    `login` is whose key it shows, where the upstreams have none of their own.
    """

    id: str
    user: str
    model: str
    priority: int = 0
    affinity: str = ""
    entered: float = 0.0
    ahead: bool = False
    excluded: frozenset[str] = frozenset()
    login: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """A slot. `affinity` says whether the chat was there before: kept, moved, new.

    `probe`: the upstream was shut, and this request tries it.
    """

    ticket_id: str
    upstream: str
    affinity: str
    probe: bool = False


@dataclass(slots=True)
class Waiting:
    """A request in one or two lanes; `overtaken` by so many that came later."""

    ticket: Ticket
    rank: Rank
    lanes: tuple[str, ...]
    overtaken: int = 0


@dataclass(slots=True)
class Running:
    ticket: Ticket
    upstream: str
    since: float


@dataclass(slots=True)
class Gate:
    """An upstream, or a part of it, that is shut. `probe` is who tries it."""

    until: float
    code: str
    paused: bool
    probe: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """A waiting request's place, from 1, of how many, and the seconds to expect.

    Those of lower classes do not count: they wait for it, not it for them.
    """

    position: int
    total: int
    seconds: float | None


def gate_names(upstream: str, ticket: Ticket) -> tuple[str, str, str]:
    """What can be shut to a request: an upstream, a model there, or its own login."""
    model = f"{upstream} {ticket.model}"
    return upstream, model, f"{model} ({ticket.login})"


@dataclass(frozen=True, slots=True)
class GateView:
    """What is shut now: `trying` when one request finds out whether it is well."""

    name: str
    code: str
    seconds: float
    paused: bool
    trying: bool


# --- shared/routing/lanes.py ---

# Virtual times are compared only among those that wait; old users are forgotten.
FORGET_USERS_ABOVE = 1000


@dataclass(slots=True)
class FairTags:
    """The virtual time of a class, and the last tag of each user."""

    time: float = 0.0
    last: dict[str, float] = field(default_factory=dict)

    def new_tag(self, user: str) -> float:
        tag = max(self.time, self.last.get(user, self.time - 1) + 1)
        if len(self.last) > FORGET_USERS_ABOVE:
            self.last = {u: t for u, t in self.last.items() if t >= self.time}
        self.last[user] = tag
        return tag

    def serve(self, tag: float) -> None:
        self.time = max(self.time, tag)

    def refund(self, user: str) -> None:
        """A request of this user left without being served."""
        if user in self.last:
            self.last[user] -= 1


@dataclass(slots=True)
class Lane:
    """Ids in the order of (tag, number of arrival)."""

    _keys: list[tuple[float, int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return (key[2] for key in self._keys)

    def add(self, rank: Rank, ticket_id: str) -> None:
        insort(self._keys, (*rank, ticket_id))

    def remove(self, rank: Rank, ticket_id: str) -> None:
        del self._keys[bisect_left(self._keys, (*rank, ticket_id))]

    def count_before(self, rank: Rank) -> int:
        return bisect_left(self._keys, (*rank, ""))


# --- shared/routing/dispatcher.py ---

ANY = ""
BUSY, CLOSED = "busy", "closed"
KEPT_AFFINITIES = 20_000
SERVICE_SHARE = 0.1  # of the newest value in the running mean of service times
MOST_OVERTAKEN = 2


@dataclass(slots=True)
class Dispatcher:
    """The state of one pool. `spec` may be replaced at any time."""

    spec: PoolSpec
    waiting: dict[str, Waiting] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    service: dict[str, float] = field(default_factory=dict)
    # All of a class, and those who may go to an upstream or to any.
    _lines: tuple[Lane, ...] = field(
        default_factory=lambda: tuple(Lane() for _ in REQUEST_CLASSES)
    )
    _lanes: dict[tuple[int, str], Lane] = field(default_factory=dict)
    _tags: tuple[FairTags, ...] = field(
        default_factory=lambda: tuple(FairTags() for _ in REQUEST_CLASSES)
    )
    _arrivals: int = 0
    _of_upstream: dict[str, int] = field(default_factory=dict)
    _of_user: dict[str, int] = field(default_factory=dict)
    _of_model: dict[str, int] = field(default_factory=dict)
    _affinity: dict[str, tuple[str, float]] = field(default_factory=dict)

    # --- a request comes, waits, goes ---

    def enter(self, ticket: Ticket, now: float) -> tuple[str, list[Grant]]:
        """Take a request: "" or why not (BUSY, CLOSED), and the slots now given.

        CLOSED: no upstream can take it, and none is merely making a pause.
        """
        if not self.possible(ticket, now):
            return CLOSED, []
        if not ticket.ahead:
            ticket.entered = now
        self._insert(ticket, self._lane_for(ticket, now))
        grants = self.dispatch(now)
        if ticket.id in self.waiting and not ticket.ahead:
            limit = getattr(
                self.spec.queue.max_waiting, REQUEST_CLASSES[ticket.priority]
            )
            if self.count_waiting(ticket.priority) > limit:
                self._give_up(ticket.id)
                return BUSY, grants
        return "", grants

    def leave(self, ticket_id: str, now: float, served: bool = False) -> list[Grant]:
        """Forget a request, whether it waits or runs; `served`: it had its answer."""
        if ticket_id in self.waiting:
            self._give_up(ticket_id)
            return []
        run = self.running.pop(ticket_id, None)
        if run is None:
            return []
        if served:
            self._learn(run.upstream, now - run.since)
        self._count(run.ticket, run.upstream, -1)
        for gate in self._gates_of(run.upstream, run.ticket):
            if gate.probe == ticket_id:
                gate.probe = ""
        return self.dispatch(now)

    def loosen(self, ticket_id: str, now: float) -> list[Grant]:
        """Let a waiting request go to any upstream from now on."""
        place = self.waiting.get(ticket_id)
        if place is None or ANY in place.lanes:
            return []
        place.lanes = (*place.lanes, ANY)
        self._lane(place.ticket.priority, ANY).add(place.rank, ticket_id)
        return self.dispatch(now)

    def adopt(self, ticket: Ticket, upstream: str, now: float) -> None:
        """Count a request that runs already, granted elsewhere."""
        self.running[ticket.id] = Running(ticket, upstream, now)
        self._count(ticket, upstream, 1)

    # --- upstreams open and shut ---

    def shut(self, gate_name: str, gate: Gate, now: float) -> list[str]:
        """Shut an upstream or a model of it; the ids of those who wait in vain now.

        These have left the queue. Of two reasons the longer time holds, and the code
        that will not pass by itself.
        """
        known = self.gates.get(gate_name)
        if known is not None and known.until > now:
            if gate.paused and not known.paused:
                return []
            keeps = known.code in LASTING_CODES and gate.code not in LASTING_CODES
            code = known.code if keeps else gate.code
            gate = Gate(max(known.until, gate.until), code, gate.paused)
        self.gates[gate_name] = gate
        waiting = list(self.waiting.values())
        lost = [w.ticket.id for w in waiting if not self.possible(w.ticket, now)]
        for ticket_id in lost:
            self._give_up(ticket_id)
        return lost

    def reopen(self, names: Iterable[str], now: float) -> list[Grant]:
        """Open these gates: what was behind them has answered."""
        for name in names:
            self.gates.pop(name, None)
        return self.dispatch(now)

    def possible(self, ticket: Ticket, now: float) -> bool:
        """Whether any upstream can take this request, now or after a pause."""
        return any(
            upstream.id not in ticket.excluded
            and all(
                gate.paused or gate.until <= now
                for gate in self._gates_of(upstream.id, ticket)
            )
            for upstream in self.spec.upstreams
        )

    def next_opening(self, now: float) -> float | None:
        """When the next gate opens while requests wait, or None."""
        if not self.waiting:
            return None
        times = [gate.until for gate in self.gates.values() if gate.until > now]
        return min(times, default=None)

    # --- looking ---

    def count_waiting(self, priority: int) -> int:
        return len(self._lines[priority])

    def count_running(self, upstream: str) -> int:
        return self._of_upstream.get(upstream, 0)

    def standing(self, ticket_id: str, now: float) -> Standing | None:
        """Where a waiting request stands; None when it does not wait."""
        place = self.waiting.get(ticket_id)
        if place is None:
            return None
        mine = place.ticket.priority
        higher = sum(len(line) for line in self._lines[:mine])
        ahead = higher + self._lines[mine].count_before(place.rank)
        pace = self._seconds_per_request(now)
        seconds = None if pace is None else (ahead + 1) * pace
        return Standing(ahead + 1, higher + len(self._lines[mine]), seconds)

    def busy_seconds(self, now: float) -> float | None:
        """How long a new request would wait behind all others, where known."""
        pace = self._seconds_per_request(now)
        return None if pace is None else (len(self.waiting) + 1) * pace

    # --- the choice ---

    def dispatch(self, now: float) -> list[Grant]:
        """Give every free slot to the request whose turn it is."""
        grants: list[Grant] = []
        while self.waiting:
            grant = self._next_grant(now)
            if grant is None:
                break
            grants.append(grant)
        return grants

    def _next_grant(self, now: float) -> Grant | None:
        free = [u for u in self.spec.upstreams if self._has_room(u)]
        for upstream in sorted(free, key=self._load) if len(free) > 1 else free:
            place = self._first_for(upstream.id, now)
            if place is not None:
                return self._grant(place, upstream.id, now)
        return None

    def _first_for(self, upstream: str, now: float) -> Waiting | None:
        """Whose turn it is at this upstream.

        A request of a lower class counts as one of the next higher class that came
        `ageing` seconds later, so that nobody waits for ever.
        """
        best: tuple[Waiting, Waiting | None] | None = None
        best_time = 0.0
        for priority in range(len(REQUEST_CLASSES)):
            first = self._first_of_class(priority, upstream, now)
            if first is None:
                continue
            time = first[0].ticket.entered + priority * self.spec.queue.ageing
            if best is None or time < best_time:
                best, best_time = first, time
        if best is None:
            return None
        place, overtaken = best
        if overtaken is not None:
            overtaken.overtaken += 1
        return place

    def _first_of_class(
        self, priority: int, upstream: str, now: float
    ) -> tuple[Waiting, Waiting | None] | None:
        """The next request of a class, and the one that it overtakes, if any."""
        home = self._head(self._lane(priority, upstream), upstream, now)
        other = self._head(self._lane(priority, ANY), upstream, now)
        if home is None or other is None:
            found = home or other
            return None if found is None else (found, None)
        if home.rank <= other.rank:
            return home, None
        same_round = home.rank[0] <= other.rank[0] + 1
        if same_round and other.overtaken < MOST_OVERTAKEN:
            return home, other
        return other, None

    def _head(self, lane: Lane, upstream: str, now: float) -> Waiting | None:
        """The first request of a lane that may run here now."""
        places = (self.waiting[ticket_id] for ticket_id in lane)
        return next((p for p in places if self._may_run(p.ticket, upstream, now)), None)

    def _may_run(self, ticket: Ticket, upstream: str, now: float) -> bool:
        rules = self.spec.queue
        if upstream in ticket.excluded:
            return False
        if rules.per_user and self._of_user.get(ticket.user, 0) >= rules.per_user:
            return False
        if rules.per_model and self._of_model.get(ticket.model, 0) >= rules.per_model:
            return False
        return all(
            gate.until <= now and (gate.paused or not gate.probe)
            for gate in self._gates_of(upstream, ticket)
        )

    def _has_room(self, upstream: UpstreamSlots) -> bool:
        return self._of_upstream.get(upstream.id, 0) < upstream.concurrency

    def _load(self, upstream: UpstreamSlots) -> float:
        """How busy an upstream would be with one more request: its expected wait."""
        busy = (self.count_running(upstream.id) + 1) / upstream.concurrency
        known = self.service.values()
        mean = sum(known) / len(known) if known else 1.0
        return busy * self.service.get(upstream.id, mean) / upstream.weight

    def _grant(self, place: Waiting, upstream: str, now: float) -> Grant:
        ticket = place.ticket
        self._remove(ticket.id)
        if not ticket.ahead:
            self._tags[ticket.priority].serve(place.rank[0])
        self.adopt(ticket, upstream, now)
        probe = False
        for name in gate_names(upstream, ticket):
            gate = self.gates.get(name)
            if gate is not None and gate.paused:
                del self.gates[name]
            elif gate is not None:
                gate.probe, probe = ticket.id, True
        return Grant(ticket.id, upstream, self._remember(ticket, upstream, now), probe)

    # --- affinity ---

    def _lane_for(self, ticket: Ticket, now: float) -> str:
        """The upstream that holds this chat, unless it is of no use; else ANY."""
        upstream, until = self._affinity.get(ticket.affinity, (ANY, 0.0))
        usable = (
            upstream != ANY
            and until > now
            and upstream not in ticket.excluded
            and any(known.id == upstream for known in self.spec.upstreams)
            and all(g.until <= now for g in self._gates_of(upstream, ticket))
        )
        return upstream if usable else ANY

    def _remember(self, ticket: Ticket, upstream: str, now: float) -> str:
        """Note where a chat is; whether that is where it was: kept, moved or new."""
        key, ttl = ticket.affinity, self.spec.affinity.ttl
        if not key or not ttl:
            return "new"
        before, until = self._affinity.pop(key, (ANY, 0.0))
        if len(self._affinity) >= KEPT_AFFINITIES:
            del self._affinity[next(iter(self._affinity))]  # the least recently used
        self._affinity[key] = (upstream, now + ttl)
        if until <= now:
            return "new"
        return "kept" if before == upstream else "moved"

    # --- books ---

    def _insert(self, ticket: Ticket, lane: str) -> None:
        self._arrivals += 1
        tags = self._tags[ticket.priority]
        tag = float("-inf") if ticket.ahead else tags.new_tag(ticket.user)
        place = Waiting(ticket, (tag, self._arrivals), (lane,))
        self.waiting[ticket.id] = place
        self._lane(ticket.priority, lane).add(place.rank, ticket.id)
        self._lines[ticket.priority].add(place.rank, ticket.id)

    def _remove(self, ticket_id: str) -> Waiting:
        place = self.waiting.pop(ticket_id)
        priority = place.ticket.priority
        for lane in place.lanes:
            self._lane(priority, lane).remove(place.rank, ticket_id)
        self._lines[priority].remove(place.rank, ticket_id)
        return place

    def _give_up(self, ticket_id: str) -> None:
        ticket = self._remove(ticket_id).ticket
        if not ticket.ahead:
            self._tags[ticket.priority].refund(ticket.user)

    def _lane(self, priority: int, upstream: str) -> Lane:
        lane = self._lanes.get((priority, upstream))
        if lane is None:
            lane = self._lanes[priority, upstream] = Lane()
        return lane

    def _count(self, ticket: Ticket, upstream: str, change: int) -> None:
        for counts, key in (
            (self._of_upstream, upstream),
            (self._of_user, ticket.user),
            (self._of_model, ticket.model),
        ):
            counts[key] = counts.get(key, 0) + change
            if not counts[key]:
                del counts[key]

    def _learn(self, upstream: str, seconds: float) -> None:
        known = self.service.get(upstream, seconds)
        self.service[upstream] = known + SERVICE_SHARE * (seconds - known)

    def _gates_of(self, upstream: str, ticket: Ticket) -> Iterator[Gate]:
        if self.gates:
            for name in gate_names(upstream, ticket):
                if name in self.gates:
                    yield self.gates[name]

    def _seconds_per_request(self, now: float) -> float | None:
        """The mean time between two slots that come free, where it can be known."""
        rate = 0.0
        for upstream in self.spec.upstreams:
            seconds = self.service.get(upstream.id)
            gate = self.gates.get(upstream.id)
            if seconds and (gate is None or gate.until <= now):
                rate += upstream.concurrency / seconds
        return 1 / rate if rate else None


# --- shared/routing/store.py ---

LONGEST_PAUSE = 3600.0  # seconds, whatever an upstream asks for


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request gets no slot: BUSY or CLOSED, for about how many seconds.

    `cause` is the code of the error that shut the upstream.
    """

    reason: str
    seconds: float | None = None
    cause: str = ""


@dataclass(slots=True)
class QueuePlace:
    """A request of this process. When `settled` is done, it has a grant or a refusal.

    Who sets `moved` to a new future is told once that its standing has changed.
    """

    spec: PoolSpec
    ticket: Ticket
    settled: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    grant: Grant | None = None
    refusal: Refusal | None = None
    standing: Standing | None = None
    moved: "asyncio.Future[None] | None" = None

    def give(self, grant: Grant) -> None:
        self.grant = grant
        self._settle()

    def refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self._settle()

    def tell(self, standing: Standing | None) -> None:
        self.standing = standing
        if self.moved is not None and not self.moved.done():
            self.moved.set_result(None)
        self.moved = None

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as it stands: requests by class, by upstream, and what is shut."""

    waiting: tuple[int, ...]
    running: dict[str, int]
    gates: tuple[GateView, ...]


class QueueStore(Protocol):
    """Keeps the queues. Never raises: what it cannot share it keeps for itself.

    Objects of this protocol outlive a reload of the function: plain values and the
    attributes above are all that passes between old and new code.
    """

    async def enter(self, spec: PoolSpec, ticket: Ticket) -> QueuePlace:
        """Join the queue; the place may be settled already."""

    async def leave(self, place: QueuePlace, served: bool = False) -> None:
        """Give the place or the slot back, whatever state it is in; idempotent."""

    async def standing(self, place: QueuePlace) -> Standing | None:
        """Where the request stands in the queue; None when it has its turn."""

    async def succeeded(self, place: QueuePlace) -> bool:
        """The upstream has begun to answer; whether that opened it again."""

    async def failed(self, place: QueuePlace, code: str) -> bool:
        """The upstream failed in this way; whether it is left alone now."""

    async def pause(self, place: QueuePlace, code: str, seconds: float) -> None:
        """The upstream asked for a pause.

        At most LONGEST_PAUSE. A short one is waited for in the queue; past the budget
        of retries nobody is made to wait.
        """

    async def view(self, spec: PoolSpec) -> PoolView:
        """How the pool stands, all replicas together."""

    def share(self, counts: Mapping[str, Any]) -> None:
        """Publish what these counts will be in a few seconds."""

    async def publish(self, counts: bytes) -> None:
        """Let other replicas see this one's counts, for an hour."""

    async def published(self) -> Sequence[bytes]:
        """The counts of all replicas, this one's among them; empty without Redis."""


# --- shared/routing/memory_queue.py ---

TELL_SECONDS = 1.0  # between two looks at the line of those who wait
NO_RECORD = BreakerRecord()


class MemoryPool:
    """One pool: the desk, who waits at it in this process, and its timers."""

    def __init__(self, spec: PoolSpec, clock: Callable[[], float]) -> None:
        self.desk = Dispatcher(spec)
        self.places: dict[str, QueuePlace] = {}
        self.records: dict[str, BreakerRecord] = {}
        self._clock = clock
        self._telling: asyncio.TimerHandle | None = None
        self._opening: asyncio.TimerHandle | None = None

    def enter(self, place: QueuePlace) -> None:
        """Let a request in, unless it is here already, or is told what becomes of it."""
        if place.ticket.id in self.places or place.settled.done():
            return
        self.desk.spec = place.spec
        now = self._clock()
        ticket = place.ticket
        self.places[ticket.id] = place
        refusal, grants = self.desk.enter(ticket, now)
        if refusal:
            del self.places[ticket.id]
            place.refuse(self.refusal(refusal, ticket, now))
        self.give(grants)
        waiting = self.desk.waiting.get(ticket.id)
        if waiting is None:
            return
        self._await_opening(now)
        if ANY not in waiting.lanes:
            patience = place.spec.affinity.wait
            asyncio.get_running_loop().call_later(patience, self._loosen, ticket.id)

    def take_over(self, place: QueuePlace) -> None:
        """Go on with a request that runs or waits elsewhere until now."""
        if place.grant is None:
            self.enter(place)
        elif place.ticket.id not in self.places:
            ticket = place.ticket
            self.places[ticket.id] = place
            self.desk.adopt(ticket, place.grant.upstream, self._clock())

    def forget(self) -> None:
        """Drop all requests: somebody else goes on with them."""
        self.places.clear()
        self.desk = Dispatcher(self.desk.spec)

    def leave(self, ticket_id: str, served: bool) -> None:
        if self.places.pop(ticket_id, None) is not None:
            self.give(self.desk.leave(ticket_id, self._clock(), served))
            self._tell_later()

    def shut(self, name: str, seconds: float, code: str, paused: bool) -> None:
        now = self._clock()
        lost = self.desk.shut(name, Gate(now + seconds, code, paused), now)
        for ticket_id in lost:
            place = self.places.pop(ticket_id)
            place.refuse(self.refusal(CLOSED, place.ticket, now))
        self._await_opening(now)

    def reopen(self, names: Iterable[str]) -> None:
        self.give(self.desk.reopen(names, self._clock()))

    def give(self, grants: Iterable[Grant]) -> None:
        for grant in grants:
            self.places[grant.ticket_id].give(grant)
            self._tell_later()

    def refusal(self, reason: str, ticket: Ticket, now: float) -> Refusal:
        if reason != CLOSED:
            return Refusal(reason, self.desk.busy_seconds(now))
        names = [
            name
            for upstream in self.desk.spec.upstreams
            for name in gate_names(upstream.id, ticket)
        ]
        shut = [self.desk.gates[name] for name in names if name in self.desk.gates]
        if not shut:
            return Refusal(reason)
        first = min(shut, key=lambda gate: gate.until)
        return Refusal(reason, max(0.0, first.until - now), first.code)

    def standing(self, ticket_id: str) -> Standing | None:
        return self.desk.standing(ticket_id, self._clock())

    def view(self) -> PoolView:
        now, desk = self._clock(), self.desk
        return PoolView(
            tuple(desk.count_waiting(rank) for rank in range(len(REQUEST_CLASSES))),
            {u.id: desk.count_running(u.id) for u in desk.spec.upstreams},
            tuple(
                GateView(name, g.code, max(0.0, g.until - now), g.paused, bool(g.probe))
                for name, g in desk.gates.items()
            ),
        )

    def _loosen(self, ticket_id: str) -> None:
        self.give(self.desk.loosen(ticket_id, self._clock()))

    def _await_opening(self, now: float) -> None:
        """Look again when a shut upstream may be used, if somebody waits for it."""
        opening = self.desk.next_opening(now)
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if opening is not None:
            loop = asyncio.get_running_loop()
            self._opening = loop.call_later(opening - now, self._open)

    def _open(self) -> None:
        now = self._clock()
        self.give(self.desk.dispatch(now))
        self._await_opening(now)

    def _tell_later(self) -> None:
        if self._telling is None and self.desk.waiting:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._telling = None
        for ticket_id in self.desk.waiting:
            place = self.places[ticket_id]
            if place.moved is not None:
                place.tell(self.standing(ticket_id))


class InProcessStore:
    """All pools of this process; see QueueStore."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pools: dict[str, MemoryPool] = {}

    def pool(self, spec: PoolSpec) -> MemoryPool:
        pool = self._pools.get(spec.name)
        if pool is None:
            pool = self._pools[spec.name] = MemoryPool(spec, self._clock)
        return pool

    def forget(self) -> None:
        for pool in self._pools.values():
            pool.forget()

    async def enter(self, spec: PoolSpec, ticket: Ticket) -> QueuePlace:
        place = QueuePlace(spec, ticket)
        self.pool(spec).enter(place)
        return place

    async def leave(self, place: QueuePlace, served: bool = False) -> None:
        self.pool(place.spec).leave(place.ticket.id, served)

    async def standing(self, place: QueuePlace) -> Standing | None:
        return self.pool(place.spec).standing(place.ticket.id)

    async def succeeded(self, place: QueuePlace) -> bool:
        assert place.grant is not None
        pool, upstream = self.pool(place.spec), place.grant.upstream
        names = gate_names(upstream, place.ticket)
        for name in names:
            if name == upstream or name in pool.records:
                record = pool.records.get(name, NO_RECORD)
                pool.records[name] = after_success(record, self._clock())
        reopens = place.grant.probe
        if reopens:
            pool.reopen(names)
        return reopens

    async def failed(self, place: QueuePlace, code: str) -> bool:
        assert place.grant is not None
        pool = self.pool(place.spec)
        name = failing_gate(place, code)
        record, shut = after_failure(
            pool.records.get(name, NO_RECORD),
            self._clock(),
            code,
            place.grant.probe,
            place.spec.breaker,
        )
        pool.records[name] = record
        if shut is not None:
            pool.shut(name, shut.seconds, code, False)
        return shut is not None

    async def pause(self, place: QueuePlace, code: str, seconds: float) -> None:
        assert place.grant is not None
        seconds = min(seconds, LONGEST_PAUSE)
        short = seconds <= place.spec.retry.budget
        self.pool(place.spec).shut(place.grant.upstream, seconds, code, short)

    async def view(self, spec: PoolSpec) -> PoolView:
        return self.pool(spec).view()

    def share(self, counts: Mapping[str, Any]) -> None:
        """Nobody else is there."""

    async def publish(self, counts: bytes) -> None:
        """Nobody else is there."""

    async def published(self) -> Sequence[bytes]:
        return []


def failing_gate(place: QueuePlace, code: str) -> str:
    """What this failure counts against, so that what is well is not shut.

    A model that is not there is no other's fault, nor is an agent's key another's.
    """
    assert place.grant is not None
    upstream, model, login = gate_names(place.grant.upstream, place.ticket)
    if code == "status_404":
        return model
    if code not in KEY_CODES or not place.ticket.login:
        return upstream
    own_key = any(u.id == upstream and u.own_key for u in place.spec.upstreams)
    return upstream if own_key else login


# --- shared/routing/redis_rules.py ---

REDIS_RULES = """
local root, base, command = KEYS[1], KEYS[1] .. ARGV[1] .. ':', ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local call, decode, encode = redis.call, cjson.decode, cjson.encode
local spec, answer

local function use(pool)
  base = root .. pool .. ':'
  local text = call('GET', base .. 'spec')
  spec = text and decode(text) or {upstreams = {}}
  spec.pool = pool
end

local function lane(priority, upstream)
  return base .. 'lane:' .. priority .. ':' .. upstream
end

local function line(priority)
  return base .. 'line:' .. priority
end

local of_users = {}  -- what runs of each, as far as it was looked up

local function book(kind, name, change)
  local field = kind .. ':' .. name
  local count = call('HINCRBY', base .. 'books', field, change)
  if count == 0 then call('HDEL', base .. 'books', field) end
  if kind == 'user' then of_users[base .. name] = count end
end

local function booked(kind, name)
  return tonumber(call('HGET', base .. 'books', kind .. ':' .. name) or '0')
end

local function mail(owner, letter)
  letter.pool = spec.pool
  call('RPUSH', root .. 'mail:' .. owner, encode(letter))
end

-- gates

local function gates_of(upstream, ticket)
  local model = upstream .. ' ' .. ticket.model
  -- A ticket of a replica that runs an older version names no login.
  local names = {upstream, model, model .. ' (' .. (ticket.login or '') .. ')'}
  local found = {}
  for i, text in ipairs(call('HMGET', base .. 'gates', unpack(names))) do
    if text then
      local gate = decode(text)
      gate.name = names[i]
      found[#found + 1] = gate
    end
  end
  return found
end

local function save_gate(gate)
  call('HSET', base .. 'gates', gate.name, encode(gate))
end

local function excluded(ticket, upstream)
  for _, name in ipairs(ticket.excluded) do
    if name == upstream then return true end
  end
  return false
end

local function possible(ticket)
  for _, upstream in ipairs(spec.upstreams) do
    local open = not excluded(ticket, upstream.id)
    for _, gate in ipairs(gates_of(upstream.id, ticket)) do
      open = open and (gate.paused or gate['until'] <= now)
    end
    if open then return true end
  end
  return false
end

-- lanes

local function tell_moved()
  if call('HLEN', base .. 'waiting') == 0 then return end
  for _, owner in ipairs(call('ZRANGE', root .. 'replicas', 0, -1)) do
    if call('SADD', root .. 'told:' .. owner, spec.pool) == 1 then
      mail(owner, {kind = 'moved'})
    end
  end
end

local function insert(ticket)
  local number = call('HINCRBY', base .. 'books', 'arrivals', 1)
  local tags = base .. 'tags:' .. ticket.priority
  local virtual = booked('time', ticket.priority)
  ticket.tag, ticket.overtaken = -1e15, 0
  if not ticket.ahead then
    local last = call('ZSCORE', tags, ticket.user)
    ticket.tag = math.max(virtual, last and tonumber(last) + 1 or virtual)
    call('ZADD', tags, ticket.tag, ticket.user)
    call('ZREMRANGEBYSCORE', tags, '-inf', virtual - 1)
  end
  ticket.member = string.format('%015d %s %s', number, ticket.id, ticket.user)
  call('ZADD', line(ticket.priority), ticket.tag, ticket.member)
  call('ZADD', lane(ticket.priority, ticket.lane), ticket.tag, ticket.member)
  call('HSET', base .. 'waiting', ticket.id, encode(ticket))
end

local function remove(ticket)
  call('ZREM', line(ticket.priority), ticket.member)
  call('ZREM', lane(ticket.priority, ticket.lane), ticket.member)
  call('ZREM', lane(ticket.priority, ''), ticket.member)
  call('HDEL', base .. 'waiting', ticket.id)
end

local function disown(ticket)
  call('SREM', root .. 'owned:' .. ticket.owner, spec.pool .. ' ' .. ticket.id)
end

local function give_up(ticket)
  remove(ticket)
  disown(ticket)
  local tags = base .. 'tags:' .. ticket.priority
  if not ticket.ahead and call('ZSCORE', tags, ticket.user) then
    call('ZINCRBY', tags, -1, ticket.user)
  end
end

-- the choice

local function has_enough(user)
  if spec.per_user <= 0 then return false end
  local key = base .. user
  of_users[key] = of_users[key] or booked('user', user)
  return of_users[key] >= spec.per_user
end

local function may_run(ticket, upstream)
  if excluded(ticket, upstream) or has_enough(ticket.user) then return false end
  if spec.per_model > 0 and booked('model', ticket.model) >= spec.per_model then
    return false
  end
  for _, gate in ipairs(gates_of(upstream, ticket)) do
    if gate['until'] > now or not (gate.paused or gate.probe == '') then
      return false
    end
  end
  return true
end

local function head(priority, name, upstream)
  local start = 0
  while true do
    local members = call('ZRANGE', lane(priority, name), start, start + 15)
    for _, member in ipairs(members) do
      local id, user = string.match(member, '^%d+ (%S+) ?(.*)$')
      -- Reading the whole ticket is dear where many of one user wait.
      if not has_enough(user) then
        local text = call('HGET', base .. 'waiting', id)
        if not text then  -- Redis may have evicted one key and not the other
          call('ZREM', lane(priority, name), member)
          call('ZREM', line(priority), member)
          return head(priority, name, upstream)
        end
        local ticket = decode(text)
        if may_run(ticket, upstream) then return ticket end
      end
    end
    if #members < 16 then return nil end
    start = start + 16
  end
end

-- The next request of a class, and the one that it overtakes.
local function first_of_class(priority, upstream)
  local home = head(priority, upstream, upstream)
  local other = head(priority, '', upstream)
  if not (home and other) then return home or other end
  if home.tag < other.tag or home.tag == other.tag and home.member <= other.member then
    return home
  end
  if home.tag <= other.tag + 1 and other.overtaken < 2 then return home, other end
  return other
end

local function first_for(upstream)
  local best, best_time, overtaken
  for priority = 0, 2 do
    local first, behind = first_of_class(priority, upstream)
    if first then
      local entered = first.entered + priority * spec.ageing
      if not best or entered < best_time then
        best, best_time, overtaken = first, entered, behind
      end
    end
  end
  if overtaken then
    overtaken.overtaken = overtaken.overtaken + 1
    call('HSET', base .. 'waiting', overtaken.id, encode(overtaken))
  end
  return best
end

local function remember(ticket, upstream)
  if ticket.affinity == '' or spec.ttl <= 0 then return 'new' end
  local chat = base .. 'chat:' .. ticket.affinity
  local before = call('GET', chat)
  call('SET', chat, upstream, 'PX', math.floor(spec.ttl * 1000) + 1)
  if not before then return 'new' end
  return before == upstream and 'kept' or 'moved'
end

local function run(ticket, upstream)
  ticket.upstream, ticket.since = upstream, now
  call('HSET', base .. 'running', ticket.id, encode(ticket))
  book('upstream', upstream, 1)
  book('user', ticket.user, 1)
  book('model', ticket.model, 1)
end

local function grant(ticket, upstream)
  remove(ticket)
  if not ticket.ahead then
    local virtual = math.max(booked('time', ticket.priority), ticket.tag)
    call('HSET', base .. 'books', 'time:' .. ticket.priority, virtual)
  end
  local probe = false
  for _, gate in ipairs(gates_of(upstream, ticket)) do
    if gate.paused then
      call('HDEL', base .. 'gates', gate.name)
    else
      gate.probe, probe = ticket.id, true
      save_gate(gate)
    end
  end
  ticket.probing = probe
  ticket.kept = remember(ticket, upstream)
  run(ticket, upstream)
  return {kind = 'grant', id = ticket.id, upstream = upstream,
          affinity = ticket.kept, probe = probe}
end

local function mean_service()
  local known = call('HVALS', base .. 'service')
  local sum = 0
  for _, seconds in ipairs(known) do sum = sum + tonumber(seconds) end
  return #known > 0 and sum / #known or 1
end

local function load_of(upstream, mean)
  local seconds = tonumber(call('HGET', base .. 'service', upstream.id) or mean)
  local busy = (booked('upstream', upstream.id) + 1) / upstream.slots
  return busy * seconds / upstream.weight
end

local function next_grant()
  local free, mean = {}, mean_service()
  for i, upstream in ipairs(spec.upstreams) do
    if booked('upstream', upstream.id) < upstream.slots then
      free[#free + 1] = {load_of(upstream, mean), upstream.id, i}
    end
  end
  table.sort(free, function(a, b)
    if a[1] == b[1] then return a[3] < b[3] end
    return a[1] < b[1]
  end)
  for _, upstream in ipairs(free) do
    local ticket = first_for(upstream[2])
    if ticket then return grant(ticket, upstream[2]), ticket.owner end
  end
end

local function dispatch(mine)
  local own, moved
  while call('HLEN', base .. 'waiting') > 0 do
    local letter, owner = next_grant()
    if not letter then break end
    moved = true
    if letter.id == mine then own = letter else mail(owner, letter) end
  end
  if moved then tell_moved() end
  return own
end
"""


# --- shared/routing/redis_commands.py ---

ROUTING_SCRIPT = REDIS_RULES + """
-- commands

local function pace()
  local rate = 0
  for _, upstream in ipairs(spec.upstreams) do
    local seconds = tonumber(call('HGET', base .. 'service', upstream.id) or '0')
    local text = call('HGET', base .. 'gates', upstream.id)
    if seconds > 0 and not (text and decode(text)['until'] > now) then
      rate = rate + upstream.slots / seconds
    end
  end
  return rate > 0 and 1 / rate or 0
end

local function refusal(reason, ticket)
  local letter = {kind = 'refusal', id = ticket.id, reason = reason, cause = '',
                  seconds = (call('HLEN', base .. 'waiting') + 1) * pace()}
  if reason == 'closed' then
    local first
    for _, upstream in ipairs(spec.upstreams) do
      for _, gate in ipairs(gates_of(upstream.id, ticket)) do
        if not first or gate['until'] < first['until'] then first = gate end
      end
    end
    letter.cause = first and first.code or ''
    letter.seconds = first and math.max(0, first['until'] - now) or 0
  end
  return letter
end

local function lane_for(ticket)
  local upstream = ticket.affinity ~= '' and call('GET', base .. 'chat:' .. ticket.affinity)
  if not upstream or excluded(ticket, upstream) then return '' end
  local known = false
  for _, each in ipairs(spec.upstreams) do known = known or each.id == upstream end
  for _, gate in ipairs(gates_of(upstream, ticket)) do
    known = known and gate['until'] <= now
  end
  return known and upstream or ''
end

local function leave(id, served)
  local text = call('HGET', base .. 'waiting', id)
  if text then
    give_up(decode(text))
    return tell_moved()
  end
  text = call('HGET', base .. 'running', id)
  if not text then return end
  local ticket = decode(text)
  call('HDEL', base .. 'running', id)
  disown(ticket)
  book('upstream', ticket.upstream, -1)
  book('user', ticket.user, -1)
  book('model', ticket.model, -1)
  for _, gate in ipairs(gates_of(ticket.upstream, ticket)) do
    if gate.probe == id then
      gate.probe = ''
      save_gate(gate)
    end
  end
  if served then
    local seconds = now - ticket.since
    local known = tonumber(call('HGET', base .. 'service', ticket.upstream) or seconds)
    local mean = known + (seconds - known) * 0.1
    call('HSET', base .. 'service', ticket.upstream, tostring(mean))
  end
  dispatch()
end

local function reap()
  for _, owner in ipairs(call('ZRANGEBYSCORE', root .. 'replicas', '-inf', now)) do
    call('ZREM', root .. 'replicas', owner)
    local owned = call('SMEMBERS', root .. 'owned:' .. owner)
    -- Those who wait first: no slot that comes free may go to one of them.
    for _, place in ipairs({'waiting', 'running'}) do
      for _, entry in ipairs(owned) do
        local pool, id = string.match(entry, '^(%S+) (.+)$')
        use(pool)
        local text = call('HGET', base .. place, id)
        if text and decode(text).owner == owner then leave(id, false) end
      end
    end
    call('DEL', root .. 'owned:' .. owner, root .. 'mail:' .. owner,
         root .. 'told:' .. owner)
  end
end

local function own(ticket)
  ticket.entered = now - ticket.age
  call('SADD', root .. 'owned:' .. ticket.owner, spec.pool .. ' ' .. ticket.id)
end

-- Who was known under another name, before Redis was lost to it, keeps what it had.
local function reown(place, ticket)
  local text = call('HGET', base .. place, ticket.id)
  if not text then return false end
  local known = decode(text)
  if known.owner ~= ticket.owner then
    disown(known)
    known.owner = ticket.owner
    call('SADD', root .. 'owned:' .. known.owner, spec.pool .. ' ' .. known.id)
    call('HSET', base .. place, known.id, encode(known))
  end
  return true
end

local function granted_letter(id)
  local text = call('HGET', base .. 'running', id)
  if not text then return nil end
  local ticket = decode(text)
  return {kind = 'grant', id = id, upstream = ticket.upstream,
          affinity = ticket.kept, probe = ticket.probing}
end

local commands = {}

function commands.enter(given, text)
  if call('GET', base .. 'spec') ~= text then call('SET', base .. 'spec', text) end
  use(ARGV[1])
  local ticket = decode(given)
  local granted = reown('running', ticket) and granted_letter(ticket.id)
  if granted then return granted end
  if reown('waiting', ticket) then return {kind = 'waits'} end
  if not possible(ticket) then return refusal('closed', ticket) end
  own(ticket)
  ticket.lane = lane_for(ticket)
  insert(ticket)
  granted = dispatch(ticket.id)
  if granted then return granted end
  local limit = spec.max_waiting[ticket.priority + 1]
  if not ticket.ahead and call('ZCARD', line(ticket.priority)) > limit then
    give_up(ticket)
    return refusal('busy', ticket)
  end
  return {kind = 'waits', sticky = ticket.lane ~= ''}
end

function commands.leave(id, served)
  leave(id, served == '1')
end

function commands.loosen(id)
  local text = call('HGET', base .. 'waiting', id)
  if not text then return end
  local ticket = decode(text)
  call('ZADD', lane(ticket.priority, ''), ticket.tag, ticket.member)
  dispatch()
end

function commands.adopt(given, upstream, text)
  call('SET', base .. 'spec', text)
  use(ARGV[1])
  local ticket = decode(given)
  local known = call('HGET', base .. 'running', ticket.id)
  if known and decode(known).upstream == upstream then
    reown('running', ticket)
    return
  end
  -- Here it still waits, or was given another slot, while its replica was away.
  leave(ticket.id, false)
  own(ticket)
  ticket.probing, ticket.kept = false, 'kept'
  run(ticket, upstream)
end

function commands.shut(name, seconds, code, paused)
  local lasting = {status_401 = true, status_403 = true, status_404 = true}
  local opening = now + tonumber(seconds)
  local text = call('HGET', base .. 'gates', name)
  local known = text and decode(text)
  if known and known['until'] > now then
    if paused == '1' and not known.paused then return end
    opening = math.max(opening, known['until'])
    if lasting[known.code] and not lasting[code] then code = known.code end
  end
  save_gate({name = name, ['until'] = opening, code = code,
             paused = paused == '1', probe = ''})
  for _, text in ipairs(call('HVALS', base .. 'waiting')) do
    local ticket = decode(text)
    if not possible(ticket) then
      give_up(ticket)
      mail(ticket.owner, refusal('closed', ticket))
    end
  end
end

function commands.reopen(...)
  call('HDEL', base .. 'gates', ...)
  dispatch()
end

-- For requests that believe they wait: slots given to them, and who is not known.
function commands.check(...)
  dispatch()
  local letters = {}
  for _, id in ipairs({...}) do
    local letter = granted_letter(id)
    if not letter and call('HEXISTS', base .. 'waiting', id) == 0 then
      letter = {kind = 'unknown', id = id}
    end
    letters[#letters + 1] = letter
  end
  return letters
end

function commands.standings(owner, ...)
  call('SREM', root .. 'told:' .. owner, spec.pool)
  local each = pace()
  local lines = {}
  for _, id in ipairs({...}) do
    local text = call('HGET', base .. 'waiting', id)
    if text then
      local ticket = decode(text)
      local higher = 0
      for priority = 0, ticket.priority - 1 do
        higher = higher + call('ZCARD', line(priority))
      end
      local ahead = higher + call('ZRANK', line(ticket.priority), ticket.member)
      local total = higher + call('ZCARD', line(ticket.priority))
      lines[#lines + 1] = {id, ahead + 1, total, (ahead + 1) * each}
    end
  end
  return lines
end

function commands.view()
  local seen = {waiting = {}, running = {}, gates = {}}
  for priority = 0, 2 do seen.waiting[priority + 1] = call('ZCARD', line(priority)) end
  for i, upstream in ipairs(spec.upstreams) do
    seen.running[i] = booked('upstream', upstream.id)
  end
  local gates = call('HVALS', base .. 'gates')
  for i, text in ipairs(gates) do
    local gate = decode(text)
    gate.seconds = math.max(0, gate['until'] - now)
    seen.gates[i] = gate
  end
  return seen
end

function commands.record(name, before, after)
  if (call('HGET', base .. 'records', name) or '') ~= before then return 0 end
  call('HSET', base .. 'records', name, after)
  return 1
end

function commands.beat(owner, seconds)
  local known = call('ZADD', root .. 'replicas', now + tonumber(seconds), owner) == 0
  return known and 1 or 0
end

use(ARGV[1])
reap()
use(ARGV[1])
answer = commands[command](unpack(ARGV, 3))
return answer ~= nil and encode(answer) or false
"""


# --- shared/routing/redis_wire.py ---

REDIS_ERRORS = (RedisError, OSError, TimeoutError)
# What a server says whose place another one takes, or is about to take.
MOVING_ERRORS = (ReadOnlyError, ClusterError, AskError, TryAgainError)
CALL_SECONDS = 3.0
SCRIPT_SHA = hashlib.sha1(ROUTING_SCRIPT.encode()).hexdigest()


class ScriptRefused(RedisError):
    """Redis is there, but does not run the script.

    There is a fault in it or in what is stored, or Redis lacks memory or a right.
    """


@dataclass(frozen=True, slots=True)
class RedisWire:
    """The script's commands through a redis.asyncio client.

    `root` begins all keys and holds their hash tag, as in `open-webui:aqueduct:
    {routing}:`. Raises one of REDIS_ERRORS when Redis is gone or does not answer, and
    ScriptRefused, which is one of them, when it answers no.
    """

    client: Any
    root: str

    async def ask(self, pool: str, command: str, *arguments: Any) -> Any:
        """Run one command; its answer, from JSON, or None."""
        given = [self.root, pool, command, *arguments]
        async with asyncio.timeout(CALL_SECONDS):
            try:
                text = await self._run(given)
            except MOVING_ERRORS:
                raise
            except ResponseError as error:
                raise ScriptRefused(str(error)) from error
        return None if text is None else json.loads(text)

    async def _run(self, given: Sequence[Any]) -> Any:
        try:
            return await self.client.evalsha(SCRIPT_SHA, 1, *given)
        except NoScriptError:  # Redis is new, or was restarted
            return await self.client.eval(ROUTING_SCRIPT, 1, *given)

    async def next_letter(self, replica: str, seconds: float) -> Any:
        """Wait so long for what concerns this replica; None when there was nothing."""
        async with asyncio.timeout(seconds + CALL_SECONDS):
            found = await self.client.blpop([f"{self.root}mail:{replica}"], seconds)
        return None if found is None else json.loads(found[1])

    async def get_record(self, pool: str, name: str) -> str:
        async with asyncio.timeout(CALL_SECONDS):
            return await self.client.hget(f"{self.root}{pool}:records", name) or ""

    async def put_counts(self, process: str, counts: bytes, seconds: int) -> None:
        """Keep a process's counts for so long, whether it lives or not."""
        async with asyncio.timeout(CALL_SECONDS):
            key = f"{self.root}counts:{process}"
            await self.client.set(key, counts, ex=seconds)
            members = {process: time.time() + seconds}
            await self.client.zadd(f"{self.root}counted", members)

    async def all_counts(self) -> list[bytes]:
        """The counts of every process that told them lately."""
        async with asyncio.timeout(CALL_SECONDS):
            counted, now = f"{self.root}counted", time.time()
            await self.client.zremrangebyscore(counted, "-inf", now)
            processes = await self.client.zrange(counted, 0, -1)
            keys = [f"{self.root}counts:{process}" for process in processes]
            found = await self.client.mget(keys) if keys else []
        return [text.encode() for text in found if text]


def checked_redis_url(url: str) -> str:
    """The address of a Redis, or "" where it is empty; raises ValueError."""
    url = url.strip()
    if url:
        try:
            parse_url(url)
        except ValueError:
            raise ValueError("write it as redis://[user:password@]host:port") from None
    return url


def spec_json(spec: PoolSpec) -> str:
    """A pool's rules as the script reads them."""
    most = spec.queue.max_waiting
    return json.dumps(
        {
            "upstreams": [
                {"id": u.id, "slots": u.concurrency, "weight": u.weight}
                for u in spec.upstreams
            ],
            "ageing": spec.queue.ageing,
            "per_user": spec.queue.per_user,
            "per_model": spec.queue.per_model,
            "ttl": spec.affinity.ttl,
            "max_waiting": [getattr(most, kind) for kind in REQUEST_CLASSES],
        }
    )


def ticket_json(ticket: Ticket, owner: str, age: float) -> str:
    """A request as the script reads it; `age` are the seconds since it first came."""
    fields: Mapping[str, Any] = {
        "id": ticket.id,
        "user": ticket.user,
        "model": ticket.model,
        "priority": ticket.priority,
        "affinity": ticket.affinity,
        "ahead": ticket.ahead,
        "excluded": sorted(ticket.excluded),
        "login": ticket.login,
        "owner": owner,
        "age": age,
    }
    return json.dumps(fields)


def pool_view(spec: PoolSpec, seen: dict[str, Any]) -> PoolView:
    """How a pool stands, from what the script saw; an empty list comes as {}."""
    running = [int(count) for count in seen["running"]]
    gates = (
        GateView(g["name"], g["code"], g["seconds"], g["paused"], bool(g["probe"]))
        for g in seen["gates"]
    )
    names = (upstream.id for upstream in spec.upstreams)
    return PoolView(
        tuple(int(count) for count in seen["waiting"]),
        dict(zip(names, running, strict=False)),
        tuple(gates),
    )


def batches(ids: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


# --- shared/routing/redis_queue.py ---

# After its last sign of life, what a replica holds is free again.
SLOT_LEASE_SECONDS = 7.5
TELL_REDIS_SECONDS = 1.0
STANDINGS_AT_ONCE = 50
REJOIN_SECONDS = (0.5, 5.0)  # the first pause before asking a lost Redis, and the last
REFUSED_SECONDS = 60.0  # the pause before asking one that does not run the script
COUNTS_SECONDS = 3600  # the page shows an hour, also of a replica that is gone
SHARE_SECONDS = 3.0  # from a request's end until its counts are told

redis_log = logging.getLogger("aqueduct.routing")


class RedisStore:
    """See QueueStore. `places` are the requests of this replica, whoever queues them.

    They are the truth: when Redis is lost they are put into queues of our own, and
    when it is back, or has forgotten us, they are told to it again.
    """

    def __init__(
        self,
        wire: RedisWire,
        block_seconds: float = 2.0,
        lease_seconds: float = SLOT_LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        refused_seconds: float = REFUSED_SECONDS,
    ) -> None:
        self.replica = new_replica()
        self.places: dict[str, QueuePlace] = {}
        self.online = True
        self._wire = wire
        self._lease = lease_seconds
        self._block = min(block_seconds, lease_seconds / 3)
        self._clock = clock
        self._local = InProcessStore(clock)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listener: asyncio.Task[None] | None = None
        self._telling: set[str] = set()
        self._next_beat = 0.0
        self._pause = REJOIN_SECONDS[0]
        self._refused = refused_seconds
        self._process = self.replica
        self._sharing: asyncio.TimerHandle | None = None

    # --- what the router asks ---

    async def enter(self, spec: PoolSpec, ticket: Ticket) -> QueuePlace:
        self._join()
        if not ticket.ahead:
            ticket.entered = self._clock()
        place = QueuePlace(spec, ticket)
        self.places[ticket.id] = place
        entering = self._task(self._enter(place))
        try:
            # Shielded: a request that is stopped now must not stay in Redis.
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._task(self._leave_after(entering, place))
            raise
        return place

    async def leave(self, place: QueuePlace, served: bool = False) -> None:
        if self.places.pop(place.ticket.id, None) is not None:
            await asyncio.shield(self._task(self._leave(place, served)))

    async def _leave_after(
        self, entering: asyncio.Task[None], place: QueuePlace
    ) -> None:
        await asyncio.wait([entering])
        await self.leave(place)

    async def standing(self, place: QueuePlace) -> Standing | None:
        if self.online:
            await self._tell([place])
        if self.online:
            return place.standing
        return await self._local.standing(place)

    async def succeeded(self, place: QueuePlace) -> bool:
        assert place.grant is not None
        if not self.online:
            return await self._local.succeeded(place)
        names = gate_names(place.grant.upstream, place.ticket)
        # Nobody should wait for a book to be kept.
        for name in names if place.grant.probe else names[:1]:
            self._task(self._record(place, name, succeeding))
        if place.grant.probe:
            await self._ask(place, "reopen", *names)
        return place.grant.probe

    async def failed(self, place: QueuePlace, code: str) -> bool:
        assert place.grant is not None
        if not self.online:
            return await self._local.failed(place, code)
        probing = place.grant.probe
        name = failing_gate(place, code)

        def failing(
            record: BreakerRecord, now: float
        ) -> tuple[BreakerRecord, Shut | None]:
            return after_failure(record, now, code, probing, place.spec.breaker)

        shut = await self._record(place, name, failing)
        if shut is not None:
            await self._shut(place, name, shut.seconds, code, False)
        return shut is not None

    async def pause(self, place: QueuePlace, code: str, seconds: float) -> None:
        assert place.grant is not None
        if not self.online:
            await self._local.pause(place, code, seconds)
            return
        seconds = min(seconds, LONGEST_PAUSE)
        short = seconds <= place.spec.retry.budget
        await self._shut(place, place.grant.upstream, seconds, code, short)

    async def view(self, spec: PoolSpec) -> PoolView:
        self._join()
        if self.online:
            try:
                seen = await self._wire.ask(spec.name, "view")
            except REDIS_ERRORS as error:
                self._lose(error)
            else:
                return pool_view(spec, seen)
        return await self._local.view(spec)

    def share(self, counts: Mapping[str, Any]) -> None:
        if self._sharing is None:
            loop = asyncio.get_running_loop()
            self._sharing = loop.call_later(SHARE_SECONDS, self._share, counts)

    def _share(self, counts: Mapping[str, Any]) -> None:
        self._sharing = None
        self._task(self.publish(json.dumps(counts).encode()))

    async def publish(self, counts: bytes) -> None:
        if self.online:
            try:
                await self._wire.put_counts(self._process, counts, COUNTS_SECONDS)
            except REDIS_ERRORS as error:
                self._lose(error)

    async def published(self) -> Sequence[bytes]:
        if self.online:
            try:
                return await self._wire.all_counts()
            except REDIS_ERRORS as error:
                self._lose(error)
        return []

    async def close(self) -> None:
        """Stop listening; what this replica holds is free when its lease ends."""
        running = [*self._tasks, *([self._listener] if self._listener else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # --- requests in Redis ---

    async def _enter(self, place: QueuePlace) -> None:
        ticket = place.ticket
        if not self.online:
            self._local.pool(place.spec).enter(place)
            return
        given = ticket_json(ticket, self.replica, self._clock() - ticket.entered)
        letter = await self._ask(place, "enter", given, spec_json(place.spec))
        if letter is None:
            return
        if ticket.id not in self.places:  # it left meanwhile, perhaps before us
            await self._ask(place, "leave", ticket.id, 0)
            return
        self._deliver(letter)
        if letter.get("sticky"):
            self._loosen_later(place)

    async def _leave(self, place: QueuePlace, served: bool) -> None:
        if self.online:
            await self._ask(place, "leave", place.ticket.id, int(served))
        else:
            await self._local.leave(place, served)

    def _loosen_later(self, place: QueuePlace) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(place.spec.affinity.wait, self._loosen, place)

    def _loosen(self, place: QueuePlace) -> None:
        if self.online and not place.settled.done():
            self._task(self._ask(place, "loosen", place.ticket.id))

    async def _shut(
        self, place: QueuePlace, name: str, seconds: float, code: str, paused: bool
    ) -> None:
        await self._ask(place, "shut", name, seconds, code, int(paused))
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, self._opening, place)

    def _opening(self, place: QueuePlace) -> None:
        """Give slots when an upstream that was shut may be used again."""
        if self.online:
            self._task(self._ask(place, "check"))

    async def _record(
        self,
        place: QueuePlace,
        name: str,
        judge: Callable[[BreakerRecord, float], tuple[BreakerRecord, Shut | None]],
    ) -> Shut | None:
        """Change what is known of an upstream, whoever else changes it meanwhile."""
        try:
            for _ in range(5):
                before = await self._wire.get_record(place.spec.name, name)
                known = NO_RECORD
                if before:
                    known = BreakerRecord.from_json(json.loads(before))
                record, shut = judge(known, time.time())
                after = json.dumps(record.to_json())
                arguments = ("record", name, before, after)
                if await self._wire.ask(place.spec.name, *arguments):
                    return shut
        except REDIS_ERRORS as error:
            self._lose(error)
        return None

    async def _ask(self, place: QueuePlace, command: str, *arguments: Any) -> Any:
        """A command for the place's pool; None when Redis is lost over it."""
        if not self.online:
            return None
        try:
            return await self._wire.ask(place.spec.name, command, *arguments)
        except REDIS_ERRORS as error:
            self._lose(error)
            return None

    # --- what Redis tells ---

    def _join(self) -> None:
        """Listen from the first request on."""
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        task = asyncio.current_task()
        # The library makes an error of its own of a cancellation that hits a read.
        while task is not None and not task.cancelling():
            try:
                if self._clock() >= self._next_beat:
                    await self._beat()
                if not self.online:
                    await asyncio.sleep(self._pause)
                    self._pause = min(self._pause * 2, REJOIN_SECONDS[1])
                    await self._rejoin()
                letter = await self._wire.next_letter(self.replica, self._block)
                if self.online:
                    self._pause = REJOIN_SECONDS[0]
                if letter is not None:
                    self._deliver(letter)
            except REDIS_ERRORS as error:
                self._lose(error)

    def _deliver(self, letter: dict[str, Any]) -> None:
        if letter["kind"] == "moved":
            self._tell_later(letter["pool"])
        place = self.places.get(letter.get("id", ""))
        if place is None or place.settled.done():
            return
        if letter["kind"] == "grant":
            keys = ("id", "upstream", "affinity", "probe")
            place.give(Grant(*(letter[key] for key in keys)))
        elif letter["kind"] == "unknown":
            self._task(self._enter(place))
        elif letter["kind"] == "refusal":
            seconds = letter["seconds"] or None
            place.refuse(Refusal(letter["reason"], seconds, letter["cause"]))

    async def _beat(self) -> None:
        """Prolong the lease; where Redis does not know us, tell it all we hold.

        A letter can get lost with its connection, so those who wait are compared.
        """
        self._next_beat = self._clock() + self._lease / 3
        if not self.online:
            return
        known = await self._wire.ask("", "beat", self.replica, self._lease)
        if not known:
            await self._tell_all()
        waiting: dict[str, list[str]] = {}
        for place in self.places.values():
            if not place.settled.done():
                waiting.setdefault(place.spec.name, []).append(place.ticket.id)
        for pool, ids in waiting.items():
            for some in batches(ids, STANDINGS_AT_ONCE):
                for letter in await self._wire.ask(pool, "check", *some) or ():
                    self._deliver(letter)

    async def _tell_all(self) -> None:
        """Tell Redis of every request that runs or waits here."""
        for place in list(self.places.values()):
            ticket = place.ticket
            given = ticket_json(ticket, self.replica, self._clock() - ticket.entered)
            pool, spec = place.spec.name, spec_json(place.spec)
            if place.grant is not None:
                upstream = place.grant.upstream
                await self._wire.ask(pool, "adopt", given, upstream, spec)
            elif not place.settled.done():
                self._deliver(await self._wire.ask(pool, "enter", given, spec))
                if not place.settled.done():  # its timer may have run out meanwhile
                    self._loosen_later(place)
            if ticket.id not in self.places:  # it left while we spoke of it
                await self._wire.ask(pool, "leave", ticket.id, 0)

    def _lose(self, error: BaseException) -> None:
        """Go on without Redis, with the requests of this replica alone."""
        refused = isinstance(error, ScriptRefused)
        if refused:
            self._pause = self._refused
        if not self.online:
            return
        self.online = False
        if refused:
            redis_log.error("Redis does not run routing, queues are local: %s", error)
        else:
            redis_log.warning(
                "Redis is gone, queues are local until it is back: %r", error
            )
        for place in list(self.places.values()):
            self._local.pool(place.spec).take_over(place)

    async def _rejoin(self) -> None:
        """Under a new name: what left meanwhile is still there under the old one."""
        old, new = self.replica, new_replica()
        await self._wire.ask("", "beat", new, self._lease)
        self._local.forget()
        self.replica, self.online = new, True
        redis_log.warning("Redis is back, queues are shared again.")
        await self._tell_all()
        await self._wire.ask("", "beat", old, 0)

    # --- where those stand who wait ---

    def _tell_later(self, pool: str) -> None:
        if pool not in self._telling:
            self._telling.add(pool)
            loop = asyncio.get_running_loop()
            loop.call_later(TELL_REDIS_SECONDS, self._tell_pool, pool)

    def _tell_pool(self, pool: str) -> None:
        self._telling.discard(pool)
        places = (p for p in self.places.values() if p.spec.name == pool)
        self._task(self._tell([p for p in places if p.moved is not None]))

    async def _tell(self, places: Sequence[QueuePlace]) -> None:
        """Tell these requests, all of one pool, where they stand."""
        by_id = {place.ticket.id: place for place in places}
        for ids in batches([*by_id], STANDINGS_AT_ONCE):
            lines = await self._ask(by_id[ids[0]], "standings", self.replica, *ids)
            for ticket_id, position, total, seconds in lines or ():
                standing = Standing(int(position), int(total), seconds or None)
                by_id[ticket_id].tell(standing)

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that is kept until it is done."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def new_replica() -> str:
    return uuid.uuid4().hex[:12]


def succeeding(record: BreakerRecord, now: float) -> tuple[BreakerRecord, None]:
    return after_success(record, now), None


# --- shared/routing/failures.py ---


class QueueError(AqueductError):
    """A request that was given no slot: queue_busy, queue_expired, upstreams_shut."""


class AttemptsFailed(AqueductError):
    """Nothing worked; `attempts` are the errors, in order, as (code, fields).

    Its fields carry them, too, so that the sentence can tell all of them.
    """

    def __init__(self, errors: Sequence[AqueductError]) -> None:
        attempts = [(error.code, dict(error.fields)) for error in errors]
        super().__init__("all_attempts_failed", attempts=attempts)
        self.errors = tuple(errors)


def joined_error(errors: Sequence[AqueductError]) -> AqueductError:
    """One error for all that was tried, each sentence told once."""
    flat: list[AqueductError] = []
    for error in errors:
        flat += error.errors if isinstance(error, AttemptsFailed) else [error]
    seen: dict[str, AqueductError] = {}
    for error in flat:
        seen.setdefault(f"{error.code} {sorted(error.fields.items(), key=str)}", error)
    different = list(seen.values())
    return different[0] if len(different) == 1 else AttemptsFailed(different)


# --- shared/routing/retry.py ---

OVERLOADED_WORDS = ("overloaded", "rate limit", "rate_limit", "too many requests")
MAX_DOUBLINGS = 16  # beyond every cap that makes sense


@dataclass(frozen=True, slots=True)
class FailureMeaning:
    """Whether the same upstream may be asked again, and whose fault it was.

    `blame`: `upstream` counts against it, `pause` means it is well but busy, `request`
    that another request may do better. `retry_after` is what the server asked for, in
    seconds.
    """

    again: bool
    blame: Literal["upstream", "pause", "request"]
    retry_after: float | None = None


def meaning_of(error: AqueductError) -> FailureMeaning:
    """What to make of a failure before the first token."""
    if isinstance(error, UpstreamRefused):
        seconds = error.fields.get("retry_after")
        busy = error.status == 429 or (error.status == 503 and seconds is not None)
        if busy:
            return FailureMeaning(True, "pause", seconds)
        if error.status in (401, 403, 404):
            return FailureMeaning(False, "upstream")
        if error.status == 408 or error.status >= 500:
            return FailureMeaning(True, "upstream", seconds)
        return FailureMeaning(False, "request")
    if isinstance(error, UpstreamUnreachable):
        return FailureMeaning(error.code != "bad_address", "upstream")
    if isinstance(error, UpstreamSilent):
        # A server that hangs would hang again for as long; connecting is quick.
        return FailureMeaning(error.code == "connect_timeout", "upstream")
    if isinstance(error, UpstreamBroken):
        if says_overloaded(error):
            return FailureMeaning(True, "pause")
        return FailureMeaning(error.code == "cut_short", "upstream")
    return FailureMeaning(False, "request")


def says_overloaded(error: AqueductError) -> bool:
    """Whether a server said so in a stream that had begun with status 200."""
    said = str(error.fields.get("detail") or "").lower()
    return any(word in said for word in OVERLOADED_WORDS)


def backoff_seconds(
    attempt: int, rules: RetrySettings, chance: random.Random | None = None
) -> float:
    """How long to wait after attempt number `attempt`, counted from 1."""
    most = min(rules.cap, rules.base * 2 ** min(attempt - 1, MAX_DOUBLINGS))
    return (chance or random).uniform(0.0, most)


# --- shared/routing/histograms.py ---

# Five steps a decade (Renard's series R5): a quantile read from the buckets is within
# a fifth of the true one. From a millisecond to almost two hours; also good for tokens/s.
BUCKET_BOUNDS = tuple(
    float(f"{mantissa}e{exponent}")
    for exponent in range(-3, 4)
    for mantissa in (1, 1.6, 2.5, 4, 6.3)
)
BUCKET_NAMES = (*(f"{bound:g}" for bound in BUCKET_BOUNDS), "inf")
MINUTES_KEPT = 60

HistogramData = dict[str, Any]
Buckets = Mapping[str, int]


def new_histogram() -> HistogramData:
    return {"count": 0, "sum": 0.0, "buckets": {}, "minutes": {}}


def observe(histogram: HistogramData, value: float, minute: int) -> None:
    """Count one value (seconds, or tokens a second) in this minute since 1970."""
    name = BUCKET_NAMES[bisect_left(BUCKET_BOUNDS, value)]
    histogram["count"] += 1
    histogram["sum"] += value
    buckets = histogram["buckets"]
    buckets[name] = buckets.get(name, 0) + 1
    buckets = this_minute(histogram["minutes"], minute)
    buckets[name] = buckets.get(name, 0) + 1


def this_minute(minutes: dict[str, dict[str, int]], minute: int) -> dict[str, int]:
    """The counts of this minute; makes room by dropping the oldest minutes."""
    key = str(minute)
    counts = minutes.get(key)
    if counts is None:
        counts = minutes[key] = {}
        while len(minutes) > MINUTES_KEPT:
            del minutes[next(iter(minutes))]
    return counts


def quantile(buckets: Buckets, share: float) -> float | None:
    """The value that `share` (0 to 1) of all lie below; None where there are none.

    Inside a bucket values are taken to lie evenly, as Prometheus does it in
    histogram_quantile. Above the last bound it is that bound.
    """
    counts = [buckets.get(name, 0) for name in BUCKET_NAMES]
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    sums = list(accumulate(counts))
    place = bisect_left(sums, rank)
    while not counts[place]:
        place += 1  # rank 0: the first bucket that holds anything
    if place == len(BUCKET_BOUNDS):
        return BUCKET_BOUNDS[-1]
    low = BUCKET_BOUNDS[place - 1] if place else 0.0
    inside = (rank - (sums[place] - counts[place])) / counts[place]
    return low + (BUCKET_BOUNDS[place] - low) * inside


def add_numbers(one: Any, other: Any) -> Any:
    """The sum of two trees of dictionaries whose leaves are numbers."""
    if not isinstance(one, Mapping):
        return one + other
    joined = dict(one)
    for key, value in other.items():
        joined[key] = add_numbers(joined[key], value) if key in joined else value
    return joined


# --- shared/routing/stats.py ---

MOST_KEYS = 50  # different errors, or targets of a fallback, of one upstream or pool
BREAKER_LEVELS = {"closed": 0, "half_open": 1, "open": 2}

Attributes = Mapping[str, str]
StatsData = dict[str, Any]


class Recorder(Protocol):
    """Where counts also go as they happen: OpenTelemetry, when it is on."""

    def add(self, name: str, amount: int, attributes: Attributes) -> None:
        """Add to a counter."""

    def record(self, name: str, value: float, attributes: Attributes) -> None:
        """Count a value in a histogram, or set a gauge."""


class SilentRecorder:
    """The recorder of a server without telemetry."""

    def add(self, name: str, amount: int, attributes: Attributes) -> None:
        pass

    def record(self, name: str, value: float, attributes: Attributes) -> None:
        pass


class RoutingStats:
    """The counts of all pools of this process.

    `now` gives seconds since 1970, which are the same minutes in all replicas.
    """

    def __init__(
        self,
        data: StatsData,
        recorder: Recorder | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.data = data
        self._recorder = recorder or SilentRecorder()
        self._now = now
        self._pools: dict[str, PoolStats] = {}

    def pool(self, name: str) -> "PoolStats":
        """The counts of one pool; goes on with what `data` holds of it."""
        pool = self._pools.get(name)
        if pool is None:
            data = self.data.setdefault(name, {})
            pool = PoolStats(name, data, self._recorder, self._now)
            self._pools[name] = pool
        return pool

    def forget_others(self, pools: Mapping[str, Collection[str]]) -> None:
        """Keep only these pools, each with these upstreams."""
        for name in [name for name in self.data if name not in pools]:
            del self.data[name]
        self._pools.clear()
        for name, kept in pools.items():
            upstreams = self.data.get(name, {}).get("upstreams", {})
            for upstream in [key for key in upstreams if key not in kept]:
                del upstreams[upstream]


class PoolStats:
    """The counts of one pool: see the module's docstring."""

    def __init__(
        self,
        name: str,
        data: StatsData,
        recorder: Recorder,
        now: Callable[[], float],
    ) -> None:
        self._attributes = {"aqueduct.pool": name}
        self._recorder = recorder
        self._now = now
        self._wait: StatsData = data.setdefault("wait", {})
        self._left: StatsData = data.setdefault("left", {})
        self._fallbacks: StatsData = data.setdefault("fallbacks", {})
        self._data: StatsData = data.setdefault("upstreams", {})
        self._upstreams: dict[str, UpstreamStats] = {}

    def upstream(self, name: str) -> "UpstreamStats":
        upstream = self._upstreams.get(name)
        if upstream is None:
            attributes = self._attributes | {"aqueduct.upstream": name}
            data = self._data.setdefault(name, {})
            upstream = UpstreamStats(data, attributes, self._recorder, self._now)
            self._upstreams[name] = upstream
        return upstream

    def queued(self, kind: str) -> None:
        """A request of this class (person, background, task) comes."""
        self._recorder.add("aqueduct.routing.waiting", 1, self._of_class(kind))

    def waited(self, kind: str, seconds: float) -> None:
        """Its turn came after so many seconds; 0 when it came at once."""
        histogram = self._wait.get(kind)
        if histogram is None:
            histogram = self._wait[kind] = new_histogram()
        observe(histogram, seconds, int(self._now() // 60))
        attributes = self._of_class(kind)
        self._recorder.record("aqueduct.routing.wait", seconds, attributes)
        self._recorder.add("aqueduct.routing.waiting", -1, attributes)

    def left(self, kind: str, why: str) -> None:
        """It left without a place: `cancelled`, `expired` or `refused`."""
        count_one(self._left.setdefault(kind, {}), why)
        attributes = self._of_class(kind)
        self._recorder.add("aqueduct.routing.waiting", -1, attributes)
        self._recorder.add(
            "aqueduct.routing.left", 1, attributes | {"aqueduct.reason": why}
        )

    def fell_back(self, target: str) -> None:
        """Another pool or agent takes a request over."""
        count_one(self._fallbacks, target)
        self._recorder.add(
            "aqueduct.routing.fallbacks",
            1,
            self._attributes | {"aqueduct.target": target},
        )

    def _of_class(self, kind: str) -> dict[str, str]:
        return self._attributes | {"aqueduct.class": kind}


class UpstreamStats:
    """The counts of one upstream: see the module's docstring."""

    def __init__(
        self,
        data: StatsData,
        attributes: Attributes,
        recorder: Recorder,
        now: Callable[[], float],
    ) -> None:
        self._data = data
        self._attributes = dict(attributes)
        self._recorder = recorder
        self._now = now
        data.setdefault("affinity", {})
        data.setdefault("errors", {})
        data.setdefault("errors_by_minute", {})
        data.setdefault("breaker", {})
        data.setdefault("retries", 0)
        data.setdefault("first_token", new_histogram())
        data.setdefault("token_rate", new_histogram())

    def started(self, affinity: str) -> None:
        """An attempt begins; the chat's upstream was `kept`, `moved` or it is `new`."""
        count_one(self._data["affinity"], affinity)
        self._recorder.add("aqueduct.routing.running", 1, self._attributes)
        self._recorder.add(
            "aqueduct.routing.attempts",
            1,
            self._attributes | {"aqueduct.affinity": affinity},
        )

    def first_token(self, seconds: float) -> None:
        """The first token came so many seconds after the attempt began."""
        self._observe("first_token", seconds)

    def ended(self, error: str = "", *, seconds: float = 0.0, tokens: int = 0) -> None:
        """An attempt is over: well, with an error's code, or `cancelled`.

        `tokens` came in `seconds` after the first one; 0 where unknown.
        """
        self._recorder.add("aqueduct.routing.running", -1, self._attributes)
        if tokens and seconds > 0:
            self._observe("token_rate", tokens / seconds)
        if not error:
            return
        count_one(self._data["errors"], error)
        if error != "cancelled":
            minutes = self._data["errors_by_minute"]
            count_one(this_minute(minutes, int(self._now() // 60)), "count")
        self._recorder.add(
            "aqueduct.routing.errors", 1, self._attributes | {"error.type": error}
        )

    def retried(self) -> None:
        """The request that failed here is tried again."""
        self._data["retries"] += 1
        self._recorder.add("aqueduct.routing.retries", 1, self._attributes)

    def breaker(self, state: str) -> None:
        """The breaker is `closed`, `half_open` or `open` from now on."""
        count_one(self._data["breaker"], state)
        self._recorder.record(
            "aqueduct.routing.breaker", BREAKER_LEVELS[state], self._attributes
        )

    def _observe(self, name: str, value: float) -> None:
        observe(self._data[name], value, int(self._now() // 60))
        self._recorder.record(f"aqueduct.routing.{name}", value, self._attributes)


def count_one(counts: dict[str, int], key: str) -> None:
    """One more of `key`; of `other` when there are too many different ones."""
    if key not in counts and len(counts) >= MOST_KEYS:
        key = "other"
    counts[key] = counts.get(key, 0) + 1


# --- shared/texts.py ---

Sentence = Callable[[str, Mapping[str, Any]], str]


class _Fields(dict[str, Any]):
    """Fields of a template: a missing one is left out, never an error."""

    def __missing__(self, key: str) -> str:
        return ""


def translate(
    table: Mapping[str, Mapping[str, str]],
    code: str,
    language: str,
    fields: Mapping[str, Any],
) -> str:
    """The sentence `code` of a table {code: {language: template}}.

    `language` is a BCP 47 tag such as "de-DE"; English where there is no
    translation. A `{detail}` that is empty takes its colon and brackets with it.
    """
    templates = table[code]
    template = templates.get(language.split("-")[0].lower()) or templates["en"]
    detail = str(fields.get("detail") or "")
    filled = _Fields(fields)
    filled["detail"] = f" ({detail})" if detail else ""
    for key, value in fields.items():
        if isinstance(value, float):
            filled[key] = f"{value:g}"
    return template.format_map(filled)


# --- shared/routing/router.py ---

# The cause of a pause that a server asked for: 429, 503, or words to that effect.
BUSY_SERVER = "busy_server"
# What is not told before the first word: of an attempt that fails nothing may stay.
UNSAID = (SessionState, Usage)


@dataclass(frozen=True, slots=True)
class RoutedUpstream:
    """An upstream that a request may be sent to.

    `run` begins the model call there; `health` returns when the server is well, and
    may raise UpstreamError. `names` are fields of sentences: its agent, its host.
    """

    run: Callable[[], AsyncGenerator[AgentEvent, None]]
    health: Callable[[], Any]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RoutedCall:
    """Who wants what: one model call. `priority` and `login` as in Ticket.

    `goes_on`: somebody has half an answer and waits for the rest.
    """

    spec: PoolSpec
    upstreams: Mapping[str, RoutedUpstream]
    user: str
    model: str
    affinity: str
    priority: int
    sentence: Sentence
    goes_on: bool = False
    login: str = ""


@dataclass(slots=True)
class Progress:
    """How far one call has come. `status` is a line of ours that still shimmers,
    `waited` the seconds in queues, which the deadline is for.

    `excluded` are upstreams not to be asked next, `hopeless` those never to be asked
    again: their failure will not pass.
    """

    entered: float
    started: float | None = None
    waited: float = 0.0
    attempt: int = 0
    upstream: str = ""
    excluded: frozenset[str] = frozenset()
    hopeless: frozenset[str] = frozenset()
    errors: list[AqueductError] = field(default_factory=list)
    said: bool = False
    status: str = ""

    def show(self, text: str) -> Status:
        self.status = text
        return Status(text)

    def close(self, text: str = "") -> list[Status]:
        """End the line that shimmers, if there is one."""
        shown, self.status = self.status, ""
        return [Status(text or shown, True)] if shown else []


@dataclass(frozen=True, slots=True)
class Router:
    """Sends calls through the queues of `store`; `clock` in seconds."""

    store: QueueStore
    stats: RoutingStats
    clock: Callable[[], float] = time.monotonic

    async def run(self, call: RoutedCall) -> AsyncGenerator[AgentEvent, None]:
        """The events of the first attempt that says something.

        Raises QueueError when no slot was to be had, the upstream's error when it
        failed, and AttemptsFailed when several did.
        """
        progress = Progress(self.clock())
        while True:
            try:
                async with aclosing(self._attempt(call, progress)) as events:
                    async for event in events:
                        yield event
                return
            except AqueductError as error:
                if progress.said:
                    raise  # the partial answer stays, with this error below it
                no_slot = isinstance(error, QueueError)
                if not no_slot:
                    progress.errors.append(error)
                elif not progress.errors:
                    raise
                delay = self._delay(call, progress, no_slot)
                if delay is None:
                    raise joined_error(progress.errors) from error
            self._counts(call, progress.upstream).retried()
            failed = progress.errors[-1]
            yield progress.show(call.sentence("retrying", failed.fields))
            await asyncio.sleep(delay)

    async def _attempt(
        self, call: RoutedCall, progress: Progress
    ) -> AsyncGenerator[AgentEvent, None]:
        """Queue once, and run once."""
        progress.attempt += 1
        ticket = Ticket(
            new_id("ticket"),
            call.user,
            call.model,
            call.priority,
            call.affinity,
            progress.entered,
            ahead=call.goes_on or progress.attempt > 1,
            excluded=progress.excluded,
            login=call.login,
        )
        place = await self.store.enter(call.spec, ticket)
        served = False
        try:
            async with aclosing(self._turn(call, place, progress)) as waiting:
                async for status in waiting:
                    yield status
            async with aclosing(self._served(call, place, progress)) as events:
                async for event in events:
                    yield event
            served = True
        finally:
            await self.store.leave(place, served)
            self.store.share(self.stats.data)

    async def _turn(
        self, call: RoutedCall, place: QueuePlace, progress: Progress
    ) -> AsyncGenerator[Status, None]:
        """Wait for a slot, telling where the request stands; raises QueueError."""
        counts = self.stats.pool(call.spec.name)
        kind = REQUEST_CLASSES[call.priority]
        counts.queued(kind)
        came, why, told = self.clock(), "cancelled", False
        deadline = getattr(call.spec.queue.deadline, kind)
        try:
            if not place.settled.done():
                limit = came + deadline - progress.waited
                async with aclosing(self._wait(call, place, limit)) as notices:
                    async for notice in notices:
                        told = True
                        yield progress.show(notice)
            if place.refusal is not None:
                why = "refused"
                raise refused(place.refusal)
            if place.grant is None:
                why = "expired"
                raise QueueError("queue_expired", seconds=round(deadline))
            why = ""
        finally:
            seconds = self.clock() - came
            progress.waited += seconds
            if why:
                counts.left(kind, why)
            else:
                counts.waited(kind, seconds)
        if told:
            text = call.sentence("waited", {"seconds": math.ceil(seconds)})
            for status in progress.close(text):
                yield status

    async def _wait(
        self, call: RoutedCall, place: QueuePlace, limit: float
    ) -> AsyncGenerator[str, None]:
        """Lines to show, until the place is settled or the clock says `limit`."""
        told = self.clock() + call.spec.queue.notify_after
        await asyncio.wait([place.settled], timeout=min(told, limit) - self.clock())
        place.standing = await self.store.standing(place)
        shown = ""
        while not place.settled.done() and self.clock() < limit:
            text = standing_text(call.sentence, place.standing)
            if text and text != shown:
                shown = text
                yield text
            place.moved = asyncio.get_running_loop().create_future()
            changes = [place.settled, place.moved]
            await asyncio.wait(
                changes,
                timeout=max(0.0, limit - self.clock()),
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def _served(
        self, call: RoutedCall, place: QueuePlace, progress: Progress
    ) -> AsyncGenerator[AgentEvent, None]:
        """Run on the upstream that the place was given, and learn from how it went."""
        assert place.grant is not None
        grant, progress.upstream = place.grant, place.grant.upstream
        if progress.started is None:
            progress.started = self.clock()
        upstream = call.upstreams.get(grant.upstream)
        if upstream is None:
            # Another replica, whose settings are newer or older, gave us this slot.
            raise UpstreamUnreachable("unreachable", host=grant.upstream)
        counts = self._counts(call, grant.upstream)
        counts.started(grant.affinity)
        begun = self.clock()
        answer = Answering(outcome="cancelled", first=begun)
        try:
            if grant.probe:
                counts.breaker("half_open")
                if call.spec.breaker.health:
                    await look_at(upstream)
            async with aclosing(upstream.run()) as events:
                async for event in events:
                    if isinstance(event, Usage):
                        answer.tokens = output_tokens(event.counts)
                    if progress.said:
                        yield event
                    elif isinstance(event, Status):
                        progress.status = ""  # it stands in the place of ours
                        yield event
                    else:
                        answer.held.append(event)
                        if isinstance(event, UNSAID):
                            continue
                        answer.first = self.clock()
                        counts.first_token(answer.first - begun)
                        for held in await self._begins(counts, place, progress, answer):
                            yield held
            for held in await self._begins(counts, place, progress, answer):
                yield held
            answer.outcome = ""
        except AqueductError as error:
            error.fields = {**upstream.names, **error.fields}
            answer.outcome = error.code
            await self._learn(call, place, progress, error)
            raise
        finally:
            seconds = self.clock() - answer.first
            counts.ended(answer.outcome, seconds=seconds, tokens=answer.tokens)

    async def _begins(
        self,
        counts: UpstreamStats,
        place: QueuePlace,
        progress: Progress,
        answer: "Answering",
    ) -> list[AgentEvent]:
        """The upstream answers: what was held back until now may be shown."""
        if progress.said:
            return []
        progress.said = True
        if await self.store.succeeded(place):
            counts.breaker("closed")
        return [*progress.close(), *answer.held]

    async def _learn(
        self,
        call: RoutedCall,
        place: QueuePlace,
        progress: Progress,
        error: AqueductError,
    ) -> None:
        """Tell the store how the upstream failed."""
        assert place.grant is not None
        meaning = meaning_of(error)
        if meaning.blame == "upstream":
            if await self.store.failed(place, error.code):
                self._counts(call, place.grant.upstream).breaker("open")
        elif meaning.blame == "pause":
            seconds = meaning.retry_after
            if seconds is None:
                seconds = backoff_seconds(progress.attempt, call.spec.retry)
            await self.store.pause(place, BUSY_SERVER, seconds)

    def _delay(
        self, call: RoutedCall, progress: Progress, no_slot: bool
    ) -> float | None:
        """The seconds until the next attempt, or None when the last error stands.

        Other upstreams are asked at once; when all failed, or the others gave no slot,
        those whose failure may pass are asked again.
        """
        rules, meaning = call.spec.retry, meaning_of(progress.errors[-1])
        assert progress.started is not None
        left = rules.budget - (self.clock() - progress.started)
        if progress.attempt >= rules.attempts or meaning.blame == "request" or left < 0:
            return None
        names = {upstream.id for upstream in call.spec.upstreams}
        if not no_slot:
            progress.excluded |= {progress.upstream}
            if not meaning.again:
                progress.hopeless |= {progress.upstream}
            if names - progress.excluded:
                return 0.0
        elif progress.excluded == progress.hopeless:
            return None
        progress.excluded = progress.hopeless
        jitter = backoff_seconds(progress.attempt, rules)
        delay = max(jitter, meaning.retry_after or 0.0)
        return delay if names - progress.hopeless and delay <= left else None

    def _counts(self, call: RoutedCall, upstream: str) -> UpstreamStats:
        return self.stats.pool(call.spec.name).upstream(upstream)


@dataclass(slots=True)
class Answering:
    """One attempt: what was said before anybody could see it, and how it ended."""

    outcome: str
    first: float
    tokens: int = 0
    held: list[AgentEvent] = field(default_factory=list)


async def look_at(upstream: RoutedUpstream) -> None:
    """Raise UpstreamError when the server is ill."""
    try:
        await upstream.health()
    except UpstreamRefused as error:
        # A server without what is asked for is there all the same.
        if error.status not in (404, 405, 501):
            raise


def refused(refusal: Refusal) -> QueueError:
    """The error for a request that the queue did not take."""
    seconds = None if refusal.seconds is None else math.ceil(refusal.seconds)
    if refusal.reason != BUSY and refusal.cause in LASTING_CODES:
        return QueueError(refusal.cause)
    if refusal.reason != BUSY and refusal.cause != BUSY_SERVER:
        return QueueError("upstreams_shut", seconds=seconds or 0)
    if seconds is None:
        return QueueError("queue_busy")
    return QueueError("queue_busy_wait", seconds=seconds)


def standing_text(sentence: Sentence, standing: Standing | None) -> str:
    """A place in the queue in words; seconds in steps that suit so rough a guess."""
    if standing is None:
        return ""
    fields = {"position": standing.position, "total": standing.total}
    if standing.seconds is None:
        return sentence("waiting", fields)
    step = 5 if standing.seconds < 60 else 30
    seconds = max(1, math.ceil(standing.seconds / step)) * step
    return sentence("waiting_time", fields | {"seconds": seconds})


def output_tokens(counts: Mapping[str, Any]) -> int:
    """Tokens of the answer, by the name that this API gives them."""
    for name in ("completion_tokens", "output_tokens"):
        if isinstance(counts.get(name), int):
            return counts[name]
    return 0


# --- shared/agents/routed.py ---

BLOCK_SECONDS = 2.0  # how long one command waits for news

Run = Callable[[Turn], AsyncGenerator[AgentEvent, None]]


def request_class(call: PipeRequest) -> str:
    """Who waits: a person in front of a chat, a program, or a task of Open WebUI.

    Subagents and automations run in chats, too, but nobody watches them.
    """
    if call.task:
        return "task"
    unwatched = call.metadata.get("internal") or call.metadata.get("automation_id")
    return "person" if call.in_chat and not unwatched else "background"


def pool_of_call(
    config: AgentsConfig, chain: Sequence[AgentEntry], entry: AgentEntry
) -> PoolPlan | None:
    """The pool of one agent of a chain; None where a plain agent stands alone."""
    routed = len(chain) > 1 or is_routed(entry.agent)
    return config.plans[entry.agent.id] if routed else None


def count_fallback(pool: str, agent_id: str) -> None:
    make_stats().pool(pool).fell_back(agent_id)


def make_store(redis_url: str) -> QueueStore:
    """Queues for all replicas where they share a Redis, else for this process."""
    found = host_redis(redis_url)
    if found is None:
        return InProcessStore()
    wire = RedisWire(found.client, f"{found.prefix}:aqueduct:{{routing}}:")
    block = BLOCK_SECONDS if found.patience is None else found.patience / 2
    return RedisStore(wire, min(BLOCK_SECONDS, block))


def make_router(redis_url: str) -> Router:
    """A router over what is kept as long as the server runs; `redis_url` as in
    host_redis. Requests stay in the queues they are in when that changes."""
    # Change the names with the shape: a new version finds what an older one kept.
    name = f"routing queues 1 {redis_url}".rstrip()
    store: QueueStore = shared_resource(name, partial(make_store, redis_url))
    return Router(store, make_stats())


def make_stats() -> RoutingStats:
    """The counts of this process, kept as long as the server runs."""
    counts: dict[str, Any] = shared_resource("routing stats 1", dict)
    return RoutingStats(counts, telemetry_recorder())


@dataclass(frozen=True, slots=True)
class RoutedAgent:
    """One agent's model in its pool, for one call of the pipe."""

    entry: AgentEntry
    plan: PoolPlan
    call: PipeRequest
    sentence: Sentence

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of a model call, when its turn has come; see Router.run."""
        user_id = str(self.call.user.get("id", ""))
        chat_id = str(self.call.metadata.get("chat_id") or "")
        model = self.entry.model or self.entry.agent.id
        kind = request_class(self.call)
        # A program that calls tools would otherwise be ahead of all others for ever.
        goes_on = kind == "person" and turn.messages[-1].get("role") == "tool"
        call = RoutedCall(
            spec=self.plan.spec,
            upstreams=self._upstreams(turn),
            user=user_id,
            model=model,
            affinity=affinity_key(user_id, chat_id, model, turn.messages),
            priority=REQUEST_CLASSES.index(kind),
            sentence=self.sentence,
            goes_on=goes_on,
            login=self.entry.agent.id if self.entry.agent.pool else "",
        )
        return make_router(self.call.redis_url).run(call)

    def _upstreams(self, turn: Turn) -> Mapping[str, RoutedUpstream]:
        upstreams = {}
        for slots in self.plan.spec.upstreams:
            agent = self.plan.agent_at(self.entry.agent, slots.id)
            model = self.plan.model_at(agent, self.entry.model, slots.id)
            backend = make_backend(agent, model)
            names = {"agent": agent.label, "host": agent.place or agent.label}
            upstreams[slots.id] = RoutedUpstream(
                partial(backend.run, turn), backend.health, names
            )
        return upstreams


def agent_run(
    entry: AgentEntry, plan: PoolPlan | None, call: PipeRequest, sentence: Sentence
) -> Run:
    """What begins a model call of this agent: through its pool, where it has one."""
    if plan is None:
        return make_backend(entry.agent, entry.model).run
    return RoutedAgent(entry, plan, call, sentence).run


# --- shared/host/valves.py ---


async def function_valves(function_id: str) -> dict[str, Any]:
    """The valves an admin has set; empty where the function is not installed."""
    from open_webui.models.functions import Functions

    return await Functions.get_function_valves_by_id(function_id) or {}


async def function_is_active(function_id: str) -> bool:
    from open_webui.models.functions import Functions

    function = await Functions.get_function_by_id(function_id)
    return function is not None and bool(function.is_active)


# --- shared/host/admin_pages.py ---

PAGES_PATH = "/api/v1/aqueduct"
CSP = "Content-Security-Policy"
NOT_STORED = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class AdminPage:
    """A page at `PAGES_PATH/name` and what it shows, at `PAGES_PATH/name.json`.

    `policy` is the page's Content-Security-Policy, `report` gives the JSON. Both are
    served while the function `function_id` is switched on.
    """

    name: str
    function_id: str
    html: str
    policy: str
    report: Callable[[], Awaitable[bytes]]

    @property
    def path(self) -> str:
        return f"{PAGES_PATH}/{self.name}"


def serve_admin_page(page: AdminPage) -> None:
    """Serve this page from now on, in place of an older one of the same name.

    Cheap when it is served already.
    """
    from open_webui.main import app

    served: dict[str, Any] = shared_resource("admin pages", dict)
    if served.get(page.name) is page:
        return
    stop_admin_page(app, page.path)
    # Before all others: the last one, which serves the interface, takes every path.
    app.router.routes[:0] = page_routes(page)
    served[page.name] = page


def stop_admin_page(app: Any, path: str) -> None:
    ours = (path, f"{path}.json")
    routes = app.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", "") not in ours]


def page_routes(page: AdminPage) -> list[Route]:
    """The routes of the page and of its report."""

    async def html(request: Request) -> Response:
        # Who is no administrator gets the page as well, which then says so: it holds
        # no figures, and a browser would show a bare line of JSON otherwise.
        status = await page_status(request, page.function_id)
        return HTMLResponse(page.html, status, NOT_STORED | {CSP: page.policy})

    async def report(request: Request) -> Response:
        status = await page_status(request, page.function_id)
        text = await page.report() if status == 200 else b"{}"
        return Response(text, status, NOT_STORED, "application/json")

    return [Route(page.path, html), Route(f"{page.path}.json", report)]


async def page_status(request: Request, function_id: str) -> int:
    """The HTTP status for who asks: 200 for administrators while the function is on.

    Open WebUI itself tells who it is, by the login that a browser sends as a cookie, by
    a token or by an API key.
    """
    from fastapi import BackgroundTasks, HTTPException
    from open_webui.utils.auth import get_current_user

    try:
        user = await get_current_user(request, Response(), BackgroundTasks(), None)
    except HTTPException as refusal:
        return refusal.status_code
    if user.role != "admin":
        return 403
    return 200 if await function_is_active(function_id) else 404


# --- shared/routing/operator.py ---


def routing_report(
    pools: Iterable[tuple[PoolSpec, PoolView]],
    counts: Sequence[Mapping[str, Any]],
    now: float,
) -> dict[str, Any]:
    """The report as JSON; `counts` has the tree of `RoutingStats.data` of each replica.

    Times are in seconds, `now` in seconds since 1970. Counts are those since the
    replicas started, what stands under `last_hour` is younger; a row of `by_minute`
    holds the minute since 1970, how many, the median and the 95th percentile.
    """
    summed: Any = {}
    for tree in counts:
        summed = add_numbers(summed, tree)
    minute = int(now // 60)
    return {
        "now": now,
        "replicas": len(counts),
        "pools": [
            pool_report(spec, view, summed.get(spec.name) or {}, minute)
            for spec, view in pools
        ],
    }


def pool_report(
    spec: PoolSpec, view: PoolView, counts: Mapping[str, Any], minute: int
) -> dict[str, Any]:
    waits: Any = {}
    for histogram in counts.get("wait", {}).values():
        waits = add_numbers(waits, histogram)
    of_upstreams = counts.get("upstreams", {})
    return {
        "name": spec.name,
        "waiting": dict(zip(REQUEST_CLASSES, view.waiting, strict=True)),
        "max_waiting": spec.queue.max_waiting.model_dump(),
        "wait": spread(waits, minute),
        "wait_by_class": {
            kind: spread(histogram, minute)
            for kind, histogram in counts.get("wait", {}).items()
        },
        "left": counts.get("left", {}),
        "fallbacks": counts.get("fallbacks", {}),
        "upstreams": [
            upstream_report(upstream, view, of_upstreams.get(upstream.id) or {}, minute)
            for upstream in spec.upstreams
        ],
    }


def upstream_report(
    upstream: UpstreamSlots, view: PoolView, counts: Mapping[str, Any], minute: int
) -> dict[str, Any]:
    affinity = counts.get("affinity", {})
    minutes = counts.get("errors_by_minute", {})
    limited = upstream.concurrency < UNLIMITED
    return {
        "name": upstream.id,
        "running": view.running.get(upstream.id, 0),
        "concurrency": upstream.concurrency if limited else None,
        "weight": upstream.weight,
        **standing_of(upstream.id, view.gates),
        "attempts": sum(affinity.values()),
        "affinity": affinity,
        "first_token": spread(counts.get("first_token", {}), minute),
        "token_rate": spread(counts.get("token_rate", {}), minute),
        "errors": counts.get("errors", {}),
        "errors_by_minute": [
            [at, minutes[str(at)]["count"]]
            for at in last_minutes(minute)
            if str(at) in minutes
        ],
        "retries": counts.get("retries", 0),
        "breaker_changes": counts.get("breaker", {}),
    }


def standing_of(upstream: str, gates: Iterable[GateView]) -> dict[str, Any]:
    """Whether an upstream serves: closed, half_open, open (its breaker) or paused.

    `error` is the code of what shut it, `retry_in` the seconds until it is used again;
    `models` has the codes of models that are shut there while others are served.
    """
    state: dict[str, Any] = {"breaker": "closed", "error": "", "retry_in": None}
    models = {}
    for gate in gates:
        name, _, model = gate.name.partition(" ")
        if name != upstream or (gate.paused and not gate.seconds):
            continue
        if model:
            models[model] = gate.code
        elif gate.paused:
            state = {"breaker": "paused", "error": gate.code, "retry_in": gate.seconds}
        else:
            breaker = "open" if gate.seconds and not gate.trying else "half_open"
            again = gate.seconds or None
            state = {"breaker": breaker, "error": gate.code, "retry_in": again}
    return state | {"models": models}


def spread(histogram: HistogramData, minute: int) -> dict[str, Any]:
    """A histogram in figures: of always, of the last hour, and by the minute."""
    minutes = histogram.get("minutes", {})
    recent = [
        (at, minutes[str(at)]) for at in last_minutes(minute) if str(at) in minutes
    ]
    hour: Any = {}
    for _, buckets in recent:
        hour = add_numbers(hour, buckets)
    return {
        "count": histogram.get("count", 0),
        "sum": histogram.get("sum", 0.0),
        "last_hour": {
            "count": sum(hour.values()),
            "p50": quantile(hour, 0.5),
            "p95": quantile(hour, 0.95),
            "p99": quantile(hour, 0.99),
        },
        "by_minute": [
            [at, sum(buckets.values()), quantile(buckets, 0.5), quantile(buckets, 0.95)]
            for at, buckets in recent
        ],
    }


def last_minutes(minute: int) -> range:
    """The minutes kept, oldest first, this one included."""
    return range(minute - MINUTES_KEPT + 1, minute + 1)


# --- shared/routing/page_script.py ---

PAGE_SCRIPT = r"""
"use strict";
const EVERY = 2000;
const MINUTES = 60;
const SVG = "http://www.w3.org/2000/svg";
const MARKS = { closed: "●", half_open: "◐", paused: "◔", open: "○" };
const SVG_TAGS = new Set(["svg", "rect", "line", "title"]);
const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const LANGUAGES = [localStorage.locale, ...navigator.languages].filter(Boolean);
const LANGUAGE = LANGUAGES.find((tag) => TEXTS.title[base(tag)]) || "en";
const view = { report: null, paused: false, states: {} };

function base(tag) {
  return tag.split("-")[0].toLowerCase();
}

function t(key, fields = {}) {
  const text = TEXTS[key] ? TEXTS[key][base(LANGUAGE)] || TEXTS[key].en : key;
  return text.replace(/\{(\w+)\}/g, (_, name) => fields[name] ?? "");
}

function number(value, digits = 0) {
  return value.toLocaleString(LANGUAGE, { maximumFractionDigits: digits });
}

function unit(value, name, digits) {
  const style = { style: "unit", unit: name, unitDisplay: "short" };
  const format = { ...style, maximumFractionDigits: digits };
  return new Intl.NumberFormat(LANGUAGE, format).format(value);
}

function seconds(value) {
  if (value === null) return "–";
  if (value < 0.9995) return unit(value * 1000, "millisecond", 0);
  if (value < 119.5) return unit(value, "second", value < 9.95 ? 1 : 0);
  return unit(value / 60, "minute", value < 597 ? 1 : 0);
}

function rate(value) {
  return value === null ? "–" : number(value, value < 9.95 ? 1 : 0);
}

function clock(epoch) {
  const date = new Date(epoch * 1000);
  return date.toLocaleTimeString(LANGUAGE, { timeStyle: "medium" });
}

function h(tag, attributes, ...children) {
  const node = SVG_TAGS.has(tag)
    ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== null) node.setAttribute(name, value);
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

function lay(fresh, old) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (fresh.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  fill(old, ...fresh.childNodes);
}

function fill(node, ...children) {
  const standing = [...node.childNodes];
  children.forEach((child, place) =>
    place < standing.length ? lay(child, standing[place]) : node.append(child));
  standing.slice(children.length).forEach((child) => child.remove());
}

function sum(counts) {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function listed(counts, name = (key) => key) {
  return Object.entries(counts)
    .filter((entry) => entry[1])
    .sort((one, other) => other[1] - one[1])
    .map(([key, count]) => `${name(key)} ${number(count)}`)
    .join(" · ");
}

function figure(term, value, detail = "") {
  return h("div", {}, h("dt", {}, term), h("dd", {}, value),
    detail ? h("dd", { class: "soft" }, detail) : null);
}

function usual(spread, format) {
  return [format(spread.last_hour.p50), `${t("nearly_all")}: ${format(spread.last_hour.p95)}`];
}

function legend(errors) {
  const mark = (kind, key) => h("span", { class: `mark ${kind}` }, t(key));
  const marks = errors ? [] : [mark("p50", "half"), mark("p95", "nearly_all")];
  if (errors && errors.length) marks.push(mark("error", "errors"));
  return h("span", { "aria-hidden": "true" }, marks);
}

function plot(what, spread, format, end, errors = null) {
  const { p50, p95 } = spread.last_hour;
  const top = Math.max(...spread.by_minute.map((row) => row[3]), 0);
  const left = (minute) => (minute - end + MINUTES - 1) * 10;
  const bar = (kind, minute, height) =>
    h("rect", { class: kind, x: left(minute) + 1, width: 8, y: 100 - height, height });
  const failed = Object.fromEntries(errors || []);
  const minutes = new Set([...spread.by_minute, ...(errors || [])].map((row) => row[0]));
  const rows = Object.fromEntries(spread.by_minute.map((row) => [row[0], row]));
  const bars = [...minutes].sort().flatMap((minute) => {
    const row = rows[minute];
    const told = [clock(minute * 60)];
    if (row) told.push(`${number(row[1])} × ${format(row[2])}, ${t("nearly_all")}: ${format(row[3])}`);
    if (failed[minute]) told.push(`${t("errors")}: ${number(failed[minute])}`);
    return [
      row && top ? bar("p95", minute, Math.max((row[3] / top) * 100, 1)) : null,
      row && top ? bar("p50", minute, Math.max((row[2] / top) * 100, 1)) : null,
      failed[minute] ? bar("error", minute, 8) : null,
      h("rect", { class: "minute", x: left(minute), width: 10, y: 0, height: 100 },
        h("title", {}, told.join("\n"))),
    ];
  });
  const label = t("plot", { what, half: t("half"), nearly_all: t("nearly_all"),
    p50: format(p50), p95: format(p95) });
  const scale = top ? `${t("at_most")} ${format(top)}` : t("nothing");
  return h("figure", {},
    h("figcaption", {}, h("span", {}, what), h("span", {}, scale)),
    h("svg", { class: "plot", viewBox: "0 0 600 100", preserveAspectRatio: "none",
      role: "img", "aria-label": label },
      h("line", { x1: 0, x2: 600, y1: 100, y2: 100 }), bars),
    h("figcaption", {}, h("span", {}, t("hour_ago")), legend(errors), h("span", {}, t("now"))));
}

function loadBar(upstream) {
  const slots = upstream.concurrency;
  if (!slots || slots > 40) return null;
  const step = 100 / slots;
  return h("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    Array.from({ length: slots }, (_, slot) =>
      h("rect", { class: slot < upstream.running ? "used" : "free",
        x: slot * step, width: step - Math.min(1, step / 4), y: 0, height: 8 })));
}

function used(running, limit) {
  return limit === null ? number(running) : t("of", { used: number(running), limit: number(limit) });
}

function kept(affinity) {
  const held = affinity.kept || 0;
  const all = held + (affinity.moved || 0);
  return all ? (held / all).toLocaleString(LANGUAGE, { style: "percent" }) : "–";
}

function stateLine(upstream) {
  const parts = [`${MARKS[upstream.breaker]} ${t(upstream.breaker)}`];
  if (upstream.error) parts.push(t("because", { code: upstream.error }));
  if (upstream.retry_in !== null) parts.push(t("again", { seconds: seconds(upstream.retry_in) }));
  return h("span", { class: `state ${upstream.breaker}` }, parts.join(", "));
}

function drawUpstream(upstream, end) {
  const errors = sum(upstream.errors);
  return h("article", { class: "upstream" },
    h("div", { class: "top" }, h("h3", {}, upstream.name), stateLine(upstream)),
    Object.entries(upstream.models).map(([model, code]) =>
      h("p", { class: "state open" }, `${MARKS.open} ${model}: ${t("open")}, ${t("because", { code })}`)),
    loadBar(upstream),
    h("dl", {},
      figure(t("running"), used(upstream.running, upstream.concurrency)),
      figure(t("first_token"), ...usual(upstream.first_token, seconds)),
      figure(t("token_rate"), rate(upstream.token_rate.last_hour.p50)),
      figure(t("kept"), kept(upstream.affinity)),
      figure(t("attempts"), number(upstream.attempts), upstream.retries ? `${t("retries")}: ${number(upstream.retries)}` : ""),
      figure(t("errors"), number(errors), listed(upstream.errors, (code) => code === "cancelled" ? t(code) : code)),
      upstream.weight === 1 ? null : figure(t("weight"), number(upstream.weight, 2))),
    plot(t("first_token"), upstream.first_token, seconds, end, upstream.errors_by_minute));
}

function drawPool(pool, end, place) {
  const running = pool.upstreams.reduce((total, one) => total + one.running, 0);
  const limits = pool.upstreams.map((one) => one.concurrency);
  const limit = limits.includes(null) ? null : limits.reduce((total, one) => total + one, 0);
  const left = Object.values(pool.left).flatMap(Object.entries);
  const why = left.reduce((all, [key, count]) => ({ ...all, [key]: (all[key] || 0) + count }), {});
  return h("section", { class: "card", "aria-labelledby": `pool-${place}` },
    h("h2", { id: `pool-${place}` }, pool.name),
    h("dl", { class: "figures" },
      figure(t("waiting"), number(sum(pool.waiting)), listed(pool.waiting, t)),
      figure(t("running"), used(running, limit)),
      figure(t("wait"), ...usual(pool.wait, seconds)),
      figure(t("requests"), number(pool.wait.last_hour.count)),
      figure(t("left"), number(sum(why)), listed(why, t)),
      figure(t("fallbacks"), number(sum(pool.fallbacks)), listed(pool.fallbacks))),
    plot(t("wait"), pool.wait, seconds, end),
    h("div", { class: "upstreams" }, pool.upstreams.map((one) => drawUpstream(one, end))));
}

function drawReport(report) {
  const end = Math.floor(report.now / 60);
  if (report.pools.length) return report.pools.map((pool, place) => drawPool(pool, end, place));
  return [h("section", { class: "card" }, h("h2", {}, t("empty")), h("p", {}, t("empty_hint")))];
}

function drawProblem(problem) {
  if (!problem) return [];
  const back = `../../../auth?redirect=${encodeURIComponent(location.pathname)}`;
  const time = view.report ? clock(view.report.now) : "–";
  return [h("section", { class: "card problem" }, h("p", {}, t(problem, { time })),
    problem === "signed_out" ? h("p", {}, h("a", { class: "button", href: back }, t("sign_in"))) : null)];
}

function news(report) {
  const changes = [];
  for (const pool of report.pools)
    for (const { name, breaker } of pool.upstreams) {
      const key = `${pool.name}: ${name}`;
      if ((view.states[key] || breaker) !== breaker) changes.push(`${key}: ${t(breaker)}`);
      view.states[key] = breaker;
    }
  return changes.join(". ");
}

function asOf(report) {
  const parts = [t("updated", { time: clock(report.now) })];
  if (report.replicas > 1) parts.push(t("replicas", { count: number(report.replicas) }));
  return parts.join(" · ");
}

function show(problem) {
  const report = problem && problem !== "lost" ? null : view.report;
  fill(document.getElementById("problem"), ...drawProblem(problem));
  fill(document.querySelector("main"), ...(report ? drawReport(report) : []));
  document.getElementById("as-of").textContent = report ? asOf(report) : "";
  const changed = report ? news(report) : "";
  if (changed) document.getElementById("news").textContent = changed;
}

async function ask() {
  const headers = localStorage.token ? { Authorization: `Bearer ${localStorage.token}` } : {};
  let answer;
  try {
    answer = await fetch("routing.json", { headers, cache: "no-store" });
    if (answer.ok) view.report = await answer.json();
  } catch {
    return "lost"; // the network, or something in between that answered with a page
  }
  if (answer.ok) return "";
  if (answer.status === 404) return "gone";
  if (answer.status === 401) return "signed_out";
  return answer.status === 403 ? "not_admin" : "lost";
}

async function refresh() {
  if (!view.paused && !document.hidden) show(await ask());
  setTimeout(refresh, EVERY);
}

function pause() {
  view.paused = !view.paused;
  this.textContent = t(view.paused ? "resume" : "pause");
}

function dress() {
  const theme = localStorage.theme || "";
  const root = document.documentElement;
  if (theme.includes("dark")) root.classList.add("dark");
  if (theme.includes("light")) root.classList.add("light");
  root.lang = LANGUAGE;
  document.title = t("title");
  document.querySelector("h1").textContent = t("title");
  document.getElementById("as-of").textContent = t("loading");
  const button = document.querySelector("button");
  button.textContent = t("pause");
  button.addEventListener("click", pause);
}

dress();
refresh();
"""


# --- shared/routing/page_style.py ---

PAGE_STYLE = """\
:root {
  color-scheme: light dark;
  --ground: light-dark(#f7f7f8, #171717);
  --card: light-dark(#ffffff, #212121);
  --line: light-dark(#e3e3e6, #383838);
  --text: light-dark(#1b1b1f, #ececec);
  --soft: light-dark(#5d5d66, #b0b0b4);
  --blue: light-dark(#2563c9, #6ea8ff);
  --band: light-dark(#c9dcfa, #2b4670);
  --green: light-dark(#17713c, #5fd38d);
  --amber: light-dark(#8f5a00, #f0b649);
  --red: light-dark(#b3261e, #ff8a80);
}
:root.light { color-scheme: light; }
:root.dark { color-scheme: dark; }
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 76rem; padding: 1.25rem 1rem 3rem;
  background: var(--ground); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere;
}
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: center; }
h1 { font-size: 1.35rem; margin: 0; flex: 1 1 auto; }
h2 { font-size: 1.1rem; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 0; flex: 1 1 auto; }
header p, .soft, dt, figcaption { color: var(--soft); font-size: .85rem; margin: 0; }
button, .button {
  font: inherit; color: inherit; background: var(--card); cursor: pointer;
  border: 1px solid var(--line); border-radius: 999px; padding: .35rem 1rem;
  text-decoration: none; display: inline-block; min-height: 2.2rem;
}
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 1rem;
  padding: 1rem; margin-top: 1rem;
}
.problem { border-color: var(--red); }
.problem p { margin: 0 0 .75rem; }
.problem p:last-child { margin: 0; }
dl { display: grid; gap: .6rem 1.5rem; margin: 0; }
.figures { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
.upstream dl { grid-template-columns: 1fr 1fr; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.figures > div > dd:first-of-type { font-size: 1.25rem; font-weight: 600; }
.upstreams {
  display: grid; gap: .75rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr));
}
.upstream { border: 1px solid var(--line); border-radius: .75rem; padding: .85rem; }
.top { display: flex; flex-wrap: wrap; gap: .1rem .75rem; align-items: baseline; }
.state { font-size: .85rem; font-weight: 600; margin: 0; }
.state.closed { color: var(--green); }
.state.half_open, .state.paused { color: var(--amber); }
.state.open { color: var(--red); }
.bar { width: 100%; height: 8px; margin: .5rem 0 .6rem; display: block; }
.bar rect { fill: var(--line); }
.bar rect.used { fill: var(--blue); }
figure { margin: .9rem 0 0; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; }
.plot { width: 100%; height: 4.5rem; display: block; margin: .2rem 0; }
.upstream .plot { height: 3rem; }
.plot line { stroke: var(--line); vector-effect: non-scaling-stroke; }
.plot .p95 { fill: var(--band); }
.plot .p50 { fill: var(--blue); }
.plot .error { fill: var(--red); }
.plot .minute { fill: transparent; }
.plot .minute:hover { fill: currentColor; fill-opacity: .12; }
.mark::before {
  content: ""; display: inline-block; width: .6em; height: .6em; margin: 0 .35em 0 .8em;
}
.mark.p50::before { background: var(--blue); }
.mark.p95::before { background: var(--band); }
.mark.error::before { background: var(--red); }
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%);
}
"""


# --- shared/routing/page_texts.py ---

PAGE_TEXTS: dict[str, dict[str, str]] = {
    "title": {
        "en": "Routing of the agents",
        "de": "Verteilung der Agenten",
        "es": "Reparto de los agentes",
        "fr": "Répartition des agents",
        "zh": "智能体调度",
    },
    "updated": {
        "en": "As of {time}",
        "de": "Stand {time}",
        "es": "Estado a las {time}",
        "fr": "État à {time}",
        "zh": "更新于 {time}",
    },
    "replicas": {
        "en": "{count} replicas",
        "de": "{count} Replikate",
        "es": "{count} réplicas",
        "fr": "{count} réplicas",
        "zh": "{count} 个副本",
    },
    "pause": {
        "en": "Pause",
        "de": "Anhalten",
        "es": "Pausar",
        "fr": "Mettre en pause",
        "zh": "暂停",
    },
    "resume": {
        "en": "Resume",
        "de": "Weiter",
        "es": "Reanudar",
        "fr": "Reprendre",
        "zh": "继续",
    },
    "loading": {
        "en": "Loading …",
        "de": "Wird geladen …",
        "es": "Cargando…",
        "fr": "Chargement…",
        "zh": "正在加载…",
    },
    "signed_out": {
        "en": "You are not signed in, or your session has ended.",
        "de": "Sie sind nicht angemeldet, oder Ihre Sitzung ist abgelaufen.",
        "es": "No ha iniciado sesión o su sesión ha terminado.",
        "fr": "Vous n'êtes pas connecté, ou votre session a pris fin.",
        "zh": "您尚未登录，或会话已结束。",
    },
    "sign_in": {
        "en": "Sign in",
        "de": "Anmelden",
        "es": "Iniciar sesión",
        "fr": "Se connecter",
        "zh": "登录",
    },
    "not_admin": {
        "en": "Only administrators see this page.",
        "de": "Diese Seite sehen nur Administratoren.",
        "es": "Solo los administradores ven esta página.",
        "fr": "Seuls les administrateurs voient cette page.",
        "zh": "只有管理员可以查看此页面。",
    },
    "gone": {
        "en": "The agents function is switched off.",
        "de": "Die Funktion der Agenten ist ausgeschaltet.",
        "es": "La función de los agentes está desactivada.",
        "fr": "La fonction des agents est désactivée.",
        "zh": "智能体函数已停用。",
    },
    "lost": {
        "en": "The server does not answer. The figures below are of {time}; trying again.",
        "de": "Der Server antwortet nicht. Die Zahlen unten sind von {time}; neuer Versuch läuft.",
        "es": "El servidor no responde. Las cifras son de las {time}; se vuelve a intentar.",
        "fr": "Le serveur ne répond pas. Les chiffres datent de {time} ; nouvel essai en cours.",
        "zh": "服务器没有响应。以下数据截至 {time}，正在重试。",
    },
    "empty": {
        "en": "No agent has a pool of upstreams yet.",
        "de": "Noch hat kein Agent mehrere Server.",
        "es": "Ningún agente tiene todavía un grupo de servidores.",
        "fr": "Aucun agent n'a encore de groupe de serveurs.",
        "zh": "还没有智能体配置上游服务器池。",
    },
    "empty_hint": {
        "en": "Give an agent several upstreams, or a limit, in the valve AGENTS (Admin Panel → Functions → Agents → the gear). It appears here at once.",
        "de": "Geben Sie einem Agenten mehrere Server oder eine Grenze: in AGENTS (Administrationsbereich → Funktionen → Agents → Zahnrad). Er erscheint hier sofort.",
        "es": "Dé a un agente varios servidores o un límite en AGENTS (Panel de administración → Funciones → Agents → engranaje). Aparecerá aquí de inmediato.",
        "fr": "Donnez à un agent plusieurs serveurs ou une limite dans AGENTS (Panneau d'administration → Fonctions → Agents → engrenage). Il apparaîtra ici aussitôt.",
        "zh": "在 AGENTS 中（管理员面板 → 函数 → Agents → 齿轮）为智能体设置多个上游或并发上限，此处会立即显示。",
    },
    "waiting": {
        "en": "Waiting",
        "de": "Wartend",
        "es": "En espera",
        "fr": "En attente",
        "zh": "等待中",
    },
    "person": {
        "en": "people",
        "de": "Personen",
        "es": "personas",
        "fr": "personnes",
        "zh": "用户",
    },
    "background": {
        "en": "background",
        "de": "Hintergrund",
        "es": "segundo plano",
        "fr": "arrière-plan",
        "zh": "后台",
    },
    "task": {
        "en": "tasks",
        "de": "Aufgaben",
        "es": "tareas",
        "fr": "tâches",
        "zh": "任务",
    },
    "running": {
        "en": "Running",
        "de": "Laufend",
        "es": "En curso",
        "fr": "En cours",
        "zh": "运行中",
    },
    "of": {
        "en": "{used} of {limit}",
        "de": "{used} von {limit}",
        "es": "{used} de {limit}",
        "fr": "{used} sur {limit}",
        "zh": "{used} / {limit}",
    },
    "requests": {
        "en": "Requests, last hour",
        "de": "Anfragen, letzte Stunde",
        "es": "Solicitudes, última hora",
        "fr": "Requêtes, dernière heure",
        "zh": "请求数（最近一小时）",
    },
    "wait": {
        "en": "Wait for a place",
        "de": "Warten auf einen Platz",
        "es": "Espera de un lugar",
        "fr": "Attente d'une place",
        "zh": "排队时间",
    },
    "first_token": {
        "en": "First word",
        "de": "Erstes Wort",
        "es": "Primera palabra",
        "fr": "Premier mot",
        "zh": "首字时间",
    },
    "token_rate": {
        "en": "Tokens per second",
        "de": "Token pro Sekunde",
        "es": "Tokens por segundo",
        "fr": "Jetons par seconde",
        "zh": "每秒词元数",
    },
    "half": {
        "en": "half of them",
        "de": "die Hälfte",
        "es": "la mitad",
        "fr": "la moitié",
        "zh": "中位数",
    },
    "nearly_all": {
        "en": "95 of 100",
        "de": "95 von 100",
        "es": "95 de 100",
        "fr": "95 sur 100",
        "zh": "95 百分位",
    },
    "at_most": {
        "en": "up to",
        "de": "bis",
        "es": "hasta",
        "fr": "jusqu'à",
        "zh": "不超过",
    },
    "plot": {
        "en": "{what}, last 60 minutes: {half} {p50}, {nearly_all} {p95}",
        "de": "{what}, letzte 60 Minuten: {half} {p50}, {nearly_all} {p95}",
        "es": "{what}, últimos 60 minutos: {half} {p50}, {nearly_all} {p95}",
        "fr": "{what}, 60 dernières minutes : {half} {p50}, {nearly_all} {p95}",
        "zh": "{what}，最近 60 分钟：{half} {p50}，{nearly_all} {p95}",
    },
    "hour_ago": {
        "en": "an hour ago",
        "de": "vor einer Stunde",
        "es": "hace una hora",
        "fr": "il y a une heure",
        "zh": "一小时前",
    },
    "now": {
        "en": "now",
        "de": "jetzt",
        "es": "ahora",
        "fr": "maintenant",
        "zh": "现在",
    },
    "nothing": {
        "en": "nothing yet",
        "de": "noch nichts",
        "es": "nada todavía",
        "fr": "rien encore",
        "zh": "暂无",
    },
    "closed": {
        "en": "In service",
        "de": "In Betrieb",
        "es": "En servicio",
        "fr": "En service",
        "zh": "正常",
    },
    "half_open": {
        "en": "On trial",
        "de": "Auf Probe",
        "es": "A prueba",
        "fr": "À l'essai",
        "zh": "试探中",
    },
    "open": {
        "en": "Out of service",
        "de": "Außer Betrieb",
        "es": "Fuera de servicio",
        "fr": "Hors service",
        "zh": "已停用",
    },
    "paused": {
        "en": "Paused",
        "de": "Macht Pause",
        "es": "En pausa",
        "fr": "En pause",
        "zh": "暂停中",
    },
    "because": {
        "en": "because of {code}",
        "de": "wegen {code}",
        "es": "por {code}",
        "fr": "à cause de {code}",
        "zh": "原因：{code}",
    },
    "again": {
        "en": "tried again in {seconds}",
        "de": "neuer Versuch in {seconds}",
        "es": "nuevo intento en {seconds}",
        "fr": "nouvel essai dans {seconds}",
        "zh": "{seconds}后重试",
    },
    "weight": {
        "en": "Weight",
        "de": "Gewicht",
        "es": "Peso",
        "fr": "Poids",
        "zh": "权重",
    },
    "attempts": {
        "en": "Attempts",
        "de": "Versuche",
        "es": "Intentos",
        "fr": "Tentatives",
        "zh": "尝试次数",
    },
    "kept": {
        "en": "Chats kept here",
        "de": "Chats hier geblieben",
        "es": "Chats que siguen aquí",
        "fr": "Conversations restées ici",
        "zh": "会话保持率",
    },
    "retries": {
        "en": "Retries",
        "de": "Wiederholungen",
        "es": "Reintentos",
        "fr": "Nouveaux essais",
        "zh": "重试",
    },
    "errors": {
        "en": "Errors",
        "de": "Fehler",
        "es": "Errores",
        "fr": "Erreurs",
        "zh": "错误",
    },
    "left": {
        "en": "Left without an answer",
        "de": "Ohne Antwort gegangen",
        "es": "Se fueron sin respuesta",
        "fr": "Partis sans réponse",
        "zh": "未获响应而离开",
    },
    "cancelled": {
        "en": "stopped",
        "de": "abgebrochen",
        "es": "detenidas",
        "fr": "arrêtées",
        "zh": "已取消",
    },
    "expired": {
        "en": "waited too long",
        "de": "zu lange gewartet",
        "es": "esperaron demasiado",
        "fr": "attente trop longue",
        "zh": "等待超时",
    },
    "refused": {
        "en": "queue full",
        "de": "Schlange voll",
        "es": "cola llena",
        "fr": "file pleine",
        "zh": "队列已满",
    },
    "fallbacks": {
        "en": "Taken over by another",
        "de": "Von anderen übernommen",
        "es": "Atendidas por otro",
        "fr": "Reprises par un autre",
        "zh": "由其他智能体接管",
    },
}


# --- shared/routing/page.py ---

PAGE_HTML = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{PAGE_TEXTS["title"]["en"]}</title>
<style>{PAGE_STYLE}</style>
</head>
<body>
<header>
<h1>{PAGE_TEXTS["title"]["en"]}</h1>
<p><time id="as-of"></time></p>
<button type="button"></button>
</header>
<p id="news" class="hidden" role="status"></p>
<div id="problem" role="alert"></div>
<main></main>
<script type="application/json" id="texts">{json.dumps(PAGE_TEXTS)}</script>
<script>{PAGE_SCRIPT}</script>
</body>
</html>
"""


def source_hash(text: str) -> str:
    """A script or style as a source of the Content Security Policy, level 3."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        f"script-src {source_hash(PAGE_SCRIPT)}",
        f"style-src {source_hash(PAGE_STYLE)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    ]
)


# --- shared/agents/routing_page.py ---


def serve_routing_page(function_id: str) -> None:
    """Serve the page from now on; cheap when it is served already."""
    serve_admin_page(routing_page(function_id))


@lru_cache(maxsize=1)
def routing_page(function_id: str) -> AdminPage:
    report = partial(routing_figures, function_id)
    return AdminPage("routing", function_id, PAGE_HTML, PAGE_POLICY, report)


async def routing_figures(function_id: str) -> bytes:
    """The report of the pools as they are configured now, as JSON."""
    valves = await function_valves(function_id)
    config = parse_agents(valves.get("AGENTS") or "", valves.get("SECRETS") or "")
    router = make_router(valves.get("REDIS_URL") or "")
    store, stats = router.store, router.stats
    stats.forget_others(upstreams_of(config))
    pools = [(spec, await store.view(spec)) for spec in pools_of(config)]
    await store.publish(dump_json(stats.data))
    counts = [orjson.loads(told) for told in await store.published()]
    return dump_json(routing_report(pools, counts or [stats.data], time.time()))


def pools_of(config: AgentsConfig) -> list[PoolSpec]:
    """The pools that requests go through, each once."""
    routed = (config.plans[a.id].spec for a in config.agents if is_routed(a))
    return list({spec.name: spec for spec in routed}.values())


def upstreams_of(config: AgentsConfig) -> dict[str, set[str]]:
    """The upstreams of every pool, also of those that only count fallbacks."""
    specs = (plan.spec for plan in config.plans.values())
    return {spec.name: {upstream.id for upstream in spec.upstreams} for spec in specs}


# --- shared/render/sending.py ---


def server_sent(payload: Mapping[str, Any]) -> bytes:
    """One server-sent event with JSON as its data."""
    return b"data: " + dump_json(payload) + b"\n\n"


# --- shared/render/chunks.py ---


class CompletionRenderer:
    """Turns the events of one turn into chunks, or at the end into one completion.

    A tool call that the agent answered itself is its own affair and is left out;
    the others are the caller's, and known as such only when the turn is finished.
    Statuses and session states have no place in this format.
    """

    def __init__(
        self,
        model: str,
        sentence: Callable[[str, Mapping[str, Any]], str],
        include_usage: bool = False,
    ) -> None:
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._sentence = sentence
        self._include_usage = include_usage
        self._pending: dict[str, ToolCallCompleted] = {}
        self._usage: dict[str, Any] | None = None
        self._begun = False
        self._message: dict[str, Any] = {"role": "assistant", "content": ""}
        self._finish_reason = "stop"

    def render(self, event: AgentEvent) -> list[dict[str, Any]]:
        """The chunks for this event, in order."""
        match event:
            case TextDelta(text):
                return [self._chunk({"content": text})] if text else []
            case ReasoningDelta(text):
                return [self._chunk({"reasoning_content": text})] if text else []
            case ToolCallCompleted():
                self._pending[event.call_id] = event
            case ToolResult():
                self._pending.pop(event.call_id, None)
            case Citation():
                return [self._chunk({"annotations": [url_citation(event)]})]
            case FileOutput() if event.mime_type.startswith("image/"):
                image = {"type": "image_url", "image_url": {"url": event.url}}
                return [self._chunk({"images": [image]})]
            case Usage(counts):
                self._usage = add_usage(self._usage or {}, chat_usage(counts))
            case Handover(agent_id):
                self._head["answered_by"] = agent_id
            case Failed(code, fields):
                message = self._sentence(code, fields)
                return [{"error": {"message": message, "code": code}}]
            case Finished(reason):
                return self._finish(reason)
        return []

    def stream(self, event: AgentEvent) -> list[bytes]:
        """The same as server-sent events; what needs no change goes as it came.

        So the `logprobs` of an upstream and the like reach the caller. What we add to
        its chunks bears its id and model, for all are of one completion.
        """
        if not (isinstance(event, (TextDelta, ReasoningDelta)) and event.raw):
            return [server_sent(chunk) for chunk in self.render(event)]
        sent = b"data: " + event.raw + b"\n\n"
        if self._begun:
            return [sent]
        theirs = orjson.loads(event.raw)
        self._head = {key: theirs.get(key, ours) for key, ours in self._head.items()}
        return [server_sent(self._chunk({"content": ""})), sent]

    def add(self, event: AgentEvent) -> None:
        """Take an event for `completion` instead of rendering it."""
        for chunk in self.render(event):
            for choice in chunk.get("choices", ()):
                self._merge(choice["delta"])
                self._finish_reason = choice["finish_reason"] or self._finish_reason

    def completion(self) -> dict[str, Any]:
        """All that was added, as one completion."""
        choice = {
            "index": 0,
            "message": self._message,
            "finish_reason": self._finish_reason,
        }
        whole = {**self._head, "object": "chat.completion", "choices": [choice]}
        if self._usage:
            whole["usage"] = self._usage
        return whole

    def _finish(self, reason: str) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = []
        if self._pending:
            reason = "tool_calls"
            calls = [
                tool_call_delta(i, c) for i, c in enumerate(self._pending.values())
            ]
            chunks.append(self._chunk({"tool_calls": calls}))
        elif reason == "tool_calls":
            reason = "stop"
        chunks.append(self._chunk({}, reason))
        if self._include_usage and self._usage:
            usage = {**self._chunk({}), "choices": [], "usage": self._usage}
            chunks.append(usage)
        return chunks

    def _chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None
    ) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _merge(self, delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            if key == "role":
                continue
            if key == "tool_calls":
                value = [{k: v for k, v in c.items() if k != "index"} for c in value]
            if key in self._message:
                value = self._message[key] + value
            self._message[key] = value


def chat_usage(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts with Chat Completions' names, whichever API counted them."""
    prompt = counts.get("prompt_tokens", counts.get("input_tokens", 0))
    completion = counts.get("completion_tokens", counts.get("output_tokens", 0))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        **counts,
    }


def add_usage(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of two model calls together, also one level down."""
    total = dict(first)
    for key, value in second.items():
        known = total.get(key)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            total[key] = add_usage(known, value)
        elif isinstance(known, int | float) and not key.endswith("per_second"):
            total[key] = known + value
        else:
            total[key] = value
    return total


def tool_call_delta(index: int, call: ToolCallCompleted) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {
        "index": index,
        "id": call.call_id,
        "type": "function",
        "function": function,
    }


def url_citation(citation: Citation) -> dict[str, Any]:
    """A citation of the whole answer: the place in its text is not known."""
    inner = {
        "url": citation.url,
        "title": citation.title or citation.url,
        "start_index": 0,
        "end_index": 0,
    }
    return {"type": "url_citation", "url_citation": inner}


# --- shared/render/items.py ---

STATE_ITEM_TYPE = "x_aqueduct:state"
ANSWERED_BY_ITEM_TYPE = "x_aqueduct:answered_by"

HostEvent = dict[str, Any]


class ChatRenderer:
    """Turns the events of one turn into what Open WebUI reads, item by item.

    Thoughts, text and each tool call are an output item of their own, opened when
    the first piece comes and closed when another kind follows. `used_call_ids` are
    ids of earlier calls in the chat: a server that counts from zero in every turn
    would otherwise overwrite earlier cards. `sentence` words a failure.
    """

    def __init__(
        self,
        agent_id: str,
        sentence: Callable[[str, Mapping[str, Any]], str],
        used_call_ids: Collection[str] = (),
    ) -> None:
        self._agent_id = agent_id
        self._sentence = sentence
        self._used_call_ids = set(used_call_ids)
        self._call_ids: dict[str, str] = {}
        self._calls: dict[str, tuple[int, HostEvent]] = {}
        self._next_index = 0
        self._open_index = 0
        self._open_item: HostEvent | None = None
        self._open_text: list[str] = []
        self._open_status: str | None = None
        self._files: list[HostEvent] = []

    @property
    def open_status(self) -> str | None:
        """The status line that still shimmers, or None."""
        return self._open_status

    def render(self, event: AgentEvent) -> list[HostEvent]:
        """What Open WebUI has to read for this event, in order."""
        match event:
            case TextDelta(text):
                return self._delta("message", text)
            case ReasoningDelta(text):
                return self._delta("reasoning", text)
            case ToolCallStarted():
                return self._call_started(event)
            case ToolCallArgumentsDelta():
                return self._call_arguments(event)
            case ToolCallCompleted():
                return self._call_completed(event)
            case ToolResult():
                return self._call_result(event)
            case Citation():
                return [source_event(event)]
            case FileOutput():
                return self._file(event)
            case Status():
                self._open_status = None if event.done else event.text
                return [status_event(event.text, event.done)]
            case Usage(counts):
                return [{"usage": dict(counts)}]
            case SessionState(data, seal):
                fields = {"data": dict(data), "seal": seal}
                return self._note(STATE_ITEM_TYPE, fields)
            case Handover(agent_id, name):
                self._agent_id = agent_id
                return self._note(ANSWERED_BY_ITEM_TYPE, {"name": name})
            case Failed(code, fields):
                error = {"message": self._sentence(code, fields)}
                return [*self._close_all(give_up=True), {"error": error}]
            case Finished(reason):
                choice = {"index": 0, "delta": {}, "finish_reason": reason}
                return [*self._close_all(), {"choices": [choice]}]
        return []

    def stream(self, event: AgentEvent) -> list[bytes]:
        """The same as server-sent events."""
        return [server_sent(item) for item in self.render(event)]

    def _delta(self, kind: str, text: str) -> list[HostEvent]:
        if not text:
            return []
        events: list[HostEvent] = []
        if self._open_item is None or self._open_item["type"] != kind:
            events = [*self._close_item(), self._open(kind)]
        assert self._open_item is not None
        self._open_text.append(text)
        name = "output_text" if kind == "message" else "reasoning_text"
        events.append(
            {
                "type": f"response.{name}.delta",
                "item_id": self._open_item["id"],
                "output_index": self._open_index,
                "content_index": 0,
                "delta": text,
            }
        )
        return events

    def _open(self, kind: str) -> HostEvent:
        item: HostEvent = {
            "type": kind,
            "id": new_id(kind),
            "status": "in_progress",
        }
        if kind == "message":
            item["role"] = "assistant"
        else:
            item["started_at"] = time.time()
            item["summary"] = []
        item["content"] = [{"type": "output_text", "text": ""}]
        self._open_item = item
        self._open_index, added = self._added(item)
        return added

    def _close_item(self) -> list[HostEvent]:
        item, self._open_item = self._open_item, None
        if item is None:
            return []
        text = "".join(self._open_text)
        self._open_text = []
        item = {**item, "status": "completed"}
        item["content"] = [{"type": "output_text", "text": text}]
        if "started_at" in item:
            item["ended_at"] = time.time()
            item["duration"] = int(item["ended_at"] - item["started_at"])
        return [done_event(self._open_index, item)]

    def _close_all(self, give_up: bool = False) -> list[HostEvent]:
        """Close what is open at the end of the turn.

        Open WebUI runs every call that has no output. So calls that did not become
        whole get one, and after a failure (`give_up`) all calls do.
        """
        events = self._close_item()
        broken = self._sentence("tool_call_broken", {})
        for call_id, (_, item) in list(self._calls.items()):
            if give_up or item["status"] != "completed":
                events += self._call_result(ToolResult(call_id, broken, failed=True))
        if self._files:
            data = {"files": self._files}
            events.append({"event": {"type": "files", "data": data}})
            self._files = []
        if self._open_status is not None:
            events.append(status_event(self._open_status, True))
            self._open_status = None
        return events

    def _file(self, file: FileOutput) -> list[HostEvent]:
        """An image is a delta, which Open WebUI stores itself.

        Other files go together at the end: each `files` event replaces the last one
        in the page.
        """
        if file.mime_type.startswith("image/"):
            image = {"type": "image_url", "image_url": {"url": file.url}}
            return [{"choices": [{"index": 0, "delta": {"images": [image]}}]}]
        entry: HostEvent = {"type": "file", "url": file.url}
        if file.file_id:
            entry |= {"id": file.file_id, "url": file.file_id, "size": file.size}
        entry |= {"name": file.name or file.url, "content_type": file.mime_type}
        self._files.append(entry)
        return []

    def _call_started(self, event: ToolCallStarted) -> list[HostEvent]:
        if event.call_id in self._calls:
            return []
        call_id = event.call_id
        if not call_id or call_id in self._used_call_ids:
            call_id = new_id("call")
        self._used_call_ids.add(call_id)
        self._call_ids[event.call_id] = call_id
        item = {
            "type": "function_call",
            "id": new_id("fc"),
            "call_id": call_id,
            "name": event.name,
            "arguments": "",
            "status": "in_progress",
        }
        closed = self._close_item()
        index, added = self._added(item)
        self._calls[event.call_id] = (index, item)
        return [*closed, added]

    def _call_arguments(self, event: ToolCallArgumentsDelta) -> list[HostEvent]:
        known = self._calls.get(event.call_id)
        if known is None:
            return []
        index, item = known
        return [
            {
                "type": "response.function_call_arguments.delta",
                "item_id": item["id"],
                "output_index": index,
                "delta": event.delta,
            }
        ]

    def _call_completed(self, event: ToolCallCompleted) -> list[HostEvent]:
        events: list[HostEvent] = []
        if event.call_id not in self._calls:
            events = self._call_started(ToolCallStarted(event.call_id, event.name))
        index, item = self._calls[event.call_id]
        item = {**item, "arguments": event.arguments, "status": "completed"}
        self._calls[event.call_id] = (index, item)
        return [*events, done_event(index, item)]

    def _call_result(self, event: ToolResult) -> list[HostEvent]:
        known = self._calls.pop(event.call_id, None)
        if known is None:
            return []
        index, call = known
        status = "failed" if event.failed else "completed"
        item = {
            "type": "function_call_output",
            "id": new_id("fco"),
            "call_id": call["call_id"],
            "output": [{"type": "input_text", "text": event.output}],
            "status": status,
        }
        if event.files:
            item["files"] = [dict(file) for file in event.files]
        if event.embeds:
            item["embeds"] = list(event.embeds)
        closed = self._close_item()
        _, added = self._added(item)
        events = [*closed, added]
        if call["status"] != status:
            arguments = call["arguments"] or "{}"
            call = {**call, "arguments": arguments, "status": status}
            events.append(done_event(index, call))
        return events

    def _note(self, kind: str, fields: Mapping[str, Any]) -> list[HostEvent]:
        """An item that is kept with the message and not drawn."""
        item = {
            "type": kind,
            "id": new_id("state"),
            "agent": self._agent_id,
            **fields,
            "status": "completed",
        }
        closed = self._close_item()
        _, added = self._added(item)
        return [*closed, added]

    def _added(self, item: HostEvent) -> tuple[int, HostEvent]:
        index = self._next_index
        self._next_index += 1
        event = {
            "type": "response.output_item.added",
            "output_index": index,
            "item": item,
        }
        return index, event


def done_event(index: int, item: HostEvent) -> HostEvent:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def status_event(text: str, done: bool) -> HostEvent:
    data = {"description": text, "done": done}
    return {"event": {"type": "status", "data": data}}


def source_event(citation: Citation) -> HostEvent:
    """One source in the shape that Open WebUI shows under an answer.

    `external` has its title shown; without it the page shows the address, and asks
    a search engine for the icon of every host.
    """
    title = citation.title or citation.url
    data = {
        "source": {"name": title, "url": citation.url},
        "document": [citation.text or title],
        "metadata": [{"source": citation.url, "name": title, "external": True}],
    }
    return {"event": {"type": "source", "data": data}}


# --- shared/render/joining.py ---

FRAME_SECONDS = 0.016
BACKLOG_EVENTS = 10_000
BACKLOG_CHARS = 4_000_000
DELTAS = (TextDelta, ReasoningDelta)  # a union of types is made anew at each look


class EventBuffer:
    """What was said and not yet shown: neighbouring deltas of one kind become one.

    It is `due` at once when the last was taken a frame ago or more, else at that
    frame's end. So a timer runs only where something waits: in a stream slower than
    a screen, and most are, there is none.

    Text is kept in pieces until it is taken, so that a long burst costs one join.
    """

    def __init__(self, frame: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._frame = frame
        self._frame_end = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._events: list[AgentEvent] = []
        self._pieces: list[str] = []
        self._chars = 0
        self._kind: type[TextDelta] | type[ReasoningDelta] | None = None
        self._room = asyncio.Event()
        self.due = asyncio.Event()
        self.ended = False

    def put(self, event: AgentEvent) -> None:
        if isinstance(event, DELTAS):
            if self._kind is not type(event):
                self._join()
                self._kind = type(event)
            self._pieces.append(event.text)
            self._chars += len(event.text)
        else:
            self._join()
            self._events.append(event)
        if self._timer is None and not self.due.is_set():
            if self._loop.time() >= self._frame_end:
                self.due.set()
            else:
                self._timer = self._loop.call_at(self._frame_end, self.due.set)

    def take(self) -> list[AgentEvent]:
        self._join()
        events, self._events = self._events, []
        self._chars = 0
        self._frame_end = self._loop.time() + self._frame
        self._stop_timer()
        self.due.clear()
        self._room.set()
        return events

    def end(self) -> None:
        """Nothing follows, so nothing is waited for."""
        self.ended = True
        self._stop_timer()
        self.due.set()

    @property
    def full(self) -> bool:
        count = len(self._pieces) + len(self._events)
        return count >= BACKLOG_EVENTS or self._chars >= BACKLOG_CHARS

    async def room(self) -> None:
        """Wait until the reader took something: a slow one must not cost memory."""
        self._room.clear()
        await self._room.wait()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _join(self) -> None:
        if self._kind is not None:
            self._events.append(self._kind("".join(self._pieces)))
            self._pieces = []
            self._kind = None


async def read_ahead(
    events: AsyncGenerator[AgentEvent, None], buffer: EventBuffer
) -> None:
    """Fill the buffer until the events end; their error is this task's."""
    try:
        async for event in events:
            buffer.put(event)
            if buffer.full:
                await buffer.room()
    finally:
        await events.aclose()
        buffer.end()


async def joined(
    events: AsyncGenerator[AgentEvent, None], frame: float = FRAME_SECONDS
) -> AsyncGenerator[AgentEvent, None]:
    """The same events in the same order, deltas joined that come within one frame.

    The first event goes at once, and so does any after a pause of a frame; nothing
    is held for longer. The events are read in a task of their own, which ends with
    this generator, whichever way that ends.
    """
    buffer = EventBuffer(frame)
    reader = asyncio.create_task(read_ahead(events, buffer))
    try:
        while not buffer.ended or buffer.due.is_set():
            await buffer.due.wait()
            for event in buffer.take():
                yield event
        await reader
    finally:
        reader.cancel()
        # Not `gather`: it would hand a second cancellation on to the reader while
        # that closes the connection, and the server would work on for nobody.
        await asyncio.wait([reader])


# --- shared/agents/answers.py ---

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


# --- shared/agents/approvals.py ---

# Of what is longer, beginning and end are shown: the end of a command says as much.
HEAD_CHARS = 2500
TAIL_CHARS = 1500
MAX_GRANTS = 10_000
# What a page does not show, or what turns round or hides the text beside it, so that a
# command would read as another: control characters, directions, spaces without width.
HIDDEN_CHARACTER = re.compile(
    r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f"
    r"\u2028-\u202e\u2060-\u2069\ufeff]"
)

# (user, chat, agent, tool) of what was allowed for the rest of a chat, oldest first.
Grants = dict[tuple[str, str, str, str], None]


@dataclass(frozen=True, slots=True)
class ChatDialogs:
    """Asks the user of one turn in their browser, as the agent's settings say.

    `event_call` and `emit` are None where no browser is there: then nothing is
    approved. `place` is (user id, chat id, agent id).
    """

    settings: ApprovalSettings
    place: tuple[str, str, str]
    sentence: Sentence
    grants: Grants
    event_call: EventCall | None = None
    emit: Emit | None = None

    async def approve(self, request: ApprovalRequest) -> bool:
        if allowed_by(self.settings, request):
            return True
        if self.settings.mode == "deny" or self.event_call is None:
            return False
        grant = (*self.place, request.tool)
        if grant in self.grants:
            return True
        fields = {"tool": request.tool}
        # The next temporary chat of the same page has the same id.
        lasting = is_lasting_chat(self.place[1])
        kinds = ("once", "chat") if lasting else ("once",)
        choice = {
            "type": "string",
            "title": self.sentence("approval_choice", fields),
            "oneOf": [
                {"const": kind, "title": self.sentence(f"approval_{kind}", fields)}
                for kind in kinds
            ],
            "default": "once",
        }
        answer = await self._form(
            self.sentence("approval_title", fields),
            request_words(request, self.sentence),
            {"allow": choice},
            self.sentence("approval_waiting", fields),
        )
        if answer.get("allow") == "chat" and lasting:
            while len(self.grants) >= MAX_GRANTS:
                del self.grants[next(iter(self.grants))]
            self.grants[grant] = None
        return answer.get("allow") in kinds

    async def ask(self, question: UserQuestion) -> str | None:
        if self.event_call is None:
            return None
        field: dict[str, Any] = {
            "type": "string",
            "title": self.sentence("question_answer", {}),
        }
        if question.choices:
            field["enum"] = list(question.choices)
        answer = await self._form(
            self.sentence("question_title", {}),
            shortened(question.message, self.sentence),
            {"answer": field},
            self.sentence("question_waiting", {}),
        )
        return str(answer.get("answer") or "").strip() or None

    async def _form(
        self, title: str, message: str, properties: Mapping[str, Any], waiting: str
    ) -> Mapping[str, Any]:
        """What the user chose; empty where they declined or did not answer in time."""
        assert self.event_call is not None
        schema = {
            "type": "object",
            "properties": dict(properties),
            "required": list(properties),
        }
        await self._status(waiting, done=False)
        try:
            return await ask_form(
                self.event_call, title, message, schema, self.settings.seconds
            )
        except AqueductError:
            return {}
        finally:
            await self._status(waiting, done=True)

    async def _status(self, text: str, done: bool) -> None:
        if self.emit is not None:
            event = status_event(text, done)["event"]
            event["data"]["hidden"] = done
            await self.emit(event)


def allowed_by(settings: ApprovalSettings, request: ApprovalRequest) -> bool:
    """Whether the admin's list allows this without asking.

    An entry with paths covers a request only if it names paths, all of them inside.
    """
    return any(
        fnmatchcase(request.tool, entry.tool)
        and (
            not entry.paths
            or (
                bool(request.paths)
                and all(path_matches(path, entry.paths) for path in request.paths)
            )
        )
        for entry in settings.allow
    )


def path_matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path fits one of the patterns.

    One that climbs with `..` never does, and an absolute one, which lies outside of
    the agent's folder, only fits an absolute pattern.
    """
    return ".." not in path.split("/") and any(
        fnmatchcase(path, pattern) and path.startswith("/") == pattern.startswith("/")
        for pattern in patterns
    )


def request_words(request: ApprovalRequest, sentence: Sentence) -> str:
    """What is to be done, where, and in full, as plain text."""
    parts = (request.title, "\n".join(request.paths), request.detail)
    visible = (HIDDEN_CHARACTER.sub(escaped, part) for part in parts if part)
    return "\n\n".join(shortened(part, sentence) for part in visible)


def escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def shortened(text: str, sentence: Sentence) -> str:
    """A text without its middle where it is too long, and how much that was."""
    left_out = len(text) - HEAD_CHARS - TAIL_CHARS
    if left_out <= 0:
        return text
    mark = sentence("middle_left_out", {"count": left_out})
    return f"{text[:HEAD_CHARS]}\n\n{mark}\n\n{text[-TAIL_CHARS:]}"


# --- shared/host/users.py ---


def user_model(user: Mapping[str, Any]) -> Any:
    """Open WebUI's own object for the `__user__` that a function is given."""
    from open_webui.models.users import UserModel

    return UserModel(**{key: user[key] for key in user if key != "valves"})


# --- shared/host/files.py ---


@dataclass(frozen=True, slots=True)
class UserFile:
    """A stored file; `data` is None where it is larger than it may be."""

    name: str
    mime_type: str
    data: bytes | None = field(repr=False)


async def read_user_file(
    file_id: str, user: Mapping[str, Any], limit: int
) -> UserFile | None:
    """A stored file of at most `limit` bytes that this user may read.

    None where there is no such file, or it is not this user's to read.
    """
    from open_webui.models.files import Files
    from open_webui.storage.provider import Storage
    from open_webui.utils.access_control.files import has_access_to_file

    file = await Files.get_file_by_id(file_id)
    if file is None:
        return None
    person = user_model(user)
    if file.user_id != person.id and not await has_access_to_file(
        file.id, "read", person
    ):
        return None
    path = Path(await asyncio.to_thread(Storage.get_file, file.path))
    try:
        data = await asyncio.to_thread(read_within, path, limit)
    except OSError:
        return None
    mime = (file.meta or {}).get("content_type") or mimetypes.guess_type(path.name)[0]
    return UserFile(file.filename, mime or "application/octet-stream", data)


def read_within(path: Path, limit: int) -> bytes | None:
    """The file's bytes, or None where it is larger than `limit`."""
    return path.read_bytes() if path.stat().st_size <= limit else None


async def save_user_file(
    request: Any, user: Mapping[str, Any], name: str, mime_type: str, data: bytes
) -> str | None:
    """Store a file for this user and give its id; its text is not extracted.

    None where Open WebUI does not take it: it is empty, or larger than the admin
    allows.
    """
    from fastapi import HTTPException, UploadFile
    from open_webui.routers.files import upload_file_handler
    from starlette.datastructures import Headers

    headers = Headers({"content-type": mime_type})
    upload = UploadFile(io.BytesIO(data), filename=name, headers=headers)
    if not data:
        return None
    try:
        stored = await upload_file_handler(
            request, file=upload, metadata={}, process=False, user=user_model(user)
        )
    except HTTPException:
        return None
    return str(stored.id)


# --- shared/agents/attachments.py ---

MAX_FILES_MIB = 20
MAX_FILES_BYTES = MAX_FILES_MIB * 1024 * 1024
MAX_NAMES_SHOWN = 5


async def attach_files(
    body: Mapping[str, Any], metadata: Mapping[str, Any], user: Mapping[str, Any]
) -> tuple[dict[str, Any], bool]:
    """The request with the user's files as `file` parts of the last user message.

    Format: OpenAI API reference, file inputs: {type: file, file: {filename,
    file_data: data URL}}. The text that Open WebUI extracted from them is left out.
    The request stays as it is where a file is gone, and where the files are over
    20 MiB together, which the second value tells.
    """
    parts: list[dict[str, Any]] = []
    room = MAX_FILES_BYTES
    for entry in metadata.get("files") or ():
        file_id = entry.get("id") or (entry.get("file") or {}).get("id")
        if entry.get("type") != "file" or not file_id:
            continue
        found = await read_user_file(file_id, user, room)
        if found is None or found.data is None:
            return dict(body), found is not None
        room -= len(found.data)
        encoded = await asyncio.to_thread(encode_base64, found.data)
        url = f"data:{found.mime_type};base64,{encoded}"
        file = {"filename": found.name, "file_data": url}
        parts.append({"type": "file", "file": file})
    said = (metadata.get("user_message") or {}).get("content")
    messages = [dict(message) for message in body.get("messages") or ()]
    for message in reversed(messages):
        if message.get("role") == "user" and parts:
            content = message.get("content") or ""
            if isinstance(content, str):
                content = [{"type": "text", "text": content}]
            if isinstance(said, str):
                content = [with_text(part, said) for part in content]
            message["content"] = [*content, *parts]
            break
    return {**body, "messages": messages}, False


def with_text(part: Mapping[str, Any], text: str) -> Mapping[str, Any]:
    """A text part with other text; parts of other kinds as they are."""
    return {**part, "text": text} if part.get("type") == "text" else part


class FileStorage:
    """Puts the files of a turn's answer into Open WebUI's storage.

    Images stay as they are, since Open WebUI stores those itself. A file that it does
    not take, of over 20 MiB, or for which the agent's folder had no room, is left out,
    and a line at the end tells its name.
    """

    def __init__(
        self, request: Any, user: Mapping[str, Any], sentence: Sentence
    ) -> None:
        self._request = request
        self._user = user
        self._sentence = sentence
        self._left_out: list[str] = []

    async def take(self, event: AgentEvent) -> list[AgentEvent]:
        """What is shown for this event."""
        if isinstance(event, FileOutput) and must_be_stored(event):
            if stored := await stored_file(event, self._request, self._user):
                return [stored]
            if not event.url.endswith(","):  # nobody misses an empty file
                self._left_out.append(event.name)
            return []
        if isinstance(event, Finished) and self._left_out:
            names = {"names": shown_names(self._left_out)}
            told = Status(self._sentence("files_left_out", names), done=True)
            return [told, event]
        return [event]


def must_be_stored(file: FileOutput) -> bool:
    """Whether Open WebUI would not store a file by itself, or there is none."""
    inline = file.url.startswith("data:")
    return not file.url or (inline and not file.mime_type.startswith("image/"))


def shown_names(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    more = len(names) - MAX_NAMES_SHOWN
    shown = ", ".join(names[:MAX_NAMES_SHOWN])
    return f"{shown}, … (+{more})" if more > 0 else shown


async def stored_file(
    file: FileOutput, request: Any, user: Mapping[str, Any]
) -> FileOutput | None:
    """The same file, with its id in the storage."""
    read = turn_file(file.name or "file", file.url)
    data = await asyncio.to_thread(read.read)
    if data is None or len(data) > MAX_FILES_BYTES:
        return None
    file_id = await save_user_file(request, user, read.name, file.mime_type, data)
    if file_id is None:
        return None
    return replace(file, name=read.name, file_id=file_id, size=len(data))


# --- shared/agents/dialog_texts.py ---

DIALOG_TEXTS: dict[str, dict[str, str]] = {
    "approval_title": {
        "en": "{agent} asks for permission",
        "de": "{agent} bittet um Erlaubnis",
        "es": "{agent} pide permiso",
        "fr": "{agent} demande une autorisation",
        "zh": "{agent} 请求许可",
    },
    "approval_choice": {
        "en": "Allow “{tool}”",
        "de": "„{tool}“ erlauben",
        "es": "Permitir «{tool}»",
        "fr": "Autoriser « {tool} »",
        "zh": "允许“{tool}”",
    },
    "approval_once": {
        "en": "Once",
        "de": "Einmal",
        "es": "Una vez",
        "fr": "Une fois",
        "zh": "仅此一次",
    },
    "approval_chat": {
        "en": "Always in this chat",
        "de": "In diesem Chat immer",
        "es": "Siempre en este chat",
        "fr": "Toujours dans cette conversation",
        "zh": "在此对话中始终允许",
    },
    "approval_waiting": {
        "en": "{agent} waits for your permission: {tool}",
        "de": "{agent} wartet auf Ihre Erlaubnis: {tool}",
        "es": "{agent} espera su permiso: {tool}",
        "fr": "{agent} attend votre autorisation : {tool}",
        "zh": "{agent} 正在等待您的许可：{tool}",
    },
    "middle_left_out": {
        "en": "[… {count} characters are left out here …]",
        "de": "[… hier fehlen {count} Zeichen …]",
        "es": "[… aquí se omiten {count} caracteres …]",
        "fr": "[… {count} caractères sont omis ici …]",
        "zh": "[… 此处省略 {count} 个字符 …]",
    },
    "question_title": {
        "en": "{agent} has a question",
        "de": "{agent} hat eine Frage",
        "es": "{agent} tiene una pregunta",
        "fr": "{agent} a une question",
        "zh": "{agent} 有一个问题",
    },
    "question_answer": {
        "en": "Your answer",
        "de": "Ihre Antwort",
        "es": "Su respuesta",
        "fr": "Votre réponse",
        "zh": "您的回答",
    },
    "question_waiting": {
        "en": "{agent} waits for your answer",
        "de": "{agent} wartet auf Ihre Antwort",
        "es": "{agent} espera su respuesta",
        "fr": "{agent} attend votre réponse",
        "zh": "{agent} 正在等待您的回答",
    },
    "login_expired": {
        "en": "{agent} is no longer logged in. An administrator has to log it in again.{detail}",
        "de": "{agent} ist nicht mehr angemeldet. Ein Administrator muss es neu anmelden.{detail}",
        "es": "{agent} ya no tiene sesión iniciada. Un administrador debe iniciarla de nuevo.{detail}",
        "fr": "{agent} n'est plus connecté. Un administrateur doit le reconnecter.{detail}",
        "zh": "{agent} 的登录已失效，请管理员重新登录。{detail}",
    },
    "library_missing": {
        "en": "{agent} needs a library that this server lacks. An administrator can install it: pip install {library}",
        "de": "{agent} braucht eine Bibliothek, die diesem Server fehlt. Ein Administrator kann sie installieren: pip install {library}",
        "es": "{agent} necesita una biblioteca que falta en este servidor. Un administrador puede instalarla: pip install {library}",
        "fr": "{agent} a besoin d'une bibliothèque absente de ce serveur. Un administrateur peut l'installer : pip install {library}",
        "zh": "{agent} 需要此服务器缺少的库，管理员可以安装：pip install {library}",
    },
    "agent_failed": {
        "en": "{agent} reported an error.{detail}",
        "de": "{agent} meldete einen Fehler.{detail}",
        "es": "{agent} comunicó un error.{detail}",
        "fr": "{agent} a signalé une erreur.{detail}",
        "zh": "{agent} 报告了错误。{detail}",
    },
}


# --- shared/host/notices.py ---

notices_log = logging.getLogger("aqueduct.notices")

# What the page opens when the toast of a "finished chat" is clicked, seen from /c/.
FUNCTIONS_PAGE = "../admin/functions"


async def notify_admins(title: str, text: str) -> None:
    """Log it, and show every admin with an open page a toast that leads to Functions.

    Open WebUI has no notice that stands outside of a chat, so this is the one of an
    answer that became ready in another chat (`+layout.svelte`, `chat:completion`).
    """
    from open_webui.models.users import Users
    from open_webui.socket.main import sio

    notices_log.error("%s: %s", title, text)
    found: Any = await Users.get_users(filter={"roles": ["admin"]})
    for admin in found["users"]:
        event = {"type": "chat:completion", "data": {}}
        event["data"] = {"done": True, "title": title, "content": text}
        await sio.emit(
            "events",
            {"chat_id": FUNCTIONS_PAGE, "message_id": "", "data": event},
            room=f"user:{admin.id}",
        )


# --- shared/agents/login_warnings.py ---

LOGIN_CODES = frozenset({"login_expired", "status_401"})
WARNED_FOR_SECONDS = 24 * 60 * 60.0


class LoginWatch:
    """Tells admins that an agent's login or key is no longer accepted.

    Once a day for an agent, and again when it has worked in between.
    """

    def __init__(self, agent: AgentConfig, sentence: Sentence) -> None:
        self._agent = agent
        self._sentence = sentence
        self._warned: dict[str, float] = shared_resource("login warnings", dict)

    async def look(self, event: AgentEvent) -> None:
        """Look at an event of the agent's answer."""
        if isinstance(event, Failed):
            await self.failed(event.code, event.fields)
        elif isinstance(event, Finished):
            self._warned.pop(self._agent.id, None)

    async def failed(self, code: str, fields: Mapping[str, Any]) -> None:
        """Look at a failure."""
        if code in LOGIN_CODES:
            await warn_once(self._warned, self._agent, self._sentence(code, fields))


async def warn_once(warned: dict[str, float], agent: AgentConfig, text: str) -> None:
    now = time.time()
    if now - warned.get(agent.id, 0.0) < WARNED_FOR_SECONDS:
        return
    warned[agent.id] = now  # now already: other turns may fail meanwhile
    try:
        await notify_admins(agent.label, text)
    except BaseException:
        warned.pop(agent.id, None)
        raise


# --- shared/toolcalls/pieces.py ---


@dataclass(frozen=True, slots=True)
class VisibleText:
    """Text for the user, unchanged."""

    text: str


@dataclass(frozen=True, slots=True)
class RecoveredCall:
    """A call of a known tool whose arguments fit the tool's schema.

    `arguments` is the text of a JSON object; `raw` the exact source characters the
    call replaces, its wrapper's opening markers included. Where one piece of source
    holds several calls the first carries the source and the others an empty `raw`.
    """

    name: str
    arguments: str
    family: str
    raw: str


@dataclass(frozen=True, slots=True)
class CutCall:
    """A call of a known tool that the length limit cut short; never executed."""

    family: str
    raw: str


@dataclass(frozen=True, slots=True)
class Markup:
    """Wrapper markup beside recovered calls: closers, separators, white space."""

    raw: str


Piece = VisibleText | RecoveredCall | CutCall | Markup


# --- shared/toolcalls/window.py ---

_SPACE_RUN = re.compile(r"\s*")


class Marks:
    """A set of literal markers that is searched and matched longest first."""

    def __init__(self, literals: Iterable[str]) -> None:
        ordered = sorted(set(literals), key=lambda one: (-len(one), one))
        self.literals = tuple(ordered)
        self.regex = re.compile("|".join(map(re.escape, ordered)))
        self.prefixes = {one[:n] for one in ordered for n in range(1, len(one))}
        self.pairs = {one[:2] for one in ordered}
        self.longest = max(map(len, ordered))
        self._leads = re.compile(
            "[" + re.escape("".join({o[0] for o in ordered})) + "]"
        )
        self._by_pair: dict[str, list[str]] = {}
        for one in ordered:
            self._by_pair.setdefault(one[:2], []).append(one)

    def match(self, text: str, pos: int) -> str | None:
        """The longest marker that stands at `pos`."""
        for one in self._by_pair.get(text[pos : pos + 2], ()):
            if text.startswith(one, pos):
                return one
        lead = text[pos : pos + 1]
        return lead if lead in self._by_pair else None

    def begins(self, text: str, pos: int) -> bool:
        """Whether `text` ends, after `pos`, amid a marker that begins there."""
        return len(text) - pos < self.longest and text[pos:] in self.prefixes

    def tail(self, text: str, pos: int) -> int:
        """Where a marker that is not complete yet begins at the end of `text`."""
        start = max(pos, len(text) - self.longest + 1)
        for lead in self._leads.finditer(text, start):
            if text[lead.start() :] in self.prefixes:
                return lead.start()
        return len(text)


class Window:
    """The unread end of a growing text, and the source of all of it.

    Offsets count from the first character the window was opened on; `pos` is an
    index into `text`, the part that is still in view.
    """

    __slots__ = ("_base", "_parts", "ended", "pos", "starved", "text", "truncated")

    def __init__(self, text: str, pos: int) -> None:
        self.text = text
        self.pos = pos
        self.ended = False
        self.truncated = False
        self.starved = False  # a reader wanted more when the text had ended
        self._base = 0
        self._parts = [text]

    @property
    def offset(self) -> int:
        """How many characters lie before the reading position."""
        return self._base + self.pos

    def feed(self, chunk: str) -> None:
        """Append `chunk` and drop from view what has been read."""
        self._parts.append(chunk)
        self.text = self.text[self.pos :] + chunk
        self._base += self.pos
        self.pos = 0

    def end(self, *, truncated: bool) -> None:
        """No more text comes."""
        self.ended = True
        self.truncated = truncated

    def cut(self, start: int, stop: int | None = None) -> str:
        """The source between two offsets."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0][start:stop]

    def space(self) -> Generator[None, None, None]:
        """Skip white space."""
        while True:
            found = _SPACE_RUN.match(self.text, self.pos)
            if found is not None:
                self.pos = found.end()
            if self.pos < len(self.text):
                return
            if self.ended:
                self.starved = True
                return
            yield

    def peek(self) -> Generator[None, None, str]:
        """The next character, "" at the end."""
        while self.pos >= len(self.text):
            if self.ended:
                self.starved = True
                return ""
            yield
        return self.text[self.pos]

    def glance(self) -> Generator[None, None, str]:
        """The next character behind blanks, "" at the end; nothing is read."""
        ahead = 0
        while True:
            while self.text[self.pos + ahead : self.pos + ahead + 1] in (" ", "\t"):
                ahead += 1
            if self.pos + ahead < len(self.text):
                return self.text[self.pos + ahead]
            if self.ended:
                return ""
            yield

    def mark(
        self, marks: Marks, *, consume: bool = True
    ) -> Generator[None, None, str | None]:
        """The longest of `marks` that stands here, None when there is none."""
        while True:
            rest = len(self.text) - self.pos
            if (
                rest < marks.longest
                and not self.ended
                and (not rest or self.text[self.pos :] in marks.prefixes)
            ):
                yield
                continue
            found = marks.match(self.text, self.pos)
            if (self.ended and self.text[self.pos :] in marks.prefixes) or not rest:
                self.starved = True
            if found is not None and consume:
                self.pos += len(found)
            return found

    def find(self, marks: Marks) -> Generator[None, None, str | None]:
        """Go to the next of `marks` (not over it); None and at the end if none comes."""
        while True:
            found = marks.regex.search(self.text, self.pos)
            if found is not None:
                self.pos = found.start()
                return (yield from self.mark(marks, consume=False))
            if self.ended:
                self.pos = len(self.text)
                self.starved = True
                return None
            self.pos = marks.tail(self.text, self.pos)
            yield

    def upto(
        self, literal: str, limit: int, *, start: int = 0, consume: bool = True
    ) -> Generator[None, None, str | None]:
        """The text before `literal`, which must come within `limit` characters.

        Reading begins `start` characters ahead; the literal is skipped, too. None, and
        nothing read, when it does not come.
        """
        while True:
            begin = self.pos + start
            found = self.text.find(literal, begin, begin + limit + len(literal))
            if found >= 0:
                text = self.text[begin:found]
                if consume:
                    self.pos = found + len(literal)
                return text
            if len(self.text) - begin >= limit + len(literal):
                return None
            if self.ended:
                self.starved = True
                return None
            yield


# --- shared/toolcalls/families.py ---

# json: one object that names the tool     named: NAME then a JSON object
# tags: NAME in a tag, parameters in tags  pairs: NAME then <arg_key>/<arg_value>
# python: NAME(k=v)                        relaxed: call:NAME{k:v}
BodyKind = Literal["json", "named", "tags", "pairs", "python", "relaxed"]

# Where an opener may start a call. any: the marker is unmistakable; stand: at the
# beginning of a line or sentence; line: of a line; start: of the message, which must
# be nothing but the call; inside: only behind another opener.
Place = Literal["any", "stand", "line", "start", "inside"]


@dataclass(frozen=True, slots=True)
class LeakFamily:
    """One row: a family, its usual body, and the literal markers around it."""

    name: str
    body: BodyKind
    opens: tuple[str, ...]
    closes: tuple[str, ...] = ()
    thoughts: bool = False  # the family calls tools inside its thoughts, too
    place: Place = "any"


def _deepseek(*words: str) -> tuple[str, ...]:
    """A DeepSeek marker in its spellings: bars full-width or ASCII, gaps various."""
    return tuple(
        f"<{bar}{gap.join(words)}{bar}>"
        for bar in "｜|"
        for gap in ("▁", " ", "_", "\\_")
    )


def _plamo(*words: str) -> tuple[str, ...]:
    return tuple(f"<|plamo:{word}:plamo|>" for word in words)


_DS_OPEN = (
    _deepseek("tool", "calls", "begin")
    + _deepseek("tool", "call", "begin")
    + _deepseek("tool", "calls")
)
_DS_CLOSE = _deepseek("tool", "calls", "end") + _deepseek("tool", "call", "end")
_DS_SEP = _deepseek("tool", "sep")
_TYPED = tuple("function" + sep for sep in _DS_SEP)
DSML_BARS = ("｜DSML｜", "|DSML|", "｜DSML｜ ", "|DSML| ")
DSML_WRAPS = ("function_calls", "tool_calls", "calls")
_DSML_TAGS = tuple(bar + wrap for bar in DSML_BARS for wrap in DSML_WRAPS)
_M3 = "]<]minimax[>["
_HARMONY = (
    "<|channel|>commentary",
    "<|channel|>analysis",
    "<|start|>assistant",
    "<|end|><|start|>assistant",
)
_STRIPPED = ("assistantcommentary to=", "assistantanalysis to=", "commentary to=")

# Tags that small models make up; they say no more than bare JSON does.
_PLAIN_TAGS = ("tool", "json", "JSON", "xml", "response")
INNER_OPENERS = frozenset(
    {"[", "```", "```json", "print("} | {f"<{tag}>" for tag in _PLAIN_TAGS}
)

FAMILIES: tuple[LeakFamily, ...] = (
    LeakFamily("hermes", "json", ("<tool_call>",), ("</tool_call>",), thoughts=True),
    LeakFamily("hermes", "json", ("<tools>",), ("</tools>",)),
    LeakFamily("qwen3_coder", "tags", ("<tool_call>",), thoughts=True),
    LeakFamily("glm4", "pairs", ("<tool_call>",), thoughts=True),
    LeakFamily("ling3", "pairs", ("<tool_call>",), ("<|role_end|>",), thoughts=True),
    LeakFamily("poolside", "pairs", ("<tool_call>",)),
    LeakFamily("spark25", "pairs", ("<tool_call>",)),
    LeakFamily("ernie45", "json", ("<tool_call>",)),
    LeakFamily("granite", "json", ("<|tool_call|>", "<tool_call>")),
    LeakFamily("phi4_mini", "json", ("<|tool_call|>",), ("<|/tool_call|>",)),
    LeakFamily("phi4_mini", "json", ("functools[", "functools ["), place="stand"),
    LeakFamily("firefunction", "json", ("functools[", "functools ["), place="stand"),
    LeakFamily("granite_20b_fc", "json", ("<function_call>",), ("</function_call>",)),
    LeakFamily("apertus", "json", ("<|tools_prefix|>",), ("<|tools_suffix|>",)),
    LeakFamily("apriel", "json", ("<tool_calls>",), ("</tool_calls>",)),
    LeakFamily("jamba", "json", ("<tool_calls>",)),
    LeakFamily("hunyuan", "json", ("<tool_calls>",)),
    LeakFamily("hy_v3", "pairs", ("<tool_calls>",)),
    LeakFamily(
        "hy_v3",
        "pairs",
        ("<tool_calls:opensource>", "<tool_call:opensource>"),
        (
            "</tool_call:opensource>",
            "</tool_calls:opensource>",
            "<end_of_tool_call:opensource>",
            "<end_of_tool_call>",
        ),
    ),
    LeakFamily("nemotron_toolcall", "json", ("<TOOLCALL>",), ("</TOOLCALL>",)),
    LeakFamily("longcat", "json", ("<longcat_tool_call>",), ("</longcat_tool_call>",)),
    LeakFamily("longcat", "pairs", ("<longcat_tool_call>",)),
    LeakFamily("command_r7b", "json", ("<|START_ACTION|>",), ("<|END_ACTION|>",)),
    LeakFamily("command_r_plus", "json", ("Action:",), place="line"),
    LeakFamily("react", "named", ("Action:",), place="line"),
    LeakFamily(
        "gigachat3",
        "json",
        ("<|function_call|>", "<|message_sep|>", "function call<|role_sep|>"),
        ("<|message_sep|>",),
    ),
    LeakFamily(
        "inkling",
        "json",
        ("<|content_invoke_tool_json|>", "<|message_model|>"),
        ("<|end_message|>",),
    ),
    LeakFamily(
        "internlm2", "json", ("<|action_start|>", "<|plugin|>"), ("<|action_end|>",)
    ),
    LeakFamily("llama3_json", "json", ("<|python_tag|>",)),
    LeakFamily(
        "lmstudio_default", "json", ("[TOOL_REQUEST]",), ("[END_TOOL_REQUEST]",)
    ),
    LeakFamily("json_array", "json", ("[",), ("]",), place="stand"),
    LeakFamily("generic_json", "json", ("```json", "```"), ("```",), place="start"),
    LeakFamily("xlam", "json", ("```json",), place="start"),
    LeakFamily(
        "generic_json",
        "json",
        tuple(f"<{tag}>" for tag in _PLAIN_TAGS),
        tuple(f"</{tag}>" for tag in _PLAIN_TAGS),
        place="stand",
    ),
    LeakFamily(
        "kimi_k2",
        "named",
        (
            "<|tool_calls_section_begin|>",
            "<|tool_call_section_begin|>",
            "<|tool_call_begin|>",
        ),
        (
            "<|tool_call_end|>",
            "<|tool_calls_section_end|>",
            "<|tool_call_section_end|>",
        ),
        thoughts=True,
    ),
    LeakFamily("deepseek_v3", "named", _DS_OPEN + _TYPED, _DS_CLOSE),
    LeakFamily("deepseek_v31", "named", _DS_OPEN),
    LeakFamily("mistral", "named", ("[TOOL_CALLS]",), ("[/TOOL_CALLS]",)),
    LeakFamily("functionary_v32", "named", (">>>",)),
    LeakFamily(
        "functionary_v2",
        "named",
        ("<|from|>assistant", "<|recipient|>"),
        ("<|stop|>",),
    ),
    LeakFamily("calling_tool", "named", ("[Calling tool:",), ("]",)),
    LeakFamily("gpt_oss", "named", _HARMONY, ("<|call|>",)),
    LeakFamily("gpt_oss", "named", _STRIPPED, place="stand"),
    LeakFamily("gpt_oss", "named", ("to=",), place="inside"),
    LeakFamily(
        "plamo3",
        "named",
        _plamo("begin_tool_requests", "begin_tool_request", "begin_tool_name"),
        _plamo("end_tool_requests", "end_tool_request", "end_tool_arguments"),
    ),
    LeakFamily(
        "seed_oss",
        "tags",
        ("<seed:tool_call>", "<seed:tool_calls>"),
        ("</seed:tool_call>", "</seed:tool_calls>"),
    ),
    LeakFamily("anthropic", "tags", ("<function_calls>",), ("</function_calls>",)),
    LeakFamily(
        "minimax_m2", "tags", ("<minimax:tool_call>",), ("</minimax:tool_call>",)
    ),
    LeakFamily("minimax_m3", "tags", (_M3 + "<tool_call>",), (_M3 + "</tool_call>",)),
    LeakFamily(
        "deepseek_v32",
        "tags",
        tuple(f"<{wrap}>" for wrap in _DSML_TAGS),
        tuple(f"</{wrap}>" for wrap in _DSML_TAGS),
    ),
    LeakFamily("step3", "tags", _DS_OPEN),
    LeakFamily("dots", "tags", ("<dots_function_call>",), ("</dots_function_call>",)),
    LeakFamily("muse", "tags", ("to=",), place="stand"),
    LeakFamily("muse", "tags", ("<atem:function_calls>",), ("</atem:function_calls>",)),
    LeakFamily(
        "kimi_k3",
        "tags",
        ("<|open|>tools<|sep|>",),
        ("<|close|>tools<|sep|>",),
    ),
    LeakFamily(
        "k2_horizon",
        "pairs",
        ("<ifm|tool_calls>", "<ifm|tool_call>"),
        ("</ifm|tool_call>", "</ifm|tool_calls>"),
    ),
    LeakFamily("lfm2", "python", ("<|tool_call_start|>",), ("<|tool_call_end|>",)),
    LeakFamily("llama4_pythonic", "python", ("<|python_start|>",), ("<|python_end|>",)),
    LeakFamily("llama3_json", "python", ("<|python_tag|>",)),
    LeakFamily("olmo3", "python", ("<function_calls>",)),
    LeakFamily("pythonic", "python", ("[",), place="stand"),
    LeakFamily("gemma3_tool_code", "python", ("```tool_code",), ("```",), place="line"),
    LeakFamily("gemma3_tool_code", "python", ("print(",), place="inside"),
    LeakFamily("gemma4", "relaxed", ("<|tool_call>",), ("<tool_call|>",)),
    LeakFamily(
        "functiongemma",
        "relaxed",
        ("<start_function_call>",),
        ("<end_function_call>",),
    ),
)

# What a body without any wrapper is called.
BARE_FAMILY: dict[str, str] = {
    "json": "generic_json",
    "named": "bare_name_json",
    "python": "pythonic",
    "relaxed": "gemma4",
    "pairs": "glm4",
}

# Between the name and its arguments, with the family that writes it.
SEPARATORS: dict[str, str | None] = {
    "[ARGS]": "mistral",
    "[CALL_ID]": "mistral",
    "<tool_sep>": "hunyuan",
    "<tool_sep:opensource>": "hy_v3",
    "<|tool_call_argument_begin|>": "kimi_k2",
    "<|constrain|>": "gpt_oss",
    "<|content|>": "functionary_v2",
    "<|channel|>commentary": "gpt_oss",
    "<|channel|>analysis": "gpt_oss",
    "<|message|>": None,
    "```json": None,
    "```": None,
    "json": None,
    "code": None,
    ".call": "llama3_json",
    "Action Input:": "react",
    **dict.fromkeys(_DS_SEP, "deepseek_v31"),
    **dict.fromkeys(
        _plamo("end_tool_name", "begin_tool_arguments", "msg", "constrain"), "plamo3"
    ),
    "<|plamo:msg|>": "plamo3",
    "<|plamo:constrain|>": "plamo3",
}

# Ends of a turn that servers forget to strip behind a call.
_TURN_ENDS = (
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|eom|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<turn|>",
    "<eos>",
    "<|tool_response>",
    "<|close|>message<|sep|>",
    "<|plamo:tag|>",
    *_deepseek("end", "of", "sentence"),
)

# Some formats frame all of a message, its text and thoughts, too. These are markup where
# the message begins or is known to be framed,
_FRAME_STARTS = (
    ">>>all\n",
    "<|open|>response<|sep|>",
    "<|open|>think<|sep|>",
    *(
        f"{turn}<|channel|>{channel}<|message|>"
        for turn in ("", "<|start|>assistant")
        for channel in ("analysis", "commentary", "final")
    ),
    "<|message_model|>",
    "<|content_thinking|>",
    "<|content_text|>",
    "to=self<|message|>",
    "to=user<|message|>",
)
# and these only where it is known.
FRAME_ENDS = frozenset(
    (
        "<|close|>response<|sep|>",
        "<|close|>think<|sep|>",
        "<|start|>assistant",
        "<|end_message|>",
        "<|end|>",
        "<|return|>",
        "<|eom|>",
        "<|eot|>",
    )
)

THOUGHT_OPENERS = (
    "<think>",
    "<thinking>",
    "[THINK]",
    "<seed:think>",
    "<longcat_think>",
    "<mm:think>",
    "<|START_THINKING|>",
    "<|inner_prefix|>",
    "<|channel>thought",
    *_plamo("begin_think"),
)
THOUGHT_CLOSERS = (
    "</think>",
    "</thinking>",
    "[/THINK]",
    "</seed:think>",
    "</longcat_think>",
    "</mm:think>",
    "<|END_THINKING|>",
    "<|inner_suffix|>",
    "<channel|>",
    *_plamo("end_think"),
)


def _rows_by_opener() -> dict[str, list[LeakFamily]]:
    rows: dict[str, list[LeakFamily]] = {}
    for family in FAMILIES:
        for opener in family.opens:
            rows.setdefault(opener, []).append(family)
    return rows


OPENERS = _rows_by_opener()
OPEN_MARKS = Marks(OPENERS)
SEPARATOR_MARKS = Marks(SEPARATORS)
CLOSE_MARKS = Marks(
    [close for family in FAMILIES for close in family.closes if len(close) > 3]
    + list(_TURN_ENDS)
)
FRAME_MARKS = Marks((*_FRAME_STARTS, *FRAME_ENDS))
THOUGHT_MARKS = Marks(THOUGHT_OPENERS + THOUGHT_CLOSERS)


def closers_of(openers: Iterable[str]) -> set[str]:
    """The closers of every family that uses one of `openers`."""
    return {
        close
        for opener in openers
        for row in OPENERS.get(opener, ())
        for close in row.closes
        if close in CLOSE_MARKS.literals
    }


def family_label(opener: str | None, body: BodyKind) -> str:
    """The family that writes this body behind this opener (the first row wins)."""
    if opener is None:
        return BARE_FAMILY.get(body, body)
    rows = OPENERS[opener]
    return next((row.name for row in rows if row.body == body), rows[0].name)


# --- shared/toolcalls/dialects.py ---

_ATTRIBUTE = re.compile(r"""([\w.]+)=(?:"(.*?)"|'(.*?)'|([^\s"'/>]+))""", re.DOTALL)

# Before an attribute; a byte-level tokenizer leaks its blank as Ġ, or loses it.
_GAPS = (" ", "Ġ", "")


@dataclass(frozen=True)
class TagDialect:
    """The literals of one tagged notation.

    `heads` open the call and `head_end` ends its opening tag; `params`, `param_end`,
    `value_end` do so for a parameter, and `ends` close the call. A dialect without
    heads (arg_key/arg_value) follows a name that was already read.
    """

    family: str
    heads: tuple[str, ...]
    params: tuple[str, ...]
    value_ends: tuple[str, ...]
    ends: tuple[str, ...]
    wraps: tuple[tuple[str, str], ...] = ()  # opener and closer of the wrapper
    head_end: str = ">"
    param_end: str = ">"
    tree: bool = False  # parameters are nested tags of their own names
    own_lines: Literal["", "each", "pair"] = ""  # line breaks that are not the value's
    param_marks: Marks = field(init=False)
    inner_marks: Marks = field(init=False)  # what may end a value
    follow_marks: Marks = field(init=False)  # what may come after a closed value
    after_marks: Marks = field(init=False)  # what may come after the call

    def __post_init__(self) -> None:
        closers = tuple(closer for _, closer in self.wraps)
        after = closers + self.heads + tuple(opener for opener, _ in self.wraps)
        put = object.__setattr__
        put(self, "param_marks", Marks(self.params + self.ends))
        put(
            self,
            "inner_marks",
            Marks(self.params + self.value_ends + self.ends + closers),
        )
        put(self, "follow_marks", Marks(self.params + self.ends + after))
        put(self, "after_marks", Marks(after))


def _wrap(*tags: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"<{tag}>", f"</{tag}>") for tag in tags)


def _invoke(family: str, spaces: tuple[str, ...], wraps: tuple[str, ...]) -> TagDialect:
    """The `<invoke name="…"><parameter name="…">` notation under namespaces."""
    return TagDialect(
        family,
        heads=tuple(f"<{s}invoke{gap}name=" for s in spaces for gap in _GAPS),
        params=tuple(f"<{s}parameter{gap}name=" for s in spaces for gap in _GAPS),
        value_ends=tuple(f"</{s}parameter>" for s in spaces),
        ends=tuple(f"</{s}invoke>" for s in spaces),
        wraps=_wrap(*wraps),
        own_lines="pair",
    )


_FUNCTION_PARAMS = (
    "<parameter=",
    *(f"<{tag}{gap}name=" for tag in ("parameter", "param") for gap in _GAPS),
)

TAG_DIALECTS = (
    TagDialect(
        "qwen3_coder",
        heads=("<function=",),
        params=_FUNCTION_PARAMS,
        value_ends=("</parameter>", "</param>"),
        ends=("</function>",),
        wraps=_wrap("tool_call", "seed:tool_call"),
        own_lines="each",
    ),
    TagDialect(
        "minicpm5",
        heads=tuple(f"<function{gap}name=" for gap in _GAPS),
        params=_FUNCTION_PARAMS,
        value_ends=("</param>", "</parameter>"),
        ends=("</function>",),
        wraps=_wrap("tool_call"),
        own_lines="pair",
    ),
    _invoke(
        "anthropic",
        ("", "antml:", "minimax:"),
        ("function_calls", "minimax:tool_call", "dots_function_call", "tool_call"),
    ),
    _invoke("step3", ("steptml:",), ()),
    _invoke("muse", ("atem:",), ("atem:function_calls",)),
    *(
        replace(
            _invoke("deepseek_v32", (bar,), tuple(bar + wrap for wrap in DSML_WRAPS)),
            own_lines="",
        )
        for bar in DSML_BARS
    ),
    TagDialect(
        "kimi_k3",
        heads=("<|open|>call ",),
        params=("<|open|>argument ",),
        value_ends=("<|close|>argument<|sep|>",),
        ends=("<|close|>call<|sep|>",),
        wraps=(("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),),
        head_end="<|sep|>",
        param_end="<|sep|>",
    ),
    TagDialect(
        "minimax_m3",
        heads=("]<]minimax[>[<invoke name=",),
        params=(),
        value_ends=(),
        ends=("]<]minimax[>[</invoke>",),
        tree=True,
    ),
)
PAIR_DIALECTS = tuple(
    TagDialect(
        "glm4",
        heads=(),
        params=(f"<{space}arg_key{mark}>",),
        value_ends=(f"</{space}arg_value{mark}>",),
        ends=(),
        wraps=(
            *_wrap(f"{space}tool_call{mark}", f"{space}tool_calls{mark}"),
            (f"<tool_call{mark}>", f"<end_of_tool_call{mark}>"),
        ),
        param_end=f"<{space}arg_value{mark}>",
    )
    for space, mark in (("", ""), ("ifm|", ""), ("longcat_", ""), ("", ":opensource"))
)
TAG_HEADS = {head: dialect for dialect in TAG_DIALECTS for head in dialect.heads}
TAG_HEAD_MARKS = Marks(TAG_HEADS)
PAIR_HEADS = {key: dialect for dialect in PAIR_DIALECTS for key in dialect.params}
PAIR_HEAD_MARKS = Marks(PAIR_HEADS)


def tag_attributes(literal: str, header: str) -> dict[str, str]:
    """The attributes of an opening tag; its main one (the name) under "name".

    `literal` is the marker that opened the tag and `header` what follows up to its
    end. In `<function=NAME>` the name is all of the header, quotes and blanks included.
    """
    if literal in PAIR_HEADS or literal.endswith(("function=", "parameter=")):
        return {"name": header}
    prefix = "name=" if literal.endswith("name=") else ""
    found = {
        key: html.unescape(double or single or bare)
        for key, double, single, bare in _ATTRIBUTE.findall(prefix + header)
    }
    for alias in ("key", "tool"):
        if alias in found:
            found.setdefault("name", found[alias])
    return found


# --- shared/toolcalls/fences.py ---

# What may stand before a fence on its line: blanks, quote and list markers.
_FENCE_PREFIX = " \t>-*+0123456789.)"


class CodeTracker:
    """Follows a message; `in_code` tells whether its next character is code."""

    __slots__ = (
        "_after_blank",
        "_blank",
        "_closing",
        "_fence",
        "_indent",
        "_info",
        "_inline",
        "_prefix",
        "_written",
    )

    def __init__(self) -> None:
        self._fence = ""  # the run that opened the fence
        self._info = False  # still on the line that opened it
        self._closing = False  # a closing run was read, its line is not over
        self._inline = 0  # the length of the run that opened inline code
        self._prefix = True  # nothing but a fence's prefix on this line so far
        self._blank = True  # nothing but blanks on this line so far
        self._indent = 0
        self._after_blank = False  # an indented line is code
        self._written = False  # some line before this one is not blank

    @property
    def in_fence(self) -> bool:
        """Whether the text stands in a fence, its opening line included."""
        return bool(self._fence)

    @property
    def in_code(self) -> bool:
        """Whether the next character is code."""
        indented = self._indent >= 4 and self._after_blank
        return bool(self._fence or self._inline or indented)

    @property
    def at_line_start(self) -> bool:
        """Whether only blanks stand before on this line."""
        return self._blank

    def plain(self, text: str) -> None:
        """Text without line breaks, backticks and tildes."""
        if not (self._prefix or self._closing):
            return
        if self._blank:
            blanks = text[: len(text) - len(text.lstrip(" \t"))]
            self._indent += len(blanks.expandtabs(4))
            self._blank = len(blanks) == len(text)
        if text.strip(_FENCE_PREFIX):
            self._prefix = self._closing = False

    def run(self, char: str, count: int) -> None:
        """A complete run of backticks or tildes."""
        if self._fence:
            self._run_in_fence(char, count)
        elif self._inline:
            if char == "`" and count == self._inline:
                self._inline = 0
        elif count >= 3 and self._prefix:
            # However deep it is indented: it may stand in a list.
            self._fence = char * count
            self._info = True
        elif char == "`" and not self.in_code:
            self._inline = count
        self._blank = self._prefix = False

    def _run_in_fence(self, char: str, count: int) -> None:
        if self._info and char == self._fence[0] == "`":
            # No fence has backticks on its opening line: it was inline code.
            self._inline = 0 if count == len(self._fence) else len(self._fence)
            self._fence = ""
            self._info = False
        else:
            opened = char == self._fence[0] and count >= len(self._fence)
            self._closing = opened and self._prefix

    def newline(self) -> bool:
        """The end of a line; True when the line was blank."""
        blank = self._blank
        if self._closing:
            self._fence = ""
        if blank:
            self._inline = 0
        code_line = self._indent >= 4 and self._after_blank
        self._after_blank = (blank and self._written) or (code_line and not blank)
        self._written = self._written or not blank
        self._blank = self._prefix = True
        self._closing = self._info = False
        self._indent = 0
        return blank


# --- shared/toolcalls/styles.py ---


@dataclass(frozen=True)
class ValueStyle:
    """The strings and brackets of one notation.

    A quote opens a string only where a value or key may begin, and closes it only
    when one of `follow` (or the end) comes next. Both are true of any well-formed
    text, and they hold a string together whose inner quotes were never escaped.
    """

    quotes: Marks
    brackets: str
    follow: str
    raw_quotes: frozenset[str] = frozenset()  # strings without backslash escapes
    barewords: bool = False  # words without quotes are strings
    plain: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        leads = "".join(sorted({quote[0] for quote in self.quotes.literals}))
        special = re.escape(self.brackets + leads + ",:=<")
        object.__setattr__(self, "plain", re.compile(rf"[^\s{special}]+|\s+"))


JSON_STYLE = ValueStyle(quotes=Marks(['"', "'"]), brackets="{}[]", follow=",:]}")
PYTHON_STYLE = ValueStyle(
    quotes=Marks(['"""', "'''", '"', "'"]), brackets="{}[]()", follow=",:]})"
)
GEMMA_STYLE = ValueStyle(
    quotes=Marks(['<|"|>', "<escape>", '"', "'"]),
    brackets="{}[]",
    follow=",:]}",
    raw_quotes=frozenset({'<|"|>', "<escape>"}),
    barewords=True,
)

# What may stand in a string before a quote or a single last backslash.
STRING_RUN = {
    '"': re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]++|\\.)*+", re.DOTALL),
}


# --- shared/toolcalls/values.py ---

_DEEPEST = 80
_SPACES = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_ARGUMENT = re.compile(r"\s*([^\W\d][\w.\-]*)\s*=(?!=)")
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(\n)|(.))", re.DOTALL
)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}
_LITERALS = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}


class BareWord(str):
    """A string that was written without quotes."""

    __slots__ = ()


def read_value(text: str, style: ValueStyle, *, close: bool = False) -> Any:
    """The one value that `text` holds, ValueError when it does not.

    `close` adds closing brackets that are missing at the end.
    """
    reader = _ValueReader(text, style, close)
    value = reader.value(0)
    reader.skip()
    if reader.pos < len(text):
        raise ValueError("more text after the value")
    return value


def read_arguments(
    text: str, style: ValueStyle, *, close: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments of `(…)`, ValueError when it is no such list.

    Words without quotes are read as strings: models write the members of enums so.
    """
    reader = _ValueReader(text, style, close)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    reader.expect("(")
    while not reader.closes(")"):
        name = _ARGUMENT.match(text, reader.pos)
        if name is None:
            positional.append(reader.value(1))
            if isinstance(positional[-1], BareWord):
                raise ValueError("a variable, not a value")
        else:
            reader.pos = name.end()
            named[name.group(1)] = reader.value(1)
        if not reader.comma(")"):
            break
    reader.skip()
    if reader.pos < len(text):
        raise ValueError("more text after the arguments")
    return positional, named


class _ValueReader:
    """Recursive descent over one complete text."""

    def __init__(self, text: str, style: ValueStyle, close: bool) -> None:
        self.text = text
        self.style = style
        self.close = close
        self.pos = 0

    def skip(self) -> None:
        found = _SPACES.match(self.text, self.pos)
        if found is not None:
            self.pos = found.end()

    def ended(self) -> bool:
        return self.pos >= len(self.text)

    def expect(self, char: str) -> None:
        self.skip()
        if not self.text.startswith(char, self.pos):
            raise ValueError(f"expected {char}")
        self.pos += len(char)

    def closes(self, bracket: str) -> bool:
        """Whether the closing bracket (or, when allowed, the end) comes; skips it."""
        self.skip()
        if self.text.startswith(bracket, self.pos):
            self.pos += 1
            return True
        return self.ended() and self.close

    def comma(self, bracket: str) -> bool:
        """True behind a comma, False behind the closing bracket."""
        if self.closes(bracket):
            return False
        self.expect(",")
        return True

    def value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("nested too deep")
        self.skip()
        quote = self.style.quotes.match(self.text, self.pos)
        if quote is not None:
            return self.string(quote)
        char = self.text[self.pos : self.pos + 1]
        if char and char in "{[(" and char in self.style.brackets:
            self.pos += 1
            return self.mapping(depth) if char == "{" else self.sequence(char, depth)
        return self.scalar()

    def mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self.closes("}"):
            quote = self.style.quotes.match(self.text, self.pos)
            key = self.string(quote) if quote else self.bare_key()
            self.expect(":")
            found[key] = self.value(depth + 1)
            if not self.comma("}"):
                break
        return found

    def bare_key(self) -> str:
        stop = self.text.find(":", self.pos)
        key = self.text[self.pos : stop].strip() if stop >= 0 else ""
        if not key or (not self.style.barewords and not key.isidentifier()):
            raise ValueError("expected a key")
        self.pos = stop
        return key

    def sequence(self, opening: str, depth: int) -> list[Any]:
        closing = "]" if opening == "[" else ")"
        found: list[Any] = []
        while not self.closes(closing):
            found.append(self.value(depth + 1))
            if not self.comma(closing):
                break
        return found

    def scalar(self) -> Any:
        stop = self.pos
        while stop < len(self.text) and self.text[stop] not in ",]})":
            stop += 1
        word = self.text[self.pos : stop].strip()
        if not word:
            raise ValueError("an empty value")
        self.pos = stop
        if word in _LITERALS:
            return _LITERALS[word]
        if _NUMBER.fullmatch(word):
            return int(word) if word.lstrip("+-").isdigit() else float(word)
        if self.style.barewords or (
            ")" in self.style.brackets and _DOTTED.fullmatch(word)
        ):
            return BareWord(word)
        raise ValueError("neither a literal nor a number")

    def string(self, quote: str) -> str:
        start = self.pos = self.pos + len(quote)
        raw = quote in self.style.raw_quotes
        inner = False  # see `brackets`: quotes that nobody escaped
        while True:
            if raw:
                self.pos = self.text.find(quote, self.pos)
            else:
                run = STRING_RUN[quote[0]].match(self.text, self.pos)
                self.pos = run.end() if run is not None else -1
            if self.pos < 0 or self.pos >= len(self.text):
                raise ValueError("a string without its end")
            if not self.text.startswith(quote, self.pos):
                self.pos += (
                    1  # a last backslash, or one quote in a triple-quoted string
                )
                continue
            stop = self.pos
            mark = self.pos = stop + len(quote)
            if self.text[mark : mark + 1].isalnum():
                inner = quote == '"'
                continue
            self.skip()
            if self.ended() or self.text[self.pos] in self.style.follow:
                inside = self.text[start:stop]
                return inside if raw else unescape_string(inside)
            if not inner:
                raise ValueError("text behind a string")
            inner = False
            self.pos = mark


def unescape_string(text: str) -> str:
    """Backslash escapes of JSON and Python resolved; unknown ones stay as they are."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_unescape_one, text)
    # A pair of \\u escapes is one character above U+FFFF.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescape_one(found: re.Match[str]) -> str:
    code = found.group(1) or found.group(2) or found.group(3)
    if code:
        return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else found.group()
    if found.group(4):
        return ""  # a line that goes on
    char = found.group(5)
    if char in _SHORT:
        return _SHORT[char]
    return char if char in "\"'\\/`" else found.group()


# --- shared/toolcalls/repair.py ---

_UNREADABLE_TEXT = (ValueError, RecursionError)


def strict_json(text: str) -> Any:
    """The JSON value of `text`; NaN and infinities are no JSON."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def possible_values(
    text: str,
    style: ValueStyle = JSON_STYLE,
    *,
    close: bool = False,
    decode: bool = False,
) -> Iterator[Any]:
    """Readings of `text`, each repair only when the plainer ones did not satisfy.

    As is; HTML entities; trailing commas, single quotes, Python literals, raw line
    breaks and unescaped quotes in strings; with `decode`, quotes escaped once too
    often; with `close`, because the message or the wrapper ended, missing closers.
    """
    plain = html.unescape(text)
    steps: list[Callable[[], Any]] = [
        lambda: strict_json(text),
        lambda: strict_json(plain),
        lambda: read_value(text, style),
        lambda: read_value(plain, style),
    ]
    if decode:
        steps.append(lambda: read_value(unescape_string(text), style))
    if close:
        steps.append(lambda: read_value(text, style, close=True))
    seen: list[Any] = []
    for step in steps:
        try:
            value = step()
            known = value in seen
        except _UNREADABLE_TEXT:
            continue
        if not known:
            seen.append(value)
            yield value


def possible_arguments(value: object) -> Iterator[Any]:
    """Readings of a call's arguments: none is {}, text may be JSON encoded twice."""
    if value is None or value == "":
        yield {}
    elif isinstance(value, str):
        yield from possible_values(value, decode=True)
    else:
        yield value


def arguments_text(arguments: dict[str, Any]) -> str:
    """`arguments` as JSON text that every later encoder accepts."""
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair can be escaped but not encoded.
    return text if _encodes(text) else json.dumps(arguments, allow_nan=False)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- shared/toolcalls/schema.py ---

JsonSchema = Mapping[str, Any]

_NULLS = frozenset({"null", "None"})
_BOOLEANS = {"true": True, "false": False}
# What some schemas call a type, and what JSON Schema does.
_TYPE_NAMES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
# What models put around arguments once more.
_ENVELOPES = frozenset({"arguments", "parameters", "properties", "args", "input"})
_TEXT_TYPES = ({"string"}, {"string", "null"})
_UNREADABLE = (ValueError, RecursionError)


class SchemaFit:
    """One tool's parameter schema, compiled once."""

    def __init__(self, schema: JsonSchema) -> None:
        self.root = schema
        self.properties: Mapping[str, JsonSchema] = self._mapping("properties")
        self._validator = Draft202012Validator(schema)
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except SchemaError:
            # A tool whose schema is broken still runs; only its shape cannot be judged.
            self._validator = Draft202012Validator({"type": "object"})

    def _mapping(self, key: str) -> Mapping[str, Any]:
        found = self.root.get(key)
        return found if isinstance(found, Mapping) else {}

    def fits(self, arguments: object) -> bool:
        """Whether `arguments` is an object that the schema allows."""
        try:
            return isinstance(arguments, dict) and self._validator.is_valid(arguments)
        except (Unresolvable, RecursionError):
            return isinstance(arguments, dict)

    def fitted(self, arguments: object) -> dict[str, Any] | None:
        """`arguments` as they are, or with values typed by the schema; None: no fit."""
        if not isinstance(arguments, dict):
            return None
        arguments = self._opened(arguments)
        if self.fits(arguments):
            return arguments
        try:
            typed = coerced_value(arguments, self.root, self.root)
        except RecursionError:
            return None
        return typed if self.fits(typed) else None

    def _opened(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What stands in an envelope, when all of it are parameters of the tool."""
        envelope, content = next(iter(arguments.items()), ("", None))
        if (
            len(arguments) > 1
            or envelope not in _ENVELOPES - self.properties.keys()
            or not self.properties
        ):
            return arguments
        if isinstance(content, str) and content.lstrip().startswith("{"):
            content = _container(content.strip())
        if isinstance(content, dict) and content.keys() <= self.properties.keys():
            return content
        return arguments

    def typed(self, name: str, raw: str) -> Any:
        """The value of parameter `name` whose source is the text `raw`."""
        try:
            return typed_value(raw, self.properties.get(name, {}), self.root)
        except RecursionError:
            return raw


def resolved_schema(schema: object, root: JsonSchema) -> JsonSchema:
    """`schema` behind its local `$ref`, {} when there is nothing to go by."""
    for _ in range(8):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        found: Any = root
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        schema = found
    return {}


def schema_options(schema: object, root: JsonSchema) -> list[JsonSchema]:
    """The alternatives of a schema (anyOf, oneOf, allOf flattened), at least one."""
    plain = resolved_schema(schema, root)
    found: list[JsonSchema] = []
    for key in ("anyOf", "oneOf", "allOf"):
        for option in plain.get(key) or ():
            found.extend(schema_options(option, root))
    return found if found and "type" not in plain else [plain]


def schema_types(options: list[JsonSchema]) -> list[str]:
    """The JSON types that the alternatives allow, in their order; []: any."""
    types: list[str] = []
    for option in options:
        stated = option.get("type")
        if stated is None:
            members = option.get("enum") or [
                option[k] for k in ("const",) if k in option
            ]
            stated = [_type_of(member) for member in members]
            if not stated:
                return []
        names = [stated] if isinstance(stated, str) else stated
        types.extend(_TYPE_NAMES.get(name, name) for name in names)
    return types


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def typed_value(raw: str, schema: object, root: JsonSchema) -> Any:
    """What raw text means under `schema`; text that fits no other type is a string."""
    options = schema_options(schema, root)
    types = schema_types(options)
    text = raw.strip()
    if not types:
        return _untyped(raw)
    if "string" in types and any(raw in (o.get("enum") or ()) for o in options):
        return raw
    if "null" in types and text in _NULLS:
        return None
    if text[:1] in ("{", "[") and ("object" in types or "array" in types):
        value = _container(text)
        if value is not None and _type_of(value) in types:
            return coerced_value(value, schema, root)
    for kind in types:
        if kind == "string":
            return raw
        if kind == "boolean" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if kind in ("integer", "number"):
            number = _number(text, kind)
            if number is not None:
                return number
    return raw


def _untyped(raw: str) -> Any:
    try:
        return json.loads(raw)
    except _UNREADABLE:
        return raw


def _container(text: str) -> Any:
    unescaped = text.replace('\\"', '"').replace("\\\\", "\\")
    for source, style in (
        (text, JSON_STYLE),
        (text, PYTHON_STYLE),
        (unescaped, JSON_STYLE),
    ):
        try:
            return json.loads(source)
        except _UNREADABLE:
            pass
        try:
            return read_value(source, style)
        except _UNREADABLE:
            continue
    return None


def _number(text: str, kind: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return None
    if kind == "integer":
        return int(value) if value.is_integer() else None
    return value


def coerced_value(value: Any, schema: object, root: JsonSchema) -> Any:
    """`value` with its parts typed as `schema` says, where they can only mean that."""
    options = schema_options(schema, root)
    types = schema_types(options)
    if isinstance(value, str):
        return typed_value(value, schema, root) if types else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Codes and numbers of houses are often written without quotes.
        return json.dumps(value) if set(types) in _TEXT_TYPES else value
    option = options[0]
    if isinstance(value, dict):
        for candidate in options:
            if candidate.get("properties"):
                option = candidate
                break
        properties = option.get("properties") or {}
        return {
            k: coerced_value(v, properties.get(k, {}), root) for k, v in value.items()
        }
    if isinstance(value, list):
        items: object = next((o["items"] for o in options if "items" in o), {})
        return [coerced_value(one, items, root) for one in value]
    return value


# --- shared/toolcalls/toolset.py ---


class KnownTool:
    """A tool of the request: its name and its parameter schema."""

    def __init__(self, name: str, parameters: Mapping[str, Any]) -> None:
        self.name = name
        self.parameters = parameters

    @cached_property
    def schema(self) -> SchemaFit:
        return SchemaFit(self.parameters)

    @property
    def required(self) -> list[str]:
        return list(self.parameters.get("required") or ())


class Toolset:
    """The known tools, with every prefix of their names for reading in a stream."""

    def __init__(self, tools: Sequence[KnownTool]) -> None:
        self.tools = tuple(tools)
        self._exact = {tool.name: tool for tool in tools}
        self._by_key: dict[str, KnownTool | None] = {}
        for tool in tools:
            key = name_key(tool.name)
            # Two tools that differ only in spelling are found by exact name only.
            self._by_key[key] = None if key in self._by_key else tool
        written = [
            prefix + key for key in self._by_key for prefix in ("", "functions.")
        ]
        self.prefixes = {name[:n] for name in written for n in range(1, len(name) + 1)}
        self.pairs = frozenset(name[:2] for name in written)

    def __bool__(self) -> bool:
        return bool(self.tools)

    def find(self, name: str) -> KnownTool | None:
        """The tool called `name`: exactly, or but for case, `functions.`, `-` and `_`."""
        if name in self._exact:
            return self._exact[name]
        key = name_key(name)
        return self._by_key.get(key) or self._by_key.get(key.removeprefix("functions."))

    def starting_with(self, part: str) -> KnownTool | None:
        """A tool whose name may be what `part` began to spell."""
        key = name_key(part).removeprefix("functions.")
        return next(
            (t for t in self.tools if key and name_key(t.name).startswith(key)), None
        )

    def by_arguments(self, arguments: object) -> KnownTool | None:
        """The only tool that takes `arguments`, all of them by name."""
        if not isinstance(arguments, dict) or not arguments:
            return None
        found = [
            tool
            for tool in self.tools
            if arguments.keys() <= tool.schema.properties.keys()
            and tool.schema.fits(arguments)
        ]
        return found[0] if len(found) == 1 else None


def name_key(name: str) -> str:
    """A name as it is compared: without case, `-` as `_`."""
    return name.casefold().replace("-", "_")


def make_toolset(specs: Sequence[Mapping[str, Any]]) -> Toolset:
    """The toolset of OpenAI tool specs, or of bare `{name, parameters}` objects."""
    functions = []
    for spec in specs:
        function = spec.get("function", spec)
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            functions.append([function["name"], function.get("parameters") or {}])
    return _cached_toolset(json.dumps(functions, default=str))


@lru_cache(maxsize=64)
def _cached_toolset(functions: str) -> Toolset:
    # A scanner is made per message; its schemas are compiled once for all of them.
    return Toolset(
        [KnownTool(name, schema) for name, schema in json.loads(functions) if name]
    )


# --- shared/toolcalls/bodystate.py ---

LONGEST_HEAD = 300  # characters of a tag, or of an object before it must name its tool
_WHOLE_END = re.compile(r"""(?:["'}\]]|true|false|null|True|False|None)\s*$""")


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A known tool and the JSON text of arguments that fit it."""

    tool: KnownTool
    arguments: str


@dataclass(slots=True)
class BodyState:
    """The body that is being read.

    `opener` is the wrapper before it. `strict`: there was none, so only the plain
    shapes count; `listed`: it stands in brackets, where Python calls do; `first`: no
    call was read before it; `alone`: the message begins here, so a tool's name may be a
    line of its own. The readers note in `tool` and `family` whose body it is, and in
    `fenced` that they opened a code fence. `trusted`: the wrapper is a special
    token, which nobody types, so there is no doubt that a call was meant.
    """

    window: Window
    tools: Toolset
    opener: str | None
    strict: bool
    listed: bool = False
    first: bool = True
    alone: bool = False
    tool: KnownTool | None = None
    family: str = ""
    fenced: bool = False
    trusted: bool = False

    def label(self, body: BodyKind, separator: str | None = None) -> None:
        """Name the family by its separator, else by opener and body."""
        told = SEPARATORS.get(separator) if separator else None
        self.family = told or family_label(self.opener, body)

    def may_close(self, text: str) -> bool:
        """Whether missing brackets may be added: nothing was cut off amid a value."""
        if not self.window.starved:  # the wrapper was closed
            return True
        return not self.window.truncated and _WHOLE_END.search(text) is not None

    def find_tool(self, name: str) -> KnownTool | None:
        """The tool of a written name, blanks and quotes around it aside."""
        plain = name.strip()
        for candidate in (name, plain, plain.strip("\"'")):
            tool = self.tools.find(candidate)
            if tool is not None:
                return tool
        return None

    def fit(
        self, tool: KnownTool, arguments: object, *, as_meant: bool = True
    ) -> list[FoundCall]:
        """The call of `tool`, [] when the arguments do not fit its schema.

        Behind a special token they need not (`as_meant`): as with a server's own
        parser, the tool tells the model what is wrong with them.
        """
        fitted = tool.schema.fitted(arguments)
        if fitted is None and as_meant and self.trusted and isinstance(arguments, dict):
            fitted = arguments
        if fitted is None:
            return []
        known = tool.schema.properties.keys()
        if self.strict and fitted and known and not known & fitted.keys():
            return []
        try:
            return [FoundCall(tool, arguments_text(fitted))]
        except (ValueError, RecursionError):  # what JSON has no words for
            return []

    def fit_first(self, tool: KnownTool, readings: Iterable[Any]) -> list[FoundCall]:
        """The call with the first of several readings of its arguments that fits."""
        seen = []
        for arguments in readings:
            if found := self.fit(tool, arguments, as_meant=False):
                return found
            seen.append(arguments)
        return self.fit(tool, seen[0]) if seen else []

    def fit_all(self, calls: Iterable[tuple[str, Any]]) -> list[FoundCall]:
        """All of the calls, [] when one of them is of no known tool or does not fit."""
        fitting: list[FoundCall] = []
        for name, arguments in calls:
            tool = self.tools.find(name)
            if tool is None:
                return []
            self.tool = tool
            found = self.fit_first(tool, possible_arguments(arguments))
            if not found:
                return []
            fitting += found
        return fitting


def only_text_parameter(tool: KnownTool) -> str | None:
    """The parameter of a tool that takes one required text and nothing else."""
    names = list(tool.schema.properties)
    if len(names) != 1 or tool.required != names:
        return None
    kind = tool.schema.properties[names[0]].get("type")
    return names[0] if kind == "string" else None


# --- shared/toolcalls/brackets.py ---


def read_bracketed(
    window: Window, style: ValueStyle, *, depth: int = 0
) -> Generator[None, None, bool]:
    """Go from an opening bracket to behind its closing one.

    `depth` is the number of brackets already opened. False when the text ended or the
    wrapper of the call was closed before the last bracket was.
    """
    structural = depth == 0  # a key or value may begin here
    while True:
        text, pos = window.text, window.pos
        run = style.plain.match(text, pos)
        if run is not None:
            structural = structural and text[pos].isspace()
            window.pos = run.end()
            continue
        if pos >= len(text):
            if window.ended:
                window.starved = True
                return False
            yield
            continue
        char = text[pos]
        if char in style.brackets:
            structural = char in "{[("
            depth += 1 if structural else -1
            window.pos += 1
            if depth <= 0:
                return True
            continue
        if char in ",:=":
            structural = True
            window.pos += 1
            continue
        quote = (yield from window.mark(style.quotes)) if structural else None
        structural = False
        if quote is not None:
            if not (yield from _read_string(window, style, quote)):
                return False
        elif char == "<" and (yield from window.mark(CLOSE_MARKS, consume=False)):
            return False
        elif window.pos < len(window.text):
            window.pos += 1


def _read_string(
    window: Window, style: ValueStyle, quote: str
) -> Generator[None, None, bool]:
    """Go behind the end of a string whose opening quote was read, and space after it."""
    closing = Marks([quote]) if len(quote) > 1 else None
    inner = False  # an inner quote was opened that nobody escaped
    while True:
        if not (yield from _read_to_quote(window, style, quote, closing)):
            return False
        window.pos += len(quote)
        after = yield from window.peek()
        if after.isalnum():
            inner = quote == '"'
            continue
        yield from window.space()
        after = yield from window.peek()
        if not after or after in style.follow or not inner:
            return True
        if after == "<" and (yield from window.mark(CLOSE_MARKS, consume=False)):
            return True
        inner = False


def _read_to_quote(
    window: Window, style: ValueStyle, quote: str, closing: Marks | None
) -> Generator[None, None, bool]:
    if closing is not None and quote in style.raw_quotes:
        return (yield from window.find(closing)) is not None
    inside = STRING_RUN[quote[0]]
    while True:
        run = inside.match(window.text, window.pos)
        if run is not None:
            window.pos = run.end()
        rest = len(window.text) - window.pos
        if rest and window.text[window.pos] != "\\":
            if closing is None or (yield from window.mark(closing, consume=False)):
                return True
            window.pos += 1  # one quote inside a triple-quoted string
        elif window.ended:
            window.pos = len(window.text)
            window.starved = True
            return False
        else:
            yield


# --- shared/toolcalls/tags.py ---

_LONGEST_TAG = 300


@dataclass(slots=True)
class TagParameter:
    """One parameter; `start` and `stop` are offsets into the window's source."""

    attributes: dict[str, str]
    start: int
    stop: int


@dataclass(slots=True)
class TaggedBody:
    """What stood between a call's tags: parameters, or one JSON object."""

    parameters: list[TagParameter] = field(default_factory=list)
    json_span: tuple[int, int] | None = None
    closed: bool = False  # by the call's own end tag or its wrapper's
    open_value: bool = False  # the text ended in the last value


def read_tagged(
    window: Window, dialect: TagDialect, known: Collection[str]
) -> Generator[None, None, TaggedBody | None]:
    """Read from behind the call's opening tag to behind its closing one.

    `known` are the parameter names of the tool: they tell a parameter that follows
    one without its closing tag from text that looks like a tag. None when the text is
    no such body, or ends amid a value.
    """
    body = TaggedBody()
    while not body.closed:
        yield from skip_blank(window)
        literal = yield from window.mark(dialect.param_marks)
        if literal in dialect.params:
            if not (yield from _read_parameter(window, dialect, literal, body, known)):
                return None
        elif literal is not None or (
            yield from window.mark(dialect.follow_marks, consume=False)
        ):
            body.closed = True
        elif (yield from window.peek()) == "{" and not body.parameters:
            start = window.offset
            if not (yield from read_bracketed(window, JSON_STYLE)):
                return None
            body.json_span = (start, window.offset)
        else:
            ended = window.pos >= len(window.text)
            return body if ended and (body.parameters or body.json_span) else None
    return body


def skip_blank(window: Window) -> Generator[None, None, None]:
    """Skip white space, and line breaks that were escaped once too often."""
    yield from window.space()
    while (yield from window.peek()) == "\\":
        if (yield from window.upto("\\n", 0)) is None:
            return
        yield from window.space()


def _read_parameter(
    window: Window,
    dialect: TagDialect,
    literal: str,
    body: TaggedBody,
    known: Collection[str],
) -> Generator[None, None, bool]:
    header = yield from window.upto(dialect.param_end, _LONGEST_TAG)
    if header is None:
        return False
    attributes = tag_attributes(literal, _own_header(dialect, header))
    seen = {one.attributes.get("name", "").strip() for one in body.parameters}
    still_open = set(known) - seen - {attributes.get("name", "").strip()}
    start = window.offset
    stop = yield from _read_value(window, dialect, body, still_open)
    if stop is None:
        return False
    body.parameters.append(TagParameter(attributes, start, stop))
    return True


def _own_header(dialect: TagDialect, header: str) -> str:
    """The header of a parameter; of a pair it is `NAME</arg_key>` and blanks.

    A pair whose value is missing stands before the next one's key: the last key counts.
    """
    if dialect.heads:
        return header
    tag = dialect.params[0].removeprefix("<")
    return header.rpartition(f"</{tag}")[0].rpartition(tag)[2]


def _read_value(
    window: Window, dialect: TagDialect, body: TaggedBody, still_open: Collection[str]
) -> Generator[None, None, int | None]:
    """Go behind a value and its closing tag; the offset where the value ends.

    A closing tag inside the value (code, documentation) is told from the value's own
    by what follows: the next parameter, the end of the call, or the end of the text.
    """
    while True:
        literal = yield from window.find(dialect.inner_marks)
        stop = window.offset
        if literal is None:
            body.open_value = True
            return None if window.truncated or not dialect.heads else stop
        if literal in dialect.params:
            if (yield from _opens_next(window, dialect, literal, still_open)):
                return _without_line_end(window, stop)
            window.pos += len(literal)
            continue
        window.pos += len(literal)
        yield from skip_blank(window)
        own = literal in dialect.value_ends
        follow = dialect.follow_marks if own else dialect.after_marks
        follows = yield from window.mark(follow, consume=False)
        if follows is not None or not (yield from window.peek()):
            body.closed = not own
            return stop if own else _without_line_end(window, stop)


def _without_line_end(window: Window, stop: int) -> int:
    """Where a value without its closing tag ends: not with the line break before."""
    return stop - 1 if window.cut(stop - 1, stop) == "\n" else stop


def _opens_next(
    window: Window, dialect: TagDialect, literal: str, still_open: Collection[str]
) -> Generator[None, None, bool]:
    """Whether a parameter tag amid a value is the next one, the value's end missing."""
    header = yield from window.upto(
        dialect.param_end, _LONGEST_TAG, start=len(literal), consume=False
    )
    if header is None:
        return False
    attributes = tag_attributes(literal, _own_header(dialect, header))
    return attributes.get("name", "").strip() in still_open


# --- shared/toolcalls/trees.py ---

_TREE_TAG = re.compile(r"\]<\]minimax\[>\[<(/?)([^<>]+)>")
_DEEPEST_TREE = 40


class _TreeNode:
    def __init__(self, name: str, start: int) -> None:
        self.name = name
        self.start = start
        self.text = ""
        self.children: list[_TreeNode] = []


def read_tree(text: str, schema: JsonSchema) -> dict[str, Any] | None:
    """The arguments in nested `<key>value</key>` tags; None when they do not nest."""
    root = _TreeNode("", 0)
    open_nodes = [root]
    for tag in _TREE_TAG.finditer(text):
        closing, name = tag.groups()
        node = open_nodes[-1]
        if not closing:
            child = _TreeNode(name, tag.end())
            node.children.append(child)
            open_nodes.append(child)
            if len(open_nodes) > _DEEPEST_TREE:
                return None
        elif name != node.name or node is root:
            return None
        else:
            node.text = text[node.start : tag.start()]
            open_nodes.pop()
    if len(open_nodes) > 1:
        return None
    value = _node_value(root, schema, schema) if root.children else {}
    return value if isinstance(value, dict) else None


def _node_value(node: _TreeNode, schema: object, root: JsonSchema) -> Any:
    if not node.children:
        if not node.text and _container_type(schema, root) in ("object", "array"):
            return {} if _container_type(schema, root) == "object" else []
        return typed_value(node.text, schema, root)
    option = next(
        (o for o in schema_options(schema, root) if "properties" in o or "items" in o),
        resolved_schema(schema, root),
    )
    names = [child.name for child in node.children]
    if _container_type(schema, root) == "array" or set(names) == {"item"}:
        items = option.get("items", {})
        return [_node_value(child, items, root) for child in node.children]
    found: dict[str, list[Any]] = {}
    for child in node.children:
        value = _node_value(child, _child_schema(option, child.name), root)
        found.setdefault(child.name, []).append(value)
    # A key that stands there again and again is a list.
    return {name: v if len(v) > 1 else v[0] for name, v in found.items()}


def _child_schema(schema: JsonSchema, name: str) -> object:
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        return properties[name]
    return schema.get("additionalProperties", {})


def _container_type(schema: object, root: JsonSchema) -> object:
    return next(
        (o.get("type") for o in schema_options(schema, root) if "type" in o), None
    )


# --- shared/toolcalls/taggedcalls.py ---

_CDATA = re.compile(r"\s*<!\[CDATA\[(.*)\]\]>\s*", re.DOTALL)
_LINE_ENDS = re.compile(r"\A\r?\n|\r?\n\Z")
_TAG_ATTRIBUTES = frozenset({"name", "tool", "id", "index", "type"})


def read_tagged_call(
    state: BodyState, head: str
) -> Generator[None, None, list[FoundCall]]:
    """Read a call from behind `head`, the marker that begins its opening tag."""
    dialect = TAG_HEADS[head]
    window = state.window
    header = yield from window.upto(dialect.head_end, LONGEST_HEAD)
    if header is None:
        part = tag_attributes(head, window.text[window.pos :]).get("name", "")
        state.tool = state.find_tool(part) if window.ended else None
        return []
    attributes = tag_attributes(head, header.removesuffix("/"))
    tool = state.tool = state.find_tool(attributes.get("name", ""))
    if tool is None or attributes.keys() - _TAG_ATTRIBUTES:
        return []
    state.family = _tag_family(dialect, state.opener)
    if header.endswith("/"):
        # Build files know such elements, too.
        sure = state.opener is not None or "DSML" in head
        return state.fit(tool, {}) if sure else []
    if dialect.tree:
        return (yield from _read_nested(state, tool, dialect))
    return (yield from read_parameters(state, tool, dialect))


def _tag_family(dialect: TagDialect, opener: str | None) -> str:
    told = family_label(opener, "tags") if opener is not None else "qwen3_coder"
    # A wrapper that several notations share tells less than the notation.
    return dialect.family if told == "qwen3_coder" else told


def _read_nested(
    state: BodyState, tool: KnownTool, dialect: TagDialect
) -> Generator[None, None, list[FoundCall]]:
    start = state.window.offset
    end = yield from state.window.find(Marks(dialect.ends))
    if end is None:
        return []
    text = state.window.cut(start, state.window.offset)
    state.window.pos += len(end)
    return state.fit(tool, read_tree(text, tool.schema.root))


def read_parameters(
    state: BodyState, tool: KnownTool, dialect: TagDialect
) -> Generator[None, None, list[FoundCall]]:
    """Read the parameters of a call whose opening tag or name was read."""
    body = yield from read_tagged(state.window, dialect, tool.schema.properties)
    if body is None:
        return []
    # Only a text that ended by itself may lack closers; and where not even an opener
    # stands before the tags, every value must have its own.
    if not body.closed and state.window.truncated:
        return []
    if body.open_value and state.opener is None:
        return []
    if body.json_span is not None:
        if state.family == "qwen3_coder" and state.opener is None:
            state.family = "functionary_v31"
        text = state.window.cut(*body.json_span)
        return state.fit_first(tool, possible_values(text))
    # An empty tag amid a sentence is talk about it.
    state.strict = state.opener is None and not body.parameters
    return state.fit(tool, _typed_parameters(state, tool, dialect, body))


def _typed_parameters(
    state: BodyState, tool: KnownTool, dialect: TagDialect, body: TaggedBody
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for parameter in body.parameters:
        raw = state.window.cut(parameter.start, parameter.stop)
        # Seed's template, unlike Qwen's, puts no value on lines of its own.
        seed = state.opener is not None and state.opener.startswith("<seed:")
        raw = _own_text(raw, "pair" if seed else dialect.own_lines)
        name = _parameter_name(parameter, tool)
        if not name:
            continue
        stated = parameter.attributes
        if stated.get("string") == "true" or stated.get("type") == "string":
            values[name] = raw
        else:
            values[name] = tool.schema.typed(name, raw)
    return values


def _parameter_name(parameter: TagParameter, tool: KnownTool) -> str:
    name = parameter.attributes.get("name", "")
    plain = name.strip()
    for candidate in (name, plain, plain.strip("\"'")):
        if candidate in tool.schema.properties:
            return candidate
    return plain


def _own_text(raw: str, own_lines: str) -> str:
    """A value without the line breaks, or the CDATA frame, that its notation adds."""
    marked = _CDATA.fullmatch(raw)
    if marked is not None:
        return marked.group(1)
    if own_lines == "each":
        return _LINE_ENDS.sub("", raw)
    if own_lines == "pair" and raw[:1] == "\n" and raw[-1:] == "\n" != raw:
        return raw[1:-1]
    return raw


# --- shared/toolcalls/namedcalls.py ---

_DIGITS = re.compile(r"\d{1,6}")
_KIMI_INDEX = re.compile(r":\d{1,6}")
_CODE_TOOLS = ("python", "ipython", "code_interpreter")
_CODE_SIGNS = re.compile(r"""[=(){}\[\];|&<>$"/\\_*+]""")
_LONGEST_LINE = 2000
# Separators that tell nothing where the name had no wrapper before it.
_WEAK_SEPARATORS = frozenset({"json", "code", "```json", "```", ".call", "<|message|>"})


def read_named_call(state: BodyState) -> Generator[None, None, list[FoundCall] | None]:
    """Read a name and its arguments; None when another body follows, which counts."""
    window = state.window
    state.label("named")
    name = yield from _read_name(state)
    tool = state.tools.find(name) if name else None
    if tool is not None and state.strict and name not in _exact_names(tool):
        return []
    # Kimi's index may stand for the name.
    indexed = not name and not state.strict and (yield from _skip(window, _DIGITS))
    state.tool = tool or state.tool
    if state.opener == ">>>":
        return (yield from _read_recipient(state, tool))
    if tool is not None and (yield from window.peek()) == ":":
        yield from _skip(window, _KIMI_INDEX)
    separator = yield from _read_separators(state)
    char = yield from window.peek()
    if char == "{" and (tool is not None or indexed):
        return (yield from _read_json_arguments(state))
    if tool is None:
        return []
    if char == "(" and (state.listed or not state.strict):
        return (yield from _read_python_arguments(state, tool))
    if pair := (yield from window.mark(PAIR_HEAD_MARKS, consume=False)):
        state.label("pairs", separator)
        return (yield from read_parameters(state, tool, PAIR_HEADS[pair]))
    if state.strict:
        below = state.alone and char == "\n" and name == tool.name
        return (yield from _read_below_name(state, tool)) if below else []
    if separator == "Action Input:":
        return (yield from _read_line(state, tool))
    return (yield from _read_behind_name(state, tool, separator))


def _exact_names(tool: KnownTool) -> tuple[str, str]:
    return tool.name, f"functions.{tool.name}"


def _read_name(state: BodyState) -> Generator[None, None, str]:
    """Read the longest known name that stands here, "" when there is none."""
    window = state.window
    size = known = 0
    while True:
        if window.pos + size >= len(window.text):
            if window.ended:
                break
            yield
            continue
        spelled = window.text[window.pos : window.pos + size + 1]
        if name_key(spelled) not in state.tools.prefixes:
            break
        size += 1
        if state.tools.find(spelled) is not None:
            known = size
    spelled = window.text[window.pos : window.pos + size]
    if window.pos + size == len(window.text):
        window.starved = True
        if size > known:
            state.tool = None if state.strict else state.tools.starting_with(spelled)
            return ""
    window.pos += known
    return spelled[:known]


def _skip(window: Window, pattern: re.Pattern[str]) -> Generator[None, None, bool]:
    """Skip a short run of digits that `pattern` matches; whether there was one."""
    while len(window.text) - window.pos < 8 and not window.ended:
        if window.text[window.pos :].strip(":0123456789"):
            break
        yield
    found = pattern.match(window.text, window.pos)
    if found is not None:
        window.pos = found.end()
    elif window.ended and len(window.text) - window.pos < 8:
        window.starved = True
    return found is not None


def _read_separators(state: BodyState) -> Generator[None, None, str | None]:
    """Skip what stands between name and arguments; the mark that tells the family."""
    window = state.window
    telling: str | None = None
    while True:
        if not state.strict:
            yield from skip_blank(window)
        mark = yield from window.mark(SEPARATOR_MARKS, consume=False)
        if mark is None or (state.strict and mark in _WEAK_SEPARATORS):
            return telling
        window.pos += len(mark)
        state.strict = False
        if mark == "[CALL_ID]":
            yield from window.upto("[ARGS]", LONGEST_HEAD)
        state.fenced = state.fenced or mark.startswith("```")
        if SEPARATORS[mark] is not None and telling is None:
            telling = mark
            state.label("named", mark)


def _read_json_arguments(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    window = state.window
    start = window.offset
    closed = yield from read_bracketed(window, JSON_STYLE)
    text = window.cut(start, window.offset)
    if not closed and not state.may_close(text):
        return []
    values = list(possible_values(text, close=not closed))
    if state.tool is not None:
        return state.fit_first(state.tool, values)
    for value in values:  # only an index stood there
        if tool := state.tools.by_arguments(value):
            return state.fit(tool, value)
    return []


def _read_python_arguments(
    state: BodyState, tool: KnownTool
) -> Generator[None, None, list[FoundCall]]:
    window = state.window
    state.label("python")
    start = window.offset
    if not (yield from read_bracketed(window, PYTHON_STYLE)):
        return []
    text = window.cut(start, window.offset)
    try:
        by_place, by_name = read_arguments(text, PYTHON_STYLE)
    except ValueError:
        return []
    if len(by_place) == 1 and isinstance(by_place[0], dict) and not by_name:
        return state.fit(tool, by_place[0])
    names = tool.schema.properties
    if len(by_place) > len(names) or (state.strict and by_place):
        return []
    if state.strict and any(
        isinstance(value, BareWord) and value not in names.get(name, {}).get("enum", ())
        for name, value in by_name.items()
    ):
        return []  # code that passes on variables
    return state.fit(tool, dict(zip(names, by_place, strict=False)) | by_name)


def _read_below_name(
    state: BodyState, tool: KnownTool
) -> Generator[None, None, list[FoundCall]]:
    """A name as the message's first line, its arguments or only text below."""
    window = state.window
    window.pos += 1
    start = window.offset
    char = yield from window.peek()
    if char == "{":
        state.family = "functionary_v32"
        return (yield from _read_json_arguments(state))
    state.family = "plain_line"
    if char.isspace():
        return []
    found = yield from _read_code(state, tool)
    text = window.cut(start).strip()
    return found if _is_no_word(tool.name) or _is_no_prose(text) else []


def _is_no_word(name: str) -> bool:
    """Whether a name can be no word of a text: it has a joint, a digit, capitals."""
    return not name.isalpha() or not (name.islower() or name.istitle())


def _is_no_prose(text: str) -> bool:
    return _CODE_SIGNS.search(text) is not None and text[-1:] not in ".!?"


def _read_recipient(
    state: BodyState, tool: KnownTool | None
) -> Generator[None, None, list[FoundCall]]:
    """Functionary's arguments below a name; those of a code tool are plain code."""
    window = state.window
    if tool is None or (yield from window.peek()) not in ("\n", "\r"):
        return []
    yield from window.space()
    if (yield from window.peek()) == "{":
        return (yield from _read_json_arguments(state))
    return (yield from _read_code(state, tool)) if tool.name in _CODE_TOOLS else []


def _read_code(
    state: BodyState, tool: KnownTool
) -> Generator[None, None, list[FoundCall]]:
    """All the rest of the message, for a tool that takes one text."""
    window = state.window
    parameter = only_text_parameter(tool)
    if parameter is None:
        return []
    start = window.offset
    while True:
        window.pos = len(window.text)
        if window.ended:
            break
        yield
    window.starved = True
    code = window.cut(start).strip()
    return state.fit(tool, {parameter: code}) if code and not window.truncated else []


def _read_line(
    state: BodyState, tool: KnownTool
) -> Generator[None, None, list[FoundCall]]:
    """The rest of a line, for a tool that takes one text."""
    window = state.window
    parameter = only_text_parameter(tool)
    line = yield from window.upto("\n", _LONGEST_LINE)
    if line is None and window.ended:
        line = window.text[window.pos :]
        window.pos = len(window.text)
    if parameter is None or line is None or not line.strip():
        return []
    return state.fit(tool, {parameter: line.strip()})


def _read_behind_name(
    state: BodyState, tool: KnownTool, separator: str | None
) -> Generator[None, None, list[FoundCall] | None]:
    """Another opener or tag, whose body counts; or a closer: no arguments."""
    window = state.window
    opener = yield from window.mark(OPEN_MARKS)
    if opener is not None:
        state.opener = opener
        yield from window.space()
        return None
    if (yield from window.mark(TAG_HEAD_MARKS, consume=False)) is not None:
        return None
    if (yield from window.mark(CLOSE_MARKS, consume=False)) is None:
        return []
    if state.opener == "<tool_call>":
        state.label("pairs")
    # A lone name in a wrapper, amid a sentence, is talk about the wrapper.
    state.strict = separator is None
    return state.fit(tool, {})


def read_relaxed_call(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    """Read Gemma's `NAME{key:value}` or `NAME(key=value)`, from behind its `call:`."""
    window = state.window
    state.label("relaxed")
    name = yield from _read_name(state)
    tool = state.tools.find(name) if name else None
    state.tool = tool or state.tool
    bracket = yield from window.peek()
    if tool is not None and bracket == "(" and not state.strict:
        return (yield from _read_python_arguments(state, tool))
    if tool is None or bracket != "{":
        return []
    start = window.offset
    closed = yield from read_bracketed(window, GEMMA_STYLE)
    text = window.cut(start, window.offset)
    if not closed and not state.may_close(text):
        return []
    return state.fit_first(tool, possible_values(text, GEMMA_STYLE, close=not closed))


# --- shared/toolcalls/callshapes.py ---

_NAME_KEYS = ("name", "tool_name", "tool", "function", "function_name", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "action_input", "params")
_OTHER_KEYS = frozenset({"id", "type", "tool_call_id", "index"})
FIRST_KEYS = frozenset(
    {*_NAME_KEYS, *_ARGUMENT_KEYS, *_OTHER_KEYS, "tool_calls", "tool_call"}
)
NAMING_KEYS = frozenset(_NAME_KEYS)

NamedArguments = tuple[str, Any]


def calls_in(value: object, *, strict: bool) -> list[NamedArguments]:
    """Names and arguments in a parsed object; [] when it is no call.

    `strict`, for objects without any wrapper, wants the arguments to be there and no
    key that a call does not have. Otherwise arguments may be missing, and an object
    may have the tool's name as its only key.
    """
    if not isinstance(value, dict):
        return []
    if isinstance(listed := value.get("tool_calls"), list):
        if strict and len(value) > 1:
            return []
        found = [calls_in(one, strict=strict) for one in listed]
        return [call for calls in found for call in calls] if all(found) else []
    for key in ("function", "tool_call"):
        if isinstance(inner := value.get(key), dict):
            if strict and value.keys() - {key} - _OTHER_KEYS:
                return []
            return calls_in(inner, strict=strict)
    return _named_call(value, strict)


def _named_call(value: dict[str, Any], strict: bool) -> list[NamedArguments]:
    name_key = next((k for k in _NAME_KEYS if isinstance(value.get(k), str)), None)
    if name_key is None:
        only = next(iter(value.items())) if len(value) == 1 and not strict else None
        return [only] if only and isinstance(only[1], dict) else []
    argument_key = next((k for k in _ARGUMENT_KEYS if k in value), None)
    if strict:
        known = {name_key, argument_key} | _OTHER_KEYS
        if argument_key is None or value.keys() - known:
            return []
    if _is_schema(value.get(argument_key or "")):
        return []  # a tool's description, not a call
    return [(value[name_key], value.get(argument_key) if argument_key else None)]


def _is_schema(arguments: object) -> bool:
    return (
        isinstance(arguments, dict)
        and arguments.get("type") == "object"
        and isinstance(arguments.get("properties"), dict)
    )


# --- shared/toolcalls/objects.py ---

_JSON_NAME = re.compile(r'"(?:tool_|function_)?(?:name|function)"\s*:\s*"([^"]*)("?)')
_KEY_NAME = re.compile(r'\{\s*"([^"]+)"\s*(?::\s*(?:\{|$)|$)')
# Pairs that may stand before the name.
_IDENTITY = re.compile(
    r'^(?:\s*"(?:id|type|tool_call_id|index)"\s*:\s*(?:"[^"\\]*"|\d+|null)\s*,)+'
)
# What a repair may read as something else.
_ODD = re.compile(r"[&\\]")


def read_object_call(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    """Read an object; its calls, [] when it is none."""
    state.label("json")
    start = state.window.offset
    closed = yield from _read_object(state, start)
    if closed is None:
        return []
    text = state.window.cut(start, state.window.offset)
    _note_name(state, text)
    if not closed and not state.may_close(text):
        return []
    for value in possible_values(text, close=not closed):
        if found := state.fit_all(calls_in(value, strict=state.strict)):
            return found
    return []


def _read_object(state: BodyState, start: int) -> Generator[None, None, bool | None]:
    """Go behind an object; None as soon as it can be no call.

    That only saves holding back text: the complete object would be refused as well.
    """
    reading = read_bracketed(state.window, JSON_STYLE)
    doubtful = state.first
    while True:
        try:
            next(reading)
        except StopIteration as ended:
            return bool(ended.value)
        if doubtful:
            if _is_hopeless(state, state.window.cut(start, start + LONGEST_HEAD)):
                return None
            doubtful = state.window.offset - start < LONGEST_HEAD
        yield


def _is_hopeless(state: BodyState, text: str) -> bool:
    """Whether an object that begins like `text` names no known tool."""
    inner = _IDENTITY.sub("", text[1:]).lstrip()
    if not inner:
        return False
    if inner[0] not in "\"'":
        return state.strict or not (inner[0] in "}&" or inner[0].isalpha())
    key, closed, rest = inner[1:].partition(inner[0])
    if _ODD.search(key):
        return False
    if state.strict and not closed:
        return not any(first.startswith(key) for first in FIRST_KEYS)
    if state.strict and key not in FIRST_KEYS:
        return True
    rest = rest.lstrip()
    if rest and rest[0] != ":":
        return state.strict
    value = rest[1:].lstrip()
    naming = key in NAMING_KEYS if state.strict else key == "name"
    if not naming or value[:1] not in ('"', "'"):
        return False
    name, closed, rest = value[1:].partition(value[0])
    plain = _ODD.split(name)[0]
    if plain and name_key(plain) not in state.tools.prefixes:
        return True
    if plain != name or not closed:
        return False
    return rest.lstrip()[:1] in (",", "}") and state.tools.find(name) is None


def _note_name(state: BodyState, text: str) -> None:
    """Note the tool that a complete or cut object names."""
    named = _JSON_NAME.search(text)
    keyed = None if state.strict else _KEY_NAME.match(text)
    if keyed is not None:
        state.tool = state.tools.find(keyed.group(1))
    if state.tool is None and named is not None:
        name, whole = named.groups()
        if whole:
            state.tool = state.tools.find(name)
        elif not state.strict:
            state.tool = state.tools.starting_with(name)


# --- shared/toolcalls/bodies.py ---

_RELAXED_MARKS = Marks(["call:"])
_MOST_OPENERS = 4
_TOKEN_STARTS = ("<|", "<｜", "]<]")  # how special tokens begin


def read_body(state: BodyState) -> Generator[None, None, list[FoundCall]]:
    """The calls of the body that begins here, [] when it is none of a known tool."""
    state.trusted = any(start in (state.opener or "") for start in _TOKEN_STARTS)
    for _ in range(_MOST_OPENERS):
        found = yield from _read_one(state)
        if found is not None:
            return found
    return []


def _read_one(state: BodyState) -> Generator[None, None, list[FoundCall] | None]:
    head = yield from state.window.mark(TAG_HEAD_MARKS)
    if head is not None:
        state.strict = False
        return (yield from read_tagged_call(state, head))
    if (yield from state.window.mark(_RELAXED_MARKS)) is not None:
        return (yield from read_relaxed_call(state))
    if (yield from state.window.peek()) == "{":
        return (yield from read_object_call(state))
    return (yield from read_named_call(state))


# --- shared/toolcalls/leak.py ---

_LONGEST_INFO = 20
_FENCE_END = Marks(["```"])
_JOINTS = Marks([",", ";"])
_MINIMAX = Marks(["]<]minimax["])  # its tags begin with a bracket
_OBSERVATION = Marks(["Observation:", "Observation"])
# What goes on with a sentence, so that the call before it was an example in it.
_GOES_ON = frozenset(",.:+=*/%|&\"'!?([)}]-–—…")


# What tells a call from an example: nothing goes on with its sentence; nothing else is in
# the message; no sentence goes on behind its fence; no result follows it.
Proof = Literal["sentence", "message", "fence", "react"]


@dataclass(frozen=True, slots=True)
class Site:
    """What begins where a leak may begin: a sentence, a line, the message; thoughts."""

    sentence: bool
    line: bool
    message: bool
    thoughts: bool


class Leak:
    """Reads one run of calls from `window`, which stands where it may begin.

    `pieces` grows while `read` runs, and `done` is the offset up to which they reach.
    """

    def __init__(
        self,
        window: Window,
        tools: Toolset,
        site: Site,
        leave_out: frozenset[str],
        closers: frozenset[str],
    ) -> None:
        self.window = window
        self.pieces: list[Piece] = []
        self.done = window.offset
        self.start = window.offset
        self._reached = window.offset  # with the pieces that are kept back
        self._kept: list[Piece] = []
        self._site = site
        self._leave_out = leave_out
        self._tools = tools
        self._openers_read: list[str] = []
        self._closed: set[str] = set()
        self.closers = closers  # of wrappers that earlier calls left open
        self._no_tool = True  # the last body named none
        self._wrapped = False  # the calls stand in a wrapper
        self._sure = False  # a wrapper told that these are calls
        self._proof: Proof = "sentence"
        self._list = False  # brackets were opened
        self._open = False  # the wrapper or list has not been closed
        self._fenced = False  # nor has the fence
        self._ends = False  # the last call ends its sentence or line
        self._said: list[FoundCall] = []  # in the wrapper that is open
        self._echo: list[FoundCall] = []  # in the closed one, to be said once more

    def read(self) -> Generator[None, None, None]:
        """Read calls until there is none."""
        if (yield from self._owed_closer()) or not (yield from self._call(first=True)):
            return
        while True:
            yield from self._closers()
            alone = self._sure or (yield from self._stands_alone())
            if not (yield from self._call(first=False)):
                break
        if not self._sure and self._open:
            alone = self._starved()
        if alone or self._dangles():
            self._publish()
        if self._dangles() and self.done == self._reached:
            self._keep(Markup(self.window.cut(self._reached)))
            self._reached = self._end()
            self._publish()

    def _starved(self) -> bool:
        """Whether the text ended before the last thing that was tried could."""
        return self.window.ended and self.window.starved

    def _end(self) -> int:
        return self.window.offset + len(self.window.text) - self.window.pos

    def _dangles(self) -> bool:
        """Whether the text ended where markup of a next call had only begun."""
        rest = self.window.cut(self._reached).strip()
        return (
            self._starved() and self._no_tool and rest != "" and not rest[0].isalnum()
        )

    def _owed_closer(self) -> Generator[None, None, bool]:
        """Swallow a closer whose call was read before."""
        if not self.closers:
            return False
        mark = yield from self.window.mark(_marks_of(self.closers))
        if mark is None:
            return False
        self.closers -= {mark}
        self._keep(Markup(mark))
        self._reached = self.window.offset
        self._publish()
        return True

    def _call(self, *, first: bool) -> Generator[None, None, bool]:
        """Read one call and take it; False when there is none."""
        window = self.window
        window.starved = False
        self._no_tool = True
        if not first:
            yield from window.space()
            if (yield from window.mark(_JOINTS)) is not None:
                yield from window.space()
        openers = yield from self._openers(first)
        if openers is None:
            return False
        outer = [one for one in openers if one not in INNER_OPENERS]
        if first:
            self._proof = _needed_proof(openers, outer)
        before = self._list, self._fenced, self._open
        self._list = self._list or "[" in openers
        self._fenced = self._fenced or any(one.startswith("```") for one in openers)
        self._open = self._open or bool(openers)
        body = BodyState(
            window,
            self._tools,
            opener=next(reversed(outer or openers), None),
            strict=not (outer or (self._open and self._wrapped)),
            listed=self._list,
            first=first,
            alone=first and self._site.message,
        )
        calls = yield from read_body(body)
        if body.family in self._leave_out:
            if calls:  # or what stands in the wrapper would be found on its own
                self._keep(VisibleText(window.cut(self._reached, window.offset)))
                self._reached = window.offset
                self._publish()
            return False
        if calls:
            self._openers_read += openers
            self._wrapped = self._wrapped or bool(outer)
            if not self._is_echo(calls, bool(outer)):
                yield from self._take(calls, body)
            return True
        self._list, self._fenced, self._open = before
        self._no_tool = body.tool is None
        if window.truncated and self._starved() and body.tool is not None:
            self._keep(CutCall(body.family, window.cut(self._reached)))
            self._reached = self._end()
            self._publish()
        return False

    def _openers(self, first: bool) -> Generator[None, None, list[str] | None]:
        """The openers that stand here; None when a call may not begin with them."""
        found: list[str] = []
        while True:
            mark = yield from self.window.mark(OPEN_MARKS)
            if mark is None:
                break
            if not self._may_open(mark, first and not found):
                return None
            if mark == "```":
                info = yield from self.window.upto("\n", _LONGEST_INFO)
                if info is None or not (info.strip() or "x").isidentifier():
                    return None
            found.append(mark)
            if mark != ">>>":
                yield from self.window.space()
        if found or not self._site.thoughts:
            return found
        head = yield from self.window.mark(TAG_HEAD_MARKS, consume=False)
        return found if head == "<function=" or not first else None

    def _may_open(self, mark: str, outermost: bool) -> bool:
        rows = OPENERS[mark]
        if self._site.thoughts and not any(row.thoughts for row in rows):
            return mark == "["
        if not outermost:
            return True
        here = {"any"}
        if self._site.sentence:
            here.add("stand")
        if self._site.line:
            here.add("line")
        if self._site.message:
            here.add("start")
        return any(row.place in here for row in rows)

    def _is_echo(self, calls: list[FoundCall], wrapped: bool) -> bool:
        """Swallow calls that repeat, without an opener, those of a closed wrapper.

        LFM2 does so; nobody wants a thing to be done twice for that.
        """
        if wrapped or calls != self._echo[: len(calls)]:
            self._said += calls if wrapped or self._said else []
            self._echo = []
            return False
        del self._echo[: len(calls)]
        self._keep(Markup(self.window.cut(self._reached, self.window.offset)))
        self._reached = self.window.offset
        if self._sure:
            self._publish()
        return True

    def _take(
        self, calls: list[FoundCall], body: BodyState
    ) -> Generator[None, None, None]:
        if not body.strict and self._proof == "sentence":
            self._sure = True
        self._fenced = self._fenced or body.fenced
        sources = _sources(
            self.window.cut(self._reached, self.window.offset), len(calls)
        )
        for call, raw in zip(calls, sources, strict=True):
            self._keep(RecoveredCall(call.tool.name, call.arguments, body.family, raw))
        self._reached = self.window.offset
        self._ends = yield from self._at_sentence_end()
        if self._sure:
            self._publish()

    def _closers(self) -> Generator[None, None, None]:
        """Swallow what closes the wrapper, with the white space before it."""
        window = self.window
        while True:
            yield from window.space()
            if (closer := (yield from window.mark(CLOSE_MARKS))) is not None:
                self._open = False
                self._closed.add(closer)
                if self._said:
                    self._echo, self._said = self._said, []
            elif window.ended and CLOSE_MARKS.begins(window.text, window.pos):
                window.pos = len(window.text)
            elif self._fenced and (yield from window.mark(_FENCE_END)) is not None:
                self._fenced = self._open = False
            elif (
                self._fenced
                and window.ended
                and _FENCE_END.begins(window.text, window.pos)
            ):
                window.pos = len(window.text)
            elif (yield from self._is_stray_bracket()):
                window.pos += 1
            else:
                return
            self._keep(Markup(window.cut(self._reached, window.offset)))
            self._reached = window.offset
            if self._sure:
                self._publish()
            else:
                self._ends = yield from self._at_sentence_end()

    def _is_stray_bracket(self) -> Generator[None, None, bool]:
        """Whether a closing bracket comes that belongs to the call before it."""
        bracket = yield from self.window.peek()
        if bracket not in ("]", "}", ")"):
            return False
        cut_tag = self.window.ended and len(self.window.text) - self.window.pos > 1
        if cut_tag and _MINIMAX.begins(self.window.text, self.window.pos):
            return False
        if (yield from self.window.mark(_MINIMAX, consume=False)) is not None:
            return False
        adjacent = self.window.offset == self._reached
        if not self._open and not (adjacent and not self._sure and bracket != ")"):
            return False
        if not self._sure and bracket == "]":
            self._open = False
        return True

    def _stands_alone(self) -> Generator[None, None, bool]:
        """Whether what follows calls without a wrapper tells that they are calls."""
        window = self.window
        if self._proof == "sentence":
            return self._ends
        following = yield from window.peek()
        if self._proof == "message":
            return following == ""
        if self._proof == "fence":
            return not following.islower()
        # A model that calls stops here; in an example the result follows.
        if (yield from window.mark(_OBSERVATION)) is None:
            return True
        yield from window.space()
        return (yield from window.peek()) == ""

    def _at_sentence_end(self) -> Generator[None, None, bool]:
        char = yield from self.window.glance()
        if not char or char.isupper():
            return True
        return not (char.islower() or char.isdigit() or char in _GOES_ON)

    def left_open(self) -> frozenset[str]:
        """The closers that may still come for the calls that were read."""
        return frozenset(closers_of(self._openers_read) - self._closed | self.closers)

    def _keep(self, piece: Piece) -> None:
        self._kept.append(piece)

    def _publish(self) -> None:
        self.pieces += self._kept
        self._kept = []
        self.done = self._reached


@lru_cache(maxsize=64)
def _marks_of(closers: frozenset[str]) -> Marks:
    return Marks(closers)


def _needed_proof(openers: list[str], outer: list[str]) -> Proof:
    if outer == ["Action:"] and "```json" not in openers:
        return "react"
    if not openers or OPENERS[openers[0]][0].place == "any":
        return "sentence"
    if openers[0] == "```tool_code":
        return "fence"
    return "message" if openers[0].startswith("```") else "sentence"


def _sources(raw: str, count: int) -> list[str]:
    """`raw` cut behind each call of a `{"tool_calls": […]}` object."""
    cuts = [0]
    at = raw.find("[") + 1
    for _ in range(count - 1):
        while raw[at : at + 1] in (" ", ",", "\n", "\t"):
            at += 1
        try:
            _, at = JSONDecoder().raw_decode(raw, at)
        except ValueError:
            at += 1
        cuts.append(at)
    return [raw[a:b] for a, b in zip(cuts, [*cuts[1:], len(raw)], strict=True)]


# --- shared/toolcalls/flow.py ---

# Where something may begin or end: code, a marker, a bracket, a sentence.
_SPECIAL = re.compile(r"[`~\n<>\[\]{}.!?:;*…。！？：；]")
_SPECIAL_IN_FENCE = re.compile(r"[`~\n]")
_SENTENCE_ENDS = frozenset(">.!?:;*…。！？：；")
_QUOTES = frozenset("\"'“„«‘‚「『")
_BEFORE_CLOSING_QUOTE = frozenset(".!?…)]}")
_MARK_PAIRS = OPEN_MARKS.pairs | TAG_HEAD_MARKS.pairs
_WORD_PAIRS = {one[:2] for one in (*OPEN_MARKS.literals, "call:") if one[0].isalpha()}
_HTML_MARKS = Marks(["<code>", "</code>", "<pre>", "</pre>"])
_TAIL = 24
# A tool's result, or a line of a Python session.
_RESULT = re.compile(
    r"(?:Observation:|<\|?tool_(?:response|output)\|?>|>>> |In \[\d+\]:)\s*$"
)
# Openers of families that only talk about calls in their thoughts.
_NOT_IN_THOUGHTS = tuple(
    opener
    for opener, rows in OPENERS.items()
    if opener[0] == "<" and not any(row.thoughts for row in rows)
)
_TAG_MARKS = (OPEN_MARKS, TAG_HEAD_MARKS)
_WORD_INITIALS = {pair[0] for pair in _WORD_PAIRS}
_BLANKS = re.compile(r"[ \t]*")
_LONGEST_RUN = 100  # of backticks or tildes; a longer one counts as several


class TextFlow:
    """Follows what is shown, to tell where a call may begin and where it cannot.

    `held` is the end of the text that is not passed on yet: a run of backticks, or a
    tag that may go on. `closers` are those of wrappers whose calls were read.
    """

    def __init__(self, tools: Toolset, *, thoughts: bool) -> None:
        self.held = ""
        self.closers: frozenset[str] = frozenset()
        self._name_pairs = tools.pairs
        self._name_initials = {pair[0] for pair in tools.pairs}
        self._code = CodeTracker()
        self._sentence = True  # a sentence or line may begin here
        self._fresh = True  # the message has shown nothing yet
        self._framed = False  # the message is in a format that frames all of it
        self._thoughts = self._always_thoughts = thoughts
        self._depth = 0  # brackets open in the visible text
        self._talk = False  # this paragraph talks about markers
        self._tail = ""  # the last characters that were shown
        self._html_code = False  # in an HTML element of code, or behind a lone tag

    def passes(self, text: str) -> bool:
        """Whether nothing in `text` can matter; it is then passed on as it is."""
        if self._sentence or self.held or _SPECIAL.search(text) is not None:
            return False
        self._code.plain(text)
        self._tail = (self._tail + text)[-_TAIL:]
        return True

    def site(self) -> Site:
        """Where the text stands now."""
        return Site(
            sentence=self._sentence and not self._depth,
            line=self._code.at_line_start,
            message=self._fresh,
            thoughts=self._thoughts,
        )

    def after_calls(self, closers: frozenset[str]) -> None:
        """The text goes on behind calls that left `closers` to come."""
        self.closers = closers
        self._code.plain(".")
        self._tail = ""
        self._sentence = self._framed = True
        self._fresh = False

    def advance(
        self, text: str, at: int, refused: int, out: list[Piece], *, ended: bool
    ) -> int | None:
        """Show text from `at` on until a call may begin: where, or None at its end.

        At `refused` no call begins. What cannot be told yet is left in `held`.
        """
        begin = at
        while True:
            if self._sentence:
                word = _behind_blanks(text, at)
                self._pass_plain(text[at:word])
                at = word
                if at != refused and self._word_begins(text, at, ended):
                    self._show(text, begin, at, out)
                    return at
            deaf = self._code.in_fence and not self._thoughts
            pattern = _SPECIAL_IN_FENCE if deaf else _SPECIAL
            found = pattern.search(text, at)
            special = len(text) if found is None else found.start()
            self._pass_plain(text[at:special])
            if found is None:
                self._show(text, begin, special, out)
                return None
            if special != refused and self._may_begin(text, special, ended):
                self._show(text, begin, special, out)
                begin = special
                if not self._is_quoted():
                    return special
                if not ended and _is_marker_part(text, special):
                    self.held = text[special:]
                    return None
                self._talk = self._talk or _is_marker(text, special)
            size = self._frame_size(text, special, ended)
            if size:
                self._show(text, begin, special, out)
                out.append(Markup(text[special : special + size]))
                begin = at = special + size
                continue
            if size is not None:
                size = self._pass_special(text, special, ended)
            if not size:
                self.held = text[special:]
                self._show(text, begin, special, out)
                return None
            at = special + size

    def _show(self, text: str, start: int, stop: int, out: list[Piece]) -> None:
        if stop > start:
            out.append(VisibleText(text[start:stop]))
            self._tail = (self._tail + text[max(start, stop - _TAIL) : stop])[-_TAIL:]

    # Where a call may begin

    def _word_begins(self, text: str, at: int, ended: bool) -> bool:
        """Whether the word at the start of a sentence may open a call."""
        if self._depth or self._thoughts or self._no_calls():
            return False
        pair = text[at : at + 2]
        if len(pair) == 2 or ended:
            return pair in _WORD_PAIRS or name_key(pair) in self._name_pairs
        return pair in _WORD_INITIALS or name_key(pair) in self._name_initials

    def _no_calls(self) -> bool:
        return self._talk or self._code.in_code or self._html_code

    def _may_begin(self, text: str, at: int, ended: bool) -> bool:
        """Whether a marker or bracket at `at` may open a call."""
        char = text[at]
        if self._no_calls() or (self._thoughts and char != "<"):
            return False
        if char == "`":
            whole_run = at + 3 < len(text) or ended
            fence = text.startswith("```", at) and not text.startswith("````", at)
            return fence and whole_run and self._code.at_line_start
        if char not in "<>[]{":
            return False
        if char in "{[" and self._sentence and not self._depth:
            return True
        if char == "{":
            return False
        pair = text[at : at + 2]
        if self.closers and any(one.startswith(pair) for one in self.closers):
            return True
        return pair in _MARK_PAIRS if len(pair) == 2 else not ended

    def _is_quoted(self) -> bool:
        """Whether what follows is quoted: in quotation marks, a result, a session."""
        if _RESULT.search(self._tail) is not None:
            return True
        if self._thoughts and self._tail.rstrip().endswith(_NOT_IN_THOUGHTS):
            return True
        before, mark = self._tail[-2:-1], self._tail[-1:]
        if mark not in _QUOTES:
            return False
        closing = before.isalnum() or before in _BEFORE_CLOSING_QUOTE
        return mark not in "\"'" or not closing

    def _frame_size(self, text: str, at: int, ended: bool) -> int | None:
        """The length of a frame's marker at `at`, 0: there is none, None: wait."""
        if not (self._fresh or self._framed) or self._code.in_code:
            return 0
        if not ended and FRAME_MARKS.begins(text, at):
            return None
        mark = FRAME_MARKS.match(text, at)
        if mark is None or (mark in FRAME_ENDS and not self._framed):
            return 0
        self._framed = self._sentence = True
        return len(mark)

    # What the text was

    def _pass_plain(self, text: str) -> None:
        if text:
            self._code.plain(text)
            if not text.isspace():
                self._sentence = self._fresh = False

    def _pass_special(self, text: str, at: int, ended: bool) -> int:
        """Note a special character that begins no call; how much was read, 0: wait."""
        char = text[at]
        if char == "\n":
            if self._code.newline():
                self._depth = 0
                self._talk = False
                self._html_code = False
            self._sentence = True
            return 1
        if char in "`~":
            return self._pass_run(text, at, ended)
        if char in "<[" and (self._thoughts or not self._code.in_code):
            if not ended and THOUGHT_MARKS.begins(text, at):
                return 0
            if not ended and _HTML_MARKS.begins(text, at):
                return 0
            if (html := _HTML_MARKS.match(text, at)) is not None:
                self._html_code = not html.startswith("</")
            mark = THOUGHT_MARKS.match(text, at)
            if mark is not None:
                self._pass_thought(mark)
                return len(mark)
        self._code.plain(char)
        self._sentence = char in _SENTENCE_ENDS
        self._fresh = False
        if not self._code.in_code:
            if char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth = max(0, self._depth - 1)
        return 1

    def _pass_run(self, text: str, at: int, ended: bool) -> int:
        end = at
        while end - at < _LONGEST_RUN and text[end : end + 1] == text[at]:
            end += 1
        if end == len(text) and end - at < _LONGEST_RUN and not ended:
            return 0
        self._code.run(text[at], end - at)
        self._sentence = self._fresh = False
        return end - at

    def _pass_thought(self, mark: str) -> None:
        # Code that a thought left open ends with it, and what it talked about.
        self._code = CodeTracker()
        self._talk = False
        self._sentence = True
        opens = mark in THOUGHT_OPENERS
        self._fresh = self._fresh or not opens
        self._thoughts = self._always_thoughts or opens


def _behind_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks is not None else at


def _is_marker(text: str, at: int) -> bool:
    return text[at] == "<" and any(one.match(text, at) for one in _TAG_MARKS)


def _is_marker_part(text: str, at: int) -> bool:
    return text[at] == "<" and any(one.begins(text, at) for one in _TAG_MARKS)


# --- shared/toolcalls/scanner.py ---

# Text may be read again behind a false start, but no message can make that endless.
_MOST_READ_AGAIN = 400_000


class ToolCallScanner:
    """One message's scanner. Every character fed comes back in exactly one piece.

    `tools` are the request's tool specs: OpenAI's `{"type": "function", "function":
    {name, parameters}}` or bare `{name, parameters}`. `leave_out` names families that
    are not recovered. `reasoning`: the text is the model's thoughts, where only some
    families call tools.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]],
        *,
        leave_out: frozenset[str] = frozenset(),
        reasoning: bool = False,
    ) -> None:
        self._tools = make_toolset(tools)
        self._leave_out = leave_out
        self._flow = TextFlow(self._tools, thoughts=reasoning)
        self._leak: Leak | None = None
        self._reading: Generator[None, None, None] | None = None
        self._ended = self._truncated = False
        self._read_again = 0

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain now that `text` has come."""
        if not self._tools or (self._leak is None and self._flow.passes(text)):
            return [VisibleText(text)] if text else []
        out: list[Piece] = []
        self._scan(text, out)
        return out

    def finish(self, *, truncated: bool = False) -> list[Piece]:
        """The rest, at the end of the message; `truncated`: by the length limit."""
        out: list[Piece] = []
        if self._tools and not self._ended:
            self._ended = True
            self._truncated = truncated
            if self._leak is not None:
                self._leak.window.end(truncated=truncated)
            self._scan("", out)
        return out

    def _scan(self, text: str, out: list[Piece]) -> None:
        at, refused = 0, -1
        if self._leak is None:
            text = self._flow.held + text
            self._flow.held = ""
        else:
            self._leak.window.feed(text)
            if not self._read_on(self._leak, out):
                return
            text, at, refused = self._leave(self._leak)
        while True:
            if self._read_again > _MOST_READ_AGAIN:
                out += [VisibleText(text[at:])] if at < len(text) else []
                return
            start = self._flow.advance(text, at, refused, out, ended=self._ended)
            if start is None:
                return
            leak = self._enter(text, start)
            if not self._read_on(leak, out):
                return
            text, at, refused = self._leave(leak)

    def _enter(self, text: str, start: int) -> Leak:
        window = Window(text, start)
        if self._ended:
            window.end(truncated=self._truncated)
        flow = self._flow
        leak = Leak(window, self._tools, flow.site(), self._leave_out, flow.closers)
        self._leak = leak
        self._reading = leak.read()
        return leak

    def _read_on(self, leak: Leak, out: list[Piece]) -> bool:
        """Let the leak read what has come; True when it is over."""
        over = self._reading is None or next(self._reading, leak) is leak
        if leak.pieces:
            out += leak.pieces
            leak.pieces = []
        return over

    def _leave(self, leak: Leak) -> tuple[str, int, int]:
        """The text to go on with, where, and the place that began no call (or -1)."""
        self._leak = self._reading = None
        text = leak.window.cut(0)
        if leak.done > leak.start:
            self._flow.after_calls(leak.left_open())
            return text, leak.done, -1
        self._read_again += leak.window.offset - leak.start
        return text, leak.done, leak.done


# --- shared/agents/recovery.py ---


class RecoveringReader:
    """Reads one model call: text and thoughts each through a scanner of their own.

    Some models call tools inside their thoughts. When the kind changes, what a
    scanner still holds is decided there, so that nothing is shown out of order.
    """

    def __init__(self, turn: Turn, sentence: Sentence) -> None:
        self._tools = turn.tools
        self._sentence = sentence
        self._kind: type[TextDelta] | type[ReasoningDelta] = TextDelta
        self._scanner: ToolCallScanner | None = None
        self._called = False

    def read(self, event: AgentEvent) -> list[AgentEvent]:
        """What is to be told for this event."""
        match event:
            case TextDelta(text) | ReasoningDelta(text):
                return [*self._switch(type(event)), *self._feed(text)]
            case ToolCallStarted():
                return [*self.release(), event]
            case Finished(reason):
                rest = self.release(truncated=reason == "length")
                return [*rest, Finished("tool_calls") if self._called else event]
        return [event]

    def _switch(self, kind: type[TextDelta] | type[ReasoningDelta]) -> list[AgentEvent]:
        if kind is self._kind and self._scanner is not None:
            return []
        rest = self.release()
        self._kind = kind
        self._scanner = ToolCallScanner(self._tools, reasoning=kind is ReasoningDelta)
        return rest

    def _feed(self, text: str) -> list[AgentEvent]:
        assert self._scanner is not None
        return self._events(self._scanner.feed(text))

    def release(self, truncated: bool = False) -> list[AgentEvent]:
        """What the scanner holds; the next text begins with a new one."""
        scanner, self._scanner = self._scanner, None
        return self._events(scanner.finish(truncated=truncated)) if scanner else []

    def _events(self, pieces: list[Piece]) -> list[AgentEvent]:
        """Pieces as events: markup is left out, a call that was cut is explained."""
        events: list[AgentEvent] = []
        for piece in pieces:
            match piece:
                case VisibleText(text):
                    events.append(self._kind(text))
                case RecoveredCall(name, arguments):
                    self._called = True
                    call_id = new_id("call")
                    status = self._sentence("recovered", {"tool": name})
                    events += [
                        Status(status, done=True),
                        ToolCallStarted(call_id, name),
                        ToolCallCompleted(call_id, name, arguments),
                    ]
                case CutCall():
                    notice = self._sentence("cut", {})
                    events.append(TextDelta(f"\n\n{notice}"))
        return events


async def recover_leaked_calls(
    events: AsyncGenerator[AgentEvent, None], turn: Turn, sentence: Sentence
) -> AsyncGenerator[AgentEvent, None]:
    """The same events, with leaked calls of the turn's tools as real ones."""
    reader = RecoveringReader(turn, sentence)
    try:
        async for event in events:
            for told in reader.read(event):
                yield told
    except AqueductError:
        for told in reader.release(truncated=True):
            yield told
        raise
    finally:
        await events.aclose()


# --- shared/host/chats.py ---


async def messages_by_id(chat_id: str) -> dict[str, dict[str, Any]]:
    """All stored messages of a chat by id, of every branch; empty as above."""
    from open_webui.models.chats import Chats

    if not chat_id or ":" in chat_id:
        return {}
    return await Chats.get_messages_map_by_chat_id(chat_id) or {}


# --- shared/host/secrets.py ---


def server_secret() -> bytes:
    """WEBUI_SECRET_KEY, the same on all replicas; empty at most where nobody signs in."""
    from open_webui.env import WEBUI_SECRET_KEY

    return str(WEBUI_SECRET_KEY).encode()


# --- shared/agents/sessions.py ---

SESSION_NAMES = ("session_id", "thread_id", "conversation_id", "context_id")


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """Where a session belongs: it is of no use to other users, chats or agents.

    Users can change what is kept in their chats, and a copy of a shared chat holds
    its owner's sessions, while agents know only the admin's key. So what is kept has
    a seal, and what has no right one is no session.
    """

    user_id: str
    chat_id: str
    agent_id: str
    backend: str

    def sealed(self, state: SessionState) -> SessionState:
        """The state as it may be kept in a message."""
        return SessionState(state.data, self.seal_of(state.data))

    def seal_of(self, data: Mapping[str, Any]) -> str:
        """HMAC-SHA256 of place and data, in hexadecimal.

        A page that saves the chat writes 1.0 as 1, so all numbers count as floats.
        """
        place = [self.user_id, self.chat_id, self.agent_id, self.backend]
        plain = json.loads(json.dumps([STATE_ITEM_TYPE, place, data]), parse_int=float)
        text = json.dumps(plain, sort_keys=True)
        return hmac.digest(server_secret(), text.encode(), "sha256").hex()

    def holds(self, item: Mapping[str, Any]) -> bool:
        """Whether an output item is a session that we kept here."""
        if item.get("type") != STATE_ITEM_TYPE or item.get("agent") != self.agent_id:
            return False
        seal, data = item.get("seal"), item.get("data")
        if not isinstance(seal, str) or not isinstance(data, Mapping):
            return False
        return hmac.compare_digest(
            seal.encode("utf-8", "replace"), self.seal_of(data).encode()
        )


async def parent_session(
    place: SessionPlace, metadata: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, bool]:
    """The session this turn goes on from, and whether it has to fork.

    It is what the answer before the user's message left behind, so that an edit or a
    regeneration goes on from where the conversation parts.
    """
    parent_id = str((metadata.get("user_message") or {}).get("parentId") or "")
    if not parent_id:
        return None, False
    messages = await messages_by_id(place.chat_id)
    session = left_session(place, messages.get(parent_id) or {})
    if session is None:
        return None, False
    current_id = metadata.get("message_id")
    others = (
        m for m in answers_after(messages, parent_id) if m.get("id") != current_id
    )
    left = (left_session(place, message) or {} for message in others)
    return session, any(session_name(data) == session_name(session) for data in left)


def session_name(session: Mapping[str, Any]) -> Mapping[str, Any]:
    """What names a session, without what else its data tells of (a task, a state).

    Data with none of the usual names is a name as a whole.
    """
    return {k: session[k] for k in SESSION_NAMES if k in session} or session


def left_session(
    place: SessionPlace, message: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The session data in a message, if this agent left some there."""
    for item in reversed(message.get("output") or ()):
        if place.holds(item):
            return item["data"]
    return None


def answers_after(
    messages: Mapping[str, Mapping[str, Any]], parent_id: str
) -> Iterable[Mapping[str, Any]]:
    """Every answer to every user message that follows this one, in all branches.

    An agent that named the same session in one of them has moved that session on: it
    no longer ends where this turn begins. An id that is new with each answer, as a
    response's or a checkpoint's, never does.
    """
    for message in messages.values():
        asked = messages.get(str(message.get("parentId") or "")) or {}
        if str(asked.get("parentId") or "") == parent_id:
            yield message


# --- shared/agents/turns.py ---

# What Open WebUI keeps in a request for itself; everything else is a parameter.
HOST_KEYS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "metadata",
        "params",
        "files",
        "features",
        "variables",
        "chat_id",
        "session_id",
        "id",
        "message_id",
        "message_ids",
        "parent_id",
        "parent_message",
        "user_message",
        "folder_id",
        "filter_ids",
        "tool_ids",
        "tool_servers",
        "skill_ids",
        "terminal_id",
        "background_tasks",
        "model_item",
        "user",
        "num_ctx",
        "keep_alive",
        "n",
        "chat_variables",
        "function_calling",
    }
)
MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")


def build_turn(
    agent: AgentConfig,
    body: Mapping[str, Any],
    *,
    user_id: str = "",
    chat_id: str = "",
    session: Mapping[str, Any] | None = None,
    forks: bool = False,
    dialogs: Dialogs = NOBODY,
    with_tools: bool = True,
) -> Turn:
    """The turn for this request: history without our own cards, the agent's prompt.

    The chat's own parameters win over the agent's.
    """
    offered = with_tools and agent.tools != "suppress"
    tools = tuple(body.get("tools") or ()) if offered else ()
    params = {
        key: value
        for key, value in body.items()
        if key not in HOST_KEYS and not key.startswith("_") and value is not None
    }
    if not tools:
        params.pop("tool_choice", None)
        params.pop("parallel_tool_calls", None)
    messages = clean_history(body.get("messages") or (), tool_names(tools))
    return Turn(
        messages=tuple(add_system_prompt(messages, agent.system)),
        tools=tools,
        params={**agent.params, **params},
        session=session,
        forks=forks,
        dialogs=dialogs,
        user_id=user_id,
        chat_id=chat_id,
    )


def tool_names(tools: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The names in Chat Completions tool specifications."""
    return frozenset(
        str((tool.get("function") or tool).get("name", "")) for tool in tools
    )


def call_ids(messages: Iterable[Mapping[str, Any]]) -> set[str]:
    """The ids of all tool calls in these messages."""
    return {
        str(call.get("id"))
        for message in messages
        for call in message.get("tool_calls") or ()
    }


def clean_history(
    messages: Iterable[Mapping[str, Any]], offered: frozenset[str]
) -> list[dict[str, Any]]:
    """The messages an agent gets: earlier turns without our own cards.

    What follows the last user message is this turn's own loop and stays whole: a
    call whose result went missing would be made again without end.
    """
    clean = [{k: m[k] for k in MESSAGE_KEYS if k in m} for m in messages]
    asked = max((i for i, m in enumerate(clean) if m.get("role") == "user"), default=0)
    return [*undo_own_cards(clean[:asked], offered), *clean[asked:]]


def undo_own_cards(
    messages: Iterable[Mapping[str, Any]], offered: frozenset[str]
) -> list[dict[str, Any]]:
    """History without the calls of tools that this request does not offer.

    Open WebUI replays every card of a chat as a tool call, also those of tools an
    agent ran by itself, which its server would not know as its caller's.
    """
    dropped: set[str] = set()
    kept: list[dict[str, Any]] = []
    for message in messages:
        if message.get("role") == "tool" and message.get("tool_call_id") in dropped:
            continue
        clean = dict(message)
        calls = clean.pop("tool_calls", None) or []
        known = [c for c in calls if (c.get("function") or {}).get("name") in offered]
        dropped |= call_ids([{"tool_calls": calls}]) - call_ids([{"tool_calls": known}])
        if known:
            clean["tool_calls"] = known
        elif calls and not clean.get("content"):
            continue
        previous = kept[-1] if kept else {}
        if can_merge(previous, clean):
            previous["content"] = f"{previous['content']}\n\n{clean['content']}"
        else:
            kept.append(clean)
    return kept


def can_merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two messages are halves of one answer, cut where a card was taken out."""
    return all(
        message.get("role") == "assistant"
        and isinstance(message.get("content"), str)
        and not message.get("tool_calls")
        for message in (first, second)
    )


def add_system_prompt(
    messages: list[dict[str, Any]], system: str
) -> list[dict[str, Any]]:
    """The agent's prompt before the chat's, in one system message."""
    if not system:
        return messages
    if messages and messages[0].get("role") == "system":
        content = messages[0].get("content")
        if isinstance(content, str):
            content = f"{system}\n\n{content}"
        else:
            content = [{"type": "text", "text": system}, *(content or [])]
        return [{**messages[0], "content": content}, *messages[1:]]
    return [{"role": "system", "content": system}, *messages]


# --- shared/agents/tasks.py ---

MAX_TASK_CHARS = 20_000
TITLE_CHARS = 50

# Task -> the key of the JSON object it asks for, and an empty value of its type.
TASK_SHAPES: dict[str, tuple[str, str | list[str]]] = {
    "title_generation": ("title", ""),
    "tags_generation": ("tags", []),
    "follow_up_generation": ("follow_ups", []),
    "query_generation": ("queries", []),
    "image_prompt_generation": ("prompt", ""),
    "autocomplete_generation": ("text", ""),
}


def shape_task_answer(task: str, text: str) -> str:
    """The agent's answer in the JSON shape that the task asked for.

    Agents wrap JSON in prose or fences, or answer in prose alone: the value is cut
    out; a bare title becomes one; anything else gives an empty answer, so that
    prose never ends up as a tag.
    """
    shape = TASK_SHAPES.get(task)
    if shape is None:
        return text.strip()
    key, empty = shape
    found = find_object(text, key)
    value = found.get(key)
    if isinstance(empty, list):
        items = value if isinstance(value, list) else []
        value = [item for item in items if isinstance(item, str)]
    elif not isinstance(value, str):
        line = text.strip().strip("`\"'*# ").strip()
        value = "" if "\n" in line or line.startswith(("{", "[")) else line
    return orjson.dumps({**found, key: value}).decode()


def find_object(text: str, key: str) -> dict[str, Any]:
    """The first JSON object of the text that has this key, or an empty one."""
    decoder = json.JSONDecoder()
    text = text[:MAX_TASK_CHARS]
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if key in value:
                return value
        start = text.find("{", end)
    return {}


async def task_events(
    entry: AgentEntry,
    call: PipeRequest,
    task: str,
    plan: PoolPlan | None,
    sentence: Sentence,
) -> AsyncGenerator[AgentEvent, None]:
    """A title, tags and the like: the model alone, without tools and session.

    An answer that is not streamed is brought into the JSON shape asked for. An agent
    that is more than a model is not started for this: the chat's title is the
    beginning of its first message.
    """
    agent = entry.agent.model_copy(update={"session": False})
    if not AGENT_KINDS[agent.backend].writes_titles:
        title = opening_words(call.metadata) if task == "title_generation" else ""
        yield TextDelta(shape_task_answer(task, title))
        yield Finished()
        return
    entry = replace(entry, agent=agent, model=agent.task_model or entry.model)
    turn = build_turn(agent, call.body, with_tools=False)
    answered = agent_run(entry, plan, call, sentence)(turn)
    if not call.body.get("stream"):
        answered = shaped(answered, task)
    async with aclosing(answered) as events:
        async for event in events:
            yield event


def opening_words(metadata: Mapping[str, Any]) -> str:
    """The beginning of what the user said first, as a title."""
    messages = (metadata.get("task_body") or {}).get("messages") or ()
    said = (message_text(m) for m in messages if m.get("role") == "user")
    words = " ".join(next(said, "").split())
    if len(words) <= TITLE_CHARS:
        return words
    return words[:TITLE_CHARS].rsplit(" ", 1)[0] + "…"


async def shaped(
    events: AsyncGenerator[AgentEvent, None], task: str
) -> AsyncGenerator[AgentEvent, None]:
    """The text of a task's answer, brought into shape; thoughts are left out."""
    parts: list[str] = []
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextDelta):
                parts.append(event.text)
    yield TextDelta(shape_task_answer(task, "".join(parts)))
    yield Finished()


# --- shared/agents/texts.py ---

AGENT_TEXTS: dict[str, dict[str, str]] = {
    "connection_refused": {
        "en": "{agent} cannot be reached: {host} refuses connections.",
        "de": "{agent} ist nicht erreichbar: {host} nimmt keine Verbindungen an.",
        "es": "No se puede contactar con {agent}: {host} rechaza las conexiones.",
        "fr": "{agent} est injoignable : {host} refuse les connexions.",
        "zh": "无法连接 {agent}：{host} 拒绝连接。",
    },
    "unknown_host": {
        "en": "{agent} cannot be reached: the host name of {host} is not known.",
        "de": "{agent} ist nicht erreichbar: Der Rechnername {host} ist unbekannt.",
        "es": "No se puede contactar con {agent}: el nombre {host} no se conoce.",
        "fr": "{agent} est injoignable : le nom d'hôte {host} est inconnu.",
        "zh": "无法连接 {agent}：找不到主机 {host}。",
    },
    "tls_failed": {
        "en": "{agent} cannot be reached safely: {host} showed no valid certificate.",
        "de": "{agent} ist nicht sicher erreichbar: {host} zeigte kein gültiges Zertifikat.",
        "es": "No hay conexión segura con {agent}: {host} no mostró un certificado válido.",
        "fr": "Pas de liaison sûre avec {agent} : {host} n'a pas de certificat valide.",
        "zh": "无法安全连接 {agent}：{host} 没有有效证书。",
    },
    "unreachable": {
        "en": "{agent} cannot be reached: the connection to {host} failed.",
        "de": "{agent} ist nicht erreichbar: Die Verbindung zu {host} schlug fehl.",
        "es": "No se puede contactar con {agent}: falló la conexión con {host}.",
        "fr": "{agent} est injoignable : la connexion à {host} a échoué.",
        "zh": "无法连接 {agent}：与 {host} 的连接失败。",
    },
    "bad_address": {
        "en": "The address of {agent} cannot be used. An administrator has to correct it.",
        "de": "Die Adresse von {agent} ist unbrauchbar. Ein Administrator muss sie berichtigen.",
        "es": "La dirección de {agent} no es válida. Un administrador debe corregirla.",
        "fr": "L'adresse de {agent} est inutilisable. Un administrateur doit la corriger.",
        "zh": "{agent} 的地址无效，请管理员修正。",
    },
    "connect_timeout": {
        "en": "{agent} cannot be reached: {host} did not answer within {seconds} s.",
        "de": "{agent} ist nicht erreichbar: {host} antwortete nicht binnen {seconds} s.",
        "es": "No se puede contactar con {agent}: {host} no respondió en {seconds} s.",
        "fr": "{agent} est injoignable : {host} n'a pas répondu en {seconds} s.",
        "zh": "无法连接 {agent}：{host} 在 {seconds} 秒内没有响应。",
    },
    "status_401": {
        "en": "{agent} did not accept its key (401). An administrator has to check it.{detail}",
        "de": "{agent} hat den Schlüssel nicht angenommen (401). Ein Administrator muss ihn prüfen.{detail}",
        "es": "{agent} no aceptó la clave (401). Un administrador debe revisarla.{detail}",
        "fr": "{agent} n'a pas accepté la clé (401). Un administrateur doit la vérifier.{detail}",
        "zh": "{agent} 不接受密钥（401），请管理员检查。{detail}",
    },
    "status_403": {
        "en": "{agent} does not allow this (403).{detail}",
        "de": "{agent} erlaubt das nicht (403).{detail}",
        "es": "{agent} no permite esto (403).{detail}",
        "fr": "{agent} ne le permet pas (403).{detail}",
        "zh": "{agent} 不允许此操作（403）。{detail}",
    },
    "status_404": {
        "en": "{host} does not know this model or address (404).{detail}",
        "de": "{host} kennt dieses Modell oder diese Adresse nicht (404).{detail}",
        "es": "{host} no conoce este modelo o esta dirección (404).{detail}",
        "fr": "{host} ne connaît pas ce modèle ou cette adresse (404).{detail}",
        "zh": "{host} 没有此模型或地址（404）。{detail}",
    },
    "status_429": {
        "en": "{agent} is busy (429). Please try again in a minute.{detail}",
        "de": "{agent} ist ausgelastet (429). Bitte in einer Minute noch einmal.{detail}",
        "es": "{agent} está ocupado (429). Inténtelo de nuevo en un minuto.{detail}",
        "fr": "{agent} est occupé (429). Réessayez dans une minute.{detail}",
        "zh": "{agent} 正忙（429），请一分钟后再试。{detail}",
    },
    "status_429_wait": {
        "en": "{agent} is busy (429). Please try again in {seconds} s.{detail}",
        "de": "{agent} ist ausgelastet (429). Bitte in {seconds} s noch einmal.{detail}",
        "es": "{agent} está ocupado (429). Inténtelo de nuevo en {seconds} s.{detail}",
        "fr": "{agent} est occupé (429). Réessayez dans {seconds} s.{detail}",
        "zh": "{agent} 正忙（429），请 {seconds} 秒后再试。{detail}",
    },
    "overloaded": {
        "en": "{agent} is overloaded. Please try again in a minute.{detail}",
        "de": "{agent} ist überlastet. Bitte in einer Minute noch einmal.{detail}",
        "es": "{agent} está sobrecargado. Inténtelo de nuevo en un minuto.{detail}",
        "fr": "{agent} est surchargé. Réessayez dans une minute.{detail}",
        "zh": "{agent} 负载过高，请一分钟后再试。{detail}",
    },
    "status_5xx": {
        "en": "{agent} has a fault on its own side ({status}). Please try again later.{detail}",
        "de": "{agent} hat selbst eine Störung ({status}). Bitte später noch einmal.{detail}",
        "es": "{agent} tiene un fallo propio ({status}). Inténtelo más tarde.{detail}",
        "fr": "{agent} a une panne de son côté ({status}). Réessayez plus tard.{detail}",
        "zh": "{agent} 自身出现故障（{status}），请稍后再试。{detail}",
    },
    "status_other": {
        "en": "{agent} refused the request ({status}).{detail}",
        "de": "{agent} hat die Anfrage abgelehnt ({status}).{detail}",
        "es": "{agent} rechazó la petición ({status}).{detail}",
        "fr": "{agent} a refusé la requête ({status}).{detail}",
        "zh": "{agent} 拒绝了请求（{status}）。{detail}",
    },
    "said_error": {
        "en": "{agent} reported an error.{detail}",
        "de": "{agent} meldete einen Fehler.{detail}",
        "es": "{agent} informó de un error.{detail}",
        "fr": "{agent} a signalé une erreur.{detail}",
        "zh": "{agent} 报告了错误。{detail}",
    },
    "status_moved": {
        "en": "{host} says that its address has changed ({status}). An administrator has to correct it.{detail}",
        "de": "{host} meldet eine neue Adresse ({status}). Ein Administrator muss sie eintragen.{detail}",
        "es": "{host} indica que su dirección ha cambiado ({status}). Un administrador debe corregirla.{detail}",
        "fr": "{host} indique que son adresse a changé ({status}). Un administrateur doit la corriger.{detail}",
        "zh": "{host} 表示地址已变更（{status}），请管理员修正。{detail}",
    },
    "empty_answer": {
        "en": "{agent} sent an empty answer.",
        "de": "{agent} sandte eine leere Antwort.",
        "es": "{agent} envió una respuesta vacía.",
        "fr": "{agent} a envoyé une réponse vide.",
        "zh": "{agent} 的回答是空的。",
    },
    "cut_short": {
        "en": "The answer of {agent} broke off: {host} closed the connection.",
        "de": "Die Antwort von {agent} brach ab: {host} schloss die Verbindung.",
        "es": "La respuesta de {agent} se cortó: {host} cerró la conexión.",
        "fr": "La réponse de {agent} s'est interrompue : {host} a fermé la connexion.",
        "zh": "{agent} 的回答中断：{host} 关闭了连接。",
    },
    "unreadable": {
        "en": "{agent} sent something that cannot be read; the answer ends here.",
        "de": "{agent} sandte etwas Unlesbares; die Antwort endet hier.",
        "es": "{agent} envió algo ilegible; la respuesta termina aquí.",
        "fr": "{agent} a envoyé des données illisibles ; la réponse s'arrête ici.",
        "zh": "{agent} 发来无法读取的内容，回答到此为止。",
    },
    "line_too_long": {
        "en": "{agent} sent a line of over {limit} MiB; the answer ends here.",
        "de": "{agent} sandte eine Zeile von über {limit} MiB; die Antwort endet hier.",
        "es": "{agent} envió una línea de más de {limit} MiB; la respuesta termina aquí.",
        "fr": "{agent} a envoyé une ligne de plus de {limit} Mio ; la réponse s'arrête ici.",
        "zh": "{agent} 发来超过 {limit} MiB 的一行，回答到此为止。",
    },
    "silent_first": {
        "en": "{agent} did not begin to answer within {seconds} s.",
        "de": "{agent} hat binnen {seconds} s nicht zu antworten begonnen.",
        "es": "{agent} no empezó a responder en {seconds} s.",
        "fr": "{agent} n'a pas commencé à répondre en {seconds} s.",
        "zh": "{agent} 在 {seconds} 秒内没有开始回答。",
    },
    "silent_between": {
        "en": "{agent} fell silent: nothing came for {seconds} s.",
        "de": "{agent} ist verstummt: {seconds} s lang kam nichts mehr.",
        "es": "{agent} se quedó en silencio: no llegó nada durante {seconds} s.",
        "fr": "{agent} s'est tu : rien n'est venu pendant {seconds} s.",
        "zh": "{agent} 没有动静：{seconds} 秒内没有任何内容。",
    },
    "unknown_agent": {
        "en": "There is no agent “{agent}” any more. Please choose another model.",
        "de": "Den Agenten „{agent}“ gibt es nicht mehr. Bitte ein anderes Modell wählen.",
        "es": "El agente «{agent}» ya no existe. Elija otro modelo.",
        "fr": "L'agent « {agent} » n'existe plus. Choisissez un autre modèle.",
        "zh": "代理“{agent}”已不存在，请选择其他模型。",
    },
    "tool_not_allowed": {
        "en": "{agent} wanted to use “{tool}”, which it may not use here.",
        "de": "{agent} wollte „{tool}“ benutzen, was hier nicht erlaubt ist.",
        "es": "{agent} quiso usar «{tool}», que aquí no está permitido.",
        "fr": "{agent} voulait utiliser « {tool} », ce qui n'est pas permis ici.",
        "zh": "{agent} 想使用“{tool}”，但这里不允许。",
    },
    "too_many_tool_rounds": {
        "en": "{agent} still wanted to call tools after {limit} rounds and gave no answer.",
        "de": "{agent} wollte nach {limit} Runden noch Werkzeuge aufrufen und gab keine Antwort.",
        "es": "{agent} aún quería llamar a herramientas tras {limit} rondas y no respondió.",
        "fr": "Après {limit} tours, {agent} voulait encore appeler des outils, sans répondre.",
        "zh": "{agent} 在 {limit} 轮之后仍要调用工具，没有给出回答。",
    },
    "tool_call_broken": {
        "en": "This call was not run: the answer broke off.",
        "de": "Dieser Aufruf wurde nicht ausgeführt: Die Antwort brach ab.",
        "es": "Esta llamada no se ejecutó: la respuesta se cortó.",
        "fr": "Cet appel n'a pas été exécuté : la réponse s'est interrompue.",
        "zh": "此调用未执行：回答中断。",
    },
    "internal": {
        "en": "Something went wrong inside Aqueduct. The server log has it under {id}.",
        "de": "In Aqueduct ging etwas schief. Im Serverprotokoll steht es unter {id}.",
        "es": "Algo falló dentro de Aqueduct. Está en el registro del servidor como {id}.",
        "fr": "Une erreur s'est produite dans Aqueduct. Elle figure au journal sous {id}.",
        "zh": "Aqueduct 内部出错，服务器日志编号 {id}。",
    },
}


# --- shared/agents/texts_a2a.py ---

A2A_TEXTS: dict[str, dict[str, str]] = {
    "address_refused": {
        "en": "{agent} refers to {host}, which it may not. An administrator can allow it with `allow_hosts`.",
        "de": "{agent} verweist auf {host}, was nicht erlaubt ist. Ein Administrator kann es mit `allow_hosts` erlauben.",
        "es": "{agent} remite a {host}, lo que no está permitido. Un administrador puede permitirlo con `allow_hosts`.",
        "fr": "{agent} renvoie à {host}, ce qui n'est pas permis. Un administrateur peut l'autoriser avec `allow_hosts`.",
        "zh": "{agent} 指向 {host}，这是不允许的。管理员可以用 `allow_hosts` 允许。",
    },
    "a2a_no_interface": {
        "en": "{agent} offers no way of speaking that is known here. An administrator has to check its agent card.",
        "de": "{agent} bietet keinen Weg an, der hier bekannt ist. Ein Administrator muss die Agent Card prüfen.",
        "es": "{agent} no ofrece ninguna interfaz conocida aquí. Un administrador debe revisar su tarjeta de agente.",
        "fr": "{agent} n'offre aucune interface connue ici. Un administrateur doit vérifier sa carte d'agent.",
        "zh": "{agent} 没有提供可用的接口，请管理员检查其代理卡。",
    },
    "agent_login_required": {
        "en": "{agent} needs a login of its own before it can go on.{detail}",
        "de": "{agent} braucht erst eine eigene Anmeldung, um fortzufahren.{detail}",
        "es": "{agent} necesita un inicio de sesión propio antes de continuar.{detail}",
        "fr": "{agent} a besoin d'une connexion qui lui est propre avant de continuer.{detail}",
        "zh": "{agent} 需要先完成自己的登录才能继续。{detail}",
    },
    "a2a_rejected": {
        "en": "{agent} declined this.{detail}",
        "de": "{agent} hat das abgelehnt.{detail}",
        "es": "{agent} lo rechazó.{detail}",
        "fr": "{agent} a décliné cette demande.{detail}",
        "zh": "{agent} 拒绝了此请求。{detail}",
    },
    "a2a_canceled": {
        "en": "This was stopped on the side of {agent}.{detail}",
        "de": "Dies wurde auf der Seite von {agent} abgebrochen.{detail}",
        "es": "Esto se detuvo por parte de {agent}.{detail}",
        "fr": "Ceci a été arrêté du côté de {agent}.{detail}",
        "zh": "此任务已在 {agent} 一侧停止。{detail}",
    },
}


# --- shared/agents/texts_files.py ---

FILE_TEXTS: dict[str, dict[str, str]] = {
    "files_not_given": {
        "en": "The files are over {limit} MiB together, so {agent} got only the text found in them.",
        "de": "Die Dateien sind zusammen größer als {limit} MiB, daher hat {agent} nur den darin gefundenen Text bekommen.",
        "es": "Los archivos superan juntos {limit} MiB, por lo que {agent} solo recibió el texto encontrado en ellos.",
        "fr": "Les fichiers dépassent ensemble {limit} Mio, {agent} n'a donc reçu que le texte qu'ils contiennent.",
        "zh": "文件合计超过 {limit} MiB，{agent} 只收到了其中提取的文字。",
    },
    "files_left_out": {
        "en": "Not attached, as they are too large or too many: {names}",
        "de": "Nicht angehängt, weil zu groß oder zu viele: {names}",
        "es": "No se adjuntaron, por ser demasiado grandes o demasiados: {names}",
        "fr": "Non joints, car trop volumineux ou trop nombreux : {names}",
        "zh": "因过大或过多而未附上：{names}",
    },
}


# --- shared/agents/texts_programs.py ---

PROGRAM_TEXTS: dict[str, dict[str, str]] = {
    "program_missing": {
        "en": "{agent} cannot be started: the server has no program “{program}”. An administrator has to install it.",
        "de": "{agent} lässt sich nicht starten: Das Programm „{program}“ fehlt auf dem Server. Ein Administrator muss es installieren.",
        "es": "No se puede iniciar {agent}: el servidor no tiene el programa «{program}». Un administrador debe instalarlo.",
        "fr": "{agent} ne peut pas démarrer : le programme « {program} » manque sur le serveur. Un administrateur doit l'installer.",
        "zh": "无法启动 {agent}：服务器上没有程序“{program}”，请管理员安装。",
    },
    "program_ended": {
        "en": "{agent} ended in the middle of its work.{detail}",
        "de": "{agent} hat sich mitten in der Arbeit beendet.{detail}",
        "es": "{agent} terminó en mitad de su trabajo.{detail}",
        "fr": "{agent} s'est terminé au milieu de son travail.{detail}",
        "zh": "{agent} 在工作途中退出。{detail}",
    },
    "ssh_failed": {
        "en": "The ssh connection to {agent} failed. An administrator has to look into it.{detail}",
        "de": "Die ssh-Verbindung zu {agent} ist fehlgeschlagen. Ein Administrator muss nachsehen.{detail}",
        "es": "Falló la conexión ssh con {agent}. Un administrador debe revisarla.{detail}",
        "fr": "La connexion ssh à {agent} a échoué. Un administrateur doit s'en occuper.{detail}",
        "zh": "与 {agent} 的 ssh 连接失败，请管理员检查。{detail}",
    },
    "program_silent": {
        "en": "{agent} was started, but was not ready within {seconds} s.",
        "de": "{agent} wurde gestartet, war aber binnen {seconds} s nicht bereit.",
        "es": "{agent} se inició, pero no estuvo listo en {seconds} s.",
        "fr": "{agent} a démarré, mais n'était pas prêt en {seconds} s.",
        "zh": "{agent} 已启动，但在 {seconds} 秒内没有就绪。",
    },
    "too_many_programs": {
        "en": "{agent} is busy in {limit} chats, which is all it may do at once. Please try again later.",
        "de": "{agent} arbeitet gerade in {limit} Chats, mehr geht nicht zugleich. Bitte später noch einmal.",
        "es": "{agent} trabaja ya en {limit} chats, el máximo a la vez. Inténtelo más tarde.",
        "fr": "{agent} travaille déjà dans {limit} conversations, le maximum. Réessayez plus tard.",
        "zh": "{agent} 正在 {limit} 个对话中工作，已达上限，请稍后再试。",
    },
    "mode_unknown": {
        "en": "{agent} has no mode “{wanted}”. An administrator has to choose another.{detail}",
        "de": "{agent} kennt keinen Modus „{wanted}“. Ein Administrator muss einen anderen wählen.{detail}",
        "es": "{agent} no tiene el modo «{wanted}». Un administrador debe elegir otro.{detail}",
        "fr": "{agent} n'a pas de mode « {wanted} ». Un administrateur doit en choisir un autre.{detail}",
        "zh": "{agent} 没有模式“{wanted}”，请管理员另选。{detail}",
    },
    "model_unknown": {
        "en": "{agent} has no model “{wanted}”. An administrator has to choose another.{detail}",
        "de": "{agent} kennt kein Modell „{wanted}“. Ein Administrator muss ein anderes wählen.{detail}",
        "es": "{agent} no tiene el modelo «{wanted}». Un administrador debe elegir otro.{detail}",
        "fr": "{agent} n'a pas de modèle « {wanted} ». Un administrateur doit en choisir un autre.{detail}",
        "zh": "{agent} 没有模型“{wanted}”，请管理员另选。{detail}",
    },
}


# --- shared/agents/tool_rounds.py ---


class ToolRunner(Protocol):
    """Whoever can run tools on this side."""

    def knows(self, name: str) -> bool: ...

    async def run(self, call: ToolCallCompleted) -> ToolResult: ...


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """What becomes of an agent's tool calls.

    `specs` maps the names of the offered tools to their parameter schemas.
    `runner` is set where the calls are run here (mode `execute`).
    """

    mode: Literal["native", "execute", "passthrough", "suppress"]
    unknown: Literal["error", "ignore", "passthrough"]
    max_rounds: int
    specs: Mapping[str, Mapping[str, Any]]
    runner: ToolRunner | None = None

    def hidden(self, name: str) -> bool:
        """Whether a call of this tool is shown only if the agent runs it itself."""
        if self.mode == "suppress":
            return True
        return self.unknown == "ignore" and name not in self.specs


@dataclass(slots=True)
class ToolRound:
    """What one model call said: passes events on, holds back hidden calls."""

    policy: ToolPolicy
    text: list[str] = field(default_factory=list)
    pending: dict[str, ToolCallCompleted] = field(default_factory=dict)
    finished: Finished = field(default_factory=Finished)
    _held: dict[str, list[AgentEvent]] = field(default_factory=dict)
    _held_names: dict[str, str] = field(default_factory=dict)

    @property
    def dropped(self) -> list[str]:
        """The tools of the calls that were held back to the end."""
        return list(self._held_names.values())

    def take(self, event: AgentEvent) -> list[AgentEvent]:
        """The events that may be shown now that this one came."""
        match event:
            case TextDelta(text):
                self.text.append(text)
            case Finished():
                self.finished = event
                return []
            case ToolCallStarted(call_id, name) if self.policy.hidden(name):
                self._held[call_id] = [event]
                self._held_names[call_id] = name
                return []
            case ToolCallArgumentsDelta(call_id) if call_id in self._held:
                self._held[call_id].append(event)
                return []
            case ToolCallCompleted(call_id):
                if call_id in self._held:
                    self._held[call_id].append(event)
                    return []
                self.pending[call_id] = event
            case ToolResult(call_id):
                self.pending.pop(call_id, None)
                self._held_names.pop(call_id, None)
                return [*self._held.pop(call_id, []), event]
        return [event]


async def answer_with_tools(
    run: Callable[[Turn], AsyncGenerator[AgentEvent, None]],
    turn: Turn,
    policy: ToolPolicy,
) -> AsyncGenerator[AgentEvent, None]:
    """An agent's answer, its tool calls treated by the policy.

    What is run or answered here goes back to the agent in a further model call, at
    most `max_rounds` times; then the agent is asked once more without tools, and
    what it calls all the same is refused. Calls that are left without a result when
    this ends are for the caller to run.
    """
    said = False
    for rounds_left in range(policy.max_rounds, -1, -1):
        if not rounds_left:
            turn = turn.without_tools()
        current = ToolRound(policy)
        events = run(turn)
        try:
            async for event in events:
                for shown in current.take(event):
                    yield shown
        finally:
            await events.aclose()
        said = said or bool(current.text)
        results: list[ToolResult] = []
        for call in current.pending.values():
            # One after another, as Open WebUI does: a later one may need the first.
            result = (
                await settle_call(call, policy)
                if rounds_left
                else failed_result(call, {"error": "No more calls are allowed."})
            )
            if result is not None:
                results.append(result)
                yield result
        answered = {result.call_id for result in results}
        if not answered or answered != set(current.pending):
            break
        turn = turn.with_messages(*round_messages(current, results))
    if current.dropped and not said and not current.pending:
        yield Failed("tool_not_allowed", {"tool": current.dropped[0]})
    if answered and not rounds_left and not current.text:
        yield Failed("too_many_tool_rounds", {"limit": policy.max_rounds})
    all_answered = bool(answered) and answered == set(current.pending)
    yield Finished() if all_answered else current.finished


async def settle_call(call: ToolCallCompleted, policy: ToolPolicy) -> ToolResult | None:
    """The result of one call, or None where it is the caller's to run."""
    runs_here = policy.runner is not None and policy.runner.knows(call.name)
    if call.name not in policy.specs and not runs_here:
        if policy.mode == "passthrough" or policy.unknown != "error":
            return None
        unknown = f"There is no tool `{call.name}`."
        return failed_result(call, {"error": unknown, "tools": [*policy.specs]})
    if policy.runner is None or not runs_here:
        return None
    error = arguments_error(call, policy.specs.get(call.name) or {})
    if error is not None:
        return failed_result(call, error)
    return await policy.runner.run(call)


def failed_result(call: ToolCallCompleted, error: Mapping[str, Any]) -> ToolResult:
    return ToolResult(call.call_id, orjson.dumps(error).decode(), failed=True)


def arguments_error(
    call: ToolCallCompleted, schema: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What a model needs to mend its call, or None where the call can be run.

    Names what is missing and gives an example and the schema.
    """
    try:
        arguments = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        arguments = None
    help_ = {"example": example_arguments(schema), "schema": dict(schema)}
    if not isinstance(arguments, dict):
        return {"error": "The arguments are not a JSON object.", **help_}
    missing = [name for name in schema.get("required") or () if name not in arguments]
    if not missing:
        return None
    return {"error": "Required arguments are missing.", "missing": missing, **help_}


EXAMPLE_VALUES: Mapping[str, Any] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


def example_arguments(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A value of the right type for each required property of a JSON schema."""
    properties = schema.get("properties") or {}
    names = schema.get("required") or list(properties)[:1]
    return {name: example_value(properties.get(name) or {}) for name in names}


def example_value(schema: Mapping[str, Any]) -> Any:
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    return EXAMPLE_VALUES.get(str(kind), "text")


def round_messages(
    current: ToolRound, results: list[ToolResult]
) -> list[dict[str, Any]]:
    """A round as messages: what the agent said and called, and what came back."""
    calls = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in current.pending.values()
    ]
    said = "".join(current.text) or None
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": said, "tool_calls": calls}
    ]
    for result in results:
        messages.append(
            {
                "role": "tool",
                "tool_call_id": result.call_id,
                "content": result.output,
            }
        )
    return messages


# --- shared/host/callers.py ---

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


# --- shared/host/tools.py ---

NOT_APPROVED = "Error: the user did not approve this tool call."


@dataclass(frozen=True, slots=True)
class HostToolRunner:
    """Runs the tools of one request as Open WebUI's own loop would.

    `metadata["tools"]` maps names to Open WebUI's tool entries.
    """

    request: Any
    user: Mapping[str, Any]
    body: Mapping[str, Any]
    metadata: Mapping[str, Any]
    event_call: Callable[[dict[str, Any]], Awaitable[Any]] | None

    def knows(self, name: str) -> bool:
        return name in (self.metadata.get("tools") or {})

    async def run(self, call: ToolCallCompleted) -> ToolResult:
        """The result of one call; a tool's own error is a failed result."""
        from open_webui.utils.middleware import (
            execute_tool_call,
            process_tool_result,
            tool_result_content,
        )

        if not await self._approved(call):
            return ToolResult(call.call_id, NOT_APPROVED, failed=True)
        request_call = {
            "id": call.call_id,
            "function": {"name": call.name, "arguments": call.arguments},
        }
        _, value, _, tool_type, direct = await execute_tool_call(
            dict(self.body), self._approved_metadata(), self.event_call, request_call
        )
        failed = isinstance(value, dict) and set(value) == {"error"}
        user = user_model(self.user)
        value, files, embeds = await process_tool_result(
            self.request,
            call.name,
            value,
            tool_type,
            direct,
            dict(self.metadata),
            user,
        )
        shown = tuple(
            file for file in files or () if not str(file.get("url")).startswith("data:")
        )
        return ToolResult(
            call.call_id,
            tool_result_content(value),
            failed=failed,
            files=shown,
            embeds=tuple(embeds or ()),
        )

    async def _approved(self, call: ToolCallCompleted) -> bool:
        """Whether the user's setting "ask before tools" lets this call pass.

        Open WebUI asks by pausing its own loop, which is not running here, so the
        dialog of its temporary chats is used. Without a browser nothing is approved.
        """
        mode = (self.metadata.get("params") or {}).get("tool_approval_mode")
        if mode != "ask":
            return True
        if self.event_call is None or not self.metadata.get("session_id"):
            return False
        question = {
            "id": call.call_id,
            "name": call.name,
            "arguments": orjson.loads(call.arguments),
        }
        answer = await self.event_call(
            {"type": "confirmation", "data": {"tool_call": question}}
        )
        return answer is True

    def _approved_metadata(self) -> dict[str, Any]:
        """The metadata once the call is approved: it must not be asked for twice."""
        params = {**(self.metadata.get("params") or {}), "tool_approval_mode": "full"}
        return {**self.metadata, "params": params}


# --- shared/routing/fallback.py ---


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent of the chain. `names` are fields for sentences of its errors.

    `takes_over` is said before its first word when it is not the first of the chain;
    `chosen` is called then.
    """

    events: Callable[[], AsyncGenerator[AgentEvent, None]]
    names: Mapping[str, str]
    takes_over: Sequence[AgentEvent] = ()
    chosen: Callable[[], None] = lambda: None


async def first_answer(
    candidates: Iterable[Candidate],
) -> AsyncGenerator[AgentEvent, None]:
    """The events of the first candidate that says something.

    When none does, raises the error of the only one, or AttemptsFailed with all of
    them. Once a word was said, its error is the end.
    """
    errors: list[AqueductError] = []
    for candidate in candidates:
        said = False
        try:
            async with aclosing(candidate.events()) as events:
                async for event in events:
                    if not said and not isinstance(event, Status):
                        said = True
                        if errors:
                            candidate.chosen()
                            for first in candidate.takes_over:
                                yield first
                    yield event
            return
        except AqueductError as error:
            error.fields = {**candidate.names, **error.fields}
            if said:
                raise
            errors.append(error)
    raise joined_error(errors)


# --- shared/routing/texts.py ---

ROUTING_TEXTS: dict[str, dict[str, str]] = {
    "waiting": {
        "en": "Waiting: position {position} of {total}",
        "de": "Warten: Platz {position} von {total}",
        "es": "En espera: puesto {position} de {total}",
        "fr": "En attente : position {position} sur {total}",
        "zh": "排队中：第 {position} 位，共 {total} 位",
    },
    "waiting_time": {
        "en": "Waiting: position {position} of {total}, about {seconds} s",
        "de": "Warten: Platz {position} von {total}, etwa {seconds} s",
        "es": "En espera: puesto {position} de {total}, unos {seconds} s",
        "fr": "En attente : position {position} sur {total}, environ {seconds} s",
        "zh": "排队中：第 {position} 位，共 {total} 位，约 {seconds} 秒",
    },
    "waited": {
        "en": "Waited {seconds} s",
        "de": "{seconds} s gewartet",
        "es": "Espera de {seconds} s",
        "fr": "Attente de {seconds} s",
        "zh": "已等待 {seconds} 秒",
    },
    "retrying": {
        "en": "{host} could not answer; trying again",
        "de": "{host} konnte nicht antworten; neuer Versuch",
        "es": "{host} no pudo responder; nuevo intento",
        "fr": "{host} n'a pas pu répondre ; nouvel essai",
        "zh": "{host} 无法回答，正在重试",
    },
    "answered_by": {
        "en": "{agent} could not answer; {model} answers instead",
        "de": "{agent} konnte nicht antworten; stattdessen antwortet {model}",
        "es": "{agent} no pudo responder; responde {model} en su lugar",
        "fr": "{agent} n'a pas pu répondre ; {model} répond à sa place",
        "zh": "{agent} 无法回答，由 {model} 代答",
    },
    "queue_busy": {
        "en": "{agent} is busy: too many are waiting. Please try again later.",
        "de": "{agent} ist ausgelastet: Zu viele warten. Bitte später noch einmal.",
        "es": "{agent} está ocupado: hay demasiados en espera. Inténtelo más tarde.",
        "fr": "{agent} est occupé : trop de demandes attendent. Réessayez plus tard.",
        "zh": "{agent} 正忙：排队人数过多，请稍后再试。",
    },
    "queue_busy_wait": {
        "en": "{agent} is busy. Please try again in about {seconds} s.",
        "de": "{agent} ist ausgelastet. Bitte in etwa {seconds} s noch einmal.",
        "es": "{agent} está ocupado. Inténtelo de nuevo en unos {seconds} s.",
        "fr": "{agent} est occupé. Réessayez dans environ {seconds} s.",
        "zh": "{agent} 正忙，请约 {seconds} 秒后再试。",
    },
    "queue_expired": {
        "en": "{agent} had no time for this within {seconds} s. Please try again later.",
        "de": "{agent} hatte binnen {seconds} s keine Zeit. Bitte später noch einmal.",
        "es": "{agent} no tuvo tiempo en {seconds} s. Inténtelo más tarde.",
        "fr": "{agent} n'a pas eu le temps en {seconds} s. Réessayez plus tard.",
        "zh": "{agent} 在 {seconds} 秒内没有空闲，请稍后再试。",
    },
    "upstreams_shut": {
        "en": "{agent} failed several times and is left alone for {seconds} s.",
        "de": "{agent} ist mehrmals gescheitert und wird {seconds} s in Ruhe gelassen.",
        "es": "{agent} falló varias veces; se le deja en paz {seconds} s.",
        "fr": "{agent} a échoué plusieurs fois ; on le laisse tranquille {seconds} s.",
        "zh": "{agent} 多次失败，暂停使用 {seconds} 秒。",
    },
    "all_attempts_failed": {
        "en": "Nobody could answer:\n{tried}",
        "de": "Niemand konnte antworten:\n{tried}",
        "es": "Nadie pudo responder:\n{tried}",
        "fr": "Personne n'a pu répondre :\n{tried}",
        "zh": "没有可用的回答者：\n{tried}",
    },
}


# --- shared/toolcalls/sentences.py ---

RECOVERY_TEXTS: dict[str, dict[str, str]] = {
    "recovered": {
        "en": "Recovered a call to {tool}",
        "de": "Aufruf von {tool} wiederhergestellt",
        "es": "Se recuperó una llamada a {tool}",
        "fr": "Appel à {tool} récupéré",
        "zh": "已恢复对 {tool} 的调用",
    },
    "cut": {
        "en": "*(A tool call was cut off by the length limit and was not run.)*",
        "de": "*(Ein Werkzeugaufruf wurde durch die Längengrenze abgeschnitten und nicht ausgeführt.)*",
        "es": "*(El límite de longitud cortó una llamada a una herramienta; no se ejecutó.)*",
        "fr": "*(Un appel d'outil a été coupé par la limite de longueur et n'a pas été exécuté.)*",
        "zh": "*（工具调用因长度限制被截断，没有执行。）*",
    },
}


# --- shared/agents/service.py ---

PIPE_TEXTS = {
    **AGENT_TEXTS,
    **PROGRAM_TEXTS,
    **A2A_TEXTS,
    **FILE_TEXTS,
    **DIALOG_TEXTS,
    **RECOVERY_TEXTS,
    **ROUTING_TEXTS,
}


async def answer(
    config: AgentsConfig, call: PipeRequest
) -> dict[str, Any] | str | StreamingResponse:
    """The pipe's answer to one call: to a task, to a chat, or to an API caller."""
    model_id = str(call.body.get("model", "")).partition(".")[2]
    if model_id in (PROBLEM_MODEL, EMPTY_MODEL):
        return "" if call.task else configuration_help(config)
    entry = find_entry(config, model_id)
    chain = answering_chain(config, entry)
    if entry is None or not chain:
        gone = partial(sentence_for, call.language, {"agent": model_id})
        return await respond(unknown_agent(), call, model_id, gone)
    first = chain[0]
    if len(chain) == 1:
        events = agent_events(first, call, pool_of_call(config, chain, first))
    else:
        events = first_answer(candidates(config, chain, call, entry))
    return await respond(events, call, first.agent.id, own_sentence(call, first))


def own_sentence(call: PipeRequest, entry: AgentEntry) -> Sentence:
    """Sentences that name this agent and its place unless told otherwise."""
    return partial(sentence_for, call.language, names_of(entry))


def names_of(entry: AgentEntry) -> dict[str, str]:
    return {"agent": entry.agent.label, "host": entry.agent.place or entry.agent.label}


def candidates(
    config: AgentsConfig,
    chain: Sequence[AgentEntry],
    call: PipeRequest,
    asked: AgentEntry,
) -> Iterator[Candidate]:
    """Who may answer, in order; whoever takes over says so."""
    first = chain[0].agent
    for entry in chain:
        agent = entry.agent
        fields = {"agent": asked.agent.label, "model": agent.label}
        notice = sentence_for(call.language, {}, "answered_by", fields)
        pool = config.plans[first.id].spec.name
        yield Candidate(
            partial(agent_events, entry, call, pool_of_call(config, chain, entry)),
            names_of(entry),
            (Handover(agent.id, agent.label), Status(notice, True)),
            partial(count_fallback, pool, agent.id),
        )


async def unknown_agent() -> AsyncGenerator[AgentEvent, None]:
    """The events of an agent that is no longer configured."""
    raise AqueductError("unknown_agent")
    yield  # makes this a generator, like a backend's


def agent_events(
    entry: AgentEntry, call: PipeRequest, plan: PoolPlan | None
) -> AsyncGenerator[AgentEvent, None]:
    """What one agent says to this call: to a task, or to a turn."""
    if call.task:
        sentence = own_sentence(call, entry)
        return task_events(entry, call, call.task, plan, sentence)
    return turn_events(entry, call, plan)


async def turn_events(
    entry: AgentEntry, call: PipeRequest, plan: PoolPlan | None
) -> AsyncGenerator[AgentEvent, None]:
    """A turn from its preparation to its end: whatever fails, fails in here."""
    agent = entry.agent
    sentence = own_sentence(call, entry)
    run = agent_run(entry, plan, call, sentence)
    body, too_large = call.body, False
    if agent.files == "attach":
        body, too_large = await attach_files(body, call.metadata, call.user)
    if too_large:
        limit = {"limit": MAX_FILES_MIB}
        yield Status(sentence("files_not_given", limit), done=True)
    turn = await prepare_turn(agent, call, sentence, body)
    if agent.recover_tool_calls:
        run = partial(run_recovering, run, sentence)
    answered = answer_with_tools(run, turn, tool_policy(agent, turn, call))
    files = FileStorage(call.request, call.user, sentence)
    logins = LoginWatch(agent, sentence)
    place = kept_session_place(agent, call)
    try:
        async with aclosing(answered) as events:
            async for event in events:
                # Not a generator each, as every word would have to pass through all.
                if isinstance(event, DELTAS):
                    yield event
                    continue
                await logins.look(event)
                if isinstance(event, SessionState):
                    event = place.sealed(event)
                for shown in await files.take(event):
                    yield shown
    except AqueductError as error:
        await logins.failed(error.code, error.fields)
        raise


def kept_session_place(agent: AgentConfig, call: PipeRequest) -> SessionPlace:
    user_id = str(call.user.get("id", ""))
    chat_id = str(call.metadata.get("chat_id") or "")
    return SessionPlace(user_id, chat_id, agent.id, agent.backend)


def run_recovering(
    run: Run, sentence: Sentence, turn: Turn
) -> AsyncGenerator[AgentEvent, None]:
    """A model call, leaked tool calls recovered; without tools there are none."""
    events = run(turn)
    return recover_leaked_calls(events, turn, sentence) if turn.tools else events


async def prepare_turn(
    agent: AgentConfig, call: PipeRequest, sentence: Sentence, body: Mapping[str, Any]
) -> Turn:
    """The turn with its session and a way to ask the user."""
    place = kept_session_place(agent, call)
    session, forks = None, False
    if agent.session:
        session, forks = await parent_session(place, call.metadata)
    grants: Grants = shared_resource("approvals", dict)
    dialogs = ChatDialogs(
        agent.approvals,
        (place.user_id, place.chat_id, agent.id),
        sentence,
        grants,
        call.event_call if call.in_chat else None,
        call.emit,
    )
    return build_turn(
        agent,
        body,
        user_id=place.user_id,
        chat_id=place.chat_id,
        session=session,
        forks=forks,
        dialogs=dialogs,
    )


def tool_policy(agent: AgentConfig, turn: Turn, call: PipeRequest) -> ToolPolicy:
    specs = {
        str(function.get("name")): function.get("parameters") or {}
        for function in (tool.get("function") or tool for tool in turn.tools)
    }
    runner = None
    if agent.tools == "execute":
        runner = HostToolRunner(
            call.request, call.user, call.body, call.metadata, call.event_call
        )
    return ToolPolicy(
        agent.tools, agent.unknown_tool, agent.max_tool_rounds, specs, runner
    )


async def respond(
    events: AsyncGenerator[AgentEvent, None],
    call: PipeRequest,
    agent_id: str,
    sentence: Sentence,
) -> dict[str, Any] | StreamingResponse:
    """The events in the form that this caller reads."""
    stream = bool(call.body.get("stream"))
    if stream and call.in_chat and not call.task:
        used = call_ids(call.body.get("messages") or ())
        renderer = ChatRenderer(agent_id, sentence, used)
        return event_stream(chat_stream(events, renderer, call.emit))
    options = call.body.get("stream_options")
    include_usage = isinstance(options, Mapping) and options.get("include_usage")
    completion = CompletionRenderer(
        str(call.body.get("model", "")), sentence, bool(include_usage)
    )
    if stream:
        return event_stream(completion_stream(events, completion))
    whole = whole_completion(events, completion, call.in_chat)
    if call.in_chat or call.task:
        return await whole
    return await unless_hung_up(call.request, whole)


def sentence_for(
    language: str, names: Mapping[str, Any], code: str, fields: Mapping[str, Any]
) -> str:
    """The sentence for a code; of several attempts, each on a line of its own."""
    known = {**names, **fields}
    if "attempts" in fields:
        # With numbers, as Open WebUI shows an error without its line breaks.
        known["tried"] = "\n".join(
            f"{number}. {sentence_for(language, names, *attempt)}"
            for number, attempt in enumerate(fields["attempts"], 1)
        )
    return translate(PIPE_TEXTS, code, language, known)


# --- functions/agents.py ---


PIPE_ID = "agents"

AGENTS_HELP = inspect.cleandoc("""
    YAML, one entry an agent: `- id: my-agent`, then `name`, `url`, `model`, `key`
    and more. A key is written ${env:NAME} or ${secret:NAME}. What agents with several
    servers or a queue are doing: /api/v1/aqueduct/routing on this server.
    """)


class Pipe:
    """Every configured agent is a model of its own."""

    class Valves(BaseModel):
        AGENTS: str = Field(default="", description=AGENTS_HELP)
        SECRETS: str = Field(
            default="",
            description="Secrets for AGENTS: NAME=value, divided by spaces.",
            json_schema_extra={"input": {"type": "password"}},
        )
        REDIS_URL: str = Field(
            default="",
            description="A Redis for the queues of several servers, as redis://…, "
            "where it is not Open WebUI's own.",
            json_schema_extra={"input": {"type": "password"}},
        )

        # There is a password in it.
        model_config = ConfigDict(hide_input_in_errors=True)

        @field_validator("REDIS_URL")
        @classmethod
        def _is_an_address(cls, url: str) -> str:
            return checked_redis_url(url)

    def __init__(self) -> None:
        self.valves = self.Valves()
        self.name = ""

    async def pipes(self) -> list[dict[str, str]]:
        """The models that Open WebUI lists."""
        serve_routing_page(PIPE_ID)
        valves = self.valves
        config = parse_agents(valves.AGENTS, valves.SECRETS)
        return await list_models(config, PIPE_ID)

    async def pipe(
        self,
        body: dict[str, Any],
        __user__: dict[str, Any],
        __metadata__: dict[str, Any],
        __request__: Request,
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        __event_call__: Callable[[dict[str, Any]], Awaitable[Any]] | None = None,
        __task__: str | None = None,
    ) -> dict[str, Any] | str | StreamingResponse:
        """The answer of the agent that `body["model"]` names."""
        valves = self.valves
        call = PipeRequest(
            body=body,
            user=__user__,
            metadata=__metadata__,
            request=__request__,
            emit=__event_emitter__,
            event_call=__event_call__,
            task=__task__,
            redis_url=valves.REDIS_URL,
        )
        return await answer(parse_agents(valves.AGENTS, valves.SECRETS), call)
