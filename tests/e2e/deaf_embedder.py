"""An embedding service that takes every question and answers none."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class DeafEmbedder:
    """Started by `with`; `asked` is set once somebody has asked."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._over = threading.Event()
        asked, over = self.asked, self._over

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.set()
                over.wait()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> DeafEmbedder:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
