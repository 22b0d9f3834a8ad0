"""What an A2A agent says: results of requests and streams in, agent events out, no I/O.

Format: A2A Protocol Specification 1.0 and 0.3.0, objects Task, Message,
TaskStatusUpdateEvent and TaskArtifactUpdateEvent, read in all their dialects.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from shared.backends.addresses import is_link
from shared.errors import UpstreamBroken
from shared.events import AgentEvent, FileOutput, ReasoningDelta, Status, TextDelta

STATUS_CHARS = 200
FAILED_STATES = {
    "failed": "said_error",
    "rejected": "a2a_rejected",
    "canceled": "a2a_canceled",
    "auth-required": "agent_login_required",
}
WAITING_STATES = ("input-required",)
# The keys of a result in a dialect without `kind`.
ENVELOPES = {
    "task": "task",
    "message": "message",
    "msg": "message",
    "statusUpdate": "status-update",
    "artifactUpdate": "artifact-update",
}


class A2ADecoder:
    """Reads one turn, which may be several requests and streams of the same task.

    A stream that is attached again begins with the whole task, so everything is
    told only as far as it was not told before. `state` is the task's last one, in
    the words of 0.3 ("" before there is one); `said` the text with it.
    """

    def __init__(self) -> None:
        self.task_id = ""
        self.context_id = ""
        self.state = ""
        self.said = ""
        self.answered = False  # by a message, which needs no task
        self.told = False
        self._worded = False  # in the answer to the latest message of the user
        self._line = ""
        self._artifacts: dict[str, str] = {}
        self._files: set[FileOutput] = set()

    @property
    def ended(self) -> bool:
        """Whether nothing more follows in this stream."""
        closed = ("completed", *FAILED_STATES, *WAITING_STATES)
        return self.answered or self.state in closed

    @property
    def waiting(self) -> bool:
        """Whether the agent wants an answer to `said`."""
        return self.state in WAITING_STATES

    @property
    def unfinished(self) -> bool:
        """Whether the task would go on: it works, or waits for an answer."""
        return self.waiting or not self.ended

    def go_on(self) -> None:
        """The user answers, and the same task goes on."""
        self.state = self.said = self._line = ""
        self._worded = False

    def feed(self, result: Mapping[str, Any]) -> list[AgentEvent]:
        """One result; raises UpstreamBroken where the task failed."""
        kind, content = unwrap_kind(result)
        self.context_id = str(content.get("contextId") or self.context_id)
        events: list[AgentEvent] = []
        if kind == "task":
            self.task_id = str(content.get("id") or self.task_id)
            for artifact in content.get("artifacts") or ():
                events += self._artifact(artifact, append=False)
            events += self._status(content.get("status") or {})
            events += self._last_words(content.get("history") or ())
        elif kind == "message":
            self.answered = True
            events = self._parts("message", part_list(content))
        elif kind == "status-update":
            self.task_id = str(content.get("taskId") or self.task_id)
            events = self._status(content.get("status") or {})
        elif kind == "artifact-update":
            self.task_id = str(content.get("taskId") or self.task_id)
            append = bool(content.get("append"))
            events = self._artifact(content.get("artifact") or {}, append)
        return events

    def _status(self, status: Mapping[str, Any]) -> list[AgentEvent]:
        """A new state. While the agent works, what it says with it is a status line."""
        self.state = state_name(status.get("state")) or self.state
        parts = part_list(status.get("message") or {})
        said = "\n\n".join(part_text(part) for part in parts if part_text(part))
        self.said = said or ("" if self.ended else self.said)
        if self.state in FAILED_STATES:
            raise UpstreamBroken(FAILED_STATES[self.state], detail=said)
        if self.state == "completed":
            return self._completed(parts)
        line = " ".join(said.split())[:STATUS_CHARS]
        if self.ended or not line or line == self._line:
            return []
        self._line = line
        return [Status(line)]

    def _completed(self, parts: list[Mapping[str, Any]]) -> list[AgentEvent]:
        """Words at the end repeat the artifacts, if there were any."""
        if self._worded:
            return []
        return self._parts("message", parts)

    def _last_words(self, history: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        """Some agents leave their answer in the task's history alone."""
        if self.state != "completed" or self._worded:
            return []
        messages = [m for m in history if str(m.get("role")).lower().endswith("agent")]
        return self._parts("message", part_list(messages[-1])) if messages else []

    def _artifact(self, artifact: Mapping[str, Any], append: bool) -> list[AgentEvent]:
        artifact_id = str(artifact.get("artifactId") or "")
        parts = part_list(artifact)
        said = "".join(part_text(part) or part_data(part) for part in parts)
        known = self._artifacts.get(artifact_id, "")
        events: list[AgentEvent] = []
        if append or not known:
            thoughts = (part for part in parts if is_thought(part))
            events += [ReasoningDelta(str(part["text"])) for part in thoughts]
        if not append and said.startswith(known):
            said = said[len(known) :]
        elif not append:  # another text in its place, or not yet all that we know
            said = "" if known.startswith(said) else f"\n\n{said}"
        return [*events, *self._told_of(artifact_id, said), *self._sent(parts)]

    def _told_of(self, artifact_id: str, text: str) -> list[AgentEvent]:
        """More text of an artifact; each artifact is a paragraph of its own."""
        if not text:
            return []
        begins = artifact_id not in self._artifacts and bool(self._artifacts)
        self._artifacts[artifact_id] = self._artifacts.get(artifact_id, "") + text
        self.told = self._worded = True
        return [TextDelta(f"\n\n{text}" if begins else text)]

    def _parts(self, owner: str, parts: list[Mapping[str, Any]]) -> list[AgentEvent]:
        """The parts of a message as the answer."""
        said = "\n\n".join(filter(None, (part_text(p) or part_data(p) for p in parts)))
        return [*self._told_of(owner, said), *self._sent(parts)]

    def _sent(self, parts: Iterable[Mapping[str, Any]]) -> list[AgentEvent]:
        """The files among these parts, each of them once."""
        events: list[AgentEvent] = []
        for part in parts:
            file = part_file(part)
            if file is not None and file not in self._files:
                self._files.add(file)
                self.told = True
                events.append(file)
        return events


def unwrap_kind(result: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """What a result is, and its content.

    0.3 names it in `kind`; the others put it into an envelope with one key. The answer
    to GetTask is a task in no envelope.
    """
    if "kind" in result:
        return str(result["kind"]), result
    for key, kind in ENVELOPES.items():
        content = result.get(key)
        if isinstance(content, Mapping):
            return kind, content
    return ("task", result) if "status" in result else ("", result)


def state_name(state: Any) -> str:
    """A state in the words of 0.3: `TASK_STATE_INPUT_REQUIRED` is `input-required`."""
    name = str(state or "").removeprefix("TASK_STATE_").lower().replace("_", "-")
    return "canceled" if name == "cancelled" else name


def part_list(holder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts of a message or an artifact; 0.3 over REST calls them `content`."""
    parts = holder.get("parts") or holder.get("content") or ()
    return [part for part in parts if isinstance(part, Mapping)]


def is_thought(part: Mapping[str, Any]) -> bool:
    """Whether Google's ADK marked a text as one of the model's thoughts."""
    return bool((part.get("metadata") or {}).get("adk_thought")) and "text" in part


def part_text(part: Mapping[str, Any]) -> str:
    return "" if is_thought(part) else str(part.get("text") or "")


def part_data(part: Mapping[str, Any]) -> str:
    """Structured output as a block of JSON, "" for a part of another kind."""
    data = part.get("data")
    if data is None:
        return ""
    shown = orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()
    return f"\n```json\n{shown}\n```\n"


def part_file(part: Mapping[str, Any]) -> FileOutput | None:
    """The file of a part: `raw` or `url` in 1.0, an object `file` in 0.3."""
    file = part.get("file")
    if isinstance(file, Mapping):
        encoded = file.get("bytes")
        if twice := file.get("fileWithBytes"):  # as in A2AInterface._file_part
            encoded = base64.b64decode(twice).decode()
        url = file.get("uri") or file.get("fileWithUri")
        mime, name = file.get("mimeType"), file.get("name")
    else:
        encoded, url = part.get("raw"), part.get("url")
        mime, name = part.get("mediaType"), part.get("filename")
    mime = str(mime or "application/octet-stream")
    if encoded:
        url = f"data:{mime};base64,{encoded}"
    link = str(url or "")
    return FileOutput(link, mime, str(name or "")) if is_link(link) else None
