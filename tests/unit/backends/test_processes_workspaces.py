"""The folder of a chat: what may go in, and what comes out."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shared.backends import workspaces
from shared.backends.workspaces import Workspace, file_name, folder_name
from tests.unit.backends.support import PROPERTY


@PROPERTY
@given(st.text())
def test_no_id_leads_out_of_its_folder(identifier):
    name = folder_name(identifier)
    assert Path("/root", name).parent == Path("/root")
    assert name not in (".", "..")
    assert len(name.encode()) < 100


@PROPERTY
@given(st.text(), st.text())
def test_ids_have_folders_of_their_own(one, other):
    assert (folder_name(one) == folder_name(other)) == (one == other)


@PROPERTY
@given(st.text())
def test_no_file_name_leads_out_or_hides(name):
    safe = file_name(name)
    assert safe
    assert "/" not in safe
    assert "\x00" not in safe
    assert not safe.startswith(".")
    assert len(file_name(name * 50).encode()) <= 200


def test_a_file_never_takes_the_place_of_another(tmp_path):
    workspace = Workspace(tmp_path)
    names = [workspace.save("a.txt", data).name for data in (b"1", b"2", b"1", b"2")]
    assert names == ["a.txt", "a-2.txt", "a.txt", "a-2.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"1"


def test_no_link_is_followed(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("of somebody else")
    workspace = Workspace.of_chat(tmp_path, "ada", "chat")
    os.symlink(outside, workspace.folder / "link.txt")
    os.symlink(tmp_path, workspace.folder / "up")
    os.mkfifo(workspace.folder / "pipe")
    assert workspace.save("link.txt", b"mine").name == "link-2.txt"
    assert outside.read_text() == "of somebody else"
    assert [file.name for file in workspace.made_since({})] == ["link-2.txt"]


def test_what_is_attached_has_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(workspaces, "MAX_BYTES_OUT", 100)
    workspace = Workspace(tmp_path)
    before = workspace.snapshot()
    (tmp_path / "large").write_bytes(b"x" * 101)
    for folder in (".git", "node_modules", "src"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_bytes(b"y")
    for number in range(20):
        (tmp_path / f"small-{number:02}").write_bytes(b"z")
    files = workspace.made_since(before)
    small = [f"small-{number:02}" for number in range(20)]
    assert [file.name for file in files if file.url] == small[:10]
    # Of those without room the name remains, for the user to be told.
    assert [file.name for file in files if not file.url] == [
        "large",
        *small[10:],
        "src/file",
    ]
    assert workspace.made_since(workspace.snapshot()) == []


def test_a_file_that_changed_comes_back(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.save("notes.txt", b"one")
    before = workspace.snapshot()
    (tmp_path / "notes.txt").write_bytes(b"one, two")
    [changed] = workspace.made_since(before)
    assert (changed.name, changed.mime_type, changed.size) == (
        "notes.txt",
        "text/plain",
        8,
    )
