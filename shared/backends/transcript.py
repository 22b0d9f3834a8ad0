"""Messages as what agents take that do not speak Chat Completions."""

import binascii
import mimetypes
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from shared.backends.encoding import decode_base64

SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool result"}
SYSTEM_HEADING = "Instructions"
EARLIER_HEADING = "The conversation so far"
NOW_HEADING = "Now the user says"


@dataclass(frozen=True, slots=True)
class TurnFile:
    """A file the user sent; its `url` is a data URL, or says where it is."""

    name: str
    mime_type: str
    url: str = field(repr=False)

    @property
    def inline(self) -> bool:
        """Whether its bytes are here."""
        return self.url.startswith("data:")

    @property
    def encoded(self) -> str:
        """The bytes of an inline file as base64, as they came."""
        return self.url.partition(",")[2]

    def read(self) -> bytes | None:
        """The bytes, where they are here and readable. Slow: call it in a thread."""
        if not self.inline:
            return None
        with suppress(binascii.Error):
            return decode_base64(self.encoded)
        return None


def message_text(message: Mapping[str, Any]) -> str:
    """The text of a message, its parts divided by blank lines."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [
        str(part.get("text") or "")
        for part in content or ()
        if part.get("type") in ("text", "input_text", "output_text")
    ]
    return "\n\n".join(text for text in texts if text)


def message_files(message: Mapping[str, Any]) -> tuple[TurnFile, ...]:
    """The images and files in a message's parts.

    Shapes: {type: image_url, image_url: {url}} and {type: file, file: {filename,
    file_data}}, where an address may be a data URL.
    """
    content = message.get("content")
    files: list[TurnFile] = []
    for part in content if isinstance(content, list) else ():
        if part.get("type") == "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, Mapping) else image
            files.append(turn_file(f"image-{len(files) + 1}", str(url or "")))
        elif part.get("type") == "file":
            file = part.get("file") or {}
            name = str(file.get("filename") or f"file-{len(files) + 1}")
            files.append(turn_file(name, str(file.get("file_data") or "")))
    return tuple(files)


def turn_file(name: str, url: str) -> TurnFile:
    """A file from its address; a name without an ending gets that of its type."""
    if not url.startswith("data:"):
        mime = mimetypes.guess_type(name)[0] or mimetypes.guess_type(url)[0]
        return TurnFile(name, mime or "application/octet-stream", url)
    head = url[: url.find(",")]
    mime = head[5:].split(";")[0] or "text/plain"
    if "." not in name:
        name += mimetypes.guess_extension(mime) or ""
    return TurnFile(name, mime, url)


def transcript(messages: Iterable[Mapping[str, Any]]) -> str:
    """A branch as one prompt, for an agent that takes only text.

    A single message is given as it is; of several, the last one stands apart, so
    that the agent answers it and not the ones before.
    """
    told = [m for m in messages if message_text(m)]
    system = [message_text(m) for m in told if m.get("role") == "system"]
    spoken = [m for m in told if m.get("role") != "system"]
    sections = [f"# {SYSTEM_HEADING}\n\n{text}" for text in system]
    if len(spoken) > 1:
        earlier = "\n\n".join(spoken_line(m) for m in spoken[:-1])
        sections.append(f"# {EARLIER_HEADING}\n\n{earlier}")
    if spoken:
        last = message_text(spoken[-1])
        sections.append(f"# {NOW_HEADING}\n\n{last}" if sections else last)
    return "\n\n".join(sections)


def spoken_line(message: Mapping[str, Any]) -> str:
    """One earlier message with its speaker."""
    speaker = SPEAKERS.get(str(message.get("role")), "Other")
    return f"{speaker}: {message_text(message)}"
