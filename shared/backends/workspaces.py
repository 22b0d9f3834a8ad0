"""The folder an agent works in: what goes in, and what comes out of it."""

import contextlib
import hashlib
import mimetypes
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.backends.encoding import encode_base64
from shared.events import FileOutput

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# What tools keep for themselves; nobody wants it as attachments.
PASSED_OVER = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
MAX_FILES_SEEN = 5_000
MAX_FILES_OUT = 10
MAX_BYTES_OUT = 10 * 1024 * 1024

# Path from the workspace -> (time of the last change in ns, size in bytes).
Snapshot = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder to work in. Everything here blocks: call it in a thread.

    A `temporary` one belongs to a single turn, which removes it at its end.
    """

    folder: Path
    temporary: bool = False

    @classmethod
    def of_chat(cls, root: Path, user_id: str, chat_id: str) -> "Workspace":
        """The folder of this user's chat, made when it is not there.

        What belongs to no chat, or to one that is not saved, has a temporary one.
        """
        temporary = not is_lasting_chat(chat_id)
        place = f"turn-{uuid.uuid4().hex}" if temporary else folder_name(chat_id)
        folder = root / folder_name(user_id) / place
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(folder, temporary)

    def leave(self) -> None:
        """Remove a temporary folder with all that is in it; others stay."""
        if self.temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def save(self, name: str, data: bytes) -> Path:
        """Put a file in under its name, or under one like it when that is taken."""
        stem, ending = os.path.splitext(file_name(name))
        for number in range(1, MAX_FILES_SEEN):
            shown = f"{stem}-{number}" if number > 1 else stem
            path = self.folder / f"{shown}{ending}"
            try:
                # "x" makes a new file, so it follows no link out of the folder.
                with path.open("xb") as file:
                    file.write(data)
                return path
            except FileExistsError:
                if read_plain_file(path, len(data)) == data:
                    return path
        raise FileExistsError(self.folder / file_name(name))

    def snapshot(self) -> Snapshot:
        """The files there are now."""
        return dict(plain_files(self.folder))

    def made_since(self, before: Snapshot) -> list[FileOutput]:
        """Files that are new or changed; where there is no room, their names alone."""
        outputs: list[FileOutput] = []
        left_out: list[FileOutput] = []
        room = MAX_BYTES_OUT
        for name, seen in sorted(plain_files(self.folder)):
            if before.get(name) == seen:
                continue
            if len(outputs) == MAX_FILES_OUT or seen[1] > room:
                left_out.append(FileOutput("", "", name, size=seen[1]))
                continue
            data = read_plain_file(self.folder / name, room)
            if data is not None:
                room -= len(data)
                outputs.append(file_output(name, data))
        return [*outputs, *left_out]


def is_lasting_chat(chat_id: str) -> bool:
    """Whether this is a chat of its own: no temporary one, and no channel.

    Those have ids like `temporary:…`, and another temporary chat may get the same.
    """
    return bool(chat_id) and ":" not in chat_id


def folder_name(identifier: str) -> str:
    """An id as the name of a folder; what could be a path or is odd gets a hash."""
    if PLAIN_NAME.fullmatch(identifier):
        return identifier
    return "x" + hashlib.sha256(identifier.encode("utf-8", "replace")).hexdigest()[:40]


def file_name(name: str) -> str:
    """A user's file name without folders, never a hidden file's, of 200 bytes at most."""
    plain = re.sub(r"[\x00-\x1f\x7f]", "", re.split(r"[/\\]", name)[-1])
    short = plain.encode("utf-8", "replace")[-200:].decode("utf-8", "ignore")
    return short.strip().lstrip(".") or "file"


def plain_files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Files below a folder with time and size: no links, nothing hidden."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if n[0] != "." and n not in PASSED_OVER]
        for name in names:
            seen += 1
            if seen > MAX_FILES_SEEN:
                return
            if name.startswith("."):
                continue
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                facts = os.lstat(path)
                if stat.S_ISREG(facts.st_mode):
                    found = (facts.st_mtime_ns, facts.st_size)
                    yield os.path.relpath(path, folder), found


def read_plain_file(path: Path, limit: int) -> bytes | None:
    """A file's bytes; None for a link, a device, or more than `limit` bytes."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(opened, "rb") as file:
        data = file.read(limit + 1)
    return data if len(data) <= limit else None


def file_output(name: str, data: bytes) -> FileOutput:
    """A file as an attachment of the answer."""
    mime_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    url = f"data:{mime_type};base64,{encode_base64(data)}"
    return FileOutput(url=url, mime_type=mime_type, name=name, size=len(data))
