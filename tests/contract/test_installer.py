"""The installer against a real Open WebUI."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from devkit.bundle.suite import build_all, dist_files, write_dist
from devkit.errors import InstallError
from devkit.installer import Change, Installer, State, WebUIClient
from devkit.manifest import Kind, read_manifest
from tests.unit.devkit.project import Project

pytestmark = pytest.mark.contract

PIPE = """
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        size: int = 1
        name: str = ""

    def pipe(self, body: dict) -> str:
        return "{word}"
"""

FILTER = """
class Filter:
    def inlet(self, body: dict) -> dict:
        return body
"""

TOOL = """
class Tools:
    def add(self, a: int, b: int) -> int:
        \"\"\"Adds two numbers.\"\"\"
        return a + b
"""

# Ids of their own, so that the suite itself may be installed on the same server.
ENTRIES: list[dict[str, Any]] = [
    {"id": "test_pipe", "kind": "pipe", "valves": {"size": 2}},
    {"id": "test_filter", "kind": "filter", "global": True, "active": False},
    {"id": "test_tool", "kind": "tool"},
]


class Suite(Project):
    """A suite of three functions that a test can release in new versions."""

    def release(
        self, version: str = "1.0.0", word: str = "one", **changes: Any
    ) -> None:
        sources = {"test_pipe": PIPE.replace("{word}", word), "test_filter": FILTER}
        functions = []
        for entry in ENTRIES:
            id_ = entry["id"]
            self.write(f"functions/{id_}.py", sources.get(id_, TOOL))
            functions.append(
                {
                    "name": id_.replace("_", " ").title(),
                    "source": f"functions/{id_}.py",
                    "dist": f"dist/{id_}.py",
                    "description": f"The {id_} of the tests.",
                }
                | entry
            )
        manifest = {
            "version": version,
            "min_open_webui_version": "0.12.0",
            "tested_open_webui_version": "0.12.4",
            "functions": functions,
        }
        self.write("manifest.json", json.dumps(manifest | changes))
        self.build_dist()

    def build_dist(self) -> None:
        built = build_all(self.root, read_manifest(self.root))
        write_dist(self.root, dist_files(built))

    def text(self, id_: str) -> str:
        return (self.root / f"dist/{id_}.py").read_text()


@pytest.fixture
def admin(openwebui) -> Iterator[WebUIClient]:
    client = WebUIClient(openwebui.url, openwebui.admin_token)
    yield client
    for entry in ENTRIES:
        kind = Kind(entry["kind"])
        if entry["id"] in client.ids(kind):
            client.delete(kind, entry["id"])
    client.close()


@pytest.fixture
def suite(tmp_path, admin) -> Suite:
    suite = Suite(tmp_path)
    suite.release()
    return suite


@pytest.fixture
def install(openwebui, suite):
    def run(*ids: str, force: bool = False) -> dict[str, Change]:
        with connect(openwebui, suite) as installer:
            steps = installer.install(list(ids), force=force)
        return {step.entry.id: step.change for step in steps}

    return run


def connect(openwebui, suite) -> Installer:
    return Installer.connect(openwebui.url, openwebui.admin_token, suite.root)


def test_a_first_installation_sets_valves_and_switches(admin, install, suite):
    assert install() == dict.fromkeys(
        ("test_pipe", "test_filter", "test_tool"), Change.INSTALL
    )
    pipe = admin.get(Kind.PIPE, "test_pipe")
    assert (pipe.is_active, pipe.is_global) == (True, False)
    assert admin.valves(Kind.PIPE, "test_pipe") == {"size": 2}
    filter_ = admin.get(Kind.FILTER, "test_filter")
    assert (filter_.is_active, filter_.is_global) == (False, True)
    assert (filter_.name, filter_.meta["description"]) == (
        "Test Filter",
        "The test_filter of the tests.",
    )
    for kind, id_ in ((Kind.PIPE, "test_pipe"), (Kind.TOOL, "test_tool")):
        assert admin.get(kind, id_).content == suite.text(id_)


def test_a_second_installation_does_nothing(admin, install):
    install()
    before = admin.get(Kind.PIPE, "test_pipe")
    assert set(install().values()) == {Change.NOTHING}
    assert admin.get(Kind.PIPE, "test_pipe") == before


def test_an_update_keeps_what_the_administrator_set(admin, install, suite):
    install()
    admin.set_valves(Kind.PIPE, "test_pipe", {"size": 9, "name": "kept"})
    admin.switch("test_pipe", active=False, global_=False)
    admin.switch("test_filter", active=True, global_=False)
    old = admin.get(Kind.PIPE, "test_pipe")
    admin.update(
        Kind.PIPE,
        {"id": old.id, "name": "Ours", "content": old.content, "meta": old.meta},
    )

    suite.release("1.1.0", word="two")
    assert set(install().values()) == {Change.UPDATE}

    pipe = admin.get(Kind.PIPE, "test_pipe")
    assert pipe.content == suite.text("test_pipe")
    assert (pipe.is_active, pipe.name) == (False, "Ours")
    assert admin.valves(Kind.PIPE, "test_pipe") == {"size": 9, "name": "kept"}
    filter_ = admin.get(Kind.FILTER, "test_filter")
    assert (filter_.is_active, filter_.is_global) == (True, False)


def test_only_the_functions_that_are_named(admin, install):
    assert install("test_tool") == {"test_tool": Change.INSTALL}
    assert "test_pipe" not in admin.ids(Kind.PIPE)


def test_valves_that_no_longer_fit_stop_everything(admin, install, suite):
    install()
    admin.set_valves(Kind.PIPE, "test_pipe", {"size": 9, "name": "kept"})
    before = admin.get(Kind.TOOL, "test_tool")
    suite.release("1.1.0")
    narrower = PIPE.replace("size: int = 1", "size: bool = True")
    suite.write("functions/test_pipe.py", narrower)
    suite.build_dist()
    with pytest.raises(InstallError) as caught:
        install()
    assert str(caught.value).startswith(
        "test_pipe: a stored valve no longer fits: size: Input should be a valid bool"
    )
    assert admin.get(Kind.TOOL, "test_tool") == before


def test_the_server_has_the_last_word_on_valves(admin, install, suite, unloadable_here):
    install()
    admin.set_valves(Kind.PIPE, "test_pipe", {"size": 9})
    unloadable_here("1.1.0", PIPE.replace("size: int = 1", "size: bool = True"))
    with pytest.raises(InstallError) as caught:
        install()
    assert str(caught.value).startswith(
        "Open WebUI says (400): Current Valves are incompatible with this code: size: "
    )


def test_default_valves_that_do_not_fit_are_named(admin, install, suite):
    narrower = PIPE.replace("size: int = 1", "size: bool = True")
    suite.write("functions/test_pipe.py", narrower)
    suite.build_dist()
    with pytest.raises(InstallError, match="valve of the manifest does not fit: size:"):
        install()
    assert "test_pipe" not in admin.ids(Kind.PIPE)


def test_a_first_installation_that_fails_leaves_nothing_behind(
    admin, install, unloadable_here
):
    unloadable_here("1.0.0", PIPE.replace("size: int = 1", "size: bool = True"))
    with pytest.raises(InstallError, match="Error updating function valves"):
        install()
    assert "test_pipe" not in admin.ids(Kind.PIPE)


@pytest.fixture
def unloadable_here(suite, monkeypatch):
    """Releases a pipe whose file loads on the server but not in this process."""

    def release(version: str, pipe: str) -> None:
        suite.release(version)
        pipe = pipe.replace("class Pipe:", "class Pipe:\n    library = yaml\n")
        suite.write("functions/test_pipe.py", f"import yaml\n{pipe}")
        suite.build_dist()
        monkeypatch.setitem(sys.modules, "yaml", None)

    return release


def test_a_hand_edit_is_seen_and_kept(admin, openwebui, install, suite):
    install()
    stored = admin.get(Kind.PIPE, "test_pipe")
    edited = stored.content.replace('"one"', '"mine"')
    admin.update(
        Kind.PIPE,
        {"id": stored.id, "name": stored.name, "content": edited, "meta": stored.meta},
    )
    with connect(openwebui, suite) as installer:
        (step,) = installer.status(["test_pipe"])
        assert step.state is State.EDITED
        assert '-        return "mine"\n+        return "one"\n' in step.diff()
    with pytest.raises(InstallError, match="test_pipe was edited by hand"):
        install()
    assert admin.get(Kind.PIPE, "test_pipe").content == edited
    assert install("test_pipe", force=True) == {"test_pipe": Change.UPDATE}
    assert admin.get(Kind.PIPE, "test_pipe").content == suite.text("test_pipe")


def test_somebody_elses_function_is_left_alone(admin, openwebui, install, suite):
    theirs = {
        "id": "test_pipe",
        "name": "Theirs",
        "content": "class Pipe: ...\n",
        "meta": {"description": ""},
    }
    admin.create(Kind.PIPE, theirs)
    with pytest.raises(InstallError, match="Aqueduct did not build"):
        install()
    with (
        connect(openwebui, suite) as installer,
        pytest.raises(InstallError, match="Aqueduct did not build"),
    ):
        installer.plan_removal()
    assert admin.get(Kind.PIPE, "test_pipe").content == theirs["content"]
    assert "test_tool" not in admin.ids(Kind.TOOL)


@pytest.mark.parametrize("id_", ["test_pipe", "test_tool"])
def test_status_and_rollback(admin, openwebui, install, suite, id_):
    install()
    first = suite.text(id_)
    suite.release("1.1.0", word="two")
    with connect(openwebui, suite) as installer:
        (step,) = installer.status([id_])
        assert (step.installed_version, step.target_version) == ("1.0.0", "1.1.0")
        assert step.state is State.DIFFERENT
        installer.install()
        (step,) = installer.status([id_])
        assert step.state is State.CURRENT

        (back,) = installer.plan_rollback([id_])
        assert (back.installed_version, back.target_version) == ("1.1.0", "1.0.0")
        list(installer.apply([back]))
        assert admin.get(back.entry.kind, id_).content == first
        with pytest.raises(InstallError, match=f"{id_} has no version before this"):
            installer.plan_rollback([id_])
    if id_ == "test_pipe":
        assert admin.valves(Kind.PIPE, id_) == {"size": 2}
        assert admin.get(Kind.PIPE, id_).is_active
    assert install(id_) == {id_: Change.UPDATE}


def test_removal_takes_the_suite_and_nothing_else(admin, openwebui, install, suite):
    install()
    with connect(openwebui, suite) as installer:
        list(installer.apply(installer.plan_removal(["test_pipe", "test_tool"])))
        states = {step.entry.id: step.state for step in installer.status()}
        assert states == {
            "test_pipe": State.MISSING,
            "test_filter": State.CURRENT,
            "test_tool": State.MISSING,
        }
        assert len(installer.plan_removal()) == 1


def test_a_server_that_is_too_old_is_refused(admin, install, suite):
    suite.release(min_open_webui_version="99.0")
    with pytest.raises(InstallError, match=r"this needs 99\.0 or newer"):
        install()
    assert "test_pipe" not in admin.ids(Kind.PIPE)


def test_a_newer_server_is_worth_a_warning(openwebui, suite):
    suite.release(tested_open_webui_version="0.12.0")
    with connect(openwebui, suite) as installer:
        assert "the suite was tested with 0.12.0" in (installer.check_server() or "")


def test_a_wrong_key_is_one_sentence_without_the_key(openwebui, suite):
    for key in ("sk-wrong-key", "wrong\nkey", "wröng-key"):
        with pytest.raises(InstallError) as caught:
            Installer.connect(openwebui.url, key, suite.root).plan()
        assert key not in str(caught.value)
        assert repr(key).strip("'") not in str(caught.value)


def test_a_user_is_not_enough(openwebui, suite):
    address = {"email": "installer@example.com", "password": "a-long-password"}
    headers = {"Authorization": f"Bearer {openwebui.admin_token}"}
    answer = httpx.post(
        f"{openwebui.url}/api/v1/auths/add",
        json=address | {"name": "User", "role": "user"},
        headers=headers,
        trust_env=False,
    ).json()
    try:
        with pytest.raises(InstallError, match="owner is 'user'; this needs an admin"):
            Installer.connect(openwebui.url, answer["token"], suite.root).plan()
    finally:
        httpx.delete(
            f"{openwebui.url}/api/v1/users/{answer['id']}",
            headers=headers,
            trust_env=False,
        )


# Open WebUI's own ways to import


def test_the_export_file_imports(admin, suite):
    """The import button posts every item of the file to /create."""
    export = json.loads((suite.root / "dist/aqueduct.json").read_text())
    tools = json.loads((suite.root / "dist/aqueduct-tools.json").read_text())
    assert [item["id"] for item in export] == ["test_pipe", "test_filter"]
    assert [item["id"] for item in tools] == ["test_tool"]
    for item in export:
        admin.create(Kind(item["type"]), item)
    for item in tools:
        admin.create(Kind.TOOL, item)
    assert admin.get(Kind.PIPE, "test_pipe").content == suite.text("test_pipe")
    assert admin.get(Kind.TOOL, "test_tool").content == suite.text("test_tool")


def test_a_built_file_imports_by_link(admin, openwebui, suite):
    """The id comes out of the address, name and description out of the frontmatter."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(suite.root / "dist"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        loaded = httpx.post(
            f"{openwebui.url}/api/v1/functions/load/url",
            json={"url": f"http://127.0.0.1:{server.server_port}/test_pipe.py"},
            headers={"Authorization": f"Bearer {openwebui.admin_token}"},
            trust_env=False,
        ).json()
    finally:
        server.shutdown()
        server.server_close()
    assert loaded == {"name": "test_pipe", "content": suite.text("test_pipe")}
    # The page takes the name for the id and lets the administrator save.
    admin.create(Kind.PIPE, loaded | {"id": loaded["name"], "meta": {}})
    frontmatter = admin.get(Kind.PIPE, "test_pipe").frontmatter
    assert frontmatter["title"] == "Test Pipe"
    assert frontmatter["description"] == "The test_pipe of the tests."
    assert frontmatter["required_open_webui_version"] == "0.12.0"


# the edges, without a server


def test_what_is_not_open_webui(suite_offline):
    cases = {
        "http://127.0.0.1:9": "cannot be reached",
        "http://": "cannot be reached",
        "nonsense": "cannot be reached",
    }
    for url, words in cases.items():
        with pytest.raises(InstallError, match=words):
            Installer.connect(url, "key", suite_offline.root).plan()
    page = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>"))
    client = WebUIClient("http://example.com", "key", transport=page)
    with pytest.raises(InstallError, match="does not answer like Open WebUI"):
        client.version()


def test_a_missing_built_file_is_named(suite_offline):
    (suite_offline.root / "dist/test_tool.py").unlink()
    with pytest.raises(InstallError, match=r"dist/test_tool.py does not exist; build"):
        Installer.connect("http://127.0.0.1:9", "key", suite_offline.root)


@pytest.fixture
def suite_offline(tmp_path: Path) -> Suite:
    suite = Suite(tmp_path)
    suite.release()
    return suite
