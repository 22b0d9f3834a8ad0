"""Files in Open WebUI's storage."""

import asyncio
import io
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.host.users import user_model


@dataclass(frozen=True, slots=True)
class UserFile:
    """A stored file; `data` is None where it is larger than it may be."""

    name: str
    mime_type: str
    data: bytes | None = field(repr=False)


async def read_user_file(
    file_id: str, user: Mapping[str, Any], limit: int
) -> UserFile | None:
    """A stored file of at most `limit` bytes that this user may read.

    None where there is no such file, or it is not this user's to read.
    """
    from open_webui.models.files import Files
    from open_webui.storage.provider import Storage
    from open_webui.utils.access_control.files import has_access_to_file

    file = await Files.get_file_by_id(file_id)
    if file is None:
        return None
    person = user_model(user)
    if file.user_id != person.id and not await has_access_to_file(
        file.id, "read", person
    ):
        return None
    path = Path(await asyncio.to_thread(Storage.get_file, file.path))
    try:
        data = await asyncio.to_thread(read_within, path, limit)
    except OSError:
        return None
    mime = (file.meta or {}).get("content_type") or mimetypes.guess_type(path.name)[0]
    return UserFile(file.filename, mime or "application/octet-stream", data)


def read_within(path: Path, limit: int) -> bytes | None:
    """The file's bytes, or None where it is larger than `limit`."""
    return path.read_bytes() if path.stat().st_size <= limit else None


async def save_user_file(
    request: Any, user: Mapping[str, Any], name: str, mime_type: str, data: bytes
) -> str | None:
    """Store a file for this user and give its id; its text is not extracted.

    None where Open WebUI does not take it: it is empty, or larger than the admin
    allows.
    """
    from fastapi import HTTPException, UploadFile
    from open_webui.routers.files import upload_file_handler
    from starlette.datastructures import Headers

    headers = Headers({"content-type": mime_type})
    upload = UploadFile(io.BytesIO(data), filename=name, headers=headers)
    if not data:
        return None
    try:
        stored = await upload_file_handler(
            request, file=upload, metadata={}, process=False, user=user_model(user)
        )
    except HTTPException:
        return None
    return str(stored.id)
