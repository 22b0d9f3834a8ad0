"""Thoughts in the text: most models only talk about calls there."""

import pytest

from tests.unit.toolcalls.support import assert_read, assert_untouched, call

CITY = '{"city": "Inari"}'
HERMES = f'<tool_call>\n{{"name": "get_weather", "arguments": {CITY}}}\n</tool_call>'
INARI = call("get_weather", city="Inari")
TALK = [
    "I could write [get_weather(city='Inari')] as a list.",
    f'The call would be {{"name": "get_weather", "arguments": {CITY}}} then.',
    f"Maybe:\nAction: get_weather\nAction Input: {CITY}\nor not.",
    f"Or get_weather{CITY} without markers.",
    f"Let me draft it:\n```xml\n{HERMES}\n```\nYes.",
    f"It has to be `{HERMES}` exactly.",
    "The opener is <tool_call>, the closer </tool_call>.",
    "So I fill <function=...> with the name.",
]


@pytest.mark.parametrize("talk", TALK)
@pytest.mark.parametrize(
    ("opener", "closer"),
    [("<think>\n", "\n</think>\n\n"), ("[THINK]", "[/THINK]"), ("<think>", "")],
)
def test_talk_in_a_thought(opener, closer, talk):
    assert_untouched(f"{opener}{talk}{closer}" + ("It is cold." if closer else ""))


@pytest.mark.parametrize("talk", TALK)
def test_talk_in_a_thought_and_then_the_call(talk):
    told = " ".join(f"<think> {talk} </think>".split())
    assert_read(f"<think>\n{talk}\n</think>\n\n{HERMES}", told, INARI)


@pytest.mark.parametrize("talk", TALK)
def test_talk_in_a_separate_reasoning_field(talk):
    assert_untouched(talk, reasoning=True)


@pytest.mark.parametrize(
    "text",
    [
        "[get_weather(city='Inari')]",
        f'{{"name": "get_weather", "parameters": {CITY}}}',
        f"get_weather{CITY}",
        f"[TOOL_CALLS]get_weather[ARGS]{CITY}",
        f"Action: get_weather\nAction Input: {CITY}",
    ],
)
@pytest.mark.parametrize("thought", ["<think>Cold?</think>", "Cold?\n</think>\n\n"])
def test_a_call_right_after_a_thought(thought, text):
    assert_read(f"{thought}{text}", " ".join(thought.split()), INARI)


def test_an_open_fence_in_a_thought_ends_with_it():
    assert_read(
        f"<think>\n```json\n{{}}\n</think>\n{HERMES}",
        "<think> ```json {} </think>",
        INARI,
    )


def test_a_lone_backtick_in_a_thought():
    assert_read(
        f"<think>The ` key?</think>{HERMES}", "<think>The ` key?</think>", INARI
    )


@pytest.mark.parametrize("thoughts", ["<seed:think>", "<think>"])
def test_an_example_in_a_thought_of_a_family_that_calls_behind_it(thoughts):
    example = (
        "<seed:tool_call>\n<function=get_weather>\n"
        "<parameter=city>Inari</parameter>\n</function>\n</seed:tool_call>"
    )
    closer = thoughts.replace("<", "</")
    thought = f"{thoughts}\nThe form is {example}. So I write it.\n{closer}"
    assert_read(f"{thought}{example}", " ".join(thought.split()), INARI)
