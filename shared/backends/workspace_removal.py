"""The workspaces of chats that are gone. Everything here blocks: call it in a thread.

What is removed lies where `Workspace.of_chat` puts it, under the name it gives, and
is reached folder by folder from the root: a link in place of a folder is no folder.
"""

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.backends.workspaces import folder_name

# Open WebUI's own ids. A folder of another name is none that a look-up could tell of.
CHAT_FOLDER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def chats_with_workspaces(root: Path) -> set[str]:
    """The ids of the chats that have a workspace, whoever's it is."""
    names = {name for folder in user_folders(root) for name in os.listdir(folder)}
    return {name for name in names if CHAT_FOLDER.fullmatch(name)}


def remove_workspaces(root: Path, chat_ids: Collection[str]) -> None:
    """Remove all users' workspaces of these chats."""
    names = {folder_name(chat_id) for chat_id in chat_ids if chat_id}
    for folder in user_folders(root):
        for name in names & set(os.listdir(folder)):
            shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


def remove_workspaces_of(root: Path, user_id: str) -> None:
    """Remove all workspaces of this user."""
    if user_id:
        with suppress(OSError), opened_folder(root) as folder:
            shutil.rmtree(folder_name(user_id), ignore_errors=True, dir_fd=folder)


def user_folders(root: Path) -> Iterator[int]:
    """A file descriptor of each user's folder, open until the next is asked for."""
    with suppress(OSError), opened_folder(root) as above:
        for name in os.listdir(above):
            with suppress(OSError), opened_folder(name, above) as folder:
                yield folder


@contextmanager
def opened_folder(path: Path | str, above: int | None = None) -> Iterator[int]:
    """A file descriptor of a folder; OSError where there is none, or a link to one.

    The root alone may be a link: an admin may have put it on another disk.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if above is not None else 0)
    folder = os.open(path, flags, dir_fd=above)
    try:
        yield folder
    finally:
        os.close(folder)
