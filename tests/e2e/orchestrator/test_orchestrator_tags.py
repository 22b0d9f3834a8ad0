"""Tags are written only by who may, and only when they agree in the dialog."""

from __future__ import annotations

import pytest

from tests.e2e.orchestrator.calls import work

PAINTER = {"model": "Luna", "capability": "Water colours"}


def entry(stage, model_id="luna"):
    """The model's entry, without the tags, and the tags."""
    with stage.client() as admin:
        path = f"/api/v1/models/model?id={model_id}"
        found = admin.get(path).raise_for_status().json()
    tags = [tag["name"] for tag in found["meta"].pop("tags", None) or []]
    del found["updated_at"], found["version_id"]
    return found, tags


async def test_an_admin_adds_and_removes_tags(
    stage, admin_tab, tab, upstream, kept_tags
):
    before, tags = entry(stage)
    admin_tab.agrees = True
    [added, again, related, seen] = await work(
        admin_tab,
        upstream,
        [
            ("add_capability_tag", PAINTER),
            ("add_capability_tag", PAINTER),
            (
                "add_relationship_tag",
                {"model": "luna", "relation": "learns from", "target": "Mira"},
            ),
        ],
        [("get_models_by_tag", {"tag": "water-colours"})],
    )
    assert (added["changed"], again["changed"]) == (True, False)
    assert related["tags"] == [*tags, "cap:water-colours", "rel:learns-from:mira"]
    assert [model["id"] for model in seen["models"]] == ["luna"]
    assert len(admin_tab.asked) == 2
    assert "`cap:water-colours`" in admin_tab.asked[0]
    # Nothing else of the model is another one.
    assert entry(stage) == (before, related["tags"])
    [removed, gone] = await work(
        admin_tab,
        upstream,
        [("remove_tag", {"model": "luna", "tag": "cap:water-colours"})] * 2,
    )
    assert (removed["changed"], gone["changed"]) == (True, False)
    assert entry(stage)[1] == [*tags, "rel:learns-from:mira"]


async def test_who_does_not_agree_changes_nothing(stage, admin_tab, upstream):
    before = entry(stage)
    [told] = await work(admin_tab, upstream, [("add_capability_tag", PAINTER)])
    assert told["error"] == "The user did not agree."
    assert len(admin_tab.asked) == 1
    assert entry(stage) == before


async def test_an_ordinary_user_is_refused_without_a_dialog(stage, tab, upstream):
    before = entry(stage)
    tab.agrees = True
    told = await work(
        tab,
        upstream,
        [
            ("add_capability_tag", PAINTER),
            (
                "add_relationship_tag",
                {"model": "luna", "relation": "asks", "target": "sol"},
            ),
            ("remove_tag", {"model": "luna", "tag": "cap:artist"}),
        ],
    )
    assert {each["error"] for each in told} == {
        "This user may not change the tags of this model."
    }
    assert tab.asked == []
    assert entry(stage) == before


async def test_a_model_without_an_entry_gets_one_for_admins_only(
    stage, admin_tab, tab, upstream
):
    admin_tab.agrees = True
    [told] = await work(
        admin_tab,
        upstream,
        [("add_capability_tag", {"model": "secret", "capability": "spy"})],
    )
    assert told["tags"] == ["cap:spy"]
    assert entry(stage, "secret")[0]["access_grants"] == []
    [seen] = await work(tab, upstream, [("get_models_by_tag", {"tag": "spy"})])
    assert seen["total"] == 0


@pytest.mark.parametrize("capability", ["", "a`b", "x" * 41, "cap:artist"])
async def test_what_is_no_word_is_refused(admin_tab, upstream, capability):
    call = ("add_capability_tag", {"model": "luna", "capability": capability})
    [told] = await work(admin_tab, upstream, [call])
    assert told["error"] == "This is no word for a tag."
    assert admin_tab.asked == []
