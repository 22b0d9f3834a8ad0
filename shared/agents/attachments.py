"""Files that an agent makes, as attachments of its answer."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from shared.backends.transcript import turn_file
from shared.events import AgentEvent, FileOutput
from shared.host.files import save_user_file

MAX_FILE_BYTES = 20 * 1024 * 1024


async def store_files(
    events: AsyncGenerator[AgentEvent, None], request: Any, user: Mapping[str, Any]
) -> AsyncGenerator[AgentEvent, None]:
    """The events, the files among them put into Open WebUI's storage.

    Images stay as they are, since Open WebUI stores those itself. A file that it does
    not take, or of over 20 MiB, is left out.
    """
    async with aclosing(events):
        async for event in events:
            if isinstance(event, FileOutput) and is_inline_file(event):
                stored = await stored_file(event, request, user)
                if stored is not None:
                    yield stored
            else:
                yield event


def is_inline_file(file: FileOutput) -> bool:
    return file.url.startswith("data:") and not file.mime_type.startswith("image/")


async def stored_file(
    file: FileOutput, request: Any, user: Mapping[str, Any]
) -> FileOutput | None:
    """The same file, with its id in the storage."""
    read = turn_file(file.name or "file", file.url)
    data = await asyncio.to_thread(read.read)
    if data is None or len(data) > MAX_FILE_BYTES:
        return None
    file_id = await save_user_file(request, user, read.name, file.mime_type, data)
    if file_id is None:
        return None
    return replace(file, name=read.name, file_id=file_id, size=len(data))
