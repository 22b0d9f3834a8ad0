"""What an ACP agent says in a turn, as events: payloads in, events out, no I/O.

Format: Agent Client Protocol, version 1, "Prompt Turn", "Tool Calls" and "Agent Plan".
Unknown updates are passed over, as the protocol asks of clients.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from shared.backends.dialogs import ApprovalRequest
from shared.events import (
    AgentEvent,
    FileOutput,
    Finished,
    ReasoningDelta,
    Status,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
    Usage,
)
from shared.json_text import dump_json

TOOL_NAME = re.compile(r"[A-Za-z][\w.-]{0,40}")
# Claude Code wraps what tools say for a Markdown view; a card is none.
CONSOLE_BLOCK = re.compile(r"\A```(?:console)?\n(.*?)\n?```\s*\Z", re.DOTALL)
# Where a tool's raw output has its text; the second name is Codex's.
OUTPUT_NAMES = ("output", "formatted_output")
# What Codex notes about a call beside what is called, and its proposals for more rights.
BOOKKEEPING = frozenset((
    "call_id", "turn_id", "process_id", "started_at_ms", "source", "parsed_cmd",
    "auto_approved", "available_decisions", "proposed_execpolicy_amendment",
))  # fmt: skip
MAX_RESULT_CHARS = 100_000
MAX_DIFF_LINES = 400
ACP_FINISH_REASONS = {
    "max_tokens": "length",
    "max_turn_requests": "length",
    "refusal": "content_filter",
}
ACP_USAGE_NAMES = {
    "inputTokens": "prompt_tokens",
    "outputTokens": "completion_tokens",
    "totalTokens": "total_tokens",
}


@dataclass(slots=True)
class AcpToolCall:
    """A tool call as far as it is known; updates replace what they name."""

    id: str
    facts: dict[str, Any] = field(default_factory=dict)
    told: bool = False
    ended: bool = False


class AcpDecoder:
    """The events of one turn. `folder` is where the agent works, "" if elsewhere."""

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._calls: dict[str, AcpToolCall] = {}
        self._message_id = ""
        self._in_text = False

    def feed(self, update: Mapping[str, Any]) -> list[AgentEvent]:
        """The events of one `session/update`."""
        match update.get("sessionUpdate"):
            case "agent_message_chunk":
                return self._message_chunk(update)
            case "agent_thought_chunk":
                return acp_content(update.get("content"), ReasoningDelta)
            case "tool_call":
                return self._tool_call(update)
            case "tool_call_update":
                return self._tool_call(update, again=True)
            case "plan":
                return plan_events(update.get("entries"))
        return []

    def permission(
        self, params: Mapping[str, Any]
    ) -> tuple[list[AgentEvent], ApprovalRequest]:
        """The card of the call that needs a permission, and what to ask the user."""
        asked = params.get("toolCall")
        facts = asked if isinstance(asked, Mapping) else {}
        events = self._tool_call(facts)
        call = self._calls[call_id_of(facts)]
        events += self._arguments(call)
        known = call.facts
        diffs = [b for b in blocks(known.get("content")) if b.get("type") == "diff"]
        # The rest is said to whom is asked, and nothing that came of the call.
        known["content"] = diffs
        title = str(known.get("title") or tool_name(known))
        given = input_lines(raw_input(known), title)
        request = ApprovalRequest(
            tool=tool_name(known),
            title=title,
            detail="\n".join(map(diff_text, diffs)) or given,
            paths=tuple(self._shown_paths(known)),
        )
        return events, request

    def finish(self, result: Mapping[str, Any]) -> list[AgentEvent]:
        """The turn's end, from the result of `session/prompt`."""
        reason = ACP_FINISH_REASONS.get(str(result.get("stopReason")), "stop")
        return [*self.close(), *usage_events(result), Finished(reason)]

    def close(self) -> list[AgentEvent]:
        """Give calls a result that never got one: else they would be run again."""
        events: list[AgentEvent] = []
        for call in self._calls.values():
            if not call.ended:
                events += [*self._arguments(call), *self._result(call)]
        return events

    def _message_chunk(self, update: Mapping[str, Any]) -> list[AgentEvent]:
        """Text of the answer; a further message begins a paragraph of its own."""
        events = acp_content(update.get("content"), TextDelta)
        message_id = str(update.get("messageId") or "")
        if events and message_id != self._message_id:
            if self._message_id and self._in_text:
                events.insert(0, TextDelta("\n\n"))
            self._message_id = message_id
        self._in_text = self._in_text or bool(events)
        return events

    def _tool_call(
        self, update: Mapping[str, Any], again: bool = False
    ) -> list[AgentEvent]:
        call_id = call_id_of(update)
        events: list[AgentEvent] = []
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = AcpToolCall(call_id)
            call.facts |= {k: v for k, v in update.items() if v is not None}
            self._in_text = False
            events.append(ToolCallStarted(call_id, tool_name(call.facts)))
        elif call.ended:
            return []
        else:
            call.facts |= {k: v for k, v in update.items() if v is not None}
        status = call.facts.get("status")
        if status == "in_progress" or (again and update.get("rawInput")):
            events += self._arguments(call)
        if status in ("completed", "failed"):
            events += [*self._arguments(call), *self._result(call)]
        return events

    def _arguments(self, call: AcpToolCall) -> list[AgentEvent]:
        """The call as a whole, once: later updates seldom change what it is given."""
        if call.told:
            return []
        call.told = True
        facts = call.facts
        given = raw_input(facts)
        if not (isinstance(given, Mapping) and given):
            given = {"title": str(facts.get("title") or "")}
            if paths := list(self._shown_paths(facts)):
                given["paths"] = paths
        arguments = dump_json(given).decode()
        return [ToolCallCompleted(call.id, tool_name(facts), arguments)]

    def _result(self, call: AcpToolCall) -> list[AgentEvent]:
        call.ended = True
        facts = call.facts
        content = blocks(facts.get("content"))
        text = "\n\n".join(filter(None, map(block_text, content)))
        text = text or input_text(facts.get("rawOutput"))
        wrapped = CONSOLE_BLOCK.match(text)
        output = (wrapped.group(1) if wrapped else text)[:MAX_RESULT_CHARS]
        failed = facts.get("status") == "failed"
        result = ToolResult(call.id, output, failed=failed)
        inner = [block.get("content") for block in content]
        images = [image for block in inner for image in acp_images(block)]
        return [result, *images]

    def _shown_paths(self, facts: Mapping[str, Any]) -> Iterable[str]:
        """Where a call acts: within the workspace relative to it."""
        for place in blocks(facts.get("locations")):
            path = PurePath(os.path.normpath(str(place.get("path") or "")))
            if self._folder and path.is_relative_to(self._folder):
                path = path.relative_to(self._folder)
            yield str(path)


def call_id_of(facts: Mapping[str, Any]) -> str:
    """The id of a call; an agent that names none has one call at a time."""
    return str(facts.get("toolCallId") or "call")


def blocks(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list, whatever else an agent put there."""
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def acp_content(
    block: Any, kind: type[TextDelta] | type[ReasoningDelta]
) -> list[AgentEvent]:
    """A content block of the answer or of a thought."""
    text = acp_text(block)
    return [kind(text)] if text else [*acp_images(block)]


def acp_text(block: Any) -> str:
    """The text of a content block: text, a link, or an embedded text resource."""
    if not isinstance(block, Mapping):
        return ""
    if block.get("type") == "resource_link":
        return str(block.get("uri") or "")
    resource = block.get("resource")
    held = resource if isinstance(resource, Mapping) else block
    text = held.get("text")
    return text if isinstance(text, str) else ""


def acp_images(block: Any) -> list[FileOutput]:
    """The picture of a content block, if it is one."""
    if not isinstance(block, Mapping) or block.get("type") != "image":
        return []
    mime_type = str(block.get("mimeType") or "image/png")
    url = f"data:{mime_type};base64,{block.get('data') or ''}"
    return [FileOutput(url=url, mime_type=mime_type)]


def block_text(block: Mapping[str, Any]) -> str:
    """One block of what a tool made, as a card shows it."""
    if block.get("type") == "diff":
        return f"```diff\n{diff_text(block)}\n```"
    return acp_text(block.get("content"))


def diff_text(block: Mapping[str, Any]) -> str:
    """A change of a file as a unified diff."""
    name = PurePath(str(block.get("path") or "")).name
    old = str(block.get("oldText") or "").splitlines()
    new = str(block.get("newText") or "").splitlines()
    lines = [*difflib.unified_diff(old, new, name, name, lineterm="")]
    if len(lines) > MAX_DIFF_LINES:
        lines = [*lines[:MAX_DIFF_LINES], "…"]
    return "\n".join(lines)


def raw_input(facts: Mapping[str, Any]) -> Any:
    """What a call is given, without what Codex notes there for itself."""
    given = facts.get("rawInput")
    if not (isinstance(given, Mapping) and given.keys() >= {"call_id", "turn_id"}):
        return given
    return {name: value for name, value in given.items() if name not in BOOKKEEPING}


def input_text(value: Any) -> str:
    """A tool's raw input or output as text."""
    if isinstance(value, Mapping):
        for name in OUTPUT_NAMES:
            if isinstance(value.get(name), str):
                return str(value[name])
    if isinstance(value, str) or not value:
        return value or ""
    return dump_json(value).decode()


def input_lines(value: Any, title: str) -> str:
    """A tool's input for people, a line each; what the title says is left out."""
    if not isinstance(value, Mapping):
        return input_text(value)
    told = ((name, input_text(given)) for name, given in value.items())
    return "\n".join(f"{name}: {text}" for name, text in told if text not in title)


def tool_name(facts: Mapping[str, Any]) -> str:
    """The name of a call's card, and what an allow-list knows.

    ACP has only a title for people, which may be the whole command, and a kind. Claude
    Code tells the tool's name on the side.
    """
    meta = facts.get("_meta")
    claude = meta.get("claudeCode") if isinstance(meta, Mapping) else None
    if isinstance(claude, Mapping) and isinstance(claude.get("toolName"), str):
        return str(claude["toolName"])
    kind, title = str(facts.get("kind") or "other"), str(facts.get("title") or "")
    return title if kind == "other" and TOOL_NAME.fullmatch(title) else kind


def plan_events(entries: Any) -> list[AgentEvent]:
    """The plan as a line: how many steps are done, and the one under way."""
    steps = blocks(entries)
    if not steps:
        return []
    done = [step for step in steps if step.get("status") == "completed"]
    rest = [step for step in steps if step.get("status") != "completed"]
    current = [step for step in rest if step.get("status") == "in_progress"] or rest
    shown = (current or done[-1:])[0].get("content")
    line = f"{len(done)}/{len(steps)} · {' '.join(str(shown).split())}"
    return [Status(line, done=not rest)]


def usage_events(result: Mapping[str, Any]) -> list[AgentEvent]:
    """Token counts, in the names of Chat Completions where there is such a name."""
    usage = result.get("usage")
    if not isinstance(usage, Mapping):
        return []
    counts = {
        ACP_USAGE_NAMES.get(str(name), str(name)): value
        for name, value in usage.items()
        if isinstance(value, int)
    }
    return [Usage(counts)] if any(counts.values()) else []
