"""Coding agents that speak ACP."""

from typing import Any, Literal
from weakref import WeakSet

from pydantic import Field

from shared.agents.kinds.programs import WORKSPACES, ProgramAgent
from shared.backends.acp import AcpBackend
from shared.backends.acp_pool import AcpPool
from shared.backends.acp_sessions import AcpSettings
from shared.backends.base import Backend
from shared.host.database import data_folder
from shared.host.resources import shared_resource
from shared.host.shutdown import at_shutdown


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
