"""The real agents that tests talk to, all of them with a scripted model behind.

`python -m devkit programs` installs them; each lives in a temporary folder, on a free
port, and ends with the test run.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from devkit.process import Child, free_port
from devkit.programs import INSTALL, NODE, NPM_PROGRAMS, PROGRAMS
from tests.e2e.backends.script import SCRIPT, Fixture

SERVERS = Path(__file__).parent / "servers"
PATH = f"{NODE}:/usr/local/bin:/usr/bin:/bin"
START_SECONDS = 120


def installed(path: Path) -> str:
    """The path of an installed program; skips the test when it is missing."""
    if not path.exists():
        pytest.skip(f"needs {path.name}: {INSTALL}")
    return str(path)


@contextmanager
def serving(
    name: str,
    command: list[str],
    folder: Path,
    port: int,
    ready: str,
    env: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run a server in `folder` until the block ends; gives its address once `ready`,
    a path, answers."""
    url = f"http://127.0.0.1:{port}"
    quiet = {"HOME": str(folder), "PATH": PATH, "NO_PROXY": "127.0.0.1,localhost"}
    child = Child(
        name, command, folder / "server.log", env={**quiet, **(env or {})}, cwd=folder
    )
    try:
        with httpx.Client(trust_env=False, timeout=5) as client:
            child.wait_until(
                lambda: answers(client, url + ready), seconds=START_SECONDS
            )
        yield url
    finally:
        child.stop()


def answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False


class ScriptedUpstream:
    """aimock: Chat Completions, Responses, Messages and Gemini's API by a script.

    `url` has no path; OpenAI's APIs are below `url`/v1. The script is script.py's;
    `add` puts an answer before it, `reset` takes those away and empties the journal.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=10)
        self._added: list[Fixture] = []
        self.reset()

    def add(self, *fixtures: Fixture) -> None:
        """Answer by these first."""
        self._added[:0] = fixtures
        self._write()

    def reset(self) -> None:
        """Back to the script alone, with nothing asked yet."""
        self._added.clear()
        self._client.post("/__aimock/reset", json={}).raise_for_status()
        self._write()

    def journal(self) -> list[dict[str, Any]]:
        """What it was asked, oldest first: each with `path` and `body`."""
        return list(self._client.get("/__aimock/journal").raise_for_status().json())

    def asked_last(self) -> str:
        """What it was told last, as a text to search in."""
        return str(self.journal()[-1]["body"])

    def _write(self) -> None:
        script = {"fixtures": [*self._added, *SCRIPT]}
        self._client.delete("/__aimock/fixtures").raise_for_status()
        self._client.post("/__aimock/fixtures", json=script).raise_for_status()


@contextmanager
def scripted_model(folder: Path) -> Iterator[ScriptedUpstream]:
    """Run the scripted model."""
    port = free_port()
    fixtures = folder / "script.json"
    fixtures.write_text(json.dumps({"fixtures": SCRIPT}))
    command = [installed(NPM_PROGRAMS / "llmock"), "--port", str(port)]
    command += ["--fixtures", str(fixtures), "--log-level", "warn"]
    with serving(
        "The scripted model", command, folder, port, "/__aimock/health"
    ) as url:
        yield ScriptedUpstream(url)


@contextmanager
def langgraph(folder: Path, upstream: ScriptedUpstream) -> Iterator[str]:
    """Run a LangGraph server with the graphs of servers/langgraph/."""
    program = installed(PROGRAMS / "langgraph" / "bin" / "langgraph")
    shutil.copytree(SERVERS / "langgraph", folder, dirs_exist_ok=True)
    port = free_port()
    command = [program, "dev", "--port", str(port), "--no-browser", "--no-reload"]
    env = {
        "UPSTREAM": upstream.url,
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "LANGSMITH_TRACING": "false",
    }
    with serving("LangGraph", command, folder, port, "/ok", env) as url:
        yield url


@dataclass(frozen=True)
class A2AServer:
    """One A2A agent behind four cards, each saying one way to reach it.

    The addresses are base URLs of cards: `jsonrpc` and `rest` speak 1.0, `v03` and
    `v03rest` have a card of 0.3 and speak that.
    """

    url: str

    @property
    def jsonrpc(self) -> str:
        return f"{self.url}/jsonrpc"

    @property
    def rest(self) -> str:
        return f"{self.url}/rest"

    @property
    def v03(self) -> str:
        return f"{self.url}/v03"

    @property
    def v03rest(self) -> str:
        return f"{self.url}/v03rest"

    def tasks(self) -> list[dict[str, Any]]:
        """What it was told and how that ended: {id, context, text, ended}, oldest first."""
        answer = httpx.get(f"{self.url}/tasks", trust_env=False)
        return list(answer.raise_for_status().json())


@contextmanager
def a2a(folder: Path, upstream: ScriptedUpstream) -> Iterator[A2AServer]:
    """Run servers/a2a_server.py, with the library of the tests' own environment."""
    pytest.importorskip("a2a", reason="needs a2a-sdk: pip install a2a-sdk")
    port = free_port()
    command = [sys.executable, str(SERVERS / "a2a_server.py"), str(port), upstream.url]
    with serving("The A2A agent", command, folder, port, "/tasks") as url:
        yield A2AServer(url)


@contextmanager
def agui(folder: Path, upstream: ScriptedUpstream) -> Iterator[str]:
    """Run servers/agui_server.py; the address takes POSTs of runs."""
    python = installed(PROGRAMS / "agui" / "bin" / "python")
    port = free_port()
    command = [python, str(SERVERS / "agui_server.py"), str(port), upstream.url]
    with serving("The AG-UI agent", command, folder, port, "/runs") as url:
        yield f"{url}/"


@contextmanager
def adk(folder: Path, upstream: ScriptedUpstream) -> Iterator[str]:
    """Run Google's ADK server with the app `scripted`."""
    program = installed(PROGRAMS / "adk" / "bin" / "adk")
    apps = shutil.copytree(SERVERS / "adk", folder / "apps")
    port = free_port()
    command = [program, "api_server", "--host", "127.0.0.1", "--port", str(port)]
    env = {"GOOGLE_API_KEY": "x", "GOOGLE_GEMINI_BASE_URL": upstream.url}
    with serving("ADK", [*command, str(apps)], folder, port, "/list-apps", env) as url:
        yield url


@dataclass(frozen=True)
class CommandLine:
    """A command-line agent with a home folder of its own, set up for the script.

    `acp` starts it as an ACP server, `program` is the bare program. `env` is all of
    its environment.
    """

    name: str
    acp: tuple[str, ...]
    program: str
    home: Path
    env: Mapping[str, str] = field(default_factory=dict)


def command_line(name: str, home: Path, upstream: ScriptedUpstream) -> CommandLine:
    """Prepare `gemini`, `claude`, `opencode` or `codex`; skips where it is missing."""
    home.mkdir(parents=True)
    prepare = {
        "gemini": gemini,
        "claude": claude,
        "opencode": opencode,
        "codex": codex,
    }[name]
    acp, env = prepare(home, upstream.url)
    usual = {"PATH": PATH, "HOME": str(home), "NO_PROXY": "127.0.0.1,localhost"}
    program = installed(NPM_PROGRAMS / name)
    return CommandLine(name, acp, program, home, {**usual, **env})


Prepared = tuple[tuple[str, ...], dict[str, str]]


def gemini(home: Path, upstream: str) -> Prepared:
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"enableAutoUpdate": False},
        "privacy": {"usageStatisticsEnabled": False},
    }
    write_json(home / ".gemini" / "settings.json", settings)
    program = installed(NPM_PROGRAMS / "gemini")
    return (program, "--acp", "-m", "gemini-2.5-flash"), {
        "GEMINI_API_KEY": "x",
        "GOOGLE_GEMINI_BASE_URL": upstream,
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "NO_COLOR": "1",
    }


def claude(home: Path, upstream: str) -> Prepared:
    return (installed(NPM_PROGRAMS / "claude-agent-acp"),), {
        "ANTHROPIC_BASE_URL": upstream,
        "ANTHROPIC_API_KEY": "sk-ant-scripted",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # Without it the program will not skip permissions for root, who runs CI.
        "IS_SANDBOX": "1",
    }


def opencode(home: Path, upstream: str) -> Prepared:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "scripted",
        "options": {"baseURL": f"{upstream}/v1", "apiKey": "x"},
        "models": {"gpt-4o-mini": {"name": "scripted"}},
    }
    settings = {
        "$schema": "https://opencode.ai/config.json",
        "model": "scripted/gpt-4o-mini",
        "small_model": "scripted/gpt-4o-mini",
        "autoupdate": False,
        "share": "disabled",
        "provider": {"scripted": provider},
        "permission": {"bash": "ask"},
    }
    write_json(home / ".config" / "opencode" / "opencode.json", settings)
    return (installed(NPM_PROGRAMS / "opencode"), "acp"), {}


def codex(home: Path, upstream: str) -> Prepared:
    config = home / ".codex" / "config.toml"
    config.parent.mkdir()
    config.write_text(f"""model = "gpt-5-codex"
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "{upstream}/v1"
wire_api = "responses"
env_key = "SCRIPTED_KEY"
""")
    return (installed(NPM_PROGRAMS / "codex-acp"),), {"SCRIPTED_KEY": "x"}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
