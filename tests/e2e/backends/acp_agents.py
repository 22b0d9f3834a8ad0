"""ACP agents in Open WebUI: their entries, and what runs because of them."""

from __future__ import annotations

from typing import Any

import psutil
import yaml

from shared.backends.processes import marked_processes
from tests.e2e.backends.programs import CommandLine

ALLOW_ALL = {"allow": [{"tool": "*"}]}


def acp_entry(line: CommandLine, **more: Any) -> dict[str, Any]:
    """An entry of AGENTS for this program; nobody is asked for permission."""
    return {
        "id": f"acp-{line.name}",
        "name": line.name.title(),
        "backend": "acp",
        "command": list(line.acp),
        "env": dict(line.env),
        "approvals": ALLOW_ALL,
        **more,
    }


def agents_valve(*entries: dict[str, Any]) -> str:
    return yaml.safe_dump(list(entries), sort_keys=False)


def running(line: CommandLine, word: str = "") -> list[int]:
    """What runs because of this agent, with `word` in its command."""
    return [p.pid for p, _ in marked_processes() if is_of(p, str(line.home), word)]


def is_of(process: psutil.Process, home: str, word: str) -> bool:
    try:
        own = process.environ().get("HOME") == home
        return own and word in " ".join(process.cmdline())
    except psutil.Error:
        return False


def sessions(answer: dict[str, Any]) -> list[str]:
    """The ids of the agent's session that an answer has kept."""
    items = answer.get("output") or ()
    return [i["data"]["session_id"] for i in items if "session_id" in i.get("data", {})]
