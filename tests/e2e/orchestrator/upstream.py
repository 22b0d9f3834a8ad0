"""An OpenAI-compatible server in this process, whose models do what a test says.

A model calls tools where the user's message is the name of a script, and answers with
its own name and the last line it was told otherwise. A `slow` model writes its first
words and then waits until it is let go; a `broken` one fails.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

Result = dict[str, Any]
# The arguments of a call, given the results of those before it.
Arguments = Mapping[str, Any] | Callable[[list[Result]], Mapping[str, Any]]
Call = tuple[str, Arguments]

MODELS = ("conductor", "luna", "sol", "mira", "slow", "secret", "deep", "broken")
TOKENS = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
PATIENCE = 60


@dataclass
class Script:
    """Rounds of calls, and what is said at the end, given all results."""

    rounds: Sequence[Sequence[Call]]
    closing: Callable[[list[Result]], str] = lambda results: json.dumps(results)


@dataclass
class Upstream:
    """`requests` are the bodies of all requests for answers, by model, oldest first.

    `replies` are answers by model and last line; `title` is what chats get.
    """

    url: str = ""
    scripts: dict[str, Script] = field(default_factory=dict)
    replies: dict[tuple[str, str], str] = field(default_factory=dict)
    title: str = "A chat"
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        """Forget scripts and requests; slow models are held again."""
        self.let_go.set()
        self.let_go = threading.Event()
        self.scripts.clear()
        self.replies.clear()
        self.requests.clear()

    def heard(self, model: str) -> list[list[dict[str, Any]]]:
        """The messages of each request to a model."""
        return [body["messages"] for name, body in self.requests if name == model]

    def reply(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The deltas of an answer."""
        asked, results = last_turn(body["messages"])
        script = self.scripts.get(last_line(asked))
        if script and body.get("tools"):
            yield from play(script, results)
            return
        if body["model"] == "slow":
            yield {"content": "One moment"}
            self.let_go.wait(PATIENCE)
        model, line = str(body["model"]), last_line(asked)
        said = f"{model.capitalize()} says: {line}"
        yield {"content": self.replies.get((model, line), said)}


def play(script: Script, results: list[Result]) -> Iterator[dict[str, Any]]:
    """The next round of calls, or the end."""
    begun = 0
    for calls in script.rounds:
        if begun == len(results):
            made = [as_call(place, each, results) for place, each in enumerate(calls)]
            yield {"tool_calls": made}
            return
        begun += len(calls)
    yield {"content": script.closing(results)}


def as_call(place: int, call: Call, results: list[Result]) -> dict[str, Any]:
    name, arguments = call
    given = arguments(results) if callable(arguments) else arguments
    function = {"name": name, "arguments": json.dumps(given)}
    return {
        "index": place,
        "id": f"call_{uuid4().hex}",
        "type": "function",
        "function": function,
    }


def last_turn(messages: Sequence[dict[str, Any]]) -> tuple[str, list[Result]]:
    """The user's last words, and the results of tools since."""
    results: list[Result] = []
    for message in reversed(messages):
        if message["role"] == "user":
            return text_of(message), results[::-1]
        if message["role"] == "tool":
            results.append(json.loads(text_of(message)))
    return "", results


def text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return str(content)


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].strip()


class Handler(BaseHTTPRequestHandler):
    """The two routes of the API that Open WebUI calls."""

    upstream: Upstream

    def do_GET(self) -> None:
        listed = [{"id": name, "object": "model"} for name in MODELS]
        listed[1]["context_length"] = 32_768
        self.answer_json({"object": "list", "data": listed})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.upstream.requests.append((body["model"], body))
        if body["model"] == "broken":
            self.answer_json({"error": {"message": "out of memory"}}, status=500)
            return
        if body.get("stream"):
            self.answer_stream(body)
            return
        # Whoever wants no stream wants a title, tags or proposed questions.
        task = {"title": self.upstream.title, "tags": [], "follow_ups": []}
        message = {"role": "assistant", "content": json.dumps(task)}
        self.answer_json({"choices": [{"index": 0, "message": message}]})

    def answer_json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer_stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for delta in self.upstream.reply(body):
                self.send_event({"choices": [{"index": 0, "delta": delta}]})
            end = {"index": 0, "delta": {}, "finish_reason": "stop"}
            self.send_event({"choices": [end], "usage": TOKENS})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            return  # who asked has hung up

    def send_event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep quiet."""


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    """The server, on a free port, until the block ends."""
    upstream = Upstream()
    handler = type("BoundHandler", (Handler,), {"upstream": upstream})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        upstream.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield upstream
        finally:
            upstream.let_go.set()
            server.shutdown()
            thread.join()
