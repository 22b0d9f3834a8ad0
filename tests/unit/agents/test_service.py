"""The pipe's answers that need no agent: problems, and who is asking for what."""

import json
from functools import partial

import pytest

from shared.agents.listing import (
    EMPTY_MODEL,
    PROBLEM_MODEL,
    clip,
    configuration_help,
)
from shared.agents.parsing import parse_agents
from shared.agents.request import PipeRequest
from shared.agents.service import answer, respond, sentence_for
from shared.agents.tasks import shaped
from shared.errors import UpstreamBroken
from shared.events import Finished, ReasoningDelta, TextDelta, Usage

BROKEN = parse_agents("- id: scout\n  url: nowhere\n  model: m\n")
NOTHING = parse_agents("")
SAY = partial(sentence_for, "en", {})
CHAT = {"chat_id": "c", "session_id": "s"}


def request(model="agents.scout", metadata=CHAT, task=None, **body):
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **body}
    return PipeRequest(body=body, user={"id": "u"}, metadata=metadata, task=task)


async def text_of(response):
    pieces = [piece async for piece in response.body_iterator]
    return b"".join(pieces).decode()


async def hello():
    yield ReasoningDelta("Hm")
    yield TextDelta("Hello")
    yield Finished()


async def test_a_problem_is_told_by_a_model_that_explains_the_mend():
    help_ = await answer(BROKEN, request(f"agents.{PROBLEM_MODEL}"))
    assert "line 2, `url`: an address begins with http:// or https://" in help_
    assert "AGENTS" in help_
    assert "- id: my-agent" in help_


async def test_an_empty_configuration_is_explained_too():
    help_ = await answer(NOTHING, request(f"agents.{EMPTY_MODEL}"))
    assert "no agents yet" in help_
    assert "- id: my-agent" in help_


def test_the_example_in_the_help_can_be_used():
    yaml = configuration_help(NOTHING).partition("```yaml\n")[2].partition("```")[0]
    config = parse_agents(yaml, "MY_KEY=sk")
    assert config.problems == ()
    assert [agent.id for agent in config.agents] == ["my-agent"]


@pytest.mark.parametrize("model", [PROBLEM_MODEL, EMPTY_MODEL])
async def test_an_errand_gets_no_help_text_for_a_title(model):
    assert await answer(BROKEN, request(f"agents.{model}", task="title")) == ""


@pytest.mark.parametrize("stream", [True, False])
async def test_an_agent_that_is_gone(stream):
    response = await answer(NOTHING, request("agents.gone", stream=stream))
    said = await text_of(response) if stream else json.dumps(response)
    assert "gone" in said
    assert "Please choose another model." in said


async def test_an_api_caller_gets_404_for_an_agent_that_is_gone():
    response = await answer(NOTHING, request("agents.gone", metadata={}))
    assert response.status_code == 404


async def test_a_sentence_is_in_the_users_language():
    metadata = {**CHAT, "variables": {"{{USER_LANGUAGE}}": "de-DE"}}
    response = await answer(NOTHING, request("agents.gone", metadata, stream=True))
    assert "Den Agenten" in await text_of(response)


@pytest.mark.parametrize(
    ("metadata", "in_chat"),
    [
        (CHAT, True),
        ({}, False),
        ({"chat_id": "", "session_id": ""}, False),
        ({"chat_id": None, "session_id": None}, False),
        ({"chat_id": "c", "session_id": ""}, False),
    ],
)
async def test_a_chat_gets_items_and_everybody_else_chunks(metadata, in_chat):
    call = request(metadata=metadata, stream=True)
    assert call.in_chat is in_chat
    said = await text_of(await respond(hello(), call, "scout", SAY))
    assert ("response.output_item.added" in said) is in_chat
    assert ("chat.completion.chunk" in said) is not in_chat


async def test_an_errand_that_streams_gets_chunks():
    call = request(stream=True, task="moa_response_generation")
    said = await text_of(await respond(hello(), call, "scout", SAY))
    assert "chat.completion.chunk" in said


@pytest.mark.parametrize("asked", [True, False])
async def test_usage_is_streamed_where_it_was_asked_for(asked):
    async def counted():
        yield Usage({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
        yield Finished()

    options = {"stream_options": {"include_usage": True}} if asked else {}
    call = request(metadata={}, stream=True, **options)
    said = await text_of(await respond(counted(), call, "scout", SAY))
    assert ("total_tokens" in said) is asked


async def test_an_errands_answer_is_shaped_and_has_no_thoughts():
    events = [event async for event in shaped(hello(), "title_generation")]
    assert events == [TextDelta('{"title":"Hello"}'), Finished()]


async def test_an_errand_that_fails_fails():
    async def broken():
        raise UpstreamBroken("cut_short")
        yield

    with pytest.raises(UpstreamBroken):
        _ = [event async for event in shaped(broken(), "title_generation")]


def test_long_names_are_clipped():
    assert clip("abc", 3) == "abc"
    assert clip("abcd", 3) == "ab…"
