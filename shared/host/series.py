"""A task of a chat that Stop ends, and whatever else knows its kind."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4


async def run_series(
    request: Any, work: Coroutine[Any, Any, None], chat_id: str, kind: str
) -> asyncio.Task[None]:
    """Run a coroutine as a task of this chat, named after its kind."""
    from open_webui.tasks import create_task

    task_id = f"{kind}-{uuid4()}"
    redis = request.app.state.redis
    _, task = await create_task(redis, work, id=chat_id, task_id=task_id)
    return task


async def stop_series(request: Any, chat_id: str, kind: str) -> None:
    """Stop what runs as this kind in a chat, on whatever worker of the server.

    Without Redis, returns when it has ended; with Redis, when the word is sent.
    """
    from open_webui.tasks import list_task_ids_by_item_id, stop_task

    redis = request.app.state.redis
    for task_id in await list_task_ids_by_item_id(redis, chat_id):
        if task_id.startswith(f"{kind}-"):
            await stop_task(redis, task_id)


async def is_global_filter(filter_id: str) -> bool:
    """Whether this filter is at work for all models."""
    from open_webui.models.functions import Functions

    return (filter_id, True) in await Functions.get_active_filter_ids()
