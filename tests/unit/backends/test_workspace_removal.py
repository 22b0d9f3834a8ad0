"""The workspaces of chats that are gone: those are removed, and nothing else."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from shared.backends.workspace_removal import (
    chats_with_workspaces,
    remove_workspaces,
    remove_workspaces_of,
)
from shared.backends.workspaces import Workspace

GONE, KEPT = str(uuid4()), str(uuid4())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspaces"


def work(root: Path, user: str, chat: str) -> Path:
    """A workspace with something in it."""
    workspace = Workspace.of_chat(root, user, chat)
    workspace.save("notes.txt", b"plum")
    (workspace.folder / "deep" / "deeper").mkdir(parents=True)
    return workspace.folder


def test_a_chats_workspaces_go_and_others_stay(root: Path):
    gone = [work(root, user, GONE) for user in ("ada", "bob")]
    kept = [work(root, "ada", KEPT), work(root, "ada", "")]
    assert chats_with_workspaces(root) == {GONE, KEPT}
    remove_workspaces(root, [GONE])
    assert [folder.exists() for folder in gone] == [False, False]
    assert [folder.exists() for folder in kept] == [True, True]


@pytest.mark.parametrize("chat", ["../bob", "a/b", "ä" * 300])
def test_ids_that_are_no_names_are_found_again(root: Path, chat: str):
    folder = work(root, "ada", chat)
    other = work(root, "bob", KEPT)
    # Nobody can be asked whether such a chat is there.
    assert chats_with_workspaces(root) == {KEPT}
    remove_workspaces(root, [chat])
    assert not folder.exists()
    assert other.exists()


def test_a_users_workspaces_go(root: Path):
    folders = [work(root, "ada", GONE), work(root, "ada", "")]
    other = work(root, "bob", GONE)
    remove_workspaces_of(root, "ada")
    assert [folder.exists() for folder in folders] == [False, False]
    assert other.exists()


@pytest.mark.parametrize("nothing", ["", ".", ".."])
def test_an_id_that_is_none_removes_nothing(root: Path, nothing: str):
    folder = work(root, "ada", KEPT)
    remove_workspaces(root, [nothing])
    remove_workspaces_of(root, nothing)
    assert folder.exists()


def test_links_are_not_followed(root: Path, tmp_path: Path):
    precious = tmp_path / "precious"
    (precious / GONE).mkdir(parents=True)
    (precious / "papers.txt").write_text("plum")
    folder = work(root, "ada", GONE)
    (folder / "out").symlink_to(precious)
    (root / "bob").symlink_to(precious)
    (root / "third").mkdir()
    (root / "third" / GONE).symlink_to(precious)
    remove_workspaces(root, [GONE])
    remove_workspaces_of(root, "bob")
    assert not folder.exists()
    assert (precious / GONE).is_dir()
    assert (precious / "papers.txt").read_text() == "plum"


def test_the_root_itself_may_lie_elsewhere(root: Path, tmp_path: Path):
    (tmp_path / "disk").mkdir()
    root.symlink_to(tmp_path / "disk")
    folder = work(root, "ada", GONE)
    remove_workspaces(root, [GONE])
    assert not folder.exists()


def test_where_no_agent_ever_worked_nothing_happens(root: Path):
    remove_workspaces(root, [GONE])
    remove_workspaces_of(root, "ada")
    assert chats_with_workspaces(root) == set()
    assert not root.exists()
