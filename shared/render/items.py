"""AgentEvents as Open WebUI's own output items: how an agent looks in a chat.

The dictionaries are what Open WebUI 0.12 reads from a pipe: `response.*` events for
items, `{"event": …}` for statuses and sources, `{"usage": …}`, `{"error": …}`.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from shared.events import (
    AgentEvent,
    Citation,
    Failed,
    FileOutput,
    Finished,
    Handover,
    ReasoningDelta,
    SessionState,
    Status,
    TextDelta,
    ToolCallArgumentsDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
    Usage,
)
from shared.ids import new_id
from shared.render.sending import server_sent

STATE_ITEM_TYPE = "x_aqueduct:state"
ANSWERED_BY_ITEM_TYPE = "x_aqueduct:answered_by"

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
        self._open_status: str | None = None
        self._files: list[HostEvent] = []

    @property
    def open_status(self) -> str | None:
        """The status line that still shimmers, or None."""
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
                return self._file(event)
            case Status():
                self._open_status = None if event.done else event.text
                return [status_event(event.text, event.done)]
            case Usage(counts):
                return [{"usage": dict(counts)}]
            case SessionState(data, seal):
                fields = {"data": dict(data), "seal": seal}
                return self._note(STATE_ITEM_TYPE, fields)
            case Handover(agent_id, name):
                self._agent_id = agent_id
                return self._note(ANSWERED_BY_ITEM_TYPE, {"name": name})
            case Failed(code, fields):
                error = {"message": self._sentence(code, fields)}
                return [*self._close_all(give_up=True), {"error": error}]
            case Finished(reason):
                choice = {"index": 0, "delta": {}, "finish_reason": reason}
                return [*self._close_all(), {"choices": [choice]}]
        return []

    def stream(self, event: AgentEvent) -> list[bytes]:
        """The same as server-sent events."""
        return [server_sent(item) for item in self.render(event)]

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
            "id": new_id(kind),
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

    def _close_all(self, give_up: bool = False) -> list[HostEvent]:
        """Close what is open at the end of the turn.

        Open WebUI runs every call that has no output. So calls that did not become
        whole get one, and after a failure (`give_up`) all calls do.
        """
        events = self._close_item()
        broken = self._sentence("tool_call_broken", {})
        for call_id, (_, item) in list(self._calls.items()):
            if give_up or item["status"] != "completed":
                events += self._call_result(ToolResult(call_id, broken, failed=True))
        if self._files:
            data = {"files": self._files}
            events.append({"event": {"type": "files", "data": data}})
            self._files = []
        if self._open_status is not None:
            events.append(status_event(self._open_status, True))
            self._open_status = None
        return events

    def _file(self, file: FileOutput) -> list[HostEvent]:
        """An image is a delta, which Open WebUI stores itself.

        Other files go together at the end: each `files` event replaces the last one
        in the page.
        """
        if file.mime_type.startswith("image/"):
            image = {"type": "image_url", "image_url": {"url": file.url}}
            return [{"choices": [{"index": 0, "delta": {"images": [image]}}]}]
        entry: HostEvent = {"type": "file", "url": file.url}
        if file.file_id:
            entry |= {"id": file.file_id, "url": file.file_id, "size": file.size}
        entry |= {"name": file.name or file.url, "content_type": file.mime_type}
        self._files.append(entry)
        return []

    def _call_started(self, event: ToolCallStarted) -> list[HostEvent]:
        if event.call_id in self._calls:
            return []
        call_id = event.call_id
        if not call_id or call_id in self._used_call_ids:
            call_id = new_id("call")
        self._used_call_ids.add(call_id)
        self._call_ids[event.call_id] = call_id
        item = {
            "type": "function_call",
            "id": new_id("fc"),
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
            "id": new_id("fco"),
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
        if call["status"] != status:
            arguments = call["arguments"] or "{}"
            call = {**call, "arguments": arguments, "status": status}
            events.append(done_event(index, call))
        return events

    def _note(self, kind: str, fields: Mapping[str, Any]) -> list[HostEvent]:
        """An item that is kept with the message and not drawn."""
        item = {
            "type": kind,
            "id": new_id("state"),
            "agent": self._agent_id,
            **fields,
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


def done_event(index: int, item: HostEvent) -> HostEvent:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def status_event(text: str, done: bool) -> HostEvent:
    data = {"description": text, "done": done}
    return {"event": {"type": "status", "data": data}}


def source_event(citation: Citation) -> HostEvent:
    """One source in the shape that Open WebUI shows under an answer.

    `external` has its title shown; without it the page shows the address, and asks
    a search engine for the icon of every host.
    """
    title = citation.title or citation.url
    data = {
        "source": {"name": title, "url": citation.url},
        "document": [citation.text or title],
        "metadata": [{"source": citation.url, "name": title, "external": True}],
    }
    return {"event": {"type": "source", "data": data}}
