"""The streams of many chats at once: each by its message, forgotten when it ends."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from shared.toolcalls.choices import ChoiceStream
from shared.toolcalls.pieces import RecoveredCall

_MOST_STREAMS = 500
_LONGEST_SILENCE = 900.0  # seconds; a client that is gone sends no end
# What a chunk without any news consists of.
_FRAME_KEYS = frozenset(
    {"id", "object", "created", "model", "choices", "system_fingerprint"}
    | {"service_tier", "provider", "usage", "timings"}
)


class MessageStream:
    """One round of a streamed message; `new_choice` makes the stream of each choice."""

    def __init__(self, new_choice: Callable[[], ChoiceStream]) -> None:
        self._new_choice = new_choice
        self._choices: dict[int, ChoiceStream] = {}
        self._called = False  # the last round ended with calls
        self._found: list[RecoveredCall] = []

    def pass_on(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """A chat.completion.chunk, mended in place; None when nothing is left in it."""
        left = False
        for choice in event["choices"]:
            index = choice.get("index") or 0
            if index not in self._choices and not any(
                (choice.get("delta") or {}).values()
            ):
                # Open WebUI ends the stream of a pipe once more.
                if self._called and choice.get("finish_reason"):
                    choice["finish_reason"] = "tool_calls"
                left = True
                continue
            stream = self._choices.get(index)
            if stream is None:
                stream = self._choices[index] = self._new_choice()
            left = stream.pass_on(choice) or left
            self._collect(stream)
            if choice.get("finish_reason"):
                self._called = choice["finish_reason"] == "tool_calls"
                del self._choices[index]
        news = left or event.get("usage") or event.get("timings")
        return event if news or not _FRAME_KEYS.issuperset(event) else None

    def end(self) -> list[dict[str, Any]]:
        """The choices that are owed when no chunk said that it was the last."""
        owed = []
        for index, stream in self._choices.items():
            delta = stream.end()
            self._collect(stream)
            if delta:
                reason = "tool_calls" if delta.get("tool_calls") else None
                owed.append({"index": index, "delta": delta, "finish_reason": reason})
        self._choices = {}
        return owed

    def take_found(self) -> list[RecoveredCall]:
        """The calls that were recovered since the last time."""
        found, self._found = self._found, []
        return found

    def _collect(self, stream: ChoiceStream) -> None:
        if stream.fresh:
            self._found += stream.fresh
            stream.fresh = []


class StreamStore:
    """Message streams by key, bounded in number and in the time they are silent."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: OrderedDict[str, tuple[float, MessageStream]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, key: str) -> MessageStream | None:
        """The stream of `key`, which is thereby alive again."""
        entry = self._streams.get(key)
        if entry is None:
            return None
        now = self._clock()
        if now - entry[0] > 1:  # not for every chunk
            self._streams[key] = (now, entry[1])
            self._streams.move_to_end(key)
        return entry[1]

    def add(self, key: str, stream: MessageStream) -> None:
        """Keep a new stream; those that are abandoned, or too many, are dropped."""
        now = self._clock()
        while self._streams:
            oldest, (seen, _) = next(iter(self._streams.items()))
            if len(self._streams) < _MOST_STREAMS and now - seen < _LONGEST_SILENCE:
                break
            del self._streams[oldest]
        self._streams[key] = (now, stream)

    def pop(self, key: str) -> MessageStream | None:
        """Forget the stream of `key`."""
        entry = self._streams.pop(key, None)
        return entry[1] if entry is not None else None
