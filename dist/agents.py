"""
title: Agents
author: Aqueduct
version: 0.1.0
description: External agents as models: live thoughts, tool cards, citations and a real Stop.
license: MIT
required_open_webui_version: 0.12.0
"""

# Aqueduct 0.1.0. Copyright (c) 2026 The Aqueduct authors.
# SPDX-License-Identifier: MIT
#
# Built out of functions/agents.py and what it uses of shared/.
# A change belongs there: the next update replaces this text.
# Content hash: d6c85eb9dcebd50c

import asyncio
import base64
import email.utils
import inspect
import logging
import mimetypes
import os
import re
import socket
import ssl
import time
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx
import orjson
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from starlette.requests import Request
from starlette.responses import StreamingResponse

# --- shared/agents/config.py ---

VARIABLE = re.compile(r"\$\{(env|secret):([A-Za-z_][A-Za-z0-9_]*)\}")
TOP_LEVEL_ENTRY = re.compile(r"^- ", re.MULTILINE)
PLAIN_WORDS = {
    "extra_forbidden": "this key is not known",
    "missing": "this key is missing",
}
PATTERN_WORDS = {
    "id": "an id is made of a-z, 0-9, - and _, and begins with a letter or digit",
    "url": "an address begins with http:// or https://",
}


class TimeoutSettings(BaseModel):
    """Seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect: float = Field(default=10.0, gt=0)
    first_token: float = Field(default=120.0, gt=0)
    between_tokens: float = Field(default=60.0, gt=0)


class AgentConfig(BaseModel):
    """One entry of AGENTS. docs/agents.md explains every key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    name: str = ""
    description: str = ""
    backend: Literal["openai"] = "openai"
    url: str = Field(pattern=r"^https?://")
    model: str = ""
    api: Literal["chat", "responses"] = "chat"
    key: SecretStr = SecretStr("")
    headers: dict[str, SecretStr] = {}
    system: str = ""
    params: dict[str, Any] = {}
    timeouts: TimeoutSettings = TimeoutSettings()
    discover: bool = False
    session: bool = False
    tools: Literal["native", "execute", "passthrough", "suppress"] = "native"
    unknown_tool: Literal["error", "ignore", "passthrough"] = "error"
    max_tool_rounds: int = Field(default=10, ge=1, le=100)
    recover_tool_calls: bool = True
    task_model: str = ""
    files: Literal["text", "attach"] = "text"
    access: Literal["private", "public"] = "private"

    @model_validator(mode="after")
    def _names_a_model(self) -> "AgentConfig":
        if not self.model and not self.discover:
            raise ValueError("give a `model`, or `discover: true` to list them all")
        return self

    @property
    def label(self) -> str:
        return self.name or self.id


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """What is wrong with AGENTS, and where: `line` counts from 1."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}"
        return (
            f"{place}, `{self.key}`: {self.message}"
            if self.key
            else f"{place}: {self.message}"
        )


@dataclass(frozen=True, slots=True)
class AgentsConfig:
    """The agents that can be used, and the problems of the entries that cannot."""

    agents: tuple[AgentConfig, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()

    def find(self, agent_id: str) -> AgentConfig | None:
        return next((a for a in self.agents if a.id == agent_id), None)


@lru_cache(maxsize=8)
def parse_agents(text: str, secrets: str = "") -> AgentsConfig:
    """Read the AGENTS and SECRETS valves; never raises.

    `secrets` is a list of NAME=value, divided by white space. Every entry stands
    alone: a broken one is a problem and hides no other.
    """
    known = dict(pair.split("=", 1) for pair in secrets.split() if "=" in pair)
    agents: dict[str, AgentConfig] = {}
    problems: list[ConfigProblem] = []
    for node, offset in entry_nodes(text, problems):
        agent = read_entry(node, offset, known, problems)
        if agent is None:
            continue
        if agent.id in agents:
            line = node.start_mark.line + 1 + offset
            problems.append(ConfigProblem(line, "id", f"`{agent.id}` is used twice"))
            continue
        agents[agent.id] = agent
    return AgentsConfig(tuple(agents.values()), tuple(problems))


def entry_nodes(
    text: str, problems: list[ConfigProblem]
) -> list[tuple[yaml.Node, int]]:
    """The nodes of the list's entries, each with the lines that stand above it.

    Where the text as a whole is no YAML, every top-level entry is read by itself,
    so that a slip in one leaves the others in use.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        part: list[ConfigProblem] = []
        starts = [match.start() for match in TOP_LEVEL_ENTRY.finditer(text)]
        if len(starts) > 1:
            ends = [*starts[1:], len(text)]
            nodes = []
            for start, end in zip(starts, ends, strict=True):
                above = text.count("\n", 0, start)
                part.clear()
                found = entry_nodes(text[start:end], part)
                nodes += [(node, offset + above) for node, offset in found]
                problems += [replace(p, line=p.line + above) for p in part]
            return nodes
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        message = error.problem or "this is not YAML"
        problems.append(ConfigProblem(line, "", message))
        return []
    if root is None:
        return []
    if not isinstance(root, yaml.SequenceNode):
        line = root.start_mark.line + 1
        message = "AGENTS has to be a list: each agent begins with `- id: …`"
        problems.append(ConfigProblem(line, "", message))
        return []
    return [(node, 0) for node in root.value]


def read_entry(
    node: yaml.Node,
    offset: int,
    secrets: Mapping[str, str],
    problems: list[ConfigProblem],
) -> AgentConfig | None:
    """One entry as an agent, or None with its problems added."""
    first_line = node.start_mark.line + 1 + offset
    if not isinstance(node, yaml.MappingNode):
        message = "an agent is written as `key: value` lines"
        problems.append(ConfigProblem(first_line, "", message))
        return None
    lines = key_lines(node, offset)
    try:
        data = yaml.SafeLoader("").construct_document(node)
    except yaml.MarkedYAMLError as error:
        problems.append(ConfigProblem(first_line, "", str(error.problem)))
        return None
    missing: list[tuple[str, str]] = []
    for key in ("url", "key", "headers"):
        if key in data:
            data[key] = fill_variables(data[key], key, secrets, missing)
    try:
        agent = AgentConfig.model_validate(data)
    except ValidationError as error:
        for detail in error.errors():
            path = tuple(str(part) for part in detail["loc"])
            line = lines.get(path[:2]) or lines.get(path[:1]) or first_line
            message = PLAIN_WORDS.get(
                detail["type"], detail["msg"].removeprefix("Value error, ")
            )
            if detail["type"] == "string_pattern_mismatch":
                message = PATTERN_WORDS.get(path[0], message)
            problems.append(ConfigProblem(line, ".".join(path), message))
        return None
    for key, message in missing:
        problems.append(ConfigProblem(lines.get((key,), first_line), key, message))
    return None if missing else agent


def key_lines(node: yaml.MappingNode, offset: int) -> dict[tuple[str, ...], int]:
    """The line of each key, and of each key one level below."""
    lines: dict[tuple[str, ...], int] = {}
    for key, value in node.value:
        lines[(str(key.value),)] = key.start_mark.line + 1 + offset
        if isinstance(value, yaml.MappingNode):
            for inner, _ in value.value:
                path = (str(key.value), str(inner.value))
                lines[path] = inner.start_mark.line + 1 + offset
    return lines


def fill_variables(
    value: Any,
    key: str,
    secrets: Mapping[str, str],
    missing: list[tuple[str, str]],
) -> Any:
    """Replace `${env:NAME}` and `${secret:NAME}`; what is not set goes to `missing`."""
    if isinstance(value, dict):
        return {k: fill_variables(v, key, secrets, missing) for k, v in value.items()}
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        kind, name = match.groups()
        source: Mapping[str, str] = os.environ if kind == "env" else secrets
        if name not in source:
            where = "environment" if kind == "env" else "SECRETS valve"
            missing.append((key, f"`{name}` is not set in the {where}"))
        return source.get(name, "")

    return VARIABLE.sub(fill, value)


# --- shared/errors.py ---


class AqueductError(Exception):
    """An error a user is told of: `code` names the sentence, `fields` fill it."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code, fields)
        self.code = code
        self.fields: Mapping[str, Any] = fields


class UpstreamError(AqueductError):
    """The agent's server failed; nothing of our own is at fault."""


class UpstreamUnreachable(UpstreamError):
    """No connection came about."""


class UpstreamRefused(UpstreamError):
    """The server answered with an HTTP status of 400 or more."""

    def __init__(self, code: str, status: int, **fields: Any) -> None:
        super().__init__(code, status=status, **fields)
        self.status = status


class UpstreamSilent(UpstreamError):
    """Nothing came for as long as the configuration allows."""


class UpstreamBroken(UpstreamError):
    """The stream ended early, could not be read, or carried an error."""


# --- shared/events.py ---


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the agent's thoughts."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A tool call has a name; its arguments follow."""

    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArgumentsDelta:
    """More of the JSON text of a call's arguments."""

    call_id: str
    delta: str


@dataclass(frozen=True, slots=True)
class ToolCallCompleted:
    """A call is whole; `arguments` is JSON text, normally of an object."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back. `files` and `embeds` are Open WebUI's own shapes."""

    call_id: str
    output: str
    failed: bool = False
    files: tuple[Mapping[str, Any], ...] = ()
    embeds: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """A source of the answer; `text` is the passage where the agent gave one."""

    url: str
    title: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class FileOutput:
    """A file or an image the agent made; `url` is http(s) or a data URL."""

    url: str
    mime_type: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """A line about what is going on; `done` stops its shimmer."""

    text: str
    done: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one model call, in the names the upstream gave them."""

    counts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """The agent asks before it acts. `options` maps an option's id to its label."""

    request_id: str
    title: str
    detail: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionState:
    """What continues this conversation on the agent's side (a thread or response id)."""

    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The turn ended in an error: a key of the table of texts and its fields."""

    code: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """The turn ended; `reason` is a Chat Completions finish_reason."""

    reason: str = "stop"


AgentEvent = (
    TextDelta
    | ReasoningDelta
    | ToolCallStarted
    | ToolCallArgumentsDelta
    | ToolCallCompleted
    | ToolResult
    | Citation
    | FileOutput
    | Status
    | Usage
    | ApprovalRequest
    | SessionState
    | Failed
    | Finished
)


# --- shared/render/chunks.py ---


class CompletionRenderer:
    """Turns the events of one turn into chunks, or at the end into one completion.

    A tool call that the agent answered itself is its own affair and is left out;
    the others are the caller's, and known as such only when the turn is finished.
    Statuses and session states have no place in this format.
    """

    def __init__(
        self,
        model: str,
        sentence: Callable[[str, Mapping[str, Any]], str],
        include_usage: bool = False,
    ) -> None:
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._sentence = sentence
        self._include_usage = include_usage
        self._pending: dict[str, ToolCallCompleted] = {}
        self._usage: Mapping[str, Any] | None = None
        self._begun = False
        self._message: dict[str, Any] = {"role": "assistant", "content": ""}
        self._finish_reason = "stop"

    def render(self, event: AgentEvent) -> list[dict[str, Any]]:
        """The chunks for this event, in order."""
        match event:
            case TextDelta(text):
                return [self._chunk({"content": text})] if text else []
            case ReasoningDelta(text):
                return [self._chunk({"reasoning_content": text})] if text else []
            case ToolCallCompleted():
                self._pending[event.call_id] = event
            case ToolResult():
                self._pending.pop(event.call_id, None)
            case Citation():
                return [self._chunk({"annotations": [url_citation(event)]})]
            case FileOutput():
                image = {"type": "image_url", "image_url": {"url": event.url}}
                return [self._chunk({"images": [image]})]
            case Usage(counts):
                self._usage = counts
            case Failed(code, fields):
                message = self._sentence(code, fields)
                return [{"error": {"message": message, "code": code}}]
            case Finished(reason):
                return self._finish(reason)
        return []

    def add(self, event: AgentEvent) -> None:
        """Take an event for `completion` instead of rendering it."""
        for chunk in self.render(event):
            for choice in chunk.get("choices", ()):
                self._merge(choice["delta"])
                self._finish_reason = choice["finish_reason"] or self._finish_reason

    def completion(self) -> dict[str, Any]:
        """All that was added, as one completion."""
        choice = {
            "index": 0,
            "message": self._message,
            "finish_reason": self._finish_reason,
        }
        whole = {**self._head, "object": "chat.completion", "choices": [choice]}
        if self._usage:
            whole["usage"] = dict(self._usage)
        return whole

    def _finish(self, reason: str) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = []
        if self._pending:
            reason = "tool_calls"
            calls = [
                tool_call_delta(i, c) for i, c in enumerate(self._pending.values())
            ]
            chunks.append(self._chunk({"tool_calls": calls}))
        elif reason == "tool_calls":
            reason = "stop"
        chunks.append(self._chunk({}, reason))
        if self._include_usage and self._usage:
            usage = {**self._chunk({}), "choices": [], "usage": dict(self._usage)}
            chunks.append(usage)
        return chunks

    def _chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None
    ) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _merge(self, delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            if key == "role":
                continue
            if key == "tool_calls":
                value = [{k: v for k, v in c.items() if k != "index"} for c in value]
            if key in self._message:
                value = self._message[key] + value
            self._message[key] = value


def tool_call_delta(index: int, call: ToolCallCompleted) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {
        "index": index,
        "id": call.call_id,
        "type": "function",
        "function": function,
    }


def url_citation(citation: Citation) -> dict[str, Any]:
    inner = {"url": citation.url, "title": citation.title or citation.url}
    return {"type": "url_citation", "url_citation": inner}


# --- shared/render/items.py ---

STATE_ITEM_TYPE = "x_aqueduct:state"

HostEvent = dict[str, Any]


class ChatRenderer:
    """Turns the events of one turn into what Open WebUI reads, item by item.

    Thoughts, text and each tool call are an output item of their own, opened when
    the first piece comes and closed when another kind follows. `used_call_ids` are
    ids of earlier calls in the chat: a server that counts from zero in every turn
    would otherwise overwrite earlier cards. `sentence` words a failure.
    """

    def __init__(
        self,
        agent_id: str,
        sentence: Callable[[str, Mapping[str, Any]], str],
        used_call_ids: Collection[str] = (),
    ) -> None:
        self._agent_id = agent_id
        self._sentence = sentence
        self._used_call_ids = set(used_call_ids)
        self._call_ids: dict[str, str] = {}
        self._calls: dict[str, tuple[int, HostEvent]] = {}
        self._next_index = 0
        self._open_index = 0
        self._open_item: HostEvent | None = None
        self._open_text: list[str] = []
        self._open_status = ""

    @property
    def open_status(self) -> str:
        """The status line that still shimmers, or ""."""
        return self._open_status

    def render(self, event: AgentEvent) -> list[HostEvent]:
        """What Open WebUI has to read for this event, in order."""
        match event:
            case TextDelta(text):
                return self._delta("message", text)
            case ReasoningDelta(text):
                return self._delta("reasoning", text)
            case ToolCallStarted():
                return self._call_started(event)
            case ToolCallArgumentsDelta():
                return self._call_arguments(event)
            case ToolCallCompleted():
                return self._call_completed(event)
            case ToolResult():
                return self._call_result(event)
            case Citation():
                return [source_event(event)]
            case FileOutput():
                return [file_event(event)]
            case Status():
                self._open_status = "" if event.done else event.text
                return [status_event(event.text, event.done)]
            case Usage(counts):
                return [{"usage": dict(counts)}]
            case SessionState(data):
                return self._state(data)
            case Failed(code, fields):
                error = {"message": self._sentence(code, fields)}
                return [*self._close_all(), {"error": error}]
            case Finished(reason):
                choice = {"index": 0, "delta": {}, "finish_reason": reason}
                return [*self._close_all(), {"choices": [choice]}]
        return []

    def _delta(self, kind: str, text: str) -> list[HostEvent]:
        if not text:
            return []
        events: list[HostEvent] = []
        if self._open_item is None or self._open_item["type"] != kind:
            events = [*self._close_item(), self._open(kind)]
        assert self._open_item is not None
        self._open_text.append(text)
        name = "output_text" if kind == "message" else "reasoning_text"
        events.append(
            {
                "type": f"response.{name}.delta",
                "item_id": self._open_item["id"],
                "output_index": self._open_index,
                "content_index": 0,
                "delta": text,
            }
        )
        return events

    def _open(self, kind: str) -> HostEvent:
        item: HostEvent = {
            "type": kind,
            "id": new_item_id(kind),
            "status": "in_progress",
        }
        if kind == "message":
            item["role"] = "assistant"
        else:
            item["started_at"] = time.time()
            item["summary"] = []
        item["content"] = [{"type": "output_text", "text": ""}]
        self._open_item = item
        self._open_index, added = self._added(item)
        return added

    def _close_item(self) -> list[HostEvent]:
        item, self._open_item = self._open_item, None
        if item is None:
            return []
        text = "".join(self._open_text)
        self._open_text = []
        item = {**item, "status": "completed"}
        item["content"] = [{"type": "output_text", "text": text}]
        if "started_at" in item:
            item["ended_at"] = time.time()
            item["duration"] = int(item["ended_at"] - item["started_at"])
        return [done_event(self._open_index, item)]

    def _close_all(self) -> list[HostEvent]:
        events = self._close_item()
        if self._open_status:
            events.append(status_event(self._open_status, True))
            self._open_status = ""
        return events

    def _call_started(self, event: ToolCallStarted) -> list[HostEvent]:
        call_id = event.call_id
        if not call_id or call_id in self._used_call_ids:
            call_id = new_item_id("call")
        self._used_call_ids.add(call_id)
        self._call_ids[event.call_id] = call_id
        item = {
            "type": "function_call",
            "id": new_item_id("fc"),
            "call_id": call_id,
            "name": event.name,
            "arguments": "",
            "status": "in_progress",
        }
        closed = self._close_item()
        index, added = self._added(item)
        self._calls[event.call_id] = (index, item)
        return [*closed, added]

    def _call_arguments(self, event: ToolCallArgumentsDelta) -> list[HostEvent]:
        known = self._calls.get(event.call_id)
        if known is None:
            return []
        index, item = known
        return [
            {
                "type": "response.function_call_arguments.delta",
                "item_id": item["id"],
                "output_index": index,
                "delta": event.delta,
            }
        ]

    def _call_completed(self, event: ToolCallCompleted) -> list[HostEvent]:
        events: list[HostEvent] = []
        if event.call_id not in self._calls:
            events = self._call_started(ToolCallStarted(event.call_id, event.name))
        index, item = self._calls[event.call_id]
        item = {**item, "arguments": event.arguments, "status": "completed"}
        self._calls[event.call_id] = (index, item)
        return [*events, done_event(index, item)]

    def _call_result(self, event: ToolResult) -> list[HostEvent]:
        known = self._calls.pop(event.call_id, None)
        if known is None:
            return []
        index, call = known
        status = "failed" if event.failed else "completed"
        item = {
            "type": "function_call_output",
            "id": new_item_id("fco"),
            "call_id": call["call_id"],
            "output": [{"type": "input_text", "text": event.output}],
            "status": status,
        }
        if event.files:
            item["files"] = [dict(file) for file in event.files]
        if event.embeds:
            item["embeds"] = list(event.embeds)
        closed = self._close_item()
        _, added = self._added(item)
        events = [*closed, added]
        if event.failed:
            events.append(done_event(index, {**call, "status": status}))
        return events

    def _state(self, data: Mapping[str, Any]) -> list[HostEvent]:
        item = {
            "type": STATE_ITEM_TYPE,
            "id": new_item_id("state"),
            "agent": self._agent_id,
            "data": dict(data),
            "status": "completed",
        }
        closed = self._close_item()
        _, added = self._added(item)
        return [*closed, added]

    def _added(self, item: HostEvent) -> tuple[int, HostEvent]:
        index = self._next_index
        self._next_index += 1
        event = {
            "type": "response.output_item.added",
            "output_index": index,
            "item": item,
        }
        return index, event


def new_item_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:24]}"


def done_event(index: int, item: HostEvent) -> HostEvent:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def status_event(text: str, done: bool) -> HostEvent:
    data = {"description": text, "done": done}
    return {"event": {"type": "status", "data": data}}


def source_event(citation: Citation) -> HostEvent:
    """One source in the shape that Open WebUI shows under an answer."""
    title = citation.title or citation.url
    data = {
        "source": {"name": title, "url": citation.url},
        "document": [citation.text or title],
        "metadata": [{"source": citation.url, "name": title}],
    }
    return {"event": {"type": "source", "data": data}}


def file_event(file: FileOutput) -> HostEvent:
    """An image is a delta, which Open WebUI stores itself; a file has its address."""
    if file.mime_type.startswith("image/"):
        image = {"type": "image_url", "image_url": {"url": file.url}}
        return {"choices": [{"index": 0, "delta": {"images": [image]}}]}
    entry = {"type": "file", "url": file.url, "name": file.name or file.url}
    return {"event": {"type": "files", "data": {"files": [entry]}}}


# --- shared/render/joining.py ---

FRAME_SECONDS = 0.016
BACKLOG_EVENTS = 10_000


class EventBuffer:
    """What was said and not yet shown: neighbouring deltas of one kind become one.

    Text is kept in pieces until it is taken, so that a long burst costs one join.
    """

    def __init__(self) -> None:
        self._events: list[AgentEvent] = []
        self._pieces: list[str] = []
        self._kind: type[TextDelta] | type[ReasoningDelta] | None = None
        self._room = asyncio.Event()
        self.filled = asyncio.Event()
        self.ended = asyncio.Event()

    def put(self, event: AgentEvent) -> None:
        if isinstance(event, TextDelta | ReasoningDelta):
            if self._kind is not type(event):
                self._join()
                self._kind = type(event)
            self._pieces.append(event.text)
        else:
            self._join()
            self._events.append(event)
        self.filled.set()

    def take(self) -> list[AgentEvent]:
        self._join()
        events, self._events = self._events, []
        self.filled.clear()
        self._room.set()
        return events

    @property
    def full(self) -> bool:
        return len(self._pieces) + len(self._events) >= BACKLOG_EVENTS

    async def room(self) -> None:
        """Wait until the reader took something: a slow one must not cost memory."""
        self._room.clear()
        await self._room.wait()

    def _join(self) -> None:
        if self._kind is not None:
            self._events.append(self._kind("".join(self._pieces)))
            self._pieces = []
            self._kind = None


async def read_ahead(
    events: AsyncGenerator[AgentEvent, None], buffer: EventBuffer
) -> None:
    """Fill the buffer until the events end; their error is this task's."""
    try:
        async for event in events:
            buffer.put(event)
            if buffer.full:
                await buffer.room()
    finally:
        await events.aclose()
        buffer.ended.set()
        buffer.filled.set()


async def joined(
    events: AsyncGenerator[AgentEvent, None], frame: float = FRAME_SECONDS
) -> AsyncGenerator[AgentEvent, None]:
    """The same events in the same order, deltas joined that come within one frame.

    The first event goes at once, and so does any after a pause of a frame; nothing
    is held for longer. The events are read in a task of their own, which ends with
    this generator, whichever way that ends.
    """
    buffer = EventBuffer()
    reader = asyncio.create_task(read_ahead(events, buffer))
    try:
        while not buffer.ended.is_set() or buffer.filled.is_set():
            await buffer.filled.wait()
            for event in buffer.take():
                yield event
            if not buffer.ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(frame):
                        await buffer.ended.wait()
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


# --- shared/agents/answers.py ---

EventEmitter = Callable[[dict[str, Any]], Awaitable[None]]

answers_log = logging.getLogger("aqueduct.agents")

HTTP_STATUS_OF_CODE = {
    "status_429": 429,
    "status_429_wait": 429,
    "silent_first": 504,
    "silent_between": 504,
    "connect_timeout": 504,
    "unknown_agent": 404,
    "internal": 500,
}


async def guarded(
    events: AsyncGenerator[AgentEvent, None], names: Mapping[str, Any]
) -> AsyncGenerator[AgentEvent, None]:
    """The same events; whatever is raised becomes a last `Failed`.

    Open WebUI loses the partial answer when a started generator raises. `names`
    (agent and host) fill the sentence.
    """
    try:
        async for event in events:
            if isinstance(event, Failed):
                event = Failed(event.code, {**names, **event.fields})
            yield event
    except AqueductError as error:
        answers_log.info("Turn failed: %r", error)
        yield Failed(error.code, {**names, **error.fields})
    except Exception:  # noqa: BLE001
        # The entry point: a fault of ours must end in a sentence, too.
        error_id = uuid.uuid4().hex[:8]
        answers_log.exception("Turn failed, error %s", error_id)
        yield Failed("internal", {**names, "id": error_id})
    finally:
        await events.aclose()


def server_sent(payload: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def event_stream(body: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """Bytes that Open WebUI passes on or reads, one event in each piece.

    A response of our own, where Open WebUI would wrap a generator, keeps our
    finish_reason: its wrapper ends every stream with `stop`.
    """
    return StreamingResponse(body, media_type="text/event-stream")


async def chat_stream(
    events: AsyncGenerator[AgentEvent, None],
    renderer: ChatRenderer,
    emit: EventEmitter | None,
) -> AsyncGenerator[bytes, None]:
    """The turn as output items, for a chat."""
    try:
        async for event in joined(events):
            for item in renderer.render(event):
                yield server_sent(item)
        yield b"data: [DONE]\n\n"
    finally:
        # Stopped: nothing can be yielded any more, but a status must not shimmer on.
        if renderer.open_status and emit is not None:
            await emit(status_event(renderer.open_status, True)["event"])


async def completion_stream(
    events: AsyncGenerator[AgentEvent, None], renderer: CompletionRenderer
) -> AsyncGenerator[bytes, None]:
    """The turn as Chat Completions chunks, for an API caller."""
    async for event in joined(events, frame=0.0):
        for chunk in renderer.render(event):
            yield server_sent(chunk)
    yield b"data: [DONE]\n\n"


async def whole_completion(
    events: AsyncGenerator[AgentEvent, None],
    renderer: CompletionRenderer,
    in_chat: bool,
) -> dict[str, Any] | StreamingResponse:
    """The turn as one Chat Completions object, or its error.

    Open WebUI answers 200 whatever a pipe returns, save for a response of its own
    kind: so an API caller's client gets the status that belongs to the error.
    """
    failed: Failed | None = None
    try:
        async for event in events:
            if isinstance(event, Failed):
                failed = event
            renderer.add(event)
    finally:
        await events.aclose()
    if failed is None:
        return renderer.completion()
    [error] = renderer.render(failed)
    if in_chat:
        return error
    return error_response(failed, error)


def error_response(failed: Failed, error: Mapping[str, Any]) -> StreamingResponse:
    status = HTTP_STATUS_OF_CODE.get(failed.code, 502)
    seconds = failed.fields.get("seconds") if status == 429 else None
    headers = {"Retry-After": str(seconds)} if seconds is not None else {}
    return StreamingResponse(
        iter([orjson.dumps(error)]),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )


# --- shared/backends/base.py ---


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, as an agent needs it.

    `messages` are Chat Completions messages of the whole branch, oldest first;
    `tools` are Chat Completions tool specifications; `params` are request
    parameters in Chat Completions names; `session` is the `SessionState.data` of
    the message this turn answers to, or None.
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, Any] | None = None
    user_id: str = ""
    chat_id: str = ""

    def with_messages(self, *more: Mapping[str, Any]) -> "Turn":
        """The turn that follows when these messages are added."""
        return replace(self, messages=(*self.messages, *more))

    def without_tools(self) -> "Turn":
        """The same turn for an agent that now has to answer."""
        params = {k: v for k, v in self.params.items() if k != "tool_choice"}
        return replace(self, tools=(), params=params)


@dataclass(frozen=True, slots=True)
class DiscoveredModel:
    """A model that a server offers."""

    id: str
    name: str


class Backend(Protocol):
    """One protocol spoken with one agent. Every method may raise UpstreamError."""

    async def discover(self) -> list[DiscoveredModel]:
        """The models or agents the server offers."""

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The agent's events for this turn, ended by `Finished`.

        Closing or cancelling the generator closes the connection.
        """

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Tell the agent to stop what this session runs, where closing is not enough."""

    async def health(self) -> None:
        """Return when the server answers."""


# --- shared/agents/catalogue.py ---

DISCOVERY_TTL = 60.0
DISCOVERY_TIMEOUT = 3.0

# Ids and names, when the server was asked (monotonic), and a refresh under way.
KeptModels = tuple[list[tuple[str, str]], float, "asyncio.Task[None] | None"]

catalogue_log = logging.getLogger("aqueduct.catalogue")


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """One virtual model: `id` is the part after the pipe's own id."""

    id: str
    name: str
    agent: AgentConfig
    model: str


async def discover_models(
    agent: AgentConfig, backend: Backend, kept: dict[str, KeptModels]
) -> list[DiscoveredModel]:
    """What this server offers; the first time waited for, briefly.

    `kept` holds each agent's list between calls. One that is older than a minute is
    still given at once and asked for again in the background, so that a server that
    is down neither loses its models nor delays the list of all the others.
    """
    key = f"{agent.id} {agent.url}"
    models, asked_at, refresh = kept.get(key, ([], float("-inf"), None))
    stale = time.monotonic() - asked_at >= DISCOVERY_TTL
    if stale and (refresh is None or refresh.done()):
        refresh = asyncio.create_task(refresh_models(agent, backend, kept, key))
        kept[key] = (models, asked_at, refresh)
    if refresh is not None and not models:
        await asyncio.wait([refresh])
    return [DiscoveredModel(*model) for model in kept[key][0]]


async def refresh_models(
    agent: AgentConfig, backend: Backend, kept: dict[str, KeptModels], key: str
) -> None:
    """Ask the server for its models; a failure keeps the list it gave last."""
    models = kept.get(key, ([], 0.0, None))[0]
    try:
        async with asyncio.timeout(DISCOVERY_TIMEOUT):
            found = await backend.discover()
        models = [(model.id, model.name) for model in found]
    except (UpstreamError, TimeoutError) as error:
        catalogue_log.warning("Discovery of %s failed: %r", agent.id, error)
    kept[key] = (models, time.monotonic(), None)


def find_entry(config: AgentsConfig, model_id: str) -> AgentEntry | None:
    """The entry that a model id names: `agent`, or `agent.model` of a discovery."""
    agent = config.find(model_id)
    if agent is not None and not agent.discover:
        return AgentEntry(agent.id, agent.label, agent, agent.model)
    agent_id, _, model = model_id.partition(".")
    agent = config.find(agent_id)
    if agent is None or not agent.discover or not model:
        return None
    return AgentEntry(model_id, f"{agent.label}: {model}", agent, model)


# --- shared/agents/tasks.py ---

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

    Agents wrap JSON in prose or fences, or answer in prose alone: the object is cut
    out; a bare title becomes one; anything else gives an empty answer, so that
    prose never ends up as a tag.
    """
    shape = TASK_SHAPES.get(task)
    if shape is None:
        return text.strip()
    key, empty = shape
    found = find_object(text, key)
    if found is None:
        line = text.strip().strip("`\"'*# ").strip()
        usable = isinstance(empty, str) and line and "\n" not in line
        found = {key: line if usable else empty}
    return orjson.dumps(found).decode()


def find_object(text: str, key: str) -> dict[str, Any] | None:
    """The first JSON object in the text that has this key."""
    start = text.find("{")
    while start >= 0:
        end = text.rfind("}")
        while end > start:
            try:
                value = orjson.loads(text[start : end + 1])
            except orjson.JSONDecodeError:
                end = text.rfind("}", start, end)
                continue
            if isinstance(value, dict) and key in value:
                return value
            break
        start = text.find("{", start + 1)
    return None


# --- shared/agents/texts.py ---

AGENT_TEXTS: dict[str, dict[str, str]] = {
    "connection_refused": {
        "en": "{agent} cannot be reached: {host} refuses connections.",
        "de": "{agent} ist nicht erreichbar: {host} nimmt keine Verbindungen an.",
        "es": "No se puede contactar con {agent}: {host} rechaza las conexiones.",
        "fr": "{agent} est injoignable : {host} refuse les connexions.",
        "zh": "无法连接 {agent}：{host} 拒绝连接。",
    },
    "unknown_host": {
        "en": "{agent} cannot be reached: the host name of {host} is not known.",
        "de": "{agent} ist nicht erreichbar: Der Rechnername {host} ist unbekannt.",
        "es": "No se puede contactar con {agent}: el nombre {host} no se conoce.",
        "fr": "{agent} est injoignable : le nom d'hôte {host} est inconnu.",
        "zh": "无法连接 {agent}：找不到主机 {host}。",
    },
    "tls_failed": {
        "en": "{agent} cannot be reached safely: {host} showed no valid certificate.",
        "de": "{agent} ist nicht sicher erreichbar: {host} zeigte kein gültiges Zertifikat.",
        "es": "No hay conexión segura con {agent}: {host} no mostró un certificado válido.",
        "fr": "Pas de liaison sûre avec {agent} : {host} n'a pas de certificat valide.",
        "zh": "无法安全连接 {agent}：{host} 没有有效证书。",
    },
    "unreachable": {
        "en": "{agent} cannot be reached: the connection to {host} failed.",
        "de": "{agent} ist nicht erreichbar: Die Verbindung zu {host} schlug fehl.",
        "es": "No se puede contactar con {agent}: falló la conexión con {host}.",
        "fr": "{agent} est injoignable : la connexion à {host} a échoué.",
        "zh": "无法连接 {agent}：与 {host} 的连接失败。",
    },
    "bad_address": {
        "en": "The address of {agent} cannot be used. An administrator has to mend it.",
        "de": "Die Adresse von {agent} ist unbrauchbar. Ein Administrator muss sie berichtigen.",
        "es": "La dirección de {agent} no es válida. Un administrador debe corregirla.",
        "fr": "L'adresse de {agent} est inutilisable. Un administrateur doit la corriger.",
        "zh": "{agent} 的地址无效，请管理员修正。",
    },
    "connect_timeout": {
        "en": "{agent} cannot be reached: {host} did not answer within {seconds} s.",
        "de": "{agent} ist nicht erreichbar: {host} antwortete nicht binnen {seconds} s.",
        "es": "No se puede contactar con {agent}: {host} no respondió en {seconds} s.",
        "fr": "{agent} est injoignable : {host} n'a pas répondu en {seconds} s.",
        "zh": "无法连接 {agent}：{host} 在 {seconds} 秒内没有响应。",
    },
    "status_401": {
        "en": "{agent} did not accept its key (401). An administrator has to check it.{detail}",
        "de": "{agent} hat den Schlüssel nicht angenommen (401). Ein Administrator muss ihn prüfen.{detail}",
        "es": "{agent} no aceptó la clave (401). Un administrador debe revisarla.{detail}",
        "fr": "{agent} n'a pas accepté la clé (401). Un administrateur doit la vérifier.{detail}",
        "zh": "{agent} 不接受密钥（401），请管理员检查。{detail}",
    },
    "status_403": {
        "en": "{agent} does not allow this (403).{detail}",
        "de": "{agent} erlaubt das nicht (403).{detail}",
        "es": "{agent} no permite esto (403).{detail}",
        "fr": "{agent} ne le permet pas (403).{detail}",
        "zh": "{agent} 不允许此操作（403）。{detail}",
    },
    "status_404": {
        "en": "{host} does not know this model or address (404).{detail}",
        "de": "{host} kennt dieses Modell oder diese Adresse nicht (404).{detail}",
        "es": "{host} no conoce este modelo o esta dirección (404).{detail}",
        "fr": "{host} ne connaît pas ce modèle ou cette adresse (404).{detail}",
        "zh": "{host} 没有此模型或地址（404）。{detail}",
    },
    "status_429": {
        "en": "{agent} is busy (429). Please try again in a minute.{detail}",
        "de": "{agent} ist ausgelastet (429). Bitte in einer Minute noch einmal.{detail}",
        "es": "{agent} está ocupado (429). Inténtelo de nuevo en un minuto.{detail}",
        "fr": "{agent} est occupé (429). Réessayez dans une minute.{detail}",
        "zh": "{agent} 正忙（429），请一分钟后再试。{detail}",
    },
    "status_429_wait": {
        "en": "{agent} is busy (429). Please try again in {seconds} s.{detail}",
        "de": "{agent} ist ausgelastet (429). Bitte in {seconds} s noch einmal.{detail}",
        "es": "{agent} está ocupado (429). Inténtelo de nuevo en {seconds} s.{detail}",
        "fr": "{agent} est occupé (429). Réessayez dans {seconds} s.{detail}",
        "zh": "{agent} 正忙（429），请 {seconds} 秒后再试。{detail}",
    },
    "status_5xx": {
        "en": "{agent} has a fault on its own side ({status}). Please try again later.{detail}",
        "de": "{agent} hat selbst eine Störung ({status}). Bitte später noch einmal.{detail}",
        "es": "{agent} tiene un fallo propio ({status}). Inténtelo más tarde.{detail}",
        "fr": "{agent} a une panne de son côté ({status}). Réessayez plus tard.{detail}",
        "zh": "{agent} 自身出现故障（{status}），请稍后再试。{detail}",
    },
    "status_other": {
        "en": "{agent} refused the request ({status}).{detail}",
        "de": "{agent} hat die Anfrage abgelehnt ({status}).{detail}",
        "es": "{agent} rechazó la petición ({status}).{detail}",
        "fr": "{agent} a refusé la requête ({status}).{detail}",
        "zh": "{agent} 拒绝了请求（{status}）。{detail}",
    },
    "said_error": {
        "en": "{agent} reported an error.{detail}",
        "de": "{agent} meldete einen Fehler.{detail}",
        "es": "{agent} informó de un error.{detail}",
        "fr": "{agent} a signalé une erreur.{detail}",
        "zh": "{agent} 报告了错误。{detail}",
    },
    "cut_short": {
        "en": "The answer of {agent} broke off: {host} closed the connection.",
        "de": "Die Antwort von {agent} brach ab: {host} schloss die Verbindung.",
        "es": "La respuesta de {agent} se cortó: {host} cerró la conexión.",
        "fr": "La réponse de {agent} s'est interrompue : {host} a fermé la connexion.",
        "zh": "{agent} 的回答中断：{host} 关闭了连接。",
    },
    "unreadable": {
        "en": "{agent} sent something that cannot be read; the answer ends here.",
        "de": "{agent} sandte etwas Unlesbares; die Antwort endet hier.",
        "es": "{agent} envió algo ilegible; la respuesta termina aquí.",
        "fr": "{agent} a envoyé des données illisibles ; la réponse s'arrête ici.",
        "zh": "{agent} 发来无法读取的内容，回答到此为止。",
    },
    "line_too_long": {
        "en": "{agent} sent a line of over {limit} bytes; the answer ends here.",
        "de": "{agent} sandte eine Zeile von über {limit} Bytes; die Antwort endet hier.",
        "es": "{agent} envió una línea de más de {limit} bytes; la respuesta termina aquí.",
        "fr": "{agent} a envoyé une ligne de plus de {limit} octets ; la réponse s'arrête ici.",
        "zh": "{agent} 发来超过 {limit} 字节的一行，回答到此为止。",
    },
    "silent_first": {
        "en": "{agent} did not begin to answer within {seconds} s.",
        "de": "{agent} hat binnen {seconds} s nicht zu antworten begonnen.",
        "es": "{agent} no empezó a responder en {seconds} s.",
        "fr": "{agent} n'a pas commencé à répondre en {seconds} s.",
        "zh": "{agent} 在 {seconds} 秒内没有开始回答。",
    },
    "silent_between": {
        "en": "{agent} fell silent: nothing came for {seconds} s.",
        "de": "{agent} ist verstummt: {seconds} s lang kam nichts mehr.",
        "es": "{agent} se quedó en silencio: no llegó nada durante {seconds} s.",
        "fr": "{agent} s'est tu : rien n'est venu pendant {seconds} s.",
        "zh": "{agent} 没有动静：{seconds} 秒内没有任何内容。",
    },
    "unknown_agent": {
        "en": "There is no agent “{agent}” any more. Please choose another model.",
        "de": "Den Agenten „{agent}“ gibt es nicht mehr. Bitte ein anderes Modell wählen.",
        "es": "El agente «{agent}» ya no existe. Elija otro modelo.",
        "fr": "L'agent « {agent} » n'existe plus. Choisissez un autre modèle.",
        "zh": "代理“{agent}”已不存在，请选择其他模型。",
    },
    "tool_not_allowed": {
        "en": "{agent} wanted to use “{tool}”, which it may not use here.",
        "de": "{agent} wollte „{tool}“ benutzen, was hier nicht erlaubt ist.",
        "es": "{agent} quiso usar «{tool}», que aquí no está permitido.",
        "fr": "{agent} voulait utiliser « {tool} », ce qui n'est pas permis ici.",
        "zh": "{agent} 想使用“{tool}”，但这里不允许。",
    },
    "tool_recovered": {
        "en": "Recovered a call to {tool}",
        "de": "Aufruf von {tool} wiederhergestellt",
        "es": "Se recuperó una llamada a {tool}",
        "fr": "Appel à {tool} récupéré",
        "zh": "已恢复对 {tool} 的调用",
    },
    "tool_call_cut": {
        "en": "*(A tool call was cut off by the length limit and was not run.)*",
        "de": "*(Ein Werkzeugaufruf wurde durch die Längengrenze abgeschnitten und nicht ausgeführt.)*",
        "es": "*(El límite de longitud cortó una llamada a una herramienta; no se ejecutó.)*",
        "fr": "*(Un appel d'outil a été coupé par la limite de longueur et n'a pas été exécuté.)*",
        "zh": "*（工具调用因长度限制被截断，没有执行。）*",
    },
    "internal": {
        "en": "Something went wrong inside Aqueduct. The server log has it under {id}.",
        "de": "In Aqueduct ging etwas schief. Im Serverprotokoll steht es unter {id}.",
        "es": "Algo falló dentro de Aqueduct. Está en el registro del servidor como {id}.",
        "fr": "Une erreur s'est produite dans Aqueduct. Elle figure au journal sous {id}.",
        "zh": "Aqueduct 内部出错，服务器日志编号 {id}。",
    },
}


# --- shared/agents/tool_rounds.py ---


class ToolRunner(Protocol):
    """Whoever can run tools on this side."""

    def knows(self, name: str) -> bool: ...

    async def run(self, call: ToolCallCompleted) -> ToolResult: ...


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """What becomes of an agent's tool calls.

    `specs` maps the names of the offered tools to their parameter schemas.
    `runner` is set where the calls are run here (mode `execute`).
    """

    mode: Literal["native", "execute", "passthrough", "suppress"]
    unknown: Literal["error", "ignore", "passthrough"]
    max_rounds: int
    specs: Mapping[str, Mapping[str, Any]]
    runner: ToolRunner | None = None

    def hidden(self, name: str) -> bool:
        """Whether a call of this tool is shown only if the agent runs it itself."""
        if self.mode == "suppress":
            return True
        return self.unknown == "ignore" and name not in self.specs


@dataclass(slots=True)
class ToolRound:
    """What one model call said: passes events on, holds back hidden calls."""

    policy: ToolPolicy
    text: list[str] = field(default_factory=list)
    pending: dict[str, ToolCallCompleted] = field(default_factory=dict)
    finished: Finished = field(default_factory=Finished)
    _held: dict[str, list[AgentEvent]] = field(default_factory=dict)
    _held_names: dict[str, str] = field(default_factory=dict)

    @property
    def dropped(self) -> list[str]:
        """The tools of the calls that were held back to the end."""
        return list(self._held_names.values())

    def take(self, event: AgentEvent) -> list[AgentEvent]:
        """The events that may be shown now that this one came."""
        match event:
            case TextDelta(text):
                self.text.append(text)
            case Finished():
                self.finished = event
                return []
            case ToolCallStarted(call_id, name) if self.policy.hidden(name):
                self._held[call_id] = [event]
                self._held_names[call_id] = name
                return []
            case ToolCallArgumentsDelta(call_id) if call_id in self._held:
                self._held[call_id].append(event)
                return []
            case ToolCallCompleted(call_id):
                if call_id in self._held:
                    self._held[call_id].append(event)
                    return []
                self.pending[call_id] = event
            case ToolResult(call_id):
                self.pending.pop(call_id, None)
                self._held_names.pop(call_id, None)
                return [*self._held.pop(call_id, []), event]
        return [event]


async def answer_with_tools(
    run: Callable[[Turn], AsyncGenerator[AgentEvent, None]],
    turn: Turn,
    policy: ToolPolicy,
) -> AsyncGenerator[AgentEvent, None]:
    """An agent's answer, its tool calls treated by the policy.

    What is run or answered here goes back to the agent in a further model call, at
    most `max_rounds` times; then the agent is asked once more without tools. Calls
    that are left without a result when this ends are for the caller to run.
    """
    said = False
    for rounds_left in range(policy.max_rounds, -1, -1):
        if not rounds_left:
            turn = turn.without_tools()
        current = ToolRound(policy)
        events = run(turn)
        try:
            async for event in events:
                for shown in current.take(event):
                    yield shown
        finally:
            await events.aclose()
        said = said or bool(current.text)
        results = await settle_calls(current.pending, policy) if rounds_left else []
        for result in results:
            yield result
        answered = {result.call_id for result in results}
        if not answered or answered != set(current.pending):
            break
        turn = turn.with_messages(*round_messages(current, results))
    if current.dropped and not said and not current.pending:
        yield Failed("tool_not_allowed", {"tool": current.dropped[0]})
    yield current.finished


async def settle_calls(
    pending: Mapping[str, ToolCallCompleted], policy: ToolPolicy
) -> list[ToolResult]:
    """The results of the calls that are ours to run or to refuse, side by side."""
    results = await asyncio.gather(
        *(settle_call(call, policy) for call in pending.values())
    )
    return [result for result in results if result is not None]


async def settle_call(call: ToolCallCompleted, policy: ToolPolicy) -> ToolResult | None:
    """The result of one call, or None where it is the caller's to run."""
    runs_here = policy.runner is not None and policy.runner.knows(call.name)
    if call.name not in policy.specs and not runs_here:
        if policy.mode == "passthrough" or policy.unknown != "error":
            return None
        unknown = f"There is no tool `{call.name}`."
        return failed_result(call, {"error": unknown, "tools": [*policy.specs]})
    if policy.runner is None or not runs_here:
        return None
    error = arguments_error(call, policy.specs.get(call.name) or {})
    if error is not None:
        return failed_result(call, error)
    return await policy.runner.run(call)


def failed_result(call: ToolCallCompleted, error: Mapping[str, Any]) -> ToolResult:
    return ToolResult(call.call_id, orjson.dumps(error).decode(), failed=True)


def arguments_error(
    call: ToolCallCompleted, schema: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What a model needs to mend its call, or None where the call can be run.

    Names what is missing and gives an example and the schema.
    """
    try:
        arguments = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        arguments = None
    help_ = {"example": example_arguments(schema), "schema": dict(schema)}
    if not isinstance(arguments, dict):
        return {"error": "The arguments are not a JSON object.", **help_}
    missing = [name for name in schema.get("required") or () if name not in arguments]
    if not missing:
        return None
    return {"error": "Required arguments are missing.", "missing": missing, **help_}


EXAMPLE_VALUES: Mapping[str, Any] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


def example_arguments(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A value of the right type for each required property of a JSON schema."""
    properties = schema.get("properties") or {}
    names = schema.get("required") or list(properties)[:1]
    return {name: example_value(properties.get(name) or {}) for name in names}


def example_value(schema: Mapping[str, Any]) -> Any:
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    return EXAMPLE_VALUES.get(str(kind), "text")


def round_messages(
    current: ToolRound, results: list[ToolResult]
) -> list[dict[str, Any]]:
    """A round as messages: what the agent said and called, and what came back."""
    calls = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in current.pending.values()
    ]
    said = "".join(current.text) or None
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": said, "tool_calls": calls}
    ]
    for result in results:
        messages.append(
            {
                "role": "tool",
                "tool_call_id": result.call_id,
                "content": result.output,
            }
        )
    return messages


# --- shared/host/chats.py ---


async def stored_output(chat_id: str, message_id: str) -> list[dict[str, Any]]:
    """The output items of a stored message; empty where there is none.

    Temporary chats (`local:…`) and channels are not stored.
    """
    from open_webui.models.chats import Chats

    if not chat_id or not message_id or ":" in chat_id:
        return []
    message = await Chats.get_message_by_id_and_message_id(chat_id, message_id)
    output = message.get("output") if isinstance(message, Mapping) else None
    return [item for item in output or [] if isinstance(item, dict)]


# --- shared/host/files.py ---


async def read_user_file(
    file_id: str, user: Mapping[str, Any], limit: int
) -> tuple[str, str, bytes] | None:
    """Name, MIME type and bytes of a stored file this user may read.

    None where there is no such file, it is not this user's to read, or it is
    larger than `limit` bytes.
    """
    from open_webui.models.files import Files
    from open_webui.models.users import UserModel
    from open_webui.storage.provider import Storage
    from open_webui.utils.access_control.files import has_access_to_file

    file = await Files.get_file_by_id(file_id)
    if file is None:
        return None
    person = UserModel(**{k: v for k, v in user.items() if k != "valves"})
    if file.user_id != person.id and not await has_access_to_file(
        file.id, "read", person
    ):
        return None
    path = Path(await asyncio.to_thread(Storage.get_file, file.path))
    data = await asyncio.to_thread(read_within, path, limit)
    if data is None:
        return None
    mime = (file.meta or {}).get("content_type") or mimetypes.guess_type(path.name)[0]
    return file.filename, mime or "application/octet-stream", data


def read_within(path: Path, limit: int) -> bytes | None:
    """The file's bytes, or None where it is gone or larger than `limit`."""
    if not path.is_file() or path.stat().st_size > limit:
        return None
    return path.read_bytes()


# --- shared/agents/turns.py ---

# What Open WebUI keeps in a request for itself; everything else is a parameter.
HOST_KEYS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "metadata",
        "params",
        "files",
        "features",
        "variables",
        "chat_id",
        "session_id",
        "id",
        "message_id",
        "message_ids",
        "parent_id",
        "parent_message",
        "user_message",
        "folder_id",
        "filter_ids",
        "tool_ids",
        "tool_servers",
        "skill_ids",
        "terminal_id",
        "background_tasks",
        "model_item",
        "user",
        "num_ctx",
        "keep_alive",
        "chat_variables",
        "function_calling",
    }
)
MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")
MAX_ATTACHED_BYTES = 20 * 1024 * 1024


def build_turn(
    agent: AgentConfig,
    body: Mapping[str, Any],
    *,
    user_id: str = "",
    chat_id: str = "",
    session: Mapping[str, Any] | None = None,
    with_tools: bool = True,
) -> Turn:
    """The turn for this request: history without our own cards, the agent's prompt.

    The chat's own parameters win over the agent's.
    """
    offered = with_tools and agent.tools != "suppress"
    tools = tuple(body.get("tools") or ()) if offered else ()
    params = {k: v for k, v in body.items() if k not in HOST_KEYS and k[0] != "_"}
    if not tools:
        params.pop("tool_choice", None)
        params.pop("parallel_tool_calls", None)
    messages = undo_own_cards(body.get("messages") or (), tool_names(tools))
    return Turn(
        messages=tuple(add_system_prompt(messages, agent.system)),
        tools=tools,
        params={**agent.params, **params},
        session=session,
        user_id=user_id,
        chat_id=chat_id,
    )


def tool_names(tools: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The names in Chat Completions tool specifications."""
    return frozenset(
        str((tool.get("function") or tool).get("name", "")) for tool in tools
    )


def call_ids(messages: Iterable[Mapping[str, Any]]) -> set[str]:
    """The ids of all tool calls in these messages."""
    return {
        str(call.get("id"))
        for message in messages
        for call in message.get("tool_calls") or ()
    }


def undo_own_cards(
    messages: Iterable[Mapping[str, Any]], offered: frozenset[str]
) -> list[dict[str, Any]]:
    """History without the calls of tools that this request does not offer.

    Open WebUI replays every card of a chat as a tool call, also those of tools an
    agent ran by itself, which its server would not know as its caller's.
    """
    dropped: set[str] = set()
    kept: list[dict[str, Any]] = []
    for message in messages:
        if message.get("role") == "tool" and message.get("tool_call_id") in dropped:
            continue
        clean = {key: message[key] for key in MESSAGE_KEYS if key in message}
        calls = clean.pop("tool_calls", None) or []
        known = [c for c in calls if (c.get("function") or {}).get("name") in offered]
        dropped |= call_ids([{"tool_calls": calls}]) - call_ids([{"tool_calls": known}])
        if known:
            clean["tool_calls"] = known
        elif calls and not clean.get("content"):
            continue
        previous = kept[-1] if kept else {}
        if can_merge(previous, clean):
            previous["content"] = f"{previous['content']}\n\n{clean['content']}"
        else:
            kept.append(clean)
    return kept


def can_merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two messages are halves of one answer, cut where a card was taken out."""
    return all(
        message.get("role") == "assistant"
        and isinstance(message.get("content"), str)
        and not message.get("tool_calls")
        for message in (first, second)
    )


def add_system_prompt(
    messages: list[dict[str, Any]], system: str
) -> list[dict[str, Any]]:
    """The agent's prompt before the chat's, in one system message."""
    if not system:
        return messages
    if messages and messages[0].get("role") == "system":
        content = messages[0].get("content")
        if isinstance(content, str):
            content = f"{system}\n\n{content}"
        else:
            content = [{"type": "text", "text": system}, *(content or [])]
        return [{**messages[0], "content": content}, *messages[1:]]
    return [{"role": "system", "content": system}, *messages]


async def parent_session(
    agent_id: str, metadata: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """The session that the message before this turn left behind, or None.

    Reading it from the parent makes an edit or a regeneration fork by itself.
    """
    parent_id = (metadata.get("user_message") or {}).get("parentId")
    output = await stored_output(metadata.get("chat_id") or "", parent_id or "")
    for item in reversed(output):
        if item.get("type") == STATE_ITEM_TYPE and item.get("agent") == agent_id:
            return item.get("data")
    return None


async def attach_files(
    body: Mapping[str, Any], files: Iterable[Mapping[str, Any]], user: Mapping[str, Any]
) -> dict[str, Any]:
    """The request with the user's files as `file` parts of the last user message.

    Format: OpenAI API reference, file inputs: {type: file, file: {filename,
    file_data: data URL}}. Files over 20 MiB stay with the text Open WebUI extracted.
    """
    parts = []
    for entry in files:
        file_id = entry.get("id") or (entry.get("file") or {}).get("id")
        if entry.get("type") != "file" or not file_id:
            continue
        found = await read_user_file(file_id, user, MAX_ATTACHED_BYTES)
        if found is not None:
            name, mime, data = found
            url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
            parts.append({"type": "file", "file": {"filename": name, "file_data": url}})
    messages = [dict(message) for message in body.get("messages") or ()]
    for message in reversed(messages):
        if message.get("role") == "user" and parts:
            content = message.get("content") or ""
            if isinstance(content, str):
                content = [{"type": "text", "text": content}]
            message["content"] = [*content, *parts]
            break
    return {**body, "messages": messages}


# --- shared/backends/http.py ---

ERROR_BODY_BYTES = 64 * 1024
ERROR_DETAIL_CHARS = 300
TRAILER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, to the first token, and between one token and the next."""

    connect: float = 10.0
    first_token: float = 120.0
    between_tokens: float = 60.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is and how to speak to it.

    `agent` is the name users know, for error sentences. `headers` may carry
    secrets, hence no repr.
    """

    agent: str
    url: str
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeouts: Timeouts = Timeouts()

    @property
    def host(self) -> str:
        """Host and port, the part of the address that may be shown."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def request_headers(self) -> dict[str, str]:
        """The configured headers win over the ones made from the key."""
        headers = {"accept": "text/event-stream, application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        return headers | {name.lower(): value for name, value in self.headers.items()}


def new_http_client() -> httpx.AsyncClient:
    """A client for all agents: no limit on connections, no time limit on reads.

    Reads are timed by `SilenceClock`, which knows a token from a keep-alive.
    """
    return httpx.AsyncClient(
        timeout=httpx.Timeout(30.0, read=None, pool=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
    )


class SilenceClock:
    """Ends a read that waits too long for a token, for the price of two stores.

    A timer per read would cost more than reading a chunk does, so one timer looks
    now and then whether its deadline has moved. The clock stands still between
    `pause` and `resume`: the time our own reader takes is not the upstream's.
    """

    def __init__(self, timeouts: Timeouts, scope: asyncio.Timeout) -> None:
        self._loop = asyncio.get_running_loop()
        self._between = timeouts.between_tokens
        self._scope = scope
        self._deadline = self._loop.time() + timeouts.first_token
        self._paused = False
        self._timer = self._loop.call_at(self._deadline, self._look)
        self.heard = False
        self.complete = False

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self.heard:
            self._deadline = self._loop.time() + self._between

    def token(self) -> None:
        """The upstream said something of substance: from now on gaps are timed."""
        self.heard = True

    def answer_complete(self) -> None:
        """All of substance was said; what trails behind (usage) gets a short time."""
        self.heard = self.complete = True
        self._between = min(self._between, TRAILER_SECONDS)

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._paused:
            self._timer = self._loop.call_at(now + self._between, self._look)
        elif now >= self._deadline:
            self._scope.reschedule(now)
        else:
            self._timer = self._loop.call_at(self._deadline, self._look)


@contextmanager
def upstream_errors(endpoint: Endpoint) -> Iterator[None]:
    """Turn every error of the HTTP library into one of ours."""
    try:
        yield
    except httpx.HTTPError as error:
        raise as_upstream_error(error, endpoint) from error
    except httpx.InvalidURL as error:
        raise UpstreamUnreachable("bad_address") from error


def as_upstream_error(error: httpx.HTTPError, endpoint: Endpoint) -> UpstreamError:
    """Our error for one of the library's."""
    if isinstance(error, httpx.ConnectTimeout):
        return UpstreamSilent("connect_timeout", seconds=endpoint.timeouts.connect)
    if isinstance(error, httpx.ConnectError):
        return UpstreamUnreachable(connect_failure_code(error))
    if isinstance(error, httpx.UnsupportedProtocol):
        return UpstreamUnreachable("bad_address")
    return UpstreamBroken("cut_short")


def connect_failure_code(error: BaseException) -> str:
    """Which of the four ways a connection failed, from the chain of causes."""
    seen: list[BaseException] = [error]
    for cause in seen:
        if isinstance(cause, ssl.SSLError):
            return "tls_failed"
        if isinstance(cause, socket.gaierror):
            return "unknown_host"
        if isinstance(cause, ConnectionRefusedError):
            return "connection_refused"
        if isinstance(cause, BaseExceptionGroup):
            seen.extend(cause.exceptions)
        linked = cause.__cause__ or cause.__context__
        if linked is not None and linked not in seen:
            seen.append(linked)
    return "unreachable"


@asynccontextmanager
async def open_stream(
    client: httpx.AsyncClient, endpoint: Endpoint, path: str, body: Mapping[str, Any]
) -> AsyncIterator[tuple[httpx.Response, SilenceClock]]:
    """POST JSON and give the response, its status checked, with the silence clock.

    Raises UpstreamError for everything that goes wrong, also inside the block;
    what goes wrong after `clock.answer_complete()` only ends the block. The block
    has to be entered and left in one task.
    """
    timeouts = endpoint.timeouts
    with upstream_errors(endpoint):
        try:
            async with asyncio.timeout(None) as scope:
                clock = SilenceClock(timeouts, scope)
                try:
                    async with client.stream(
                        "POST",
                        endpoint.url.rstrip("/") + path,
                        content=orjson.dumps(body),
                        headers={
                            **endpoint.request_headers(),
                            "content-type": "application/json",
                        },
                        timeout=httpx.Timeout(
                            30.0, connect=timeouts.connect, read=None, pool=None
                        ),
                    ) as response:
                        await check_status(response, endpoint)
                        yield response, clock
                finally:
                    clock.close()
        except (TimeoutError, httpx.TransportError) as error:
            if clock.complete:
                return
            if isinstance(error, httpx.TransportError):
                raise
            code = "silent_between" if clock.heard else "silent_first"
            limit = timeouts.between_tokens if clock.heard else timeouts.first_token
            raise UpstreamSilent(code, seconds=limit) from error


async def read_bytes(
    response: httpx.Response, clock: SilenceClock
) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, the clock running only while waiting for it."""
    async for data in response.aiter_bytes():
        clock.pause()
        yield data
        clock.resume()


async def get_json(client: httpx.AsyncClient, endpoint: Endpoint, path: str) -> Any:
    """GET a JSON document within the connect and 5 more seconds."""
    limit = endpoint.timeouts.connect + 5.0
    with upstream_errors(endpoint):
        try:
            async with asyncio.timeout(limit):
                response = await client.get(
                    endpoint.url.rstrip("/") + path, headers=endpoint.request_headers()
                )
            await check_status(response, endpoint)
            return orjson.loads(response.content)
        except TimeoutError as error:
            raise UpstreamSilent("silent_first", seconds=limit) from error
        except orjson.JSONDecodeError as error:
            raise UpstreamBroken("unreadable") from error


async def check_status(response: httpx.Response, endpoint: Endpoint) -> None:
    """Raise UpstreamRefused, with what the server said of it, unless the status is 2xx."""
    if response.is_success:
        return
    status = response.status_code
    detail = hide_secrets(await read_error_detail(response), endpoint)
    code = {401: "status_401", 403: "status_403", 404: "status_404"}.get(status)
    fields: dict[str, Any] = {"detail": detail}
    if status == 429:
        seconds = parse_retry_after(response.headers.get("retry-after"))
        code = "status_429" if seconds is None else "status_429_wait"
        fields["seconds"] = seconds
    elif code is None:
        code = "status_5xx" if status >= 500 else "status_other"
    raise UpstreamRefused(code, status, **fields)


async def read_error_detail(response: httpx.Response) -> str:
    """The server's own sentence about its refusal, clipped, or ""."""
    body = b""
    try:
        async with asyncio.timeout(5.0):
            if response.is_stream_consumed:
                body = response.content
            else:
                async for data in response.aiter_bytes():
                    body += data
                    if len(body) > ERROR_BODY_BYTES:
                        break
    except (TimeoutError, httpx.TransportError):
        return ""
    try:
        return error_detail(orjson.loads(body))
    except orjson.JSONDecodeError:
        return ""


def error_detail(payload: Any) -> str:
    """The sentence in an error object of any of the usual shapes, clipped.

    Shapes: {"error": {"message"}}, {"error": "…"}, {"detail"}, {"message"}.
    """
    for key in ("error", "detail", "message", "msg"):
        if isinstance(payload, Mapping) and payload.get(key):
            return error_detail(payload[key])
    if isinstance(payload, list) and payload:
        return error_detail(payload[0])
    if not isinstance(payload, str):
        return ""
    text = " ".join(payload.split())
    if len(text) > ERROR_DETAIL_CHARS:
        text = text[:ERROR_DETAIL_CHARS].rstrip() + "…"
    return text


def hide_secrets(text: str, endpoint: Endpoint) -> str:
    """The text without the endpoint's key or header values: servers echo them."""
    for secret in (endpoint.key, *endpoint.headers.values()):
        if len(secret) >= 4:
            text = text.replace(secret, "•••")
    return text


def parse_retry_after(value: str | None) -> int | None:
    """Seconds to wait from a Retry-After header (RFC 9110, 10.2.3), or None."""
    if not value:
        return None
    if value.strip().isdigit():
        return int(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0, round(moment.timestamp() - time.time()))


# --- shared/backends/think_tags.py ---

# The tags Open WebUI itself reads as thoughts, opening and closing.
THINK_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<reason>": "</reason>",
    "<reasoning>": "</reasoning>",
    "<thought>": "</thought>",
    "<Thought>": "</Thought>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "◁think▷": "◁/think▷",
}


def held_suffix(text: str, marker: str) -> int:
    """How many characters at the end of `text` may be the beginning of `marker`."""
    for size in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-size:]):
            return size
    return 0


class ThinkTagSplitter:
    """Tells thoughts from text in a stream of text.

    Only a tag that opens the answer counts: further on, text about tags is far
    more likely than thoughts. `passing` is True once nothing is looked for, so
    that the caller can spare itself the call.
    """

    def __init__(self) -> None:
        self.passing = False
        self._closer = ""
        self._held = ""
        self._trim = False

    def feed(self, text: str) -> list[AgentEvent]:
        if self.passing:
            return [TextDelta(text)]
        text = self._held + text
        self._held = ""
        if not self._closer:
            return self._look_for_opener(text)
        return self._look_for_closer(text)

    def finish(self) -> list[AgentEvent]:
        """What was held back, when the stream has ended."""
        held, self._held = self._held, ""
        self.passing = True
        if not held:
            return []
        return [ReasoningDelta(held) if self._closer else TextDelta(held)]

    def _look_for_opener(self, text: str) -> list[AgentEvent]:
        start = text.lstrip()
        if self._trim:
            text = start
        if not start or any(tag.startswith(start) for tag in THINK_TAGS):
            self._held = text
            return []
        for opener, closer in THINK_TAGS.items():
            if start.startswith(opener):
                self._closer = closer
                return self._look_for_closer(start[len(opener) :].lstrip("\n"))
        self.passing = True
        return [TextDelta(text)]

    def _look_for_closer(self, text: str) -> list[AgentEvent]:
        thought, found, rest = text.partition(self._closer)
        if found:
            # The answer may open a second thought; blank lines between are nobody's.
            self._closer = ""
            self._trim = True
            events: list[AgentEvent] = [ReasoningDelta(thought)] if thought else []
            return events + (self._look_for_opener(rest) if rest else [])
        held = held_suffix(text, self._closer)
        if held:
            self._held = text[-held:]
            text = text[:-held]
        return [ReasoningDelta(text)] if text else []


# --- shared/backends/tool_fragments.py ---


@dataclass(slots=True)
class PartialToolCall:
    """A call under way."""

    call_id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    completed: bool = False


class ToolCallAssembler:
    """Merges fragments by index into calls, and tells of them as they grow.

    Servers differ: some leave `index` out, some give every call the index 0 and a
    new id, some send arguments as an object. All of these are one call each here.
    """

    def __init__(self) -> None:
        self._calls: list[PartialToolCall] = []
        self._by_index: dict[int, PartialToolCall] = {}

    def feed(self, fragments: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        """Fragments of `delta.tool_calls` in, events out."""
        events: list[AgentEvent] = []
        for fragment in fragments:
            function = fragment.get("function") or {}
            call = self._find(fragment, function)
            name = function.get("name")
            if name and not call.name:
                call.name = name
                events.append(ToolCallStarted(call.call_id, name))
                held = "".join(call.arguments)
                if held:
                    events.append(ToolCallArgumentsDelta(call.call_id, held))
            arguments = function.get("arguments")
            if arguments is None or arguments == "":
                continue
            if not isinstance(arguments, str):
                arguments = orjson.dumps(arguments).decode()
            call.arguments.append(arguments)
            if call.name:
                events.append(ToolCallArgumentsDelta(call.call_id, arguments))
        return events

    def complete(self) -> list[AgentEvent]:
        """Every call begun so far is whole; a call without arguments has `{}`."""
        events: list[AgentEvent] = []
        for call in self._calls:
            if not call.completed and call.name:
                call.completed = True
                arguments = "".join(call.arguments).strip() or "{}"
                events.append(ToolCallCompleted(call.call_id, call.name, arguments))
        self._by_index.clear()
        return events

    def _find(
        self, fragment: Mapping[str, Any], function: Mapping[str, Any]
    ) -> PartialToolCall:
        index = fragment.get("index")
        call_id = fragment.get("id") or ""
        if index is None:
            same = [c for c in self._calls if not c.completed and c.call_id == call_id]
            known = same[-1] if same else None
            if known is None and not call_id and not function.get("name"):
                known = self._calls[-1] if self._calls else None
        else:
            known = self._by_index.get(index)
            if (
                known is not None
                and call_id
                and call_id != known.call_id
                and function.get("name")
            ):
                known = None
        if known is None:
            known = PartialToolCall(call_id or f"call_{uuid.uuid4().hex[:24]}")
            self._calls.append(known)
            if index is not None:
                self._by_index[index] = known
        return known


# --- shared/backends/openai_chat.py ---

# What servers write, in the words of the API; all else is a normal end.
FINISH_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def chat_completions_body(model: str, turn: Turn) -> dict[str, Any]:
    """The request for this turn, always streaming; parameters of None are left out."""
    body: dict[str, Any] = {
        "stream_options": {"include_usage": True},
        **turn.params,
        "model": model,
        "messages": list(turn.messages),
        "stream": True,
    }
    if turn.tools:
        body["tools"] = list(turn.tools)
    return {key: value for key, value in body.items() if value is not None}


class ChatCompletionsDecoder:
    """Chunks of one Chat Completions stream in, agent events out.

    `ended` turns True with the finish_reason or `[DONE]`: a stream that stops
    before was cut short.
    """

    def __init__(self) -> None:
        self.ended = False
        self._think = ThinkTagSplitter()
        self._tools = ToolCallAssembler()
        self._usage: dict[str, Any] = {}
        self._cited: set[str] = set()
        self._reason = ""

    def feed(self, name: str, payload: Any) -> list[AgentEvent]:
        """One decoded chunk. Raises UpstreamBroken where it reports an error."""
        if not isinstance(payload, dict):
            raise UpstreamBroken("unreadable")
        if payload.get("error") or name == "error":
            raise UpstreamBroken("said_error", detail=error_detail(payload))
        events: list[AgentEvent] = []
        choices = payload.get("choices")
        if choices:
            choice = choices[0]
            delta = choice.get("delta") or choice.get("message")
            if delta:
                events = self._delta(delta)
            if choice.get("finish_reason"):
                self._reason = choice["finish_reason"]
                self.ended = True
        if payload.get("usage"):
            self._usage.update(payload["usage"])
        if payload.get("timings"):  # llama.cpp
            self._usage.update(payload["timings"])
        for key in ("search_results", "citations", "sources"):
            if payload.get(key):  # Perplexity, Open WebUI
                events.extend(self._cite(payload[key]))
        return events

    def done(self) -> None:
        """The `[DONE]` line came."""
        self.ended = True

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the stream has ended."""
        events = [*self._think.finish(), *self._tools.complete()]
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished(FINISH_REASONS.get(self._reason, "stop"))]

    def _delta(self, delta: Mapping[str, Any]) -> list[AgentEvent]:
        content = delta.get("content")
        if delta.get("role") == "tool":  # a server that ran the tool itself
            return [
                *self._tools.complete(),
                ToolResult(str(delta.get("tool_call_id", "")), content_text(content)),
            ]
        events: list[AgentEvent] = []
        reasoning = (
            delta.get("reasoning_content")
            or delta.get("reasoning")
            or delta.get("thinking")
        )
        if reasoning:
            events.append(ReasoningDelta(content_text(reasoning)))
        if content:
            if isinstance(content, str):
                events.extend(self._text(content))
            else:
                events.extend(self._parts(content))
        if delta.get("refusal"):
            events.append(TextDelta(str(delta["refusal"])))
        calls = delta.get("tool_calls")
        if not calls and delta.get("function_call"):  # before tools had that name
            calls = [{"index": 0, "function": delta["function_call"]}]
        if calls:
            events.extend(self._think.finish())
            events.extend(self._tools.feed(calls))
        if delta.get("images"):
            events.extend(image_outputs(delta["images"]))
        if delta.get("annotations"):
            events.extend(self._cite(delta["annotations"]))
        return events

    def _text(self, text: str) -> list[AgentEvent]:
        return [TextDelta(text)] if self._think.passing else self._think.feed(text)

    def _parts(self, parts: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        for part in parts:
            kind = part.get("type")
            if kind == "thinking":  # Mistral
                events.append(ReasoningDelta(content_text(part.get("thinking"))))
            elif kind == "image_url":
                events.extend(image_outputs([part]))
            elif part.get("text"):
                events.extend(self._text(str(part["text"])))
        return events

    def _cite(self, entries: Iterable[Any]) -> list[AgentEvent]:
        """Each source once, however often the server repeats its list."""
        events: list[AgentEvent] = []
        for entry in entries:
            citation = read_citation(entry)
            if citation and citation.url not in self._cited:
                self._cited.add(citation.url)
                events.append(citation)
        return events


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or parts with `text` in them."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            str(part.get("text") or part.get("refusal") or "")
            for part in content
            if isinstance(part, dict)
        )
    return "" if content is None else str(content)


def image_outputs(images: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
    """Images of `delta.images` or of content parts: {image_url: {url}} or {image_url}."""
    events: list[AgentEvent] = []
    for image in images:
        link = image.get("image_url")
        url = link.get("url") if isinstance(link, Mapping) else link
        if url:
            mime = url[5:].partition(";")[0] if url.startswith("data:") else "image/*"
            events.append(FileOutput(url, mime))
    return events


def read_citation(entry: Any) -> Citation | None:
    """A source in any of its shapes, or None where it has no address.

    Shapes: "https://…"; {url, title}; {type: url_citation, url_citation: {…}};
    Open WebUI's {source: {name, url}, document: […], metadata: [{source: url}]}.
    """
    if isinstance(entry, str):
        return Citation(entry, entry)
    if not isinstance(entry, Mapping):
        return None
    inner = entry.get("url_citation") or entry.get("source") or entry
    if not isinstance(inner, Mapping):
        return None
    pages = [str(page.get("source", "")) for page in entry.get("metadata") or ()]
    page = next((page for page in pages if page.startswith("http")), "")
    url = inner.get("url") or page
    if not url:
        return None
    title = inner.get("title") or inner.get("name") or url
    documents = entry.get("document")
    text = documents[0] if isinstance(documents, list) and documents else ""
    return Citation(url, str(title), str(inner.get("content") or text))


# --- shared/backends/openai_responses.py ---

# Chat Completions parameters that the Responses API does not know.
CHAT_ONLY_PARAMS = frozenset(
    {
        "stop",
        "seed",
        "n",
        "logit_bias",
        "logprobs",
        "frequency_penalty",
        "presence_penalty",
        "stream_options",
    }
)

CONTENT_PART_TYPES = {
    "text": "input_text",
    "image_url": "input_image",
    "file": "input_file",
}


TEXT_DELTAS = frozenset({"response.output_text.delta", "response.refusal.delta"})
REASONING_DELTAS = frozenset(
    {"response.reasoning_text.delta", "response.reasoning_summary_text.delta"}
)
ARGUMENT_DELTAS = frozenset(
    {
        "response.function_call_arguments.delta",
        "response.mcp_call_arguments.delta",
    }
)
CALL_ITEMS = frozenset({"function_call", "mcp_call"})


def responses_body(model: str, turn: Turn, keep_session: bool) -> dict[str, Any]:
    """The request for this turn, always streaming.

    With `keep_session` the server keeps the conversation: it gets the id of the
    response that this turn follows, and only what was said since.
    """
    messages: Iterable[Mapping[str, Any]] = turn.messages
    previous = (turn.session or {}).get("response_id") if keep_session else None
    if previous:
        messages = messages_since_answer(turn.messages)
    body: dict[str, Any] = {
        **responses_params(turn.params),
        "model": model,
        "input": [item for message in messages for item in input_items(message)],
        "stream": True,
        "previous_response_id": previous,
    }
    if keep_session:
        body["store"] = True
    if turn.tools:
        body["tools"] = [
            {"type": "function", **(tool.get("function") or tool)}
            for tool in turn.tools
        ]
    return {key: value for key, value in body.items() if value is not None}


def responses_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Chat Completions parameters in the names of the Responses API."""
    mapped = {k: v for k, v in params.items() if k not in CHAT_ONLY_PARAMS}
    limit = mapped.pop("max_completion_tokens", None) or mapped.pop("max_tokens", None)
    mapped.pop("max_tokens", None)
    if limit is not None:
        mapped["max_output_tokens"] = limit
    effort = mapped.pop("reasoning_effort", None)
    if effort is not None:
        mapped["reasoning"] = {"effort": effort, **(mapped.get("reasoning") or {})}
    shape = mapped.pop("response_format", None)
    if shape is not None:
        schema = shape.get("json_schema") or {}
        mapped["text"] = {"format": {"type": shape.get("type"), **schema}}
    choice = mapped.get("tool_choice")
    if isinstance(choice, Mapping) and "function" in choice:
        mapped["tool_choice"] = {"type": "function", **choice["function"]}
    return mapped


def messages_since_answer(
    messages: tuple[Mapping[str, Any], ...],
) -> list[Mapping[str, Any]]:
    """What came after the agent's last finished answer, with the system messages.

    An assistant message that only calls tools is no finished answer: its results
    follow it and belong to what the server does not know yet.
    """
    start = 0
    for index, message in enumerate(messages):
        if message.get("role") == "assistant" and not message.get("tool_calls"):
            start = index + 1
    system = [m for m in messages[:start] if m.get("role") in ("system", "developer")]
    return [*system, *messages[start:]]


def input_items(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One Chat Completions message as items of `input`."""
    role = message.get("role")
    content = message.get("content")
    if role == "tool":
        output = content_text(content)
        call_id = message.get("tool_call_id")
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    items: list[dict[str, Any]] = []
    if content:
        parts: Any = content
        if not isinstance(content, str):
            parts = [input_part(part, role == "assistant") for part in content]
        items.append({"role": role, "content": parts})
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        items.append(
            {
                "type": "function_call",
                "call_id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments") or "{}",
            }
        )
    return items


def input_part(part: Mapping[str, Any], answered: bool) -> dict[str, Any]:
    """A content part in the names of the Responses API."""
    kind = str(part.get("type"))
    if kind == "text":
        name = "output_text" if answered else CONTENT_PART_TYPES[kind]
        return {"type": name, "text": part.get("text", "")}
    if kind == "image_url":
        link = part.get("image_url")
        url = link.get("url") if isinstance(link, Mapping) else link
        return {"type": CONTENT_PART_TYPES[kind], "image_url": url}
    if kind == "file":
        return {"type": CONTENT_PART_TYPES[kind], **(part.get("file") or {})}
    return dict(part)


def item_key(payload: Mapping[str, Any]) -> str:
    """What names an item in the events of one stream.

    Some gateways give an item another id in every event; its place stays the same.
    """
    return str(payload.get("output_index", payload.get("item_id", "")))


class ResponsesDecoder:
    """Events of one Responses stream in, agent events out.

    Texts that come again whole in a `done` event are told once. `ended` turns True
    with `response.completed` or `response.incomplete`.
    """

    def __init__(self, keep_session: bool = False) -> None:
        self.ended = False
        self._keep_session = keep_session
        self._session: SessionState | None = None
        self._usage: dict[str, Any] = {}
        self._reason = "stop"
        self._told: set[str] = set()  # items whose deltas came, by `item_key`
        self._call_ids: dict[str, str] = {}
        self._cited: set[str] = set()

    def feed(self, name: str, payload: Any) -> list[AgentEvent]:
        """One decoded event. Raises UpstreamBroken where it reports an error."""
        if not isinstance(payload, dict):
            raise UpstreamBroken("unreadable")
        kind = payload.get("type") or name
        if payload.get("object") == "response" and "output" in payload:
            return self._whole(payload)
        if kind == "error" or (payload.get("error") and "type" not in payload):
            raise UpstreamBroken("said_error", detail=error_detail(payload))
        key = item_key(payload)
        if kind in TEXT_DELTAS:
            self._told.add(key)
            return [TextDelta(payload.get("delta", ""))]
        if kind in REASONING_DELTAS:
            self._told.add(key)
            return [ReasoningDelta(payload.get("delta", ""))]
        if kind in ARGUMENT_DELTAS:
            call_id = self._call_ids.get(key, "")
            return [ToolCallArgumentsDelta(call_id, payload.get("delta", ""))]
        if kind == "response.reasoning_summary_part.added":
            return [ReasoningDelta("\n\n")] if payload.get("summary_index") else []
        if kind == "response.output_text.annotation.added":
            return self._cite([payload.get("annotation")])
        if kind == "response.output_item.added":
            return self._item_added(key, payload.get("item") or {})
        if kind == "response.output_item.done":
            return self._item_done(key, payload.get("item") or {})
        return self._progress(kind, payload.get("response") or {})

    def done(self) -> None:
        """The `[DONE]` line that some gateways add."""
        self.ended = True

    def finish(self) -> list[AgentEvent]:
        """What remains to be told when the stream has ended."""
        events: list[AgentEvent] = []
        if self._session:
            events.append(self._session)
        if self._usage:
            events.append(Usage(self._usage))
        return [*events, Finished(self._reason)]

    def _progress(self, kind: str, response: Mapping[str, Any]) -> list[AgentEvent]:
        if kind == "response.failed":
            raise UpstreamBroken("said_error", detail=error_detail(response))
        if kind in ("response.completed", "response.incomplete"):
            self.ended = True
            self._usage.update(response.get("usage") or {})
            if self._keep_session and response.get("id"):
                self._session = SessionState({"response_id": response["id"]})
            cause = (response.get("incomplete_details") or {}).get("reason")
            if cause == "max_output_tokens":
                self._reason = "length"
            elif cause:
                self._reason = "content_filter"
        return []

    def _whole(self, response: Mapping[str, Any]) -> list[AgentEvent]:
        """A response that came at once, as plain JSON."""
        if response.get("status") == "failed":
            raise UpstreamBroken("said_error", detail=error_detail(response))
        events: list[AgentEvent] = []
        for index, item in enumerate(response["output"]):
            events.extend(self._item_added(str(index), item))
            events.extend(self._item_done(str(index), item))
        self._progress("response.completed", response)
        return events

    def _item_added(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        if item.get("type") not in CALL_ITEMS or key in self._call_ids:
            return []
        call_id = str(item.get("call_id") or item.get("id") or key)
        self._call_ids[key] = call_id
        return [ToolCallStarted(call_id, str(item.get("name") or ""))]

    def _item_done(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        kind = item.get("type")
        if kind in CALL_ITEMS:
            return self._call_done(key, item)
        if kind == "message":
            return self._message_done(key, item)
        if kind == "reasoning" and key not in self._told:
            parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
            text = "\n\n".join(content_text([part]) for part in parts)
            return [ReasoningDelta(text)] if text else []
        if kind == "image_generation_call" and item.get("result"):
            mime = f"image/{item.get('output_format') or 'png'}"
            return [FileOutput(f"data:{mime};base64,{item['result']}", mime)]
        return []

    def _call_done(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        """A whole call; one of an MCP server was run on the agent's side."""
        events = self._item_added(key, item)
        call_id = self._call_ids[key]
        arguments = item.get("arguments") or "{}"
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        name = str(item.get("name") or "")
        events.append(ToolCallCompleted(call_id, name, arguments))
        if item.get("type") == "mcp_call":
            error = item.get("error")
            output = error_detail(error) if error else content_text(item.get("output"))
            events.append(ToolResult(call_id, output, failed=bool(error)))
        else:
            self._reason = "tool_calls"
        return events

    def _message_done(self, key: str, item: Mapping[str, Any]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        parts = item.get("content") or []
        if key not in self._told:
            text = content_text(parts)
            events.extend([TextDelta(text)] if text else [])
        for part in parts:
            events.extend(self._cite(part.get("annotations") or []))
        return events

    def _cite(self, annotations: Iterable[Any]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        for annotation in annotations:
            citation = read_citation(annotation)
            if citation and citation.url not in self._cited:
                self._cited.add(citation.url)
                events.append(citation)
        return events


# --- shared/backends/sse.py ---

MAX_LINE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One dispatched event: its `event:` name ("" when absent) and joined `data:`."""

    name: str
    data: bytes


class LineBuffer:
    """Cuts a byte stream into lines (without their ends), whatever the chunking.

    Raises UpstreamBroken for a line over `limit` bytes: no event of a chat is that
    long, and buffering without end would let one server take the process's memory.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        if b"\n" not in data:
            self._hold(data)
            return []
        if self._parts:
            data = b"".join([*self._parts, data])
            self._parts.clear()
            self._size = 0
        *lines, rest = data.split(b"\n")
        if rest:
            self._hold(rest)
        if len(data) > self._limit and any(len(line) > self._limit for line in lines):
            raise UpstreamBroken("line_too_long", limit=self._limit)
        return [line[:-1] if line.endswith(b"\r") else line for line in lines]

    def finish(self) -> list[bytes]:
        """The last line, when the stream ended without an end of line."""
        if not self._parts:
            return []
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return [line]

    def _hold(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._limit:
            raise UpstreamBroken("line_too_long", limit=self._limit)


class SSEDecoder:
    """Turns lines into events; comments and unknown fields are passed over.

    A line that is neither a field nor a comment goes out as an event named
    `line`, since servers answer a streaming request with bare JSON or HTML.
    """

    def __init__(self) -> None:
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, line: bytes) -> ServerSentEvent | None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            return None
        if not line:
            return self.finish()
        if line.startswith(b"event:"):
            self._name = line[6:].decode("utf-8", "replace").strip()
            return None
        if line.startswith((b":", b"id:", b"retry:")):
            return None
        return ServerSentEvent("line", line)

    def finish(self) -> ServerSentEvent | None:
        """The event under way, at a blank line or the end of the stream."""
        if not self._data:
            self._name = ""
            return None
        event = ServerSentEvent(self._name, b"\n".join(self._data))
        self._name = ""
        self._data = []
        return event


def sse_events(lines: list[bytes], decoder: SSEDecoder) -> Iterator[ServerSentEvent]:
    """The events that these lines complete."""
    for line in lines:
        event = decoder.feed(line)
        if event is not None:
            yield event


# --- shared/backends/openai.py ---

PLAIN_ANSWER_BYTES = 64 * 1024 * 1024


class StreamDecoder(Protocol):
    """One API's events in, agent events out."""

    ended: bool

    def feed(self, name: str, payload: Any) -> list[AgentEvent]: ...

    def done(self) -> None: ...

    def finish(self) -> list[AgentEvent]: ...


@dataclass(frozen=True, slots=True)
class OpenAIBackend:
    """An OpenAI-compatible server behind `endpoint`, and one of its models.

    `keep_session` (Responses only) lets the server keep the conversation.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    model: str
    api: Literal["chat", "responses"] = "chat"
    keep_session: bool = False

    async def discover(self) -> list[DiscoveredModel]:
        """The models of GET /models, in the server's order."""
        payload = await get_json(self.client, self.endpoint, "/models")
        entries = payload.get("data") if isinstance(payload, Mapping) else payload
        if not isinstance(entries, list):
            raise UpstreamBroken("unreadable")
        return [
            DiscoveredModel(str(entry["id"]), str(entry.get("name") or entry["id"]))
            for entry in entries
            if isinstance(entry, Mapping) and entry.get("id")
        ]

    async def health(self) -> None:
        await self.discover()

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: these servers stop when the connection closes."""

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator closes the connection."""
        try:
            async for event in self._run_once(turn):
                yield event
        except UpstreamRefused as error:
            # A server that has forgotten the session gets the whole conversation.
            if not turn.session or error.status not in (400, 404):
                raise
            async for event in self._run_once(replace(turn, session=None)):
                yield event

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        path, body, decoder = self._request(turn)
        async with open_stream(self.client, self.endpoint, path, body) as opened:
            response, clock = opened
            if "application/json" in response.headers.get("content-type", ""):
                payload = load_json(await read_plain_answer(response, clock))
                for event in feed_decoder(decoder, "", payload):
                    yield event
            else:
                async for event in self._stream(response, clock, decoder):
                    yield event
        if not decoder.ended:
            raise UpstreamBroken("cut_short")
        for event in decoder.finish():
            yield event

    def _request(self, turn: Turn) -> tuple[str, dict[str, Any], StreamDecoder]:
        if self.api == "responses":
            body = responses_body(self.model, turn, self.keep_session)
            return "/responses", body, ResponsesDecoder(self.keep_session)
        body = chat_completions_body(self.model, turn)
        return "/chat/completions", body, ChatCompletionsDecoder()

    async def _stream(
        self, response: httpx.Response, clock: SilenceClock, decoder: StreamDecoder
    ) -> AsyncGenerator[AgentEvent, None]:
        """Events as they arrive, until the stream ends or says `[DONE]`."""
        lines, sse = LineBuffer(), SSEDecoder()
        async for data in read_bytes(response, clock):
            for message in sse_events(lines.feed(data), sse):
                if message.data == b"[DONE]":
                    decoder.done()
                    return
                for event in read_message(decoder, message):
                    clock.token()
                    yield event
                if decoder.ended and not clock.complete:
                    clock.answer_complete()
        rest = [*sse_events(lines.finish(), sse), sse.finish()]
        for last in rest:
            if last is not None and last.data != b"[DONE]":
                for event in read_message(decoder, last):
                    yield event


def read_message(decoder: StreamDecoder, message: ServerSentEvent) -> list[AgentEvent]:
    """One message of the stream; what is not JSON makes the stream unreadable."""
    return feed_decoder(decoder, message.name, load_json(message.data))


def feed_decoder(decoder: StreamDecoder, name: str, payload: Any) -> list[AgentEvent]:
    """Feed a decoder; JSON of another shape than the API's is the server's fault."""
    try:
        return decoder.feed(name, payload)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise UpstreamBroken("unreadable") from error


def load_json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UpstreamBroken("unreadable") from error


async def read_plain_answer(response: httpx.Response, clock: SilenceClock) -> bytes:
    """The body of an upstream that answers a streaming request with plain JSON."""
    parts: list[bytes] = []
    size = 0
    async for data in read_bytes(response, clock):
        parts.append(data)
        size += len(data)
        if size > PLAIN_ANSWER_BYTES:
            raise UpstreamBroken("line_too_long", limit=PLAIN_ANSWER_BYTES)
    return b"".join(parts)


# --- shared/host/models.py ---

PUBLIC_READ = {"principal_type": "user", "principal_id": "*", "permission": "read"}


async def publish_model(model_id: str, name: str, description: str) -> None:
    """Let every user see and use a model of a pipe.

    A model without an entry is for admins only. An entry that exists is the
    admin's own and stays as it is.
    """
    from open_webui.models.models import ModelForm, ModelMeta, ModelParams, Models
    from open_webui.models.users import Users

    if await Models.get_model_by_id(model_id) is not None:
        return
    owner = await Users.get_super_admin_user()
    if owner is None:
        return
    form = ModelForm(
        id=model_id,
        base_model_id=None,
        name=name,
        meta=ModelMeta(description=description or None),
        params=ModelParams(),
        access_grants=[PUBLIC_READ],
    )
    await Models.insert_new_model(form, owner.id)


# --- shared/host/resources.py ---

STATE_KEY = "aqueduct"

Resource = TypeVar("Resource")


def shared_resource(name: str, make: Callable[[], Resource]) -> Resource:
    """The server-wide object of this name, made on first use.

    Call it in the event loop only: there, nothing runs between look-up and store.
    """
    from open_webui.main import app

    kept: dict[str, Any] | None = getattr(app.state, STATE_KEY, None)
    if kept is None:
        kept = {}
        setattr(app.state, STATE_KEY, kept)
    if name not in kept:
        kept[name] = make()
    return kept[name]


# --- shared/host/tools.py ---

NOT_APPROVED = "Error: the user did not approve this tool call."


@dataclass(frozen=True, slots=True)
class HostToolRunner:
    """Runs the tools of one request as Open WebUI's own loop would.

    `metadata["tools"]` maps names to Open WebUI's tool entries.
    """

    request: Any
    user: Mapping[str, Any]
    body: Mapping[str, Any]
    metadata: Mapping[str, Any]
    event_call: Callable[[dict[str, Any]], Awaitable[Any]] | None

    def knows(self, name: str) -> bool:
        return name in (self.metadata.get("tools") or {})

    async def run(self, call: ToolCallCompleted) -> ToolResult:
        """The result of one call; a tool's own error is a failed result."""
        from open_webui.models.users import UserModel
        from open_webui.utils.middleware import (
            execute_tool_call,
            process_tool_result,
            tool_result_content,
        )

        if not await self._approved(call):
            return ToolResult(call.call_id, NOT_APPROVED, failed=True)
        request_call = {
            "id": call.call_id,
            "function": {"name": call.name, "arguments": call.arguments},
        }
        _, value, _, tool_type, direct = await execute_tool_call(
            dict(self.body), self._approved_metadata(), self.event_call, request_call
        )
        failed = isinstance(value, dict) and set(value) == {"error"}
        user = UserModel(**{k: v for k, v in self.user.items() if k != "valves"})
        value, files, embeds = await process_tool_result(
            self.request,
            call.name,
            value,
            tool_type,
            direct,
            dict(self.metadata),
            user,
        )
        shown = tuple(
            file for file in files or () if not str(file.get("url")).startswith("data:")
        )
        return ToolResult(
            call.call_id,
            tool_result_content(value),
            failed=failed,
            files=shown,
            embeds=tuple(embeds or ()),
        )

    async def _approved(self, call: ToolCallCompleted) -> bool:
        """Whether the user's setting "ask before tools" lets this call pass.

        Open WebUI asks by pausing its own loop, which is not running here, so the
        dialog of its temporary chats is used. Without a browser nothing is approved.
        """
        mode = (self.metadata.get("params") or {}).get("tool_approval_mode")
        if mode != "ask":
            return True
        if self.event_call is None or not self.metadata.get("session_id"):
            return False
        question = {
            "id": call.call_id,
            "name": call.name,
            "arguments": orjson.loads(call.arguments),
        }
        answer = await self.event_call(
            {"type": "confirmation", "data": {"tool_call": question}}
        )
        return answer is True

    def _approved_metadata(self) -> dict[str, Any]:
        """The metadata once the call is approved: it must not be asked for twice."""
        params = {**(self.metadata.get("params") or {}), "tool_approval_mode": "full"}
        return {**self.metadata, "params": params}


# --- shared/texts.py ---


class _Fields(dict[str, Any]):
    """Fields of a template: a missing one is left out, never an error."""

    def __missing__(self, key: str) -> str:
        return ""


def translate(
    table: Mapping[str, Mapping[str, str]],
    code: str,
    language: str,
    fields: Mapping[str, Any],
) -> str:
    """The sentence `code` of a table {code: {language: template}}.

    `language` is a BCP 47 tag such as "de-DE"; English where there is no
    translation. A `{detail}` that is empty takes its colon and brackets with it.
    """
    templates = table[code]
    template = templates.get(language.split("-")[0].lower()) or templates["en"]
    detail = str(fields.get("detail") or "")
    filled = _Fields(fields)
    filled["detail"] = f" ({detail})" if detail else ""
    for key, value in fields.items():
        if isinstance(value, float):
            filled[key] = f"{value:g}"
    return template.format_map(filled)


# --- shared/agents/service.py ---

PROBLEM_MODEL = "configuration-error"
EMPTY_MODEL = "not-configured"


@dataclass(frozen=True, slots=True)
class PipeRequest:
    """One call of the pipe, as Open WebUI makes it."""

    body: Mapping[str, Any]
    user: Mapping[str, Any]
    metadata: Mapping[str, Any]
    request: Any = None
    emit: EventEmitter | None = None
    event_call: Any = None
    task: str | None = None

    @property
    def in_chat(self) -> bool:
        """Whether a chat shows this: an API call has the keys, but empty."""
        return bool(self.metadata.get("chat_id") and self.metadata.get("session_id"))

    @property
    def language(self) -> str:
        variables = self.metadata.get("variables") or {}
        return str(variables.get("{{USER_LANGUAGE}}") or "en")


def make_backend(agent: AgentConfig, model: str) -> Backend:
    """The backend for one of the agent's models, on the server's shared client."""
    endpoint = Endpoint(
        agent=agent.label,
        url=agent.url,
        key=agent.key.get_secret_value(),
        headers={k: v.get_secret_value() for k, v in agent.headers.items()},
        timeouts=Timeouts(**agent.timeouts.model_dump()),
    )
    client: httpx.AsyncClient = shared_resource("http", new_http_client)
    return OpenAIBackend(client, endpoint, model, agent.api, agent.session)


async def list_models(config: AgentsConfig, pipe_id: str) -> list[dict[str, str]]:
    """The virtual models, in the order of AGENTS, as Open WebUI wants them."""
    kept: dict[str, Any] = shared_resource("discovered", dict)
    published: set[str] = shared_resource("published", set)
    per_agent = await asyncio.gather(*(entries_of(a, kept) for a in config.agents))
    entries = [entry for entries in per_agent for entry in entries]
    for entry in entries:
        model_id = f"{pipe_id}.{entry.id}"
        if entry.agent.access == "public" and model_id not in published:
            await publish_model(model_id, entry.name, entry.agent.description)
            published.add(model_id)
    models = [{"id": entry.id, "name": entry.name} for entry in entries]
    if config.problems:
        name = f"Agents: configuration error in {config.problems[0]}"
        models.append({"id": PROBLEM_MODEL, "name": clip(name, 120)})
    elif not config.agents:
        models.append({"id": EMPTY_MODEL, "name": "Agents: nothing configured yet"})
    return models


async def entries_of(agent: AgentConfig, kept: dict[str, Any]) -> list[AgentEntry]:
    """The virtual models of one agent: itself, or what its server offers."""
    if not agent.discover:
        return [AgentEntry(agent.id, agent.label, agent, agent.model)]
    models = await discover_models(agent, make_backend(agent, ""), kept)
    return [
        AgentEntry(f"{agent.id}.{m.id}", f"{agent.label}: {m.name}", agent, m.id)
        for m in models
    ]


def clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def configuration_help(config: AgentsConfig) -> str:
    """What the model called "configuration error" answers: how to mend it."""
    lines = [f"- {problem}" for problem in config.problems]
    head = (
        "The agents function needs its valve `AGENTS` mended"
        if lines
        else ("The agents function has no agents yet: its valve `AGENTS` is empty")
    )
    return "\n".join(
        [
            f"{head} (Admin Panel → Functions → Agents → the gear).",
            *(["", *lines] if lines else []),
            "",
            "An agent is written like this:",
            "",
            "```yaml",
            "- id: my-agent",
            "  name: My agent",
            "  url: http://localhost:8000/v1",
            "  model: my-model",
            "  key: ${secret:MY_KEY}",
            "```",
        ]
    )


async def answer(
    config: AgentsConfig, call: PipeRequest
) -> dict[str, Any] | str | StreamingResponse:
    """The pipe's answer to one call: to a task, to a chat, or to an API caller."""
    model_id = str(call.body.get("model", "")).partition(".")[2]
    if model_id in (PROBLEM_MODEL, EMPTY_MODEL):
        return "" if call.task else configuration_help(config)
    entry = find_entry(config, model_id)
    if entry is None:
        events = unknown_agent(model_id)
        return await respond(events, call, agent_id=model_id, names={"agent": model_id})
    backend = make_backend(entry.agent, entry.model)
    names = {"agent": entry.agent.label, "host": Endpoint("", entry.agent.url).host}
    if call.task and not call.body.get("stream"):
        return await answer_task(entry, call, names)
    turn = await prepare_turn(entry.agent, call)
    policy = tool_policy(entry.agent, turn, call)
    events = answer_with_tools(backend.run, turn, policy)
    return await respond(events, call, entry.agent.id, names)


async def unknown_agent(agent_id: str) -> AsyncGenerator[AgentEvent, None]:
    """The events of an agent that is no longer configured."""
    raise AqueductError("unknown_agent", agent=agent_id)
    yield  # makes this a generator, like a backend's


async def prepare_turn(agent: AgentConfig, call: PipeRequest) -> Turn:
    """The turn with its session and files; an errand has neither, and no tools."""
    body = call.body
    session = None
    if not call.task:
        if agent.session:
            session = await parent_session(agent.id, call.metadata)
        if agent.files == "attach":
            body = await attach_files(body, call.metadata.get("files") or (), call.user)
    return build_turn(
        agent,
        body,
        user_id=str(call.user.get("id", "")),
        chat_id=str(call.metadata.get("chat_id") or ""),
        session=session,
        with_tools=not call.task,
    )


def tool_policy(agent: AgentConfig, turn: Turn, call: PipeRequest) -> ToolPolicy:
    specs = {
        str(function.get("name")): function.get("parameters") or {}
        for function in (tool.get("function") or tool for tool in turn.tools)
    }
    runner = None
    if agent.tools == "execute":
        runner = HostToolRunner(
            call.request, call.user, call.body, call.metadata, call.event_call
        )
    return ToolPolicy(
        agent.tools, agent.unknown_tool, agent.max_tool_rounds, specs, runner
    )


async def answer_task(
    entry: AgentEntry, call: PipeRequest, names: Mapping[str, Any]
) -> dict[str, Any] | StreamingResponse:
    """A title, tags and the like: the agent's model alone, in the JSON asked for."""
    agent = entry.agent
    backend = make_backend(
        agent.model_copy(update={"session": False}), agent.task_model or entry.model
    )
    turn = replace(await prepare_turn(agent, call), session=None)
    events = shaped(backend.run(turn), call.task or "")
    return await respond(events, call, agent.id, names)


async def shaped(
    events: AsyncGenerator[AgentEvent, None], task: str
) -> AsyncGenerator[AgentEvent, None]:
    """The text of an errand's answer, brought into shape; thoughts are left out."""
    parts: list[str] = []
    try:
        async for event in events:
            if isinstance(event, TextDelta):
                parts.append(event.text)
    finally:
        await events.aclose()
    yield TextDelta(shape_task_answer(task, "".join(parts)))
    yield Finished()


async def respond(
    events: AsyncGenerator[AgentEvent, None],
    call: PipeRequest,
    agent_id: str,
    names: Mapping[str, Any],
) -> dict[str, Any] | StreamingResponse:
    """The events in the form that this caller reads."""
    sentence = partial(sentence_for, call.language)
    events = guarded(events, names)
    if call.body.get("stream") and call.in_chat and not call.task:
        used = call_ids(call.body.get("messages") or ())
        renderer = ChatRenderer(agent_id, sentence, used)
        return event_stream(chat_stream(events, renderer, call.emit))
    options = call.body.get("stream_options") or {}
    completion = CompletionRenderer(
        str(call.body.get("model", "")), sentence, bool(options.get("include_usage"))
    )
    if call.body.get("stream"):
        return event_stream(completion_stream(events, completion))
    return await whole_completion(events, completion, call.in_chat)


def sentence_for(language: str, code: str, fields: Mapping[str, Any]) -> str:
    return translate(AGENT_TEXTS, code, language, fields)


# --- functions/agents.py ---


PIPE_ID = "agents"

AGENTS_HELP = inspect.cleandoc("""
    YAML, one entry an agent: `- id: my-agent`, then `name`, `url`, `model`, `key`
    and more. A key is written ${env:NAME} or ${secret:NAME}.
    """)


class Pipe:
    """Every configured agent is a model of its own."""

    class Valves(BaseModel):
        AGENTS: str = Field(default="", description=AGENTS_HELP)
        SECRETS: str = Field(
            default="",
            description="Secrets for AGENTS: NAME=value, divided by spaces.",
            json_schema_extra={"input": {"type": "password"}},
        )

    def __init__(self) -> None:
        self.valves = self.Valves()
        self.name = ""

    async def pipes(self) -> list[dict[str, str]]:
        """The models that Open WebUI lists."""
        valves = self.valves
        config = parse_agents(valves.AGENTS, valves.SECRETS)
        return await list_models(config, PIPE_ID)

    async def pipe(
        self,
        body: dict[str, Any],
        __user__: dict[str, Any],
        __metadata__: dict[str, Any],
        __request__: Request,
        __event_emitter__: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        __event_call__: Callable[[dict[str, Any]], Awaitable[Any]] | None = None,
        __task__: str | None = None,
    ) -> dict[str, Any] | str | StreamingResponse:
        """The answer of the agent that `body["model"]` names."""
        valves = self.valves
        call = PipeRequest(
            body=body,
            user=__user__,
            metadata=__metadata__,
            request=__request__,
            emit=__event_emitter__,
            event_call=__event_call__,
            task=__task__,
        )
        return await answer(parse_agents(valves.AGENTS, valves.SECRETS), call)
