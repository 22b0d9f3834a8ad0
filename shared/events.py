"""What an agent can say, whatever protocol it speaks.

A backend turns its wire format into these events, a renderer turns them into what
Open WebUI or an API caller reads. A tool call that is answered by a `ToolResult`
before `Finished` was run on the agent's side; one that is not is for the caller to run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer.

    `raw` is the JSON of the Chat Completions chunk that said this and nothing else,
    where there was one: an API caller can have it as it came.
    """

    text: str
    raw: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the agent's thoughts; `raw` as in TextDelta."""

    text: str
    raw: bytes = field(default=b"", compare=False, repr=False)


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
    """A file or an image the agent made; `url` is http(s) or a data URL.

    `file_id` and `size` (bytes) are those of Open WebUI's storage, once it is there.
    One without a `url` was made, but there is no room for it.
    """

    url: str
    mime_type: str
    name: str = ""
    file_id: str = ""
    size: int = 0


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
class SessionState:
    """What continues this conversation on the agent's side (a thread or response id).

    `seal` says that we kept it, and where; it is put on once the backend is done.
    """

    data: Mapping[str, Any]
    seal: str = ""


@dataclass(frozen=True, slots=True)
class Handover:
    """From here on another agent answers, as the one that was asked could not."""

    agent_id: str
    name: str


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
    | SessionState
    | Handover
    | Failed
    | Finished
)
