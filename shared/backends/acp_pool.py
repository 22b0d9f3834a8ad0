"""The processes of ACP agents: kept warm between turns, and never too many."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from shared.backends.acp_wire import AcpConnection
from shared.backends.processes import end_orphans
from shared.backends.workspaces import Workspace
from shared.errors import UpstreamError


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
