from __future__ import annotations

from shared.host.usable_models import describe_model
from shared.orchestration.choice import in_picker_order, offered_models, picker_labels


def model(id_: str, name: str = "", tags: tuple[str, ...] = (), **meta):
    tagged = [{"name": tag} for tag in tags]
    info = {"meta": {"tags": tagged, **meta}}
    return describe_model({"id": id_, "name": name or id_, "info": info})


def by_id(*models):
    return {each.id: each for each in models}


def test_tags_come_from_both_places_and_in_both_forms():
    found = describe_model(
        {"id": "m", "tags": ["a", {"name": "b"}], "info": {"meta": {"tags": ["b"]}}}
    )
    assert (found.name, found.tags) == ("m", ("b", "a"))


def test_without_a_rule_all_but_hidden_models_are_offered():
    models = by_id(model("a"), model("b", hidden=True), model("c"))
    assert list(offered_models(models, "")) == ["a", "c"]


def test_a_rule_lists_ids_and_tags():
    models = by_id(model("a"), model("b", tags=("Writing",)), model("c"))
    assert list(offered_models(models, "c, tag:writing")) == ["b", "c"]
    assert list(offered_models(models, "tag: nothing")) == []


def test_recent_models_then_shared_tags_then_names_and_the_current_last():
    models = [
        model("now", tags=("x", "y")),
        model("omega", "Omega"),
        model("alpha", "alpha"),
        model("one", "one tag", tags=("X",)),
        model("two", "two tags", tags=("x", "y")),
        model("old", "chosen before"),
        model("new", "chosen last"),
    ]
    order = in_picker_order(models, "now", ["new", "now", "old", "gone"])
    assert [each.id for each in order] == [
        "new",
        "old",
        "two",
        "one",
        "alpha",
        "omega",
        "now",
    ]


def test_models_that_answered_come_after_those_that_did_not():
    models = [model("a"), model("b"), model("c")]
    order = in_picker_order(models, "a", ["b"], answered={"a", "b"})
    assert [each.id for each in order] == ["c", "b", "a"]


def test_equal_names_are_told_apart():
    labels = picker_labels([model("a", "Same"), model("b", "Same"), model("c", "Own")])
    assert labels == {"a": "Same (a)", "b": "Same (b)", "c": "Own"}
