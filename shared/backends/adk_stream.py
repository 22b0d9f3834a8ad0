"""The events of Google's Agent Development Kit: JSON in, agent events out, no I/O.

Format: ADK, `google.adk.events.Event` as its API server's /run_sse streams it; the
contents are those of the Gemini API.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shared.backends.openai_chat import read_counts
from shared.backends.payloads import error_detail
from shared.errors import UpstreamBroken
from shared.events import (
    AgentEvent,
    Citation,
    FileOutput,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallCompleted,
    ToolResult,
    Usage,
)

CONFIRMATION = "adk_request_confirmation"
CREDENTIAL = "adk_request_credential"
FINISH_REASON_OF_GEMINI = {
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "BLOCKLIST": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A tool call that waits for permission: the id to answer to, and the call."""

    request_id: str
    name: str
    arguments: Mapping[str, Any]


class ADKDecoder:
    """Reads the runs of one turn: after a confirmation, a further run goes on.

    `confirmations` are what the run waits for, `artifacts` the names and versions of
    files that were saved, `invocation_id` the server's name for this turn.
    """

    def __init__(self) -> None:
        self.confirmations: list[Confirmation] = []
        self.artifacts: list[tuple[str, int]] = []
        self.invocation_id = ""
        self.told = False
        self._partial = False  # whether the text of the next whole event was streamed
        self._unanswered: dict[str, None] = {}
        self._usage: dict[str, Any] = {}
        self._cited: set[str] = set()
        self._reason = "stop"

    def feed(self, payload: Mapping[str, Any]) -> list[AgentEvent]:
        """One event; raises UpstreamBroken where it reports an error.

        An `errorCode` alone is none: it repeats the finish reason.
        """
        if payload.get("error") or payload.get("errorMessage"):
            said = payload.get("errorMessage") or error_detail(payload)
            raise UpstreamBroken("said_error", detail=str(said))
        self.invocation_id = str(payload.get("invocationId") or self.invocation_id)
        partial = bool(payload.get("partial"))
        reason = payload.get("finishReason")
        self._reason = FINISH_REASON_OF_GEMINI.get(str(reason), self._reason)
        actions = payload.get("actions") or {}
        awaited = actions.get("requestedToolConfirmations") or {}
        events: list[AgentEvent] = []
        for part in (payload.get("content") or {}).get("parts") or ():
            events += self._part(part, partial, awaited)
        if not partial:
            for key, count in read_counts(payload.get("usageMetadata") or {}).items():
                if not isinstance(count, Mapping):
                    self._usage[key] = self._usage.get(key, 0) + count
            self.artifacts += (actions.get("artifactDelta") or {}).items()
            events += self._citations(payload.get("groundingMetadata") or {})
        self._partial = partial
        self.told = self.told or bool(events)
        return events

    def finish(self) -> list[AgentEvent]:
        """What remains; a call without a result gets an empty one."""
        events: list[AgentEvent] = [ToolResult(i, "") for i in self._unanswered]
        if any(self._usage.values()):
            events.append(Usage(self._usage))
        return [*events, Finished(self._reason)]

    def _part(
        self, part: Mapping[str, Any], partial: bool, awaited: Mapping[str, Any]
    ) -> list[AgentEvent]:
        if text := part.get("text"):
            if self._partial and not partial:  # a whole event repeats its pieces
                return []
            return [ReasoningDelta(text) if part.get("thought") else TextDelta(text)]
        if partial:
            return []
        if call := part.get("functionCall"):
            return self._call(call)
        if response := part.get("functionResponse"):
            return self._result(response, awaited)
        if data := part.get("inlineData"):
            return [inline_file(data, str(data.get("displayName") or ""))]
        return []

    def _call(self, call: Mapping[str, Any]) -> list[AgentEvent]:
        name, arguments = str(call.get("name")), call.get("args") or {}
        if name == CREDENTIAL:
            raise UpstreamBroken("agent_login_required")
        if name == CONFIRMATION:
            original = arguments["originalFunctionCall"]
            self.confirmations.append(
                Confirmation(call["id"], original["name"], original.get("args") or {})
            )
            return []
        call_id = str(call["id"])
        self._unanswered[call_id] = None
        return [ToolCallCompleted(call_id, name, orjson.dumps(arguments).decode())]

    def _result(
        self, response: Mapping[str, Any], awaited: Mapping[str, Any]
    ) -> list[AgentEvent]:
        call_id = str(response.get("id"))
        if call_id not in self._unanswered or call_id in awaited:
            return []
        del self._unanswered[call_id]
        said = response.get("response") or {}
        shown = said.get("result") if said.keys() == {"result"} else said
        if not isinstance(shown, str):
            shown = orjson.dumps(shown).decode()
        return [ToolResult(call_id, shown, failed="error" in said)]

    def _citations(self, grounding: Mapping[str, Any]) -> list[AgentEvent]:
        """The pages of Google's search, each once."""
        events: list[AgentEvent] = []
        for chunk in grounding.get("groundingChunks") or ():
            page = chunk.get("web") or {}
            url = str(page.get("uri") or "")
            if url and url not in self._cited:
                self._cited.add(url)
                events.append(Citation(url, str(page.get("title") or "")))
        return events


def inline_file(data: Mapping[str, Any], name: str) -> FileOutput:
    """A file of {mimeType, data}; its base64 is of the kind for addresses."""
    mime = str(data.get("mimeType") or "application/octet-stream")
    encoded = str(data.get("data") or "").replace("-", "+").replace("_", "/")
    return FileOutput(f"data:{mime};base64,{encoded}", mime, name)
