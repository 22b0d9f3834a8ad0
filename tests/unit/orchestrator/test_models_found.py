"""Which model a name means, and which is best for a tag."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AqueductError
from shared.orchestration.models_found import (
    best_carrier,
    carriers_of,
    find_models,
    named_model,
)
from tests.unit.orchestrator.models import by_id, model

MODELS = by_id(
    model("gpt-5", name="GPT 5"),
    model("gpt-5-mini", name="GPT 5 mini"),
    model("agents.luna", name="Luna"),
    model("sol-large", name="Sol (large)"),
    model("base", name="Base", hidden=True),
)


@pytest.mark.parametrize(
    ("name", "how", "ids"),
    [
        ("gpt-5", "exact", ["gpt-5"]),
        ("GPT 5", "exact", ["gpt-5"]),
        (" luna ", "exact", ["agents.luna"]),
        ("gpt-5-m", "prefix", ["gpt-5-mini"]),
        ("gpt", "prefix", ["gpt-5", "gpt-5-mini"]),
        ("large", "part", ["sol-large"]),
        ("lunna", "similar", ["agents.luna"]),
        ("base", "exact", ["base"]),
        ("Base", "similar", []),
        ("xyzzy", "similar", []),
        ("", "similar", []),
    ],
)
def test_names(name, how, ids):
    found = find_models(MODELS, name)
    assert (found.how, [each.id for each in found.models]) == (how, ids)


@given(st.text(max_size=20))
def test_no_name_is_an_error(name):
    for each in find_models(MODELS, name).models:
        assert each.id in MODELS


def test_two_models_of_one_name_are_candidates():
    twins = by_id(model("a", name="Twin"), model("b", name="Twin"))
    with pytest.raises(AqueductError) as caught:
        named_model(twins, "twin")
    assert caught.value.code == "unclear_model"
    assert caught.value.fields["candidates"] == "a, b"
    assert named_model(twins, "b").id == "b"


@pytest.mark.parametrize("name", ["lunna", "gpt"])
def test_what_is_similar_or_several_is_not_taken_for_it(name):
    with pytest.raises(AqueductError, match="unclear_model"):
        named_model(MODELS, name)


def test_what_is_nothing_at_all_has_no_candidates():
    with pytest.raises(AqueductError, match="no_such_model"):
        named_model(MODELS, "xyzzy")


def test_the_best_of_several_carriers():
    luna = model("luna", "cap:artist", "cap:writer")
    sol = model("sol", "cap:artist")
    vega = model("vega", "cap:artist")
    carriers = carriers_of([vega, luna, sol], "artist")
    assert [each.id for each in carriers] == ["luna", "sol", "vega"]
    # Of two that do nothing else the first by name; a related one goes before both.
    assert best_carrier(carriers, None) is sol
    assert best_carrier(carriers, model("me", "rel:trusts:Luna")) is luna
    assert best_carrier(carriers, model("me", "rel:trusts:nobody")) is sol


@given(st.permutations(["luna", "sol", "vega"]))
def test_the_best_one_does_not_depend_on_the_order(order):
    assert best_carrier([model(each, "cap:a") for each in order], None).id == "luna"
