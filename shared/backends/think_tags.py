"""Thoughts that a server leaves in the text, between tags at the start of the answer."""

from shared.events import AgentEvent, ReasoningDelta, TextDelta

# The tags Open WebUI itself reads as thoughts, opening and closing.
THINK_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<reason>": "</reason>",
    "<reasoning>": "</reasoning>",
    "<thought>": "</thought>",
    "<Thought>": "</Thought>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "◁think▷": "◁/think▷",
}


def held_suffix(text: str, marker: str) -> int:
    """How many characters at the end of `text` may be the beginning of `marker`."""
    for size in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-size:]):
            return size
    return 0


class ThinkTagSplitter:
    """Tells thoughts from text in a stream of text.

    Only a tag that opens the answer counts: further on, text about tags is far
    more likely than thoughts. `passing` is True once nothing is looked for, so
    that the caller can spare itself the call.
    """

    def __init__(self) -> None:
        self.passing = False
        self._closer = ""
        self._held = ""
        self._trim = False

    def feed(self, text: str) -> list[AgentEvent]:
        if self.passing:
            return [TextDelta(text)]
        text = self._held + text
        self._held = ""
        if not self._closer:
            return self._look_for_opener(text)
        return self._look_for_closer(text)

    def finish(self) -> list[AgentEvent]:
        """What was held back, when the stream has ended."""
        held, self._held = self._held, ""
        self.passing = True
        if not held:
            return []
        return [ReasoningDelta(held) if self._closer else TextDelta(held)]

    def _look_for_opener(self, text: str) -> list[AgentEvent]:
        start = text.lstrip()
        if self._trim:
            text = start
        if not start or any(tag.startswith(start) for tag in THINK_TAGS):
            self._held = text
            return []
        for opener, closer in THINK_TAGS.items():
            if start.startswith(opener):
                self._closer = closer
                return self._look_for_closer(start[len(opener) :].lstrip("\n"))
        self.passing = True
        return [TextDelta(text)]

    def _look_for_closer(self, text: str) -> list[AgentEvent]:
        thought, found, rest = text.partition(self._closer)
        if found:
            # The answer may open a second thought; blank lines between are nobody's.
            self._closer = ""
            self._trim = True
            events: list[AgentEvent] = [ReasoningDelta(thought)] if thought else []
            return events + (self._look_for_opener(rest) if rest else [])
        held = held_suffix(text, self._closer)
        if held:
            self._held = text[-held:]
            text = text[:-held]
        return [ReasoningDelta(text)] if text else []
