"""Who calls a tool of the orchestrator: a model, in an answer, for a user."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.host.dialogs import Emit, EventCall
from shared.host.turns import unbroken
from shared.host.usable_models import UsableModel, usable_models
from shared.orchestration.orchestrator_texts import ORCHESTRATOR_TEXTS
from shared.texts import translate


@dataclass(frozen=True, slots=True)
class OrchestratorLimits:
    """What an admin has set; counts are for one answer to a person's message."""

    max_depth: int = 2
    max_chats: int = 12
    max_turns: int = 40
    max_parallel: int = 4
    max_seconds: int = 900
    max_tokens: int = 200_000
    max_chars: int = 8_000


@dataclass(frozen=True, slots=True)
class Caller:
    """One call of a tool, as Open WebUI tells of it.

    `person` is the user as the database has them now; `run_tool` looks them up.
    """

    request: Any
    metadata: Mapping[str, Any]
    model: Mapping[str, Any]
    limits: OrchestratorLimits
    emit: Emit | None = None
    event_call: EventCall | None = None
    person: Any = None

    @property
    def chat_id(self) -> str:
        return str(self.metadata.get("chat_id") or "")

    @property
    def message_id(self) -> str:
        """The answer that is being written."""
        return str(self.metadata.get("message_id") or "")

    @property
    def session_id(self) -> str:
        """The socket of the user's tab; empty where there is none."""
        return str(self.metadata.get("session_id") or "")

    @property
    def model_id(self) -> str:
        return str(self.model.get("id") or "")

    @property
    def language(self) -> str:
        variables = self.metadata.get("variables") or {}
        return str(variables.get("{{USER_LANGUAGE}}") or "en")

    def text(self, code: str, **fields: Any) -> str:
        """A sentence for the user, in their language."""
        return translate(ORCHESTRATOR_TEXTS, code, self.language, fields)

    async def models(self) -> dict[str, UsableModel]:
        """The models that the user may use, by id."""
        return await usable_models(self.request, self.person)

    async def status(self, code: str, done: bool, **fields: Any) -> None:
        """The line above the answer that tells what is going on."""
        if self.emit is not None:
            data = {"description": self.text(code, **fields), "done": done}
            await unbroken(self.emit({"type": "status", "data": data}))
