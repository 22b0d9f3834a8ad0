"""An agent's questions to the user: what it may do, and what it needs to know."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from shared.agents.config import ApprovalSettings
from shared.backends.dialogs import ApprovalRequest, UserQuestion
from shared.backends.workspaces import is_lasting_chat
from shared.errors import AqueductError
from shared.host.dialogs import Emit, EventCall, ask_form
from shared.render.items import status_event
from shared.texts import Sentence

# Of what is longer, beginning and end are shown: the end of a command says as much.
HEAD_CHARS = 2500
TAIL_CHARS = 1500
MAX_GRANTS = 10_000
# What a page does not show, or what turns round or hides the text beside it, so that a
# command would read as another: control characters, directions, spaces without width.
HIDDEN_CHARACTER = re.compile(
    r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f"
    r"\u2028-\u202e\u2060-\u2069\ufeff]"
)

# (user, chat, agent, tool) of what was allowed for the rest of a chat, oldest first.
Grants = dict[tuple[str, str, str, str], None]


@dataclass(frozen=True, slots=True)
class ChatDialogs:
    """Asks the user of one turn in their browser, as the agent's settings say.

    `event_call` and `emit` are None where no browser is there: then nothing is
    approved. `place` is (user id, chat id, agent id).
    """

    settings: ApprovalSettings
    place: tuple[str, str, str]
    sentence: Sentence
    grants: Grants
    event_call: EventCall | None = None
    emit: Emit | None = None

    async def approve(self, request: ApprovalRequest) -> bool:
        if allowed_by(self.settings, request):
            return True
        if self.settings.mode == "deny" or self.event_call is None:
            return False
        grant = (*self.place, request.tool)
        if grant in self.grants:
            return True
        fields = {"tool": request.tool}
        # The next temporary chat of the same page has the same id.
        lasting = is_lasting_chat(self.place[1])
        kinds = ("once", "chat") if lasting else ("once",)
        choice = {
            "type": "string",
            "title": self.sentence("approval_choice", fields),
            "oneOf": [
                {"const": kind, "title": self.sentence(f"approval_{kind}", fields)}
                for kind in kinds
            ],
            "default": "once",
        }
        answer = await self._form(
            self.sentence("approval_title", fields),
            request_words(request, self.sentence),
            {"allow": choice},
            self.sentence("approval_waiting", fields),
        )
        if answer.get("allow") == "chat" and lasting:
            while len(self.grants) >= MAX_GRANTS:
                del self.grants[next(iter(self.grants))]
            self.grants[grant] = None
        return answer.get("allow") in kinds

    async def ask(self, question: UserQuestion) -> str | None:
        if self.event_call is None:
            return None
        field: dict[str, Any] = {
            "type": "string",
            "title": self.sentence("question_answer", {}),
        }
        if question.choices:
            field["enum"] = list(question.choices)
        answer = await self._form(
            self.sentence("question_title", {}),
            shortened(question.message, self.sentence),
            {"answer": field},
            self.sentence("question_waiting", {}),
        )
        return str(answer.get("answer") or "").strip() or None

    async def _form(
        self, title: str, message: str, properties: Mapping[str, Any], waiting: str
    ) -> Mapping[str, Any]:
        """What the user chose; empty where they declined or did not answer in time."""
        assert self.event_call is not None
        schema = {
            "type": "object",
            "properties": dict(properties),
            "required": list(properties),
        }
        await self._status(waiting, done=False)
        try:
            return await ask_form(
                self.event_call, title, message, schema, self.settings.seconds
            )
        except AqueductError:
            return {}
        finally:
            await self._status(waiting, done=True)

    async def _status(self, text: str, done: bool) -> None:
        if self.emit is not None:
            event = status_event(text, done)["event"]
            event["data"]["hidden"] = done
            await self.emit(event)


def allowed_by(settings: ApprovalSettings, request: ApprovalRequest) -> bool:
    """Whether the admin's list allows this without asking.

    An entry with paths covers a request only if it names paths, all of them inside.
    """
    return any(
        fnmatchcase(request.tool, entry.tool)
        and (
            not entry.paths
            or (
                bool(request.paths)
                and all(path_matches(path, entry.paths) for path in request.paths)
            )
        )
        for entry in settings.allow
    )


def path_matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path fits one of the patterns.

    One that climbs with `..` never does, and an absolute one, which lies outside of
    the agent's folder, only fits an absolute pattern.
    """
    return ".." not in path.split("/") and any(
        fnmatchcase(path, pattern) and path.startswith("/") == pattern.startswith("/")
        for pattern in patterns
    )


def request_words(request: ApprovalRequest, sentence: Sentence) -> str:
    """What is to be done, where, and in full, as plain text."""
    parts = (request.title, "\n".join(request.paths), request.detail)
    visible = (HIDDEN_CHARACTER.sub(escaped, part) for part in parts if part)
    return "\n\n".join(shortened(part, sentence) for part in visible)


def escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def shortened(text: str, sentence: Sentence) -> str:
    """A text without its middle where it is too long, and how much that was."""
    left_out = len(text) - HEAD_CHARS - TAIL_CHARS
    if left_out <= 0:
        return text
    mark = sentence("middle_left_out", {"count": left_out})
    return f"{text[:HEAD_CHARS]}\n\n{mark}\n\n{text[-TAIL_CHARS:]}"
