"""The CLI backend: programs that take a prompt, answer it and end.

Claude Code, Gemini CLI and Codex tell what they do in JSON lines; of any other
program, what it prints is the answer.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping, MutableMapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shared.backends.base import DiscoveredModel, Turn
from shared.backends.cancelling import run_cancel
from shared.backends.cli_claude import ClaudeLines
from shared.backends.cli_lines import CliDecoder, CodexLines, GeminiLines, TextLines
from shared.backends.forgotten import answer_or_begin_anew
from shared.backends.http import Timeouts
from shared.backends.processes import (
    AgentProcess,
    Program,
    find_program,
    program_ended,
    program_environment,
)
from shared.backends.sse import LineBuffer
from shared.backends.transcript import message_files, transcript
from shared.backends.workspaces import Snapshot, Workspace
from shared.errors import UpstreamBroken, UpstreamError, UpstreamSilent
from shared.events import (
    AgentEvent,
    Finished,
    TextDelta,
    ToolCallStarted,
    ToolResult,
)

# All three formats name sessions by UUIDs.
SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
MAX_PRINTED_LINE = 64 * 1024 * 1024


class CliPlace:
    """The place of a program that is about to start: it counts from the outset."""

    async def stop(self) -> None:
        """Nothing runs yet."""


# The processes under way, and the agents they belong to.
CliRuns = MutableMapping[AgentProcess | CliPlace, str]


@dataclass(frozen=True, slots=True)
class CliFormat:
    """How a program is told to print what `decoder` reads.

    Its command is followed by `flags`, by `model` and `resume` before their values,
    and by `last`. The prompt comes on its stdin, out of everybody's sight.
    """

    decoder: Callable[[], CliDecoder]
    flags: tuple[str, ...] = ()
    model: str = ""
    resume: str = ""
    last: tuple[str, ...] = ()


CLI_FORMATS: Mapping[str, CliFormat] = {
    "claude": CliFormat(
        ClaudeLines,
        flags=(
            *("-p", "--output-format", "stream-json"),
            *("--include-partial-messages", "--verbose"),
        ),
        model="--model",
        resume="--resume",
    ),
    "gemini": CliFormat(
        GeminiLines, flags=("-o", "stream-json"), model="-m", resume="--resume"
    ),
    "codex": CliFormat(
        CodexLines,
        flags=("--json", "--skip-git-repo-check"),
        model="-m",
        resume="resume",
        last=("-",),
    ),
}


@dataclass(frozen=True, slots=True)
class CliSettings:
    """How a program is run. `noise` are patterns of lines that are no answer."""

    agent_id: str
    program: Program
    timeouts: Timeouts
    format: str = "text"
    noise: tuple[str, ...] = ()
    max_processes: int = 8


@dataclass(slots=True)
class CliRun:
    """One run of the program: what it has said, and the files there were before."""

    process: AgentProcess
    decoder: CliDecoder
    workspace: Workspace
    files: Snapshot
    writing: "asyncio.Task[None]"
    answered: bool = False
    waiting: dict[str, None] = field(default_factory=dict)

    def note(self, event: AgentEvent) -> None:
        if isinstance(event, TextDelta | ToolCallStarted):
            self.answered = True
        if isinstance(event, ToolCallStarted):
            self.waiting[event.call_id] = None
        elif isinstance(event, ToolResult):
            self.waiting.pop(event.call_id, None)

    def last_events(self) -> list[AgentEvent]:
        """What ends a turn; a call without a result would be run again."""
        results = [ToolResult(call_id, "") for call_id in self.waiting]
        return [*results, *self.workspace.made_since(self.files), Finished()]


@dataclass(frozen=True, slots=True)
class CliBackend:
    """One program, and one of its models ("" for its default).

    Below `workspaces`, every chat of every user has a folder of its own. `runs` is
    shared by all that run programs, so that a shutdown can end them.
    """

    settings: CliSettings
    workspaces: Path
    runs: CliRuns
    model: str = ""

    async def discover(self) -> list[DiscoveredModel]:
        """Programs have no list of their models."""
        return []

    async def health(self) -> None:
        """Return when the program is there."""
        program = self.settings.program
        find_program(program, program_environment(program.env))

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Nothing to do: closing the run ends the program."""

    def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator ends the program."""
        anew = turn.anew if session_of(turn) else None
        return answer_or_begin_anew(self._run_once, turn, anew, may_have_forgotten)

    async def _run_once(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        run = await self._begin(turn)
        try:
            async with aclosing(self._lines(run)) as lines:
                async for line in lines:
                    for event in run.decoder.feed(line):
                        run.note(event)
                        yield event
                    if run.decoder.error is not None:
                        break
            await self._check_end(run)
            for event in await asyncio.to_thread(run.last_events):
                yield event
        finally:
            await run_cancel(self._end(run))

    async def _begin(self, turn: Turn) -> CliRun:
        """Start the program, unless as many as may run at a time do so."""
        settings = self.settings
        working = sum(agent == settings.agent_id for agent in self.runs.values())
        if working >= settings.max_processes:
            raise UpstreamError("too_many_programs", limit=settings.max_processes)
        place = CliPlace()
        self.runs[place] = settings.agent_id
        try:
            return await self._start(turn)
        finally:
            self.runs.pop(place, None)

    async def _start(self, turn: Turn) -> CliRun:
        """Start the program in the chat's folder and give it the prompt."""
        settings = self.settings
        workspace = await asyncio.to_thread(
            Workspace.of_chat, self.workspaces, turn.user_id, turn.chat_id
        )
        try:
            prompt = await prompt_text(turn, workspace)
            files = await asyncio.to_thread(workspace.snapshot)
            command = cli_command(settings, self.model, session_of(turn))
            program = replace(settings.program, command=command)
            process = await AgentProcess.start(program, workspace.folder)
        except BaseException:
            await asyncio.to_thread(workspace.leave)
            raise
        self.runs[process] = settings.agent_id
        return CliRun(
            process,
            new_decoder(settings),
            workspace,
            files,
            asyncio.create_task(give_prompt(process, prompt)),
        )

    async def _lines(self, run: CliRun) -> AsyncGenerator[bytes, None]:
        """The lines it prints; UpstreamSilent when none come for too long."""
        timeouts = self.settings.timeouts
        seconds, code = timeouts.first_token, "silent_first"
        lines = LineBuffer(MAX_PRINTED_LINE)
        while True:
            try:
                async with asyncio.timeout(seconds):
                    data = await run.process.read()
            except TimeoutError:
                raise UpstreamSilent(code, seconds=seconds) from None
            if not data:
                break
            seconds, code = timeouts.between_tokens, "silent_between"
            for line in lines.feed(data):
                yield line
        for line in lines.finish():
            yield line

    async def _check_end(self, run: CliRun) -> None:
        """Raise what went wrong; an exit code of 0 does not say that nothing did."""
        error = run.decoder.error
        if error is not None:
            detail = run.process.without_secrets(error.fields["detail"])
            raise UpstreamBroken(error.code, detail=detail)
        code = await run.process.exit_code()
        if not run.decoder.done or code:
            raise program_ended(code)
        if not run.answered:
            raise UpstreamBroken("empty_answer")

    async def _end(self, run: CliRun) -> None:
        """End the program and what it left running."""
        run.writing.cancel()
        try:
            await run.process.stop()
        finally:
            self.runs.pop(run.process, None)
            await asyncio.to_thread(run.workspace.leave)


def may_have_forgotten(error: UpstreamError) -> bool:
    """Whether an error may be about the session: programs have no code for it."""
    return isinstance(error, UpstreamBroken) and error.code != "login_expired"


def session_of(turn: Turn) -> str:
    """The program's session that this turn goes on with, or "".

    It was kept in the chat, which its user can change: only what looks like the id of
    a session becomes an argument.
    """
    session_id = str((turn.continued or {}).get("session_id") or "")
    return session_id if SESSION_ID.fullmatch(session_id) else ""


def cli_command(settings: CliSettings, model: str, session_id: str) -> tuple[str, ...]:
    """The command with what the format needs."""
    command = settings.program.command
    format_ = CLI_FORMATS.get(settings.format)
    if format_ is None:
        return command
    chosen = (format_.model, model) if model else ()
    resumed = (format_.resume, session_id) if session_id else ()
    return (*command, *format_.flags, *chosen, *resumed, *format_.last)


def new_decoder(settings: CliSettings) -> CliDecoder:
    format_ = CLI_FORMATS.get(settings.format)
    return format_.decoder() if format_ else TextLines(settings.noise)


async def prompt_text(turn: Turn, workspace: Workspace) -> str:
    """What the program is told; files lie in its folder and are named."""
    messages = turn.news() if session_of(turn) else turn.messages
    names = []
    for file in (file for message in messages for file in message_files(message)):
        data = await asyncio.to_thread(file.read)
        if data is not None:
            path = await asyncio.to_thread(workspace.save, file.name, data)
            names.append(path.name)
    listed = "\n".join(f"- {name}" for name in names)
    files = f"\n\nFiles in the working folder:\n{listed}" if names else ""
    return transcript(messages) + files


async def give_prompt(process: AgentProcess, prompt: str) -> None:
    """Write the prompt while the output is read: a program may print first."""
    with suppress(UpstreamError):  # its end tells more
        await process.write(prompt.encode("utf-8", "replace"))
    process.close_input()
