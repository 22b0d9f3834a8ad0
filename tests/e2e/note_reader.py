"""A model that reads its notes: it answers with what the user said in them.

It speaks as much of Chat Completions as the memory's browser tests need.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NOTE = re.compile(r"--- (?P<day>[^,]+), .*? ---\n[^:]+: (?P<said>.*)")


class NoteReader:
    """Started by `with`; `url` is its base URL without /v1."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> NoteReader:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def answer_to(text: str) -> str:
    """What it says to a user message, notes included, or to an errand."""
    if "### Task" in text:
        return json.dumps({"title": "In the garden", "tags": [], "follow_ups": []})
    note = NOTE.search(text)
    if note is None:
        return "How lovely. I will keep that in mind."
    return f"You told me on {note['day']}: “{note['said']}”"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        text = answer_to(str(body["messages"][-1]["content"]))
        if body.get("stream"):
            self._send("text/event-stream", "".join(map(_line, _chunks(text))))
        else:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send("application/json", json.dumps({"choices": [choice]}))

    def _send(self, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _chunks(text: str) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"content": text}, {}]
    return [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in zip(deltas, (None, "stop"), strict=True)
    ]


def _line(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"
