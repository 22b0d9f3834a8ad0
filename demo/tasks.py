"""Answers to the small jobs which Open WebUI gives a model beside a chat.

Titles, tags, follow-ups, queries and the like arrive as ordinary chats whose prompt
shows the JSON object it wants; the answer is that object and nothing else. Only the
emoji of a spoken answer is wanted as it is.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from demo.arithmetic import find_expression
from demo.clock import asks_for_time
from demo.conversation import Conversation, read_tool
from demo.faults import read_faults
from demo.requested import requested_rounds
from demo.search import STOPWORDS
from demo.talk import greeting_language

IS_TASK = re.compile(r"^\s*### Task:|<chat_history>|^Available Tools:")
EMOJI = "facial expression through a fitting emoji"
SHAPE = re.compile(r"\{\s*\"(title|tags|follow_ups|queries|prompt|text)\"\s*:")


TITLES = {
    "sums": "Sums With the Agent",
    "time": "Time Around the World",
    "pictures": "Drawing Pictures",
    "hello": "Meeting the Agent",
}
TAGS = {
    "sums": ["Mathematics", "Arithmetic"],
    "time": ["Travel", "Time Zones"],
    "pictures": ["Art", "Drawing"],
    "hello": ["General"],
    "project": ["Technology", "Open WebUI"],
}
FOLLOW_UPS = {
    "sums": ["What is 12% of 250?", "What is 2^10 - 24?", "What time is it in Rome?"],
    "time": ["What time is it in New York?", "What is 24 * 60?", "Draw a sunrise"],
    "pictures": ["Draw a winter night", "Draw a green valley", "What can you do?"],
    "hello": ["What is 17 * 23?", "What time is it in Tokyo?", "Draw a sunrise"],
    "project": ["How do I install it?", "Explain tool calls", "What can you do?"],
}


def answer_task(conversation: Conversation) -> str | None:
    """The text a task wants, or None when the request is no task."""
    prompt = conversation.last.text
    legacy = conversation.system.startswith("Available Tools:")
    if legacy:
        return json.dumps(_tool_calls(conversation), ensure_ascii=False)
    if EMOJI in prompt:
        return "🙂"
    if not IS_TASK.search(prompt):
        return None
    shape = SHAPE.search(prompt)
    if not shape:
        return None
    said = _said(prompt)
    value = SHAPES[shape.group(1)](said)
    return json.dumps({shape.group(1): value}, ensure_ascii=False)


def _said(prompt: str) -> list[str]:
    """What the user said, from the chat history inside a task's prompt."""
    history = re.search(r"(?s)<chat_history>(.*)</chat_history>", prompt)
    text = history.group(1) if history else prompt
    turns = re.split(r"(?m)^(USER|ASSISTANT|SYSTEM|TOOL): ", text)
    pairs = zip(turns[1::2], turns[2::2], strict=False)
    return [read_faults(said.strip())[1] for role, said in pairs if role == "USER"]


def _topic(said: list[str]) -> str:
    last = said[-1] if said else ""
    if find_expression(last):
        return "sums"
    if asks_for_time(last):
        return "time"
    if re.match(r"\W*(please )?(draw|paint)\b", last, re.IGNORECASE):
        return "pictures"
    return "hello" if not last or greeting_language(last) else "project"


def _title(said: list[str]) -> str:
    topic = _topic(said)
    if topic in TITLES:
        return TITLES[topic]
    words = [w for w in re.findall(r"\w+", said[-1]) if w.lower() not in STOPWORDS]
    return " ".join(word[:1].upper() + word[1:] for word in words[:4]) or "Demo Chat"


def _last(said: list[str]) -> str:
    return said[-1][:300] if said else ""


SHAPES: dict[str, Callable[[list[str]], Any]] = {
    "title": _title,
    "tags": lambda said: TAGS[_topic(said)],
    "follow_ups": lambda said: FOLLOW_UPS[_topic(said)],
    "queries": lambda said: said[-1:],
    "prompt": lambda said: f"A quiet landscape with hills and a sun. {_last(said)}",
    "text": lambda said: "",
}


def _tool_calls(conversation: Conversation) -> dict[str, Any]:
    """The calls of Open WebUI's prompt for models without native tool calling."""
    listed = conversation.system.partition("Available Tools:")[2].lstrip()
    try:
        specs, _ = json.JSONDecoder().raw_decode(listed)
    except json.JSONDecodeError:
        return {"tool_calls": []}
    query = conversation.last.text.rpartition("Query: ")[2]
    offered = Conversation(conversation.messages, tuple(read_tool(s) for s in specs))
    rounds = requested_rounds(offered, query)
    calls = rounds[0] if rounds else []
    found = [{"name": call.name, "parameters": call.arguments} for call in calls]
    return {"tool_calls": found}
