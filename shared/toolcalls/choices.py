"""One choice of a streamed answer: chunks in, chunks with real tool calls out."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from shared.toolcalls.natives import NativeCall, NativeCalls, arguments_in_text
from shared.toolcalls.pieces import CutCall, Piece, RecoveredCall, VisibleText
from shared.toolcalls.scanner import ToolCallScanner
from shared.toolcalls.thoughts import ThoughtScan, ThoughtStream
from shared.toolcalls.toolset import KnownTool, make_toolset

# Endings by which a model says that it is done; whatever else ends a text cuts it.
_WHOLE_ENDINGS = frozenset({"stop", "tool_calls", "function_call", "eos", "end_turn"})


class ChoiceStream:
    """Recovers the calls of one choice.

    Text leaves in the order it came. A call leaves with the first chunk that no text
    before it needs: Open WebUI draws a call above the text of the same chunk.
    `recovered` are the calls found so far, `fresh` those that nobody asked for yet;
    `cut_notice` stands for one that was cut.
    """

    def __init__(
        self,
        tools: Sequence[Mapping[str, Any]],
        *,
        leave_out: frozenset[str],
        thoughts: ThoughtScan,
        cut_notice: str,
    ) -> None:
        self.recovered: list[RecoveredCall] = []
        self.fresh: list[RecoveredCall] = []
        self._scanner = ToolCallScanner(tools, leave_out=leave_out)
        self._thoughts = ThoughtStream(tools, leave_out, thoughts)
        self._natives = NativeCalls(make_toolset(tools))
        self._cut_notice = cut_notice
        self._queue: list[str | RecoveredCall] = []
        self._text: list[str] = []  # all of the answer's text, as it was fed
        self._answered = False  # some of it was shown
        self._merged: set[int] = set()  # recovered calls that mended a native one

    def pass_on(self, choice: dict[str, Any]) -> bool:
        """Mend one chunk's choice in place; False when nothing is left in it.

        `choice` is `{index, delta, finish_reason}` of a chat.completion.chunk.
        """
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice["delta"] = {}
        text = delta.get("content")
        ending = choice.get("finish_reason")
        if isinstance(text, str) and text:
            self._text.append(text)
            pieces = self._scanner.feed(text)
            if len(delta) == 1 and not ending and self._is_plain(pieces, text):
                return True
            del delta["content"]
            self._enqueue(pieces)
        self._thoughts.read(delta)
        self._read_natives(delta)
        if ending:
            self._finish(delta, truncated=ending not in _WHOLE_ENDINGS)
            if self.recovered:
                choice["finish_reason"] = "tool_calls"
        else:
            self._release_next(delta)
        return bool(delta) or bool(ending)

    def end(self) -> dict[str, Any]:
        """The delta that is still owed when the stream ended without saying so."""
        delta: dict[str, Any] = {}
        self._finish(delta, truncated=True)
        return delta

    def _is_plain(self, pieces: list[Piece], text: str) -> bool:
        """Whether the chunk goes on as it came: prose, and nothing waits before it."""
        if self._queue or self._thoughts.calls or len(pieces) != 1:
            return False
        piece = pieces[0]
        if not isinstance(piece, VisibleText) or piece.text != text:
            return False
        self._answered = self._answered or not text.isspace()
        return True

    def _enqueue(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, RecoveredCall):
                self._queue.append(piece)
                self.recovered.append(piece)
                self.fresh.append(piece)
                continue
            text = piece.text if isinstance(piece, VisibleText) else ""
            if isinstance(piece, CutCall):
                text = f"\n\n{self._cut_notice}"
            if text:
                self._queue.append(text)
                self._answered = self._answered or not text.isspace()

    def _read_natives(self, delta: dict[str, Any]) -> None:
        deltas = delta.get("tool_calls")
        if isinstance(deltas, list):
            del delta["tool_calls"]
            suspicious = bool(self.recovered)
            _add_calls(delta, self._natives.feed(deltas, suspicious=suspicious))

    def _release_next(self, delta: dict[str, Any]) -> None:
        """Into the chunk: the text that is next, or the calls that are."""
        if self._thoughts.calls and self._answered and self._thoughts.waits:
            self._thoughts.take_back(delta)
        count = 0
        if self._queue:
            kind = type(self._queue[0])
            while count < len(self._queue) and type(self._queue[count]) is kind:
                count += 1
        self._release(delta, count)

    def _release(self, delta: dict[str, Any], count: int) -> None:
        leaving, self._queue = self._queue[:count], self._queue[count:]
        text = "".join(one for one in leaving if isinstance(one, str))
        if text:
            delta["content"] = text
        calls = [one for one in leaving if isinstance(one, RecoveredCall)]
        _add_calls(delta, [self._call_delta(one) for one in calls])

    def _call_delta(self, call: RecoveredCall) -> dict[str, Any]:
        return {
            "index": self._natives.number(),
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }

    def _finish(self, delta: dict[str, Any], *, truncated: bool) -> None:
        self._thoughts.end(delta, truncated=truncated)
        self._enqueue(self._scanner.finish(truncated=truncated))
        if self._thoughts.waits and (self._answered or self.recovered):
            self._thoughts.take_back(delta)
        else:
            self._enqueue(self._thoughts.calls)
        for call, tool in self._natives.held():
            _add_calls(delta, self._mended(call, tool))
        self._release(delta, len(self._queue))

    def _mended(self, call: NativeCall, tool: KnownTool) -> list[dict[str, Any]]:
        """A native call with the arguments that stayed in the text, if they did."""
        if call.fits(tool):
            return call.release()
        for place, twin in enumerate(self.recovered):
            if twin.name == tool.name and place not in self._merged:
                self._merged.add(place)
                if twin not in self._queue:
                    return []  # it left already, as a call of its own
                self._queue.remove(twin)
                return [call.with_arguments(twin.arguments)]
        arguments = arguments_in_text("".join(self._text), tool)
        return [call.with_arguments(arguments)] if arguments else call.release()


def _add_calls(delta: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    if calls:
        delta["tool_calls"] = [*delta.get("tool_calls", ()), *calls]
