"""Programs that answer one prompt and end."""

import re
import threading
from collections.abc import MutableMapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from shared.agents.kinds.programs import WORKSPACES, ProgramAgent
from shared.backends.base import Backend
from shared.backends.cli import CliBackend, CliSettings
from shared.backends.processes import end_orphans
from shared.host.database import data_folder
from shared.host.resources import shared_resource
from shared.host.shutdown import at_shutdown

# What programs print to stdout beside their answer.
USUAL_NOISE = (
    r"Loaded cached credentials\.?",
    r"\(node:\d+\) \w*Warning: .*",
    r"\(Use `node --trace-.*",
)


class CliAgent(ProgramAgent):
    """A program that takes a prompt on stdin and prints its answer as `format`."""

    format: Literal["claude", "gemini", "codex", "text"] = "text"
    noise: tuple[str, ...] = USUAL_NOISE
    max_processes: int = Field(default=8, ge=1)

    @field_validator("noise")
    @classmethod
    def _are_patterns(cls, noise: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in noise:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"this is no regular expression: {error}") from error
        return noise

    @model_validator(mode="after")
    def _offers_what_programs_can(self) -> "CliAgent":
        if self.discover:
            raise ValueError("`discover` is not possible: programs list no models")
        if self.model and self.format == "text":
            raise ValueError("write the model into the `command` of a text program")
        return self


def make_cli(agent: CliAgent, model: str) -> Backend:
    """The backend for a program and the model it is started with."""
    settings = CliSettings(
        agent_id=agent.id,
        program=agent.program,
        timeouts=agent.timeout_seconds,
        format=agent.format,
        noise=agent.noise,
        max_processes=agent.max_processes,
    )
    return CliBackend(settings, data_folder() / WORKSPACES, cli_runs(), model)


def cli_runs() -> MutableMapping[Any, str]:
    """The programs that run now, whatever version of this function started them."""
    runs: dict[Any, str] = shared_resource("cli programs", dict)

    async def end_all() -> None:
        for process in list(runs):
            await process.stop()

    at_shutdown("cli programs", end_all)
    shared_resource("orphaned programs", ending_orphans)
    return runs


def ending_orphans() -> threading.Thread:
    """A thread that ends what a killed server has left; a turn need not wait for it."""
    thread = threading.Thread(target=end_orphans, daemon=True)
    thread.start()
    return thread
