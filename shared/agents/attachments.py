"""Files of the user for an agent, and files that an agent makes."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from shared.backends.encoding import encode_base64
from shared.backends.transcript import turn_file
from shared.events import AgentEvent, FileOutput, Finished, Status
from shared.host.files import read_user_file, save_user_file
from shared.texts import Sentence

MAX_FILES_MIB = 20
MAX_FILES_BYTES = MAX_FILES_MIB * 1024 * 1024
MAX_NAMES_SHOWN = 5


async def attach_files(
    body: Mapping[str, Any], metadata: Mapping[str, Any], user: Mapping[str, Any]
) -> tuple[dict[str, Any], bool]:
    """The request with the user's files as `file` parts of the last user message.

    Format: OpenAI API reference, file inputs: {type: file, file: {filename,
    file_data: data URL}}. The text that Open WebUI extracted from them is left out.
    The request stays as it is where a file is gone, and where the files are over
    20 MiB together, which the second value tells.
    """
    parts: list[dict[str, Any]] = []
    room = MAX_FILES_BYTES
    for entry in metadata.get("files") or ():
        file_id = entry.get("id") or (entry.get("file") or {}).get("id")
        if entry.get("type") != "file" or not file_id:
            continue
        found = await read_user_file(file_id, user, room)
        if found is None or found.data is None:
            return dict(body), found is not None
        room -= len(found.data)
        encoded = await asyncio.to_thread(encode_base64, found.data)
        url = f"data:{found.mime_type};base64,{encoded}"
        file = {"filename": found.name, "file_data": url}
        parts.append({"type": "file", "file": file})
    said = (metadata.get("user_message") or {}).get("content")
    messages = [dict(message) for message in body.get("messages") or ()]
    for message in reversed(messages):
        if message.get("role") == "user" and parts:
            content = message.get("content") or ""
            if isinstance(content, str):
                content = [{"type": "text", "text": content}]
            if isinstance(said, str):
                content = [with_text(part, said) for part in content]
            message["content"] = [*content, *parts]
            break
    return {**body, "messages": messages}, False


def with_text(part: Mapping[str, Any], text: str) -> Mapping[str, Any]:
    """A text part with other text; parts of other kinds as they are."""
    return {**part, "text": text} if part.get("type") == "text" else part


class FileStorage:
    """Puts the files of a turn's answer into Open WebUI's storage.

    Images stay as they are, since Open WebUI stores those itself. A file that it does
    not take, of over 20 MiB, or for which the agent's folder had no room, is left out,
    and a line at the end tells its name.
    """

    def __init__(
        self, request: Any, user: Mapping[str, Any], sentence: Sentence
    ) -> None:
        self._request = request
        self._user = user
        self._sentence = sentence
        self._left_out: list[str] = []

    async def take(self, event: AgentEvent) -> list[AgentEvent]:
        """What is shown for this event."""
        if isinstance(event, FileOutput) and must_be_stored(event):
            if stored := await stored_file(event, self._request, self._user):
                return [stored]
            if not event.url.endswith(","):  # nobody misses an empty file
                self._left_out.append(event.name)
            return []
        if isinstance(event, Finished) and self._left_out:
            names = {"names": shown_names(self._left_out)}
            told = Status(self._sentence("files_left_out", names), done=True)
            return [told, event]
        return [event]


def must_be_stored(file: FileOutput) -> bool:
    """Whether Open WebUI would not store a file by itself, or there is none."""
    inline = file.url.startswith("data:")
    return not file.url or (inline and not file.mime_type.startswith("image/"))


def shown_names(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    more = len(names) - MAX_NAMES_SHOWN
    shown = ", ".join(names[:MAX_NAMES_SHOWN])
    return f"{shown}, … (+{more})" if more > 0 else shown


async def stored_file(
    file: FileOutput, request: Any, user: Mapping[str, Any]
) -> FileOutput | None:
    """The same file, with its id in the storage."""
    read = turn_file(file.name or "file", file.url)
    data = await asyncio.to_thread(read.read)
    if data is None or len(data) > MAX_FILES_BYTES:
        return None
    file_id = await save_user_file(request, user, read.name, file.mime_type, data)
    if file_id is None:
        return None
    return replace(file, name=read.name, file_id=file_id, size=len(data))
