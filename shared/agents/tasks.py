"""Open WebUI's own tasks: titles, tags, follow-ups, search queries."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson

from shared.agents.catalogue import AgentEntry
from shared.agents.kinds.table import AGENT_KINDS
from shared.agents.plans import PoolPlan
from shared.agents.request import PipeRequest
from shared.agents.routed import agent_run
from shared.agents.turns import build_turn
from shared.backends.transcript import message_text
from shared.events import AgentEvent, Finished, TextDelta
from shared.texts import Sentence

MAX_TASK_CHARS = 20_000
TITLE_CHARS = 50

# Task -> the key of the JSON object it asks for, and an empty value of its type.
TASK_SHAPES: dict[str, tuple[str, str | list[str]]] = {
    "title_generation": ("title", ""),
    "tags_generation": ("tags", []),
    "follow_up_generation": ("follow_ups", []),
    "query_generation": ("queries", []),
    "image_prompt_generation": ("prompt", ""),
    "autocomplete_generation": ("text", ""),
}


def shape_task_answer(task: str, text: str) -> str:
    """The agent's answer in the JSON shape that the task asked for.

    Agents wrap JSON in prose or fences, or answer in prose alone: the value is cut
    out; a bare title becomes one; anything else gives an empty answer, so that
    prose never ends up as a tag.
    """
    shape = TASK_SHAPES.get(task)
    if shape is None:
        return text.strip()
    key, empty = shape
    found = find_object(text, key)
    value = found.get(key)
    if isinstance(empty, list):
        items = value if isinstance(value, list) else []
        value = [item for item in items if isinstance(item, str)]
    elif not isinstance(value, str):
        line = text.strip().strip("`\"'*# ").strip()
        value = "" if "\n" in line or line.startswith(("{", "[")) else line
    return orjson.dumps({**found, key: value}).decode()


def find_object(text: str, key: str) -> dict[str, Any]:
    """The first JSON object of the text that has this key, or an empty one."""
    decoder = json.JSONDecoder()
    text = text[:MAX_TASK_CHARS]
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if key in value:
                return value
        start = text.find("{", end)
    return {}


async def task_events(
    entry: AgentEntry,
    call: PipeRequest,
    task: str,
    plan: PoolPlan | None,
    sentence: Sentence,
) -> AsyncGenerator[AgentEvent, None]:
    """A title, tags and the like: the model alone, without tools and session.

    An answer that is not streamed is brought into the JSON shape asked for. An agent
    that is more than a model is not started for this: the chat's title is the
    beginning of its first message.
    """
    agent = entry.agent.model_copy(update={"session": False})
    if not AGENT_KINDS[agent.backend].writes_titles:
        title = opening_words(call.metadata) if task == "title_generation" else ""
        yield TextDelta(shape_task_answer(task, title))
        yield Finished()
        return
    entry = replace(entry, agent=agent, model=agent.task_model or entry.model)
    turn = build_turn(agent, call.body, with_tools=False)
    answered = agent_run(entry, plan, call, sentence)(turn)
    if not call.body.get("stream"):
        answered = shaped(answered, task)
    async with aclosing(answered) as events:
        async for event in events:
            yield event


def opening_words(metadata: Mapping[str, Any]) -> str:
    """The beginning of what the user said first, as a title."""
    messages = (metadata.get("task_body") or {}).get("messages") or ()
    said = (message_text(m) for m in messages if m.get("role") == "user")
    words = " ".join(next(said, "").split())
    if len(words) <= TITLE_CHARS:
        return words
    return words[:TITLE_CHARS].rsplit(" ", 1)[0] + "…"


async def shaped(
    events: AsyncGenerator[AgentEvent, None], task: str
) -> AsyncGenerator[AgentEvent, None]:
    """The text of a task's answer, brought into shape; thoughts are left out."""
    parts: list[str] = []
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextDelta):
                parts.append(event.text)
    yield TextDelta(shape_task_answer(task, "".join(parts)))
    yield Finished()
