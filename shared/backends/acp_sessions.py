"""Starting ACP agents, and opening their sessions.

Format: Agent Client Protocol, version 1, "Initialization" and "Session Setup".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.backends.acp_pool import AcpAgentProcess
from shared.backends.acp_prompt import selectable, selection
from shared.backends.acp_wire import AcpConnection, AcpRefused, as_object
from shared.backends.base import Turn
from shared.backends.cancelling import run_cancel
from shared.backends.http import Timeouts
from shared.backends.processes import AgentProcess, Program
from shared.errors import UpstreamBroken

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
