"""The processes that live because of an agent that this test run started."""

import asyncio
from collections.abc import Callable

import psutil

from shared.backends.processes import marked_processes, server_mark
from tests.unit.backends.upstream import PATIENCE

OURS = server_mark()


def processes(word: str = "", mark: str = OURS) -> list[int]:
    """Their ids; those with `word` in their command."""
    return [
        process.pid
        for process, its_mark in marked_processes()
        if its_mark.startswith(mark) and word in command_of(process)
    ]


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


async def until(condition: Callable[[], object]) -> None:
    """Wait for what other processes do."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - they set no event
            await asyncio.sleep(0.02)
