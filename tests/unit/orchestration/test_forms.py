from __future__ import annotations

import jsonschema
import pytest

from shared.errors import AqueductError
from shared.orchestration.forms import (
    choice_field,
    chosen_number,
    chosen_text,
    chosen_value,
    form_schema,
    number_field,
    text_field,
)

OPTIONS = {"a": "Model A", "b": "Model B"}


def test_a_form_is_a_schema_that_its_own_defaults_fit():
    fields = {
        "model": choice_field("Model", OPTIONS, "b"),
        "turns": number_field("Turns", 50, 2, 10),
        "text": text_field("Text", "", "hello"),
    }
    schema = form_schema(fields, ("model",))
    defaults = {name: field["default"] for name, field in fields.items()}
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(defaults, schema)
    assert defaults == {"model": "b", "turns": 10, "text": "hello"}


def test_a_default_that_is_not_on_offer_is_left_out():
    assert "default" not in choice_field("Model", OPTIONS, "gone")
    assert "default" not in text_field("Text")


@pytest.mark.parametrize("value", ["c", "", None, 1, ["a"], {"a": 1}])
def test_only_what_was_offered_can_be_chosen(value):
    with pytest.raises(AqueductError) as caught:
        chosen_value({"model": value}, "model", OPTIONS)
    assert caught.value.code == "model_gone"


@pytest.mark.parametrize(
    ("value", "number"),
    [(4, 4), (1, 2), (99, 10), (3.0, 3), ("7", 2), (True, 2), (None, 2)],
)
def test_numbers_stay_between_their_limits(value, number):
    assert chosen_number({"turns": value}, "turns", 2, 10) == number


def test_text_may_be_missing():
    assert chosen_text({}, "text") == chosen_text({"text": None}, "text") == ""
    assert chosen_text({"text": "  hi "}, "text") == "hi"
