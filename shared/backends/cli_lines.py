"""What programs print, as events: lines in, events out, no I/O.

Formats: `gemini -o stream-json`, `codex exec --json`, and plain text. Claude Code's is
in cli_claude.py.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from shared.backends.payloads import load_json
from shared.backends.processes_errors import failure_code, plain_detail
from shared.errors import UpstreamBroken
from shared.events import (
    AgentEvent,
    ReasoningDelta,
    SessionState,
    Status,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
    Usage,
)
from shared.json_text import dump_json

TERMINAL_CODES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")
# What a line of Codex's says beside the call itself.
CODEX_RESULT_KEYS = frozenset(
    {"id", "type", "status", "aggregated_output", "exit_code", "result", "error"}
)


class CliDecoder(Protocol):
    """One format's lines in, agent events out.

    `done` says that the program told the turn's end; `error` is what it told of a turn
    that failed.
    """

    done: bool
    error: UpstreamBroken | None

    def feed(self, line: bytes) -> list[AgentEvent]: ...


class JsonLines:
    """Lines of JSON objects; a line that is none, or of an odd shape, is noise."""

    def __init__(self) -> None:
        self.done = False
        self.error: UpstreamBroken | None = None

    def feed(self, line: bytes) -> list[AgentEvent]:
        try:
            return self.event(load_json(line))
        except (UpstreamBroken, AttributeError, LookupError, TypeError, ValueError):
            return []

    def event(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """The events of one line."""
        raise NotImplementedError

    def end(self) -> None:
        """The turn has ended well."""
        self.done = True

    def fail(self, detail: str) -> None:
        """The turn has ended, and not well."""
        self.done = True
        self.error = UpstreamBroken(failure_code(detail), detail=detail)


class GeminiLines(JsonLines):
    """The lines of `gemini -o stream-json`."""

    def event(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        call_id = str(payload.get("tool_id") or "")
        match payload.get("type"):
            case "init":
                return [SessionState({"session_id": str(payload.get("session_id"))})]
            case "message" if payload.get("role") == "assistant":
                return [TextDelta(str(payload.get("content") or ""))]
            case "tool_use":
                given = dump_json(payload.get("parameters") or {}).decode()
                return whole_call(call_id, str(payload.get("tool_name")), given)
            case "tool_result":
                failed = payload.get("status") != "success"
                output = payload.get("output") or said_in(payload.get("error"))
                return [ToolResult(call_id, str(output or ""), failed=failed)]
            case "result":
                if payload.get("status") == "success":
                    self.end()
                else:
                    self.fail(said_in(payload.get("error")))
                return token_counts(payload.get("stats"))
        return []


class CodexLines(JsonLines):
    """The lines of `codex exec --json`; only `turn.*` says how a turn ended."""

    def __init__(self) -> None:
        super().__init__()
        self._started: set[str] = set()
        self._in_text = False

    def event(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        match payload.get("type"):
            case "thread.started":
                return [SessionState({"session_id": str(payload.get("thread_id"))})]
            case "item.started" | "item.updated" | "item.completed" as kind:
                item = payload.get("item")
                whole = kind == "item.completed"
                return self._item(item, whole) if isinstance(item, Mapping) else []
            case "turn.completed":
                self.end()
                return token_counts(payload.get("usage"))
            case "turn.failed":
                self.fail(said_in(payload.get("error")))
        return []

    def _item(self, item: Mapping[str, Any], whole: bool) -> list[AgentEvent]:
        text = str(item.get("text") or "")
        match item.get("type"):
            case "agent_message":
                # A further message begins a paragraph of its own.
                text = f"\n\n{text}" if self._in_text else text
                self._in_text = self._in_text or whole
                return [TextDelta(text)] if whole else []
            case "reasoning":
                return [ReasoningDelta(f"{text}\n\n")] if whole else []
            case "todo_list":
                return todo_events(item.get("items"))
            case "error":
                return []  # a warning: the turn goes on
        self._in_text = False
        return self._tool(item, whole)

    def _tool(self, item: Mapping[str, Any], whole: bool) -> list[AgentEvent]:
        """A command, a change of files, a search: everything that is a tool's."""
        call_id = str(item.get("id") or "")
        events: list[AgentEvent] = []
        if call_id not in self._started:
            self._started.add(call_id)
            given = {k: v for k, v in item.items() if k not in CODEX_RESULT_KEYS}
            name = str(item.get("tool") or item.get("type"))
            events += whole_call(call_id, name, dump_json(given).decode())
        if whole:
            failed = item.get("status") in ("failed", "declined")
            told = item.get("aggregated_output") or said_in(item.get("error"))
            told = told or item.get("result") or ""
            output = told if isinstance(told, str) else dump_json(told).decode()
            events.append(ToolResult(call_id, output, failed=failed))
        return events


class TextLines:
    """What a program prints, without its noise and the codes for a terminal.

    Lines that one of the `noise` patterns matches as a whole are left out.
    """

    def __init__(self, noise: Sequence[str] = ()) -> None:
        self._noise = [re.compile(pattern) for pattern in noise]
        self._begun = False
        # Text has no other end than the program's.
        self.done = True
        self.error: UpstreamBroken | None = None

    def feed(self, line: bytes) -> list[AgentEvent]:
        text = TERMINAL_CODES.sub("", line.decode("utf-8", "replace")).rstrip("\r\n")
        if any(pattern.fullmatch(text.strip()) for pattern in self._noise):
            return []
        if not self._begun and not text.strip():
            return []
        self._begun = True
        return [TextDelta(f"{text}\n")]


def whole_call(call_id: str, name: str, arguments: str) -> list[AgentEvent]:
    """A call whose arguments are known at once."""
    call = ToolCallCompleted(call_id, name, arguments)
    return [ToolCallStarted(call_id, name), call]


def said_in(error: Any) -> str:
    """The sentence of an error object."""
    message = error.get("message") if isinstance(error, Mapping) else error
    return plain_detail(str(message)) if message else ""


def token_counts(usage: Any) -> list[AgentEvent]:
    """Token counts, in the names of Chat Completions where there is such a name."""
    names = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
    counts = {
        names.get(str(name), str(name)): count
        for name, count in (usage.items() if isinstance(usage, Mapping) else ())
        if isinstance(count, int) and "token" in str(name)
    }
    return [Usage(counts)] if any(counts.values()) else []


def todo_events(items: Any) -> list[AgentEvent]:
    """A list of steps as a line: how many are done, and the next one."""
    steps = [step for step in items or () if isinstance(step, Mapping)]
    rest = [step for step in steps if not step.get("completed")]
    if not steps:
        return []
    shown = " ".join(str((rest or steps[-1:])[0].get("text") or "").split())
    line = f"{len(steps) - len(rest)}/{len(steps)} · {shown}"
    return [Status(line, done=not rest)]
