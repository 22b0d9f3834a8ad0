"""Telling an agent to stop, from a generator that is itself being cancelled."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from shared.errors import AqueductError

CANCEL_SECONDS = 5.0

cancel_log = logging.getLogger("aqueduct.cancel")
# asyncio keeps no task alive by itself.
running_cancels: set["asyncio.Task[None]"] = set()


async def run_cancel(cancel: Coroutine[Any, Any, None]) -> None:
    """Run a backend's own cancel to its end or its time limit; never raises for it.

    For the `finally` of a run that did not end by itself. It is a task of its own,
    since anyio cancels every further `await` of a scope that was cancelled: then
    this returns at once and the task goes on.
    """
    task = asyncio.create_task(bounded_cancel(cancel))
    running_cancels.add(task)
    task.add_done_callback(running_cancels.discard)
    await asyncio.shield(task)


async def bounded_cancel(cancel: Coroutine[Any, Any, None]) -> None:
    """The cancel itself; what fails in it is logged."""
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await cancel
    except TimeoutError:
        cancel_log.warning("An agent did not stop within %g s", CANCEL_SECONDS)
    except (AqueductError, OSError) as error:
        cancel_log.warning("An agent could not be told to stop: %r", error)
