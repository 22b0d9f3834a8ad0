"""Commands in a message which make the server misbehave on purpose.

All of them are deterministic. docs/demo.md has the table for users; what they do to a
stream is in demo/delivery.py.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from demo import talk
from demo.acts import Act, Say, Think

RETRY_AFTER = 7
# Stands in the text until the bytes are made, and becomes bytes that are no UTF-8.
SPOILED = "\ue000"
WIDE = "\n\nWide characters: äöü ß – 日本語 – 🙂"
FAILURES = {
    401: ("invalid_api_key", "Incorrect API key provided."),
    403: ("forbidden", "This key may not use the model."),
    404: ("model_not_found", "The model does not exist."),
    429: ("rate_limit_exceeded", f"Too many requests; try again in {RETRY_AFTER} s."),
    500: ("server_error", "The server had an error while answering."),
    503: ("overloaded", "The server is overloaded."),
}
COMMAND = re.compile(
    r"(?<!\S)/(?:(?P<slow>slow)(?:\s+(?P<seconds>\d+(?:\.\d+)?))?"
    r"|think\s+(?P<think>\d+)"
    r"|words\s+(?P<words>\d+)"
    r"|fail\s+(?P<fail>401|403|404|429|500|503)"
    r"|break\s+(?P<broken>stream|cut|garbage|utf8|big)"
    r"|silent\s+(?P<silent>first|middle)"
    r"|reasoning\s+(?P<reasoning>reasoning_content|reasoning|thinking)"
    r"|(?P<switch>plain|split|keepalive))(?!\S)"
)


@dataclass(frozen=True, slots=True)
class Faults:
    """What a message asks for; `slow` is in seconds, `think` and `words` in words."""

    slow: float = 0.0
    think: int = 0
    words: int = 0
    fail: int = 0
    broken: str = ""
    silent: str = ""
    reasoning: str = "reasoning_content"
    plain: bool = False
    split: bool = False
    keepalive: bool = False


def read_faults(text: str) -> tuple[Faults, str, str]:
    """The faults asked for in `text`, the text without them, and the commands."""
    asked: dict[str, Any] = {}
    for match in COMMAND.finditer(text):
        groups = match.groupdict()
        if groups["slow"]:
            asked["slow"] = float(groups["seconds"] or 0.5)
        if groups["switch"]:
            asked[groups["switch"]] = True
        numbers = [name for name in ("think", "words", "fail") if groups[name]]
        asked |= {name: int(groups[name]) for name in numbers}
        names = ("broken", "silent", "reasoning")
        asked |= {name: groups[name] for name in names if groups[name]}
    commands = ", ".join(f"`{match.group()}`" for match in COMMAND.finditer(text))
    return Faults(**asked), COMMAND.sub("", text).strip(), commands


def dress(acts: list[Act], faults: Faults) -> list[Act]:
    """Add to an answer what the faults want to stand in it."""
    if faults.think:
        acts = [Think(talk.repeat(talk.THOUGHTS, faults.think)), *acts]
    if faults.split:
        acts = _edit_last_text(acts, lambda text: text + WIDE)
    if faults.broken == "utf8":
        acts = _edit_last_text(acts, _spoil)
    return acts


def _edit_last_text(acts: list[Act], edit: Callable[[str], str]) -> list[Act]:
    at = max((i for i, act in enumerate(acts) if isinstance(act, Say)), default=None)
    if at is None:
        return acts
    said = acts[at]
    assert isinstance(said, Say)
    return [*acts[:at], replace(said, text=edit(said.text)), *acts[at + 1 :]]


def _spoil(text: str) -> str:
    middle = len(text) // 2
    return text[:middle] + SPOILED + text[middle:]
