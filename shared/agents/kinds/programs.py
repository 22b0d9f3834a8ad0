"""What agents that are programs have in common: their command and environment."""

import hashlib
import shlex
from pathlib import PurePath
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, field_validator

from shared.agents.config import AgentConfig, TimeoutSettings
from shared.backends.processes import Program

WORKSPACES = "aqueduct/workspaces"


class ProgramTimeouts(TimeoutSettings):
    """Agents are slow to start, and silent while a command of theirs runs."""

    connect: float = Field(default=60.0, gt=0)
    first_token: float = Field(default=300.0, gt=0)
    between_tokens: float = Field(default=900.0, gt=0)


class ProgramAgent(AgentConfig):
    """An agent that is started on this machine, or from it over ssh."""

    WITH_VARIABLES: ClassVar[tuple[str, ...]] = ("env",)

    command: tuple[str, ...] = Field(repr=False)
    env: dict[str, SecretStr] = Field(default_factory=dict)
    timeouts: ProgramTimeouts = ProgramTimeouts()
    recover_tool_calls: bool = False
    files: Literal["text", "attach"] = "attach"

    @field_validator("command", mode="before")
    @classmethod
    def _is_a_list(cls, command: Any) -> Any:
        """A command in one line is taken apart as a shell does, but none runs it."""
        if not isinstance(command, str):
            return command
        try:
            return shlex.split(command)
        except ValueError as error:
            raise ValueError("a quotation mark in the command is not closed") from error

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if not command or not command[0]:
            raise ValueError("the command names no program")
        return command

    @property
    def place(self) -> str:
        return PurePath(self.command[0]).name

    @property
    def program(self) -> Program:
        """What to start."""
        env = {name: value.get_secret_value() for name, value in self.env.items()}
        return Program(self.command, env)

    @property
    def fingerprint(self) -> str:
        """Changes whenever something else would be started."""
        program = self.program
        told = repr((program.command, sorted(program.env.items())))
        return hashlib.sha256(told.encode()).hexdigest()[:16]
