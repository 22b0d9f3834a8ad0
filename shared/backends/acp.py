"""The ACP backend: coding agents that speak the Agent Client Protocol over stdio.

Gemini CLI, Claude Code, opencode, Codex, and whatever else a command starts.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shared.backends.acp_pool import AcpAgentProcess, AcpPool
from shared.backends.acp_prompt import prompt_blocks, selectable
from shared.backends.acp_sessions import (
    AcpSettings,
    open_session,
    select_in_session,
    start_agent,
)
from shared.backends.acp_updates import AcpDecoder, blocks
from shared.backends.acp_wire import AcpMessage, as_object
from shared.backends.base import DiscoveredModel, Turn
from shared.backends.cancelling import run_cancel
from shared.backends.workspaces import Snapshot, Workspace
from shared.errors import UpstreamBroken, UpstreamSilent
from shared.events import AgentEvent, SessionState

# How long a cancelled prompt may take to come back before its agent is ended.
CANCELLED_SECONDS = 2.0
CANCELLED = {"outcome": {"outcome": "cancelled"}}


@dataclass(slots=True)
class AcpExchange:
    """One turn with an agent.

    `folder` is where the agent works, on its machine. `prompt_id` is set while the
    prompt is under way, `asked` while the agent waits for a permission. `files` and
    `family` are the files and processes there were before.
    """

    agent: AcpAgentProcess
    workspace: Workspace
    folder: str
    session_id: str = ""
    prompt_id: int | None = None
    asked: AcpMessage | None = None
    heard: bool = False
    files: Snapshot = field(default_factory=dict)
    family: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class AcpBackend:
    """One agent, and one of its models ("" for its default).

    Below `workspaces`, every chat of every user has a folder of its own.
    """

    pool: AcpPool
    settings: AcpSettings
    workspaces: Path
    model: str = ""

    async def discover(self) -> list[DiscoveredModel]:
        """The models that a session of the agent offers.

        Starting an agent takes seconds, so it is done once for this: later the list
        is that of the last session.
        """
        if self.settings.key not in self.pool.known_models:
            await self.health()
        models = self.pool.known_models[self.settings.key]
        return [DiscoveredModel(id_, name) for id_, name in models.items()]

    async def health(self) -> None:
        """Return when the agent has opened a session; its models are then known."""
        exchange = await self._begin(Turn(()))
        try:
            await self._open(exchange, Turn(()))
        finally:
            await run_cancel(self._end(exchange))

    async def cancel(self, session: Mapping[str, Any]) -> None:
        """Cancel what this session runs."""
        session_id = str(session.get("session_id") or "")
        agent = self.pool.find(session_id)
        if agent is not None:
            params = {"sessionId": session_id}
            await agent.connection.notify("session/cancel", params)

    async def run(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """The events of one turn; closing the generator cancels the agent's prompt."""
        exchange = await self._begin(turn)
        try:
            messages = await self._open(exchange, turn)
            session_id = exchange.session_id
            yield SessionState({"session_id": session_id})
            wishes = {"mode": self.settings.mode, "model": self.model}
            for category, wanted in wishes.items():
                await select_in_session(
                    exchange.agent, self.settings, session_id, category, wanted
                )
            await self._send_prompt(exchange, messages)
            decoder = AcpDecoder(exchange.folder)
            while exchange.prompt_id is not None:
                message = await self._next(exchange)
                events = self._heard(exchange, turn, decoder, message)
                async with aclosing(events):
                    async for event in events:
                        yield event
        finally:
            await run_cancel(self._end(exchange))

    async def _begin(self, turn: Turn) -> AcpExchange:
        """A process in the chat's folder."""
        workspace = await asyncio.to_thread(
            Workspace.of_chat, self.workspaces, turn.user_id, turn.chat_id
        )
        key = (*self.settings.key, str(workspace.folder))
        start = partial(start_agent, self.settings, key, workspace.folder)
        try:
            agent = await self.pool.lease(key, self.settings.max_processes, start)
        except BaseException:
            await asyncio.to_thread(workspace.leave)
            raise
        folder = self.settings.remote_folder or str(workspace.folder)
        return AcpExchange(agent, workspace, folder)

    async def _open(
        self, exchange: AcpExchange, turn: Turn
    ) -> Sequence[Mapping[str, Any]]:
        """Open the turn's session; what it still has to hear."""
        agent = exchange.agent
        exchange.session_id, messages = await open_session(
            agent, self.settings, turn, exchange.folder
        )
        models = selectable(agent.sessions[exchange.session_id], "model")
        self.pool.known_models[self.settings.key] = models
        return messages

    async def _send_prompt(
        self, exchange: AcpExchange, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        connection = exchange.agent.connection
        prompt = await prompt_blocks(
            messages,
            as_object(exchange.agent.capabilities.get("promptCapabilities")),
            None if self.settings.remote_folder else exchange.workspace,
        )
        exchange.files = await asyncio.to_thread(exchange.workspace.snapshot)
        exchange.family = await connection.process.family()
        connection.forget_incoming()
        params = {"sessionId": exchange.session_id, "prompt": prompt}
        # Known before it is sent: a Stop may come while it is being written.
        exchange.prompt_id = connection.new_id()
        await connection.send(exchange.prompt_id, "session/prompt", params)

    async def _next(self, exchange: AcpExchange) -> AcpMessage:
        """What the agent says next; UpstreamError when it is silent or gone."""
        timeouts = self.settings.timeouts
        seconds, code = timeouts.first_token, "silent_first"
        if exchange.heard:
            seconds, code = timeouts.between_tokens, "silent_between"
        connection = exchange.agent.connection
        try:
            async with asyncio.timeout(seconds):
                message = await connection.incoming.get()
        except TimeoutError:
            raise UpstreamSilent(code, seconds=seconds) from None
        if message is None:
            raise connection.end or UpstreamBroken("program_ended")
        exchange.heard = True
        return message

    async def _heard(
        self,
        exchange: AcpExchange,
        turn: Turn,
        decoder: AcpDecoder,
        message: AcpMessage,
    ) -> AsyncGenerator[AgentEvent, None]:
        """The events of one message; its questions are answered."""
        method, params = message.get("method"), as_object(message.get("params"))
        if is_response(message, exchange.prompt_id):
            exchange.prompt_id = None
            *said, finished = decoder.finish(exchange.agent.connection.result(message))
            for event in [*said, *await self._new_files(exchange), finished]:
                yield event
        elif method == "session/update":
            if params.get("sessionId") == exchange.session_id:
                for event in decoder.feed(as_object(params.get("update"))):
                    yield event
        elif method == "session/request_permission":
            exchange.asked = message
            events, request = decoder.permission(params)
            for event in events:
                yield event
            allowed = await turn.dialogs.approve(request)
            outcome = permission_outcome(params, allowed)
            await exchange.agent.connection.answer(message, outcome)
            exchange.asked = None
        elif method is not None and "id" in message:
            await exchange.agent.connection.decline(message)

    async def _new_files(self, exchange: AcpExchange) -> list[AgentEvent]:
        """The files that the agent made or changed, as attachments."""
        made = exchange.workspace.made_since
        return [*await asyncio.to_thread(made, exchange.files)]

    async def _end(self, exchange: AcpExchange) -> None:
        """Keep the agent for the chat's next turn if it is at rest, else end it."""
        rested = False
        try:
            rested = exchange.prompt_id is None or await self._cancelled(exchange)
        finally:
            idle_seconds, workspace = self.settings.idle_seconds, exchange.workspace
            if rested and idle_seconds and not workspace.temporary:
                self.pool.keep(exchange.agent, idle_seconds)
            else:
                self.pool.discard(exchange.agent, rested, workspace)

    async def _cancelled(self, exchange: AcpExchange) -> bool:
        """Cancel the prompt; whether the agent came to rest, its tools ended."""
        connection = exchange.agent.connection
        if connection.end is not None:
            return False
        if exchange.asked is not None:
            await connection.answer(exchange.asked, CANCELLED)
        # The session may be another turn's too, on a connection of its own.
        await connection.notify("session/cancel", {"sessionId": exchange.session_id})
        try:
            async with asyncio.timeout(CANCELLED_SECONDS):
                while (message := await connection.incoming.get()) is not None:
                    if is_response(message, exchange.prompt_id):
                        break
                    if message.get("method") == "session/request_permission":
                        await connection.answer(message, CANCELLED)
                else:
                    return False
        except TimeoutError:
            return False
        await connection.process.end_all_but(exchange.family)
        return True


def is_response(message: AcpMessage, request_id: int | None) -> bool:
    """Whether a message is the response to this request of ours."""
    return "method" not in message and message.get("id") == request_id


def permission_outcome(params: Mapping[str, Any], allowed: bool) -> dict[str, Any]:
    """The answer to a request for permission, chosen by the kind of its options.

    Never an "always": the first option that allows may well be that.
    """
    wanted = "allow_once" if allowed else "reject_once"
    for option in blocks(params.get("options")):
        if option.get("kind") == wanted:
            chosen = {"outcome": "selected", "optionId": option.get("optionId")}
            return {"outcome": chosen}
    return CANCELLED
