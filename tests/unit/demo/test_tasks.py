"""Answers to Open WebUI's requests for titles, tags and the like."""

import json

import pytest

from demo.acts import Say
from tests.unit.demo.conftest import WEATHER


def task(shape: str, history: str) -> str:
    return (
        f"### Task:\nDo a small job.\n### Output:\nJSON format: {shape}\n"
        f"### Chat History:\n<chat_history>\n{history}\n</chat_history>"
    )


def answered(acts) -> dict:
    (act,) = acts
    assert isinstance(act, Say)
    return json.loads(act.text)


@pytest.mark.parametrize(
    ("history", "title"),
    [
        ("USER: What is 2 + 2?\nASSISTANT: 4", "Sums With the Agent"),
        ("USER: What time is it in Rome?", "Time Around the World"),
        ("USER: Draw a sunrise", "Drawing Pictures"),
        ("USER: hello", "Meeting the Agent"),
        ("USER: How are leaked calls recovered?", "Leaked Calls Recovered"),
        ("USER: /fail 500", "Meeting the Agent"),
    ],
)
def test_titles(ask, history: str, title: str) -> None:
    shape = '{ "title": "your concise title here" }'
    assert answered(ask(task(shape, history))) == {"title": title}


@pytest.mark.parametrize(
    ("shape", "key", "kind"),
    [
        ('{ "tags": ["tag1", "tag2"] }', "tags", list),
        ('{ "follow_ups": ["one", "two"] }', "follow_ups", list),
        ('{ "queries": ["query1"] }', "queries", list),
        ('{\n    "prompt": "A description."\n}', "prompt", str),
        ('{ "text": "<your_completion>" }', "text", str),
    ],
)
def test_answers_in_the_shape_asked_for(ask, shape, key, kind) -> None:
    value = answered(ask(task(shape, "USER: How do pipes work?\nASSISTANT: Well.")))
    assert list(value) == [key]
    assert isinstance(value[key], kind)


def test_queries_are_what_the_user_said(ask) -> None:
    history = "USER: first\nASSISTANT: ok\nUSER: the aqueducts of Rome"
    value = answered(ask(task('{ "queries": ["q"] }', history)))
    assert value == {"queries": ["the aqueducts of Rome"]}


def test_calls_tools_the_legacy_way(ask) -> None:
    spec = json.dumps([WEATHER["function"]])
    messages = [
        {"role": "system", "content": f"Available Tools: {spec}\n\nFollow these …"},
        {"role": "user", "content": "Query: use get_weather in Paris"},
    ]
    calls = [{"name": "get_weather", "parameters": {"city": "Paris"}}]
    assert answered(ask(messages)) == {"tool_calls": calls}
    messages[1]["content"] = "Query: hello"
    assert answered(ask(messages)) == {"tool_calls": []}


def test_an_emoji_is_no_json(ask) -> None:
    prompt = "Reflect the speaker's facial expression through a fitting emoji. Hello"
    assert ask(prompt) == [Say("🙂")]


def test_an_ordinary_message_is_no_task(ask) -> None:
    assert len(ask('What does { "title": "x" } mean?')) > 1
