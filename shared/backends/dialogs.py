"""How an agent asks the user, whatever protocol it asks in."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """An agent wants to act and asks first.

    `tool` is the name that an allow-list knows; `title` says what is to be done in a
    line, `detail` in full (arguments, a command, a diff), `paths` where.
    """

    tool: str
    title: str
    detail: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserQuestion:
    """An agent cannot go on before the user says something."""

    message: str
    choices: tuple[str, ...] = ()


class Dialogs(Protocol):
    """Whoever can ask the user of this turn."""

    async def approve(self, request: ApprovalRequest) -> bool:
        """Whether the agent may do this, once.

        False too where nobody can be asked or nobody answers in time. What may be
        done for the rest of the chat is remembered on this side: an agent is never
        told "always".
        """

    async def ask(self, question: UserQuestion) -> str | None:
        """The user's words, or None where there are none."""


class Nobody:
    """No browser is there to ask."""

    async def approve(self, request: ApprovalRequest) -> bool:
        return False

    async def ask(self, question: UserQuestion) -> str | None:
        return None


NOBODY = Nobody()
