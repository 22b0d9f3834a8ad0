"""The installer against a real Open WebUI."""

from __future__ import annotations

import httpx
import pytest

from devkit.errors import InstallError
from devkit.installer import Change, Installer, State, WebUIClient
from devkit.manifest import Kind
from tests.contract.installer.suite import PIPE, connect

pytestmark = pytest.mark.contract


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
    with pytest.raises(InstallError, match="does not come from Aqueduct"):
        install()
    with (
        connect(openwebui, suite) as installer,
        pytest.raises(InstallError, match="does not come from Aqueduct"),
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
        with pytest.raises(InstallError, match=f"no earlier version of {id_}"):
            installer.plan_rollback([id_])
    if id_ == "test_pipe":
        assert admin.valves(Kind.PIPE, id_) == {"size": 2}
        assert admin.get(Kind.PIPE, id_).is_active
    assert install(id_) == {id_: Change.UPDATE}


def test_what_has_no_version_before_does_not_hold_up_the_others(
    admin, openwebui, install, suite
):
    install("test_pipe")
    suite.release("1.1.0", word="two")
    install()
    with connect(openwebui, suite) as installer:
        changes = {s.entry.id: s.change for s in installer.plan_rollback()}
    assert changes == {
        "test_pipe": Change.ROLLBACK,
        "test_filter": Change.NOTHING,
        "test_tool": Change.NOTHING,
    }


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
        with pytest.raises(
            InstallError, match="does not accept this key as an admin's"
        ):
            Installer.connect(openwebui.url, answer["token"], suite.root).plan()
    finally:
        httpx.delete(
            f"{openwebui.url}/api/v1/users/{answer['id']}",
            headers=headers,
            trust_env=False,
        )


def test_what_is_not_open_webui(suite_offline):
    cases = {
        "http://127.0.0.1:9": "cannot be reached",
        "http://": "cannot be reached",
        "nonsense": "cannot be reached",
    }
    for url, words in cases.items():
        with pytest.raises(InstallError, match=words) as caught:
            Installer.connect(url, "key", suite_offline.root).plan()
        assert not str(caught.value).endswith("..")
    page = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>"))
    client = WebUIClient("http://example.com", "key", transport=page)
    with pytest.raises(InstallError, match="does not answer as Open WebUI would"):
        client.version()


def test_a_missing_built_file_is_named(suite_offline):
    (suite_offline.root / "dist/test_tool.py").unlink()
    with pytest.raises(InstallError, match=r"dist/test_tool.py does not exist; run"):
        Installer.connect("http://127.0.0.1:9", "key", suite_offline.root)
