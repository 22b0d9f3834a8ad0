"""Read the requests of both APIs into one `Conversation`."""

import json
from dataclasses import dataclass
from typing import Any


class BadRequest(ValueError):
    """The request cannot be understood; the message says why."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An image or a file of a message: a data URL, an address, or nothing but a name."""

    kind: str
    url: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool answered to the call with this id."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `calls` maps the ids of an assistant's tool calls to tool names."""

    role: str
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    calls: tuple[tuple[str, str], ...] = ()
    result: Result | None = None

    @property
    def words(self) -> str:
        """All the text in it, that of a tool's result too."""
        return self.result.text if self.result else self.text


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool of the caller; `parameters` is its JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of a request and the tools offered with it.

    `tool_choice` is `auto`, `none`, `required` or the name of a tool.
    """

    messages: tuple[Message, ...]
    tools: tuple[OfferedTool, ...] = ()
    tool_choice: str = "auto"

    @property
    def system(self) -> str:
        """The text of all system and developer messages."""
        roles = ("system", "developer")
        return "\n".join(m.text for m in self.messages if m.role in roles)

    @property
    def said(self) -> list[str]:
        """What the user said, first to last."""
        return [m.text for m in self.messages if m.role == "user"]

    @property
    def last(self) -> Message:
        """The user's last message."""
        users = [m for m in self.messages if m.role == "user"]
        return users[-1] if users else Message("user")

    @property
    def results(self) -> list[tuple[str, str]]:
        """Tool name and answer of every call since the user's last message."""
        names: dict[str, str] = {}
        results: list[tuple[str, str]] = []
        for message in self.messages:
            if message.role == "user":
                names, results = {}, []
            names.update(message.calls)
            if message.result:
                name = names.get(message.result.call_id, "the tool")
                results.append((name, message.result.text))
        return results


def read_chat(body: dict[str, Any]) -> Conversation:
    """Read a Chat Completions request.

    Raises `BadRequest` when `messages` is missing or is not a list of objects.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message.")
    functions = [
        tool.get("function") or {} for tool in _objects(body.get("tools"), "tools")
    ]
    return Conversation(
        tuple(_chat_message(item) for item in _objects(messages, "messages")),
        tuple(read_tool(spec) for spec in _objects(functions, "tools")),
        _tool_choice(body.get("tool_choice")),
    )


def read_responses(body: dict[str, Any]) -> Conversation:
    """Read a Responses request.

    Raises `BadRequest` for an input that is neither text nor items.
    """
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise BadRequest("'input' must be text or a list with at least one item.")
    messages = [_item(item) for item in _objects(given, "input")]
    if body.get("instructions"):
        messages.insert(0, Message("system", str(body["instructions"])))
    tools = _objects(body.get("tools"), "tools")
    return Conversation(
        tuple(messages),
        tuple(read_tool(tool) for tool in tools if tool.get("type") == "function"),
        _tool_choice(body.get("tool_choice")),
    )


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    items = value or []
    if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
        raise BadRequest(f"'{name}' must be a list of objects.")
    return items


def _chat_message(item: dict[str, Any]) -> Message:
    role = str(item.get("role", "user"))
    text, attachments = _content(item.get("content"))
    if role == "tool":
        return Message(role, result=Result(str(item.get("tool_call_id", "")), text))
    calls = tuple(
        (str(call.get("id", "")), str((call.get("function") or {}).get("name", "")))
        for call in _objects(item.get("tool_calls"), "tool_calls")
    )
    return Message(role, text, attachments, calls)


def _item(item: dict[str, Any]) -> Message:
    call_id = str(item.get("call_id", ""))
    match item.get("type", "message"):
        case "message":
            text, attachments = _content(item.get("content"))
            return Message(str(item.get("role", "user")), text, attachments)
        case "function_call":
            return Message("assistant", calls=((call_id, str(item.get("name", ""))),))
        case "function_call_output":
            text, _ = _content(item.get("output"))
            return Message("tool", result=Result(call_id, text))
        case _:
            # Reasoning and the agent's own calls of earlier turns say nothing new.
            return Message("assistant")


def _content(content: Any) -> tuple[str, tuple[Attachment, ...]]:
    """Text and attachments of a message's content, in either API's part types."""
    if not isinstance(content, list):
        if isinstance(content, dict):
            return json.dumps(content, ensure_ascii=False), ()
        return str(content or ""), ()
    texts: list[str] = []
    attachments: list[Attachment] = []
    for part in _objects(content, "content"):
        match part.get("type"):
            case "text" | "input_text" | "output_text":
                texts.append(str(part.get("text", "")))
            case "image_url" | "input_image":
                image = part.get("image_url") or ""
                url = image.get("url", "") if isinstance(image, dict) else image
                attachments.append(Attachment("image", str(url)))
            case "file" | "input_file":
                attachments.append(_file(part.get("file") or part))
            case "input_audio":
                attachments.append(Attachment("file", name="a sound recording"))
    return "\n".join(texts), tuple(attachments)


def _file(part: dict[str, Any]) -> Attachment:
    name = part.get("filename") or part.get("file_id") or part.get("file_url")
    return Attachment("file", str(part.get("file_data") or ""), str(name or "a file"))


def read_tool(spec: dict[str, Any]) -> OfferedTool:
    """Read a function's name, description and schema; raises `BadRequest`."""
    if not spec.get("name"):
        raise BadRequest("Every tool needs a name.")
    return OfferedTool(
        str(spec["name"]),
        str(spec.get("description") or ""),
        spec.get("parameters") or {},
    )


def _tool_choice(choice: Any) -> str:
    """The four shapes of `tool_choice` as one word."""
    if isinstance(choice, dict):
        return str(choice.get("name") or choice.get("function", {}).get("name", "auto"))
    return str(choice or "auto")
