"""Where in a webhook's answer its text, thoughts, tool calls and the like are."""

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from shared.backends.openai_chat import read_counts
from shared.backends.payloads import error_detail
from shared.backends.webhook_paths import path_steps, values_at
from shared.errors import UpstreamBroken
from shared.events import (
    AgentEvent,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallCompleted,
    ToolResult,
    Usage,
)
from shared.ids import new_id

# The name of a server-sent event, where a condition asks for it.
EVENT_NAME = "@event"
# A text of this length that says all over again what was said is a repetition.
REPEATED_CHARS = 40


def checked_path(path: str) -> str:
    if path != EVENT_NAME:
        path_steps(path)
    return path


def as_picks(value: Any) -> Any:
    """A path alone, or a mapping alone, as a list of one."""
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple({"path": e} if isinstance(e, str) else e for e in entries)


def as_values(value: Any) -> Any:
    """What a value may be, as a list of texts: YAML knows more kinds."""
    entries = value if isinstance(value, list | tuple) else [value]
    return tuple(shown_value(entry) for entry in entries)


def shown_value(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


ValuePath = Annotated[str, AfterValidator(checked_path)]
Values = Annotated[tuple[str, ...], BeforeValidator(as_values)]


class Pick(BaseModel):
    """A path, in those events only where every path of `when` has one of its values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: ValuePath = ""
    when: dict[ValuePath, Values] = {}

    def fits(self, payload: Any, name: str) -> bool:
        for path, allowed in self.when.items():
            found = [name] if path == EVENT_NAME else values_at(payload, path)
            if not any(shown_value(value) in allowed for value in found):
                return False
        return True

    def values(self, payload: Any, name: str) -> list[Any]:
        return values_at(payload, self.path) if self.fits(payload, name) else []


Picks = Annotated[tuple[Pick, ...], BeforeValidator(as_picks)]


class ToolPick(Pick):
    """Tool calls: the paths of a call's fields begin at the value that `path` names."""

    id: ValuePath = "id"
    name: ValuePath = "name"
    arguments: ValuePath = "arguments"
    result: ValuePath = "result"


class AnswerMapping(BaseModel):
    """Where everything is; of several picks the first one that finds something counts.

    For text and thoughts it counts to the end of the answer: once a pick found
    something, those behind it are not looked at any more, so that a last event with
    all of the text may stand behind the pieces. With `cumulative` every event has the
    whole text so far.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Picks = ()
    thoughts: Picks = ()
    session: Picks = ()
    task: Picks = ()
    usage: Picks = ()
    error: Picks = ()
    done: Picks = ()
    tools: Annotated[tuple[ToolPick, ...], BeforeValidator(as_picks)] = ()
    cumulative: bool = False


def picked(picks: tuple[Pick, ...], payload: Any, name: str) -> list[Any]:
    """What the first of these picks that finds something finds."""
    for pick in picks:
        if values := pick.values(payload, name):
            return values
    return []


def picked_text(picks: tuple[Pick, ...], payload: Any, name: str) -> str:
    return "".join(map(shown_value, picked(picks, payload, name)))


class WebhookDecoder:
    """Payloads of one answer in, agent events out.

    `session` and `task` are the ids that the other side gave, "" before; `ended` that
    it said it is done.
    """

    def __init__(self, mapping: AnswerMapping) -> None:
        self.session = ""
        self.task = ""
        self.ended = False
        self.told = False
        self._mapping = mapping
        self._said = {"text": "", "thoughts": ""}
        self._picks = {"text": mapping.text, "thoughts": mapping.thoughts}
        self._calls: dict[str, bool] = {}
        self._usage: dict[str, Any] = {}

    def feed(self, payload: Any, name: str = "") -> list[AgentEvent]:
        """One event, or the whole answer; raises UpstreamBroken for its error."""
        mapping = self._mapping
        if error := [said for said in picked(mapping.error, payload, name) if said]:
            detail = error_detail(error[0]) or shown_value(error[0])
            raise UpstreamBroken("said_error", detail=detail)
        self.session = picked_text(mapping.session, payload, name) or self.session
        self.task = picked_text(mapping.task, payload, name) or self.task
        for counts in picked(mapping.usage, payload, name):
            self._usage.update(read_counts(counts))
        thought = self._fresh("thoughts", payload, name)
        text = self._fresh("text", payload, name)
        events: list[AgentEvent] = [ReasoningDelta(thought)] if thought else []
        events += self._tools(payload, name)
        events += [TextDelta(text)] if text else []
        self.ended = self.ended or any(picked(mapping.done, payload, name))
        self.told = self.told or bool(events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains; a call without a result gets an empty one."""
        events: list[AgentEvent] = [
            ToolResult(call_id, "")
            for call_id, answered in self._calls.items()
            if not answered
        ]
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished()]

    def _fresh(self, kind: str, payload: Any, name: str) -> str:
        """The part of a text that was not yet said."""
        text = ""
        for number, pick in enumerate(self._picks[kind], start=1):
            if text := picked_text((pick,), payload, name):
                self._picks[kind] = self._picks[kind][:number]
                break
        said = self._said[kind]
        if self._mapping.cumulative:
            if text.startswith(said):
                self._said[kind] = text or said
                return text[len(said) :]
            self._said[kind] = text
            return f"\n\n{text}" if text else ""
        if text == said and len(text) >= REPEATED_CHARS:
            return ""
        self._said[kind] += text
        return text

    def _tools(self, payload: Any, name: str) -> list[AgentEvent]:
        return [
            event
            for pick in self._mapping.tools
            for call in pick.values(payload, name)
            for event in self._tool(pick, call)
        ]

    def _tool(self, pick: ToolPick, call: Any) -> list[AgentEvent]:
        """A call is told once; its result may come with it or in a later event."""
        called = "".join(map(shown_value, values_at(call, pick.name)))
        if not called:
            return []
        ids = values_at(call, pick.id)
        call_id = shown_value(ids[0]) if ids else new_id("call")
        events: list[AgentEvent] = []
        if call_id not in self._calls:
            self._calls[call_id] = False
            arguments = json_object_text(values_at(call, pick.arguments))
            events.append(ToolCallCompleted(call_id, called, arguments))
        results = [r for r in values_at(call, pick.result) if r != ""]
        if results and not self._calls[call_id]:
            self._calls[call_id] = True
            events.append(ToolResult(call_id, shown_value(results[0])))
        return events


def json_object_text(found: list[Any]) -> str:
    """A call's arguments as the JSON of an object, in which a plain text is `input`."""
    value = found[0] if found else {}
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = {"input": value} if value else {}
    if not isinstance(value, Mapping):
        value = {"input": value}
    return orjson.dumps(value).decode()
