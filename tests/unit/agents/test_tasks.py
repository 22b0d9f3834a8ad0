"""Titles, tags and the like: the JSON that was asked for, whatever an agent says."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.agents.tasks import TASK_SHAPES, shape_task_answer

TITLE = "title_generation"
TAGS = "tags_generation"


def shaped(task, text):
    return json.loads(shape_task_answer(task, text))


@pytest.mark.parametrize(
    "answer",
    [
        '{"title": "Six apples"}',
        '```json\n{"title": "Six apples"}\n```',
        'Here you are: {"title": "Six apples"} Enjoy!',
        'I thought of {x: 1} first.\n{ "title": "Six apples" }',
        '{"other": 1} {"title": "Six apples"}',
        '{"title": "Six apples"} } }',
        "Six apples",
        '"Six apples"',
        "**Six apples**",
        "# Six apples\n",
    ],
)
def test_a_title_from_any_answer(answer):
    assert shaped(TITLE, answer) == {"title": "Six apples"}


def test_what_else_the_object_holds_stays():
    answer = '{"title": "Six {apples}", "note": {"a": [1]}}'
    assert shaped(TITLE, answer) == {"title": "Six {apples}", "note": {"a": [1]}}


@pytest.mark.parametrize("answer", ["", "  ", "Well.\nThat depends.", "```\n```"])
def test_prose_is_no_title(answer):
    assert shaped(TITLE, answer)["title"] in ("", "```")


@pytest.mark.parametrize(
    ("task", "key"),
    [
        (TAGS, "tags"),
        ("follow_up_generation", "follow_ups"),
        ("query_generation", "queries"),
    ],
)
def test_lists(task, key):
    wanted = {key: ["one", "two"]}
    assert shaped(task, f"Sure:\n```json\n{json.dumps(wanted)}\n```") == wanted


@pytest.mark.parametrize(
    "task", [TAGS, "follow_up_generation", "query_generation"], ids=str
)
def test_prose_never_becomes_a_list(task):
    [value] = shaped(task, "I cannot do that.").values()
    assert value == []


@pytest.mark.parametrize("value", ["science", None, 5, {"a": 1}, [{"a": 1}]])
def test_a_value_of_the_wrong_type_is_not_passed_on(value):
    """Open WebUI would make a tag of every letter."""
    found = shaped(TAGS, json.dumps({"tags": value}))["tags"]
    assert isinstance(found, list)
    assert all(isinstance(tag, str) for tag in found)


@pytest.mark.parametrize("value", [None, 5, ["Six"]])
def test_a_title_is_a_string(value):
    assert isinstance(shaped(TITLE, json.dumps({"title": value}))["title"], str)


@pytest.mark.parametrize("task", ["emoji_generation", "moa_response_generation", "new"])
def test_tasks_that_ask_for_no_json_get_the_text(task):
    assert shape_task_answer(task, " 🌊\n") == "🌊"


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(TASK_SHAPES)), st.text('{}[]":, aletigs\n', max_size=40))
def test_any_answer_comes_out_in_shape(task, text):
    key, empty = TASK_SHAPES[task]
    assert isinstance(shaped(task, text)[key], type(empty))
