"""The demo agent's server: OpenAI's Chat Completions and Responses APIs.

`create_app` gives the Starlette app; `python -m demo` runs it.
"""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import Message, Send

from demo import render_chat, render_responses
from demo.acts import Act, Reply, count_usage, count_words, truncate
from demo.agent import answer
from demo.conversation import BadRequest, Conversation, read_chat, read_responses
from demo.delivery import deliver, deliver_document
from demo.faults import FAILURES, RETRY_AFTER, Faults
from demo.journal import Entry, Journal, watch, without_secrets
from demo.planner import Toolbox
from demo.search import DocSearch
from demo.sessions import Sessions

MODELS = ("aqueduct-demo", "aqueduct-demo-leaky")
PROJECT = Path(__file__).resolve().parent.parent
KEPT_REQUESTS = 200
KEPT_SESSIONS = 1000


@dataclass(frozen=True, slots=True)
class Api:
    """What tells the two APIs apart: how to read a request and write an answer."""

    read: Callable[[dict[str, Any]], Conversation]
    render: ModuleType
    limits: tuple[str, ...]


Endpoint = Callable[[Request, Entry], Awaitable[Response]]
CHAT = Api(read_chat, render_chat, ("max_completion_tokens", "max_tokens"))
RESPONSES = Api(read_responses, render_responses, ("max_output_tokens",))


def create_app(
    *,
    key: str | None = None,
    debug: bool = False,
    pace: float = 0.0,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    root: Path = PROJECT,
) -> Starlette:
    """The server as an ASGI app.

    `key`: wanted as bearer token, when given. `debug`: keep the last requests for
    /debug/requests. `pace`: seconds between two words. `now`: an aware clock. `root`:
    the folder whose README.md and docs/ the agent searches.
    """
    journal = Journal(KEPT_REQUESTS if debug else 0)
    server = Server(key, pace, now, DocSearch(root), journal, Sessions(KEPT_SESSIONS))
    chat = partial(server.complete, CHAT)
    responses = partial(server.complete, RESPONSES)
    routes = [
        Route("/health", server.health),
        Route("/v1/models", server.guarded(server.models)),
        Route("/v1/chat/completions", server.guarded(chat), methods=["POST"]),
        Route("/v1/responses", server.guarded(responses), methods=["POST"]),
    ]
    if debug:
        routes += [
            Route("/debug/requests", server.show_requests),
            Route("/debug/reset", server.reset_requests, methods=["POST"]),
        ]
    routes.append(Route("/{path:path}", server.document))
    return Starlette(routes=routes)


@dataclass(frozen=True, slots=True)
class Server:
    """The endpoints; of a request they keep its entry in the journal, and its
    conversation where the Responses API is asked to."""

    key: str | None
    pace: float
    now: Callable[[], datetime]
    docs: DocSearch
    journal: Journal
    sessions: Sessions

    def guarded(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """`endpoint` with the check of the key before it and the journal around it."""

        async def handle(request: Request) -> Response:
            path = request.url.path
            entry = self.journal.open(request.method, path, request.headers)
            if self._has_key(request):
                response = await endpoint(request, entry)
            else:
                response = failure(401)
            entry.status = response.status_code
            if not isinstance(response, StreamingResponse):
                entry.end("finished")
            return response

        return handle

    async def complete(self, api: Api, request: Request, entry: Entry) -> Response:
        """Answer a conversation, as a stream or at once."""
        try:
            body = await read_body(request)
            entry.body = without_secrets(body)
            if api is RESPONSES:
                body = self.sessions.resume(body)
            conversation = api.read(body)
        except BadRequest as error:
            return problem(400, "invalid_request", str(error))
        model = body.get("model")
        if model not in MODELS:
            return failure(404)
        address = str(request.base_url).rstrip("/")
        toolbox = Toolbox(self.docs, self.now, address)
        acts, faults = answer(conversation, toolbox, leaky=model == MODELS[1])
        if faults.fail:
            return failure(faults.fail)
        reply = self._reply(api, body, conversation, acts, faults)
        if api is RESPONSES and body.get("store"):
            self.sessions.keep(body, render_responses.document(reply))
        return self._send(api, reply, faults, entry, streaming(body, faults))

    def _reply(
        self,
        api: Api,
        body: dict[str, Any],
        conversation: Conversation,
        acts: tuple[Act, ...],
        faults: Faults,
    ) -> Reply:
        limits = (body[name] for name in api.limits if isinstance(body.get(name), int))
        limit = next(limits, None)
        kept, truncated = (acts, False) if limit is None else truncate(acts, limit)
        prompt = sum(count_words(message.words) for message in conversation.messages)
        stream_options = body.get("stream_options") or {}
        return Reply(
            digest=digest(body),
            model=body["model"],
            created=int(self.now().timestamp()),
            acts=kept,
            usage=count_usage(prompt, kept),
            truncated=truncated,
            include_usage=bool(stream_options.get("include_usage")),
            summarize=bool((body.get("reasoning") or {}).get("summary")),
            reasoning_field=faults.reasoning,
        )

    def _send(
        self, api: Api, reply: Reply, faults: Faults, entry: Entry, stream: bool
    ) -> Response:
        error = partial(api.render.error, reply)
        if stream:
            frames = api.render.stream(reply)
            chunks = deliver(frames, faults, self.pace, error)
        else:
            chunks = deliver_document(api.render.document(reply), faults, error)
        media_type = "text/event-stream" if stream else "application/json"
        if faults.broken == "cut":
            return CutShort(watch(entry, chunks, "cut"), media_type=media_type)
        return StreamingResponse(watch(entry, chunks), media_type=media_type)

    async def models(self, request: Request, entry: Entry) -> Response:
        created = int(self.now().timestamp())
        owner = {"object": "model", "created": created, "owned_by": "aqueduct"}
        data = [{"id": model, **owner} for model in MODELS]
        return JSONResponse({"object": "list", "data": data})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def document(self, request: Request) -> Response:
        """A Markdown file the agent has cited; only those it searches are served."""
        text = self.docs.files.get(request.path_params["path"])
        if text is None:
            return PlainTextResponse("There is no such document.", 404)
        return PlainTextResponse(text)

    async def show_requests(self, request: Request) -> Response:
        last = request.query_params.get("last", "")
        count = int(last) if last.isdecimal() else KEPT_REQUESTS
        return JSONResponse({"requests": self.journal.last(count)})

    async def reset_requests(self, request: Request) -> Response:
        self.journal.reset()
        return JSONResponse({"status": "ok"})

    def _has_key(self, request: Request) -> bool:
        if self.key is None:
            return True
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self.key}".encode())


class CutShort(StreamingResponse):
    """A stream whose end is never sent, so that the server drops the connection."""

    async def stream_response(self, send: Send) -> None:
        async def send_all_but_the_end(message: Message) -> None:
            if message["type"] != "http.response.body" or message["more_body"]:
                await send(message)

        await super().stream_response(send_all_but_the_end)


async def read_body(request: Request) -> dict[str, Any]:
    """The request's JSON object; raises `BadRequest` for anything else."""
    try:
        body = await request.json()
    except ValueError as error:
        raise BadRequest("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def streaming(body: dict[str, Any], faults: Faults) -> bool:
    """Whether to stream; `/plain` answers a streaming request with plain JSON."""
    return bool(body.get("stream")) and not faults.plain


def digest(body: dict[str, Any]) -> str:
    """A short hash of what is asked, the same whether it is streamed or not."""
    asked = {key: body.get(key) for key in ("model", "messages", "input", "tools")}
    data = json.dumps(asked, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:12]


def failure(status: int) -> Response:
    """The error response for one of the statuses which can be asked for."""
    code, message = FAILURES[status]
    return problem(status, code, message)


def problem(status: int, code: str, message: str) -> Response:
    """An error in the shape both APIs share."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    headers = {"retry-after": str(RETRY_AFTER)} if status == 429 else None
    return JSONResponse({"error": error}, status, headers)
