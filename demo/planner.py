"""The agent's head: from a conversation to the acts of an answer, by plain rules.

The last message decides. A tool of the caller that is asked for comes first, then what
the agent can do itself; what nothing else fits is looked up in the docs.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from demo import talk
from demo.acts import Act, Call, Citation, OwnCall, Picture, Say, Think
from demo.arithmetic import CalculatorError, calculate, find_expression
from demo.clock import asks_for_time, find_zone, read_clock
from demo.conversation import Conversation
from demo.leaks import leak
from demo.pictures import describe, draw
from demo.requested import asked_tool, requested_rounds
from demo.search import DocSearch, Hit

OWN_TOOLS = ("calculator", "clock", "search_docs")
FIRST = re.compile(
    r"\bwhat (?:did|have) i (?:say|said|ask|asked|write|wrote)\b.*\bfirst\b"
    r"|\b(?:my|the) first (?:message|question)\b|was habe ich zuerst gesagt"
    r"|qué dije primero|qu'ai-je dit en premier|我最先说了什么",
    re.IGNORECASE,
)
BEFORE = re.compile(
    r"\bwhat (?:did|have) i (?:just |last )?(?:say|said|ask|asked)\b"
    r"|\bmy (?:last|previous) (?:message|question)\b|was habe ich (?:zuletzt )?gesagt",
    re.IGNORECASE,
)
DRAW = re.compile(
    r"^\W*(?:please )?(?:draw|paint|zeichne|male|dibuja|dessine|画)\b\s*(.*)",
    re.IGNORECASE | re.DOTALL,
)
EXPLAIN = re.compile(r"\bexplain (?:leaked )?tool calls?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What the agent works with. `now` gives an aware time; `address` is where this
    server is reached, for links to the docs."""

    docs: DocSearch
    now: Callable[[], datetime]
    address: str


@dataclass(frozen=True, slots=True)
class Question:
    """One request as the rules see it: `text` is the last message without commands."""

    conversation: Conversation
    text: str
    toolbox: Toolbox
    leaky: bool = False

    @property
    def answered(self) -> set[str]:
        """Names of the tools whose results are in since the message."""
        return {name for name, _ in self.conversation.results}


def plan(question: Question) -> list[Act]:
    """The acts of the answer to `question`."""
    rules = (
        _offered_tools,
        _drawing,
        _explanation,
        _recollection,
        _own_tools,
        _missing_tool,
        _nothing_to_leak,
        _greeting,
        _attachments_only,
        _docs,
    )
    acts = next(acts for rule in rules if (acts := rule(question)))
    seen = _seen(question.conversation)
    return [Say(f"{seen}\n\n"), *acts] if seen and acts != [Say(seen)] else acts


def _offered_tools(question: Question) -> list[Act]:
    """Call the caller's tools round by round, then answer from their results."""
    rounds = requested_rounds(question.conversation, question.text)
    if not rounds:
        return []
    asked = {call.name for calls in rounds for call in calls}
    results = [pair for pair in question.conversation.results if pair[0] in asked]
    ends = accumulate(len(calls) for calls in rounds)
    for calls, end in zip(rounds, ends, strict=True):
        if end > len(results):
            # Of calls made at once, some may have their results already.
            return _call(calls[len(results) - end :], question)
    return [
        Think("The results are in, so I can answer now."),
        Say("\n\n".join(_show_result(name, text) for name, text in results)),
    ]


def _call(calls: Sequence[Call], question: Question) -> list[Act]:
    names = " and ".join(dict.fromkeys(f"`{call.name}`" for call in calls))
    thought = Think(f"The user wants {names}. Only the caller can run that, so I ask.")
    if not question.leaky:
        return [thought, *calls]
    leaked, _ = leak(calls, question.text)
    return [thought, Say(f"I will ask {names} for that.\n\n{leaked}", fine=True)]


def _show_result(name: str, text: str) -> str:
    shown = text if len(text) <= 800 else text[:800] + " …"
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if isinstance(value, dict | list):
        return f"**{name}** answered:\n\n```json\n{shown}\n```"
    quoted = "\n".join(f"> {line}" for line in shown.splitlines()) or "> (nothing)"
    return f"**{name}** answered:\n\n{quoted}"


def _drawing(question: Question) -> list[Act]:
    match = DRAW.match(question.text)
    if not match:
        return []
    subject = match.group(1).strip(" .!?") or "a landscape"
    return [
        Think(f"The user wants a picture: {subject}. I choose colours to match."),
        Say(f"Here is my picture of **{subject}**, all hills and sun:\n\n"),
        Picture(draw(subject)),
    ]


def _explanation(question: Question) -> list[Act]:
    if not EXPLAIN.search(question.text):
        return []
    return [
        Think("The user wants to know what leaked tool calls are; an example helps."),
        Say(talk.EXPLAIN_CALLS),
    ]


def _recollection(question: Question) -> list[Act]:
    earlier = question.conversation.said[:-1]
    if FIRST.search(question.text):
        which, quote = "first", earlier[0] if earlier else ""
    elif BEFORE.search(question.text):
        which, quote = "before that", earlier[-1] if earlier else ""
    else:
        return []
    thought = Think(f"I am looking through the user's {len(earlier)} earlier messages.")
    if not quote:
        return [thought, Say("This is your first message; there is nothing before it.")]
    quoted = "\n".join(f"> {line}" for line in quote.splitlines())
    return [thought, Say(f"What you said {which}:\n\n{quoted}")]


def _own_tools(question: Question) -> list[Act]:
    """Run the calculator and the clock, as the message asks for one or for both."""
    acts: list[Act] = []
    lines: list[str] = []
    if expression := find_expression(question.text):
        call, line = _calculate(expression)
        acts += [Think(f"This is arithmetic: {expression}. I use my calculator."), call]
        lines.append(line)
    if asks_for_time(question.text):
        zone = find_zone(question.text)
        time = read_clock(zone, question.toolbox.now())
        acts += [
            Think(f"The user wants the time, the zone is {zone}. I check my clock."),
            OwnCall("clock", {"zone": zone}, time),
        ]
        lines.append(f"🕑 It is **{time}**.")
    if not lines:
        return []
    return [*_without_answered(acts, question), Say("\n\n".join(lines))]


def _calculate(expression: str) -> tuple[OwnCall, str]:
    arguments = {"expression": expression}
    try:
        result = calculate(expression)
    except CalculatorError as error:
        failed = OwnCall("calculator", arguments, f"Error: {error}", failed=True)
        return failed, f"🧮 My calculator gave up on `{expression}`: {error}"
    return (
        OwnCall("calculator", arguments, result),
        f"🧮 `{expression}` is **{result}**.",
    )


def _missing_tool(question: Question) -> list[Act]:
    name = asked_tool(question.text)
    if not name or name in OWN_TOOLS:
        return []
    offered = [tool.name for tool in question.conversation.tools]
    if offered:
        known = ", ".join(f"`{other}`" for other in offered[:12])
        return [Say(f"There is no tool `{name}` here. I was offered: {known}.")]
    return [Say(talk.NO_TOOLS.format(tool=f"`{name}`"))]


def _nothing_to_leak(question: Question) -> list[Act]:
    if not question.leaky or question.conversation.tools:
        return []
    return [Say(talk.NOTHING_TO_LEAK)]


def _greeting(question: Question) -> list[Act]:
    language = talk.greeting_language(question.text)
    if not question.text and not question.conversation.last.attachments:
        language = "en"
    if not language:
        return []
    return [
        Think("A greeting. I say who I am and what can be tried."),
        Say(talk.introduction(language)),
    ]


def _attachments_only(question: Question) -> list[Act]:
    if not question.conversation.last.attachments:
        return []
    return [Say(_seen(question.conversation))]


def _docs(question: Question) -> list[Act]:
    """Search this project's docs and quote the best place, with its source."""
    query = question.text[:300]
    hits = question.toolbox.docs.search(query)
    found = [{"title": h.section.heading, "path": h.section.path} for h in hits]
    output = json.dumps(found, ensure_ascii=False)
    acts: list[Act] = [
        Think("This may be about Aqueduct itself, so I search the docs."),
        OwnCall("search_docs", {"query": query}, output),
    ]
    answer = _quote(hits, question.toolbox.address) if hits else Say(talk.NOT_FOUND)
    return [*_without_answered(acts, question), answer]


def _quote(hits: Sequence[Hit], address: str) -> Say:
    text = f"The docs say:\n\n> {hits[0].snippet}\n\nSource: "
    citations: list[Citation] = []
    for hit in hits:
        section = hit.section
        url = f"{address}/{section.path}#{section.anchor}"
        text += ", see also " if citations else ""
        link = f"[{section.heading}]({url})"
        title = f"{section.heading} ({section.path})"
        citations.append(Citation(url, title, len(text), len(text) + len(link)))
        text += link
    return Say(text + ".", tuple(citations))


def _without_answered(acts: list[Act], question: Question) -> list[Act]:
    """Leave out own calls which the caller has answered already.

    A caller that takes the agent's own calls for calls of its tools sends results for
    them; calling again would never end.
    """
    return [
        act
        for act in acts
        if not (isinstance(act, OwnCall) and act.name in question.answered)
    ]


def _seen(conversation: Conversation) -> str:
    """What came with the last message, like "I see 1 image: 640x480 PNG."."""
    parts = []
    for kind in ("image", "file"):
        items = [a for a in conversation.last.attachments if a.kind == kind]
        if items:
            plural = "s" if len(items) > 1 else ""
            details = ", ".join(describe(item) for item in items)
            parts.append(f"{len(items)} {kind}{plural}: {details}")
    return f"I see {' and '.join(parts)}." if parts else ""
