"""What the agents pipe does with one call."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.responses import StreamingResponse

from shared.agents.answers import (
    EventEmitter,
    chat_stream,
    completion_stream,
    event_stream,
    whole_completion,
)
from shared.agents.catalogue import AgentEntry, find_entry
from shared.agents.config import AgentConfig, AgentsConfig
from shared.agents.listing import (
    EMPTY_MODEL,
    PROBLEM_MODEL,
    configuration_help,
    make_backend,
)
from shared.agents.recovery import recover_leaked_calls
from shared.agents.tasks import shape_task_answer
from shared.agents.texts import AGENT_TEXTS
from shared.agents.tool_rounds import ToolPolicy, answer_with_tools
from shared.agents.turns import (
    attach_files,
    build_turn,
    call_ids,
    parent_session,
)
from shared.backends.base import Backend, Turn
from shared.backends.http import Endpoint
from shared.errors import AqueductError
from shared.events import AgentEvent, Finished, TextDelta
from shared.host.tools import HostToolRunner
from shared.render.chunks import CompletionRenderer
from shared.render.items import ChatRenderer
from shared.texts import Sentence, translate
from shared.toolcalls.sentences import RECOVERY_TEXTS

PIPE_TEXTS = AGENT_TEXTS | RECOVERY_TEXTS


@dataclass(frozen=True, slots=True)
class PipeRequest:
    """One call of the pipe, as Open WebUI makes it."""

    body: Mapping[str, Any]
    user: Mapping[str, Any]
    metadata: Mapping[str, Any]
    request: Any = None
    emit: EventEmitter | None = None
    event_call: Any = None
    task: str | None = None

    @property
    def in_chat(self) -> bool:
        """Whether a chat shows this: an API call has the keys, but empty."""
        return bool(self.metadata.get("chat_id") and self.metadata.get("session_id"))

    @property
    def language(self) -> str:
        variables = self.metadata.get("variables") or {}
        return str(variables.get("{{USER_LANGUAGE}}") or "en")


async def answer(
    config: AgentsConfig, call: PipeRequest
) -> dict[str, Any] | str | StreamingResponse:
    """The pipe's answer to one call: to a task, to a chat, or to an API caller."""
    model_id = str(call.body.get("model", "")).partition(".")[2]
    if model_id in (PROBLEM_MODEL, EMPTY_MODEL):
        return "" if call.task else configuration_help(config)
    entry = find_entry(config, model_id)
    if entry is None:
        sentence = partial(sentence_for, call.language, {"agent": model_id})
        return await respond(unknown_agent(), call, model_id, sentence)
    names = {"agent": entry.agent.label, "host": Endpoint("", entry.agent.url).host}
    sentence = partial(sentence_for, call.language, names)
    if call.task:
        events = task_events(entry, call, call.task)
    else:
        events = turn_events(entry, call, sentence)
    return await respond(events, call, entry.agent.id, sentence)


async def unknown_agent() -> AsyncGenerator[AgentEvent, None]:
    """The events of an agent that is no longer configured."""
    raise AqueductError("unknown_agent")
    yield  # makes this a generator, like a backend's


async def turn_events(
    entry: AgentEntry, call: PipeRequest, sentence: Sentence
) -> AsyncGenerator[AgentEvent, None]:
    """A turn from its preparation to its end: whatever fails, fails in here."""
    agent = entry.agent
    backend = make_backend(agent, entry.model)
    turn = await prepare_turn(agent, call)
    run = backend.run
    if agent.recover_tool_calls:
        run = partial(run_recovering, backend, sentence)
    answered = answer_with_tools(run, turn, tool_policy(agent, turn, call))
    async with aclosing(answered) as events:
        async for event in events:
            yield event


def run_recovering(
    backend: Backend, sentence: Sentence, turn: Turn
) -> AsyncGenerator[AgentEvent, None]:
    """A backend's run, leaked calls recovered; without tools there are none."""
    events = backend.run(turn)
    return recover_leaked_calls(events, turn, sentence) if turn.tools else events


async def prepare_turn(agent: AgentConfig, call: PipeRequest) -> Turn:
    """The turn with its session and files."""
    body = call.body
    session = None
    if agent.session:
        session = await parent_session(agent.id, call.metadata)
    if agent.files == "attach":
        body = await attach_files(body, call.metadata, call.user)
    return build_turn(
        agent,
        body,
        user_id=str(call.user.get("id", "")),
        chat_id=str(call.metadata.get("chat_id") or ""),
        session=session,
    )


def tool_policy(agent: AgentConfig, turn: Turn, call: PipeRequest) -> ToolPolicy:
    specs = {
        str(function.get("name")): function.get("parameters") or {}
        for function in (tool.get("function") or tool for tool in turn.tools)
    }
    runner = None
    if agent.tools == "execute":
        runner = HostToolRunner(
            call.request, call.user, call.body, call.metadata, call.event_call
        )
    return ToolPolicy(
        agent.tools, agent.unknown_tool, agent.max_tool_rounds, specs, runner
    )


async def task_events(
    entry: AgentEntry, call: PipeRequest, task: str
) -> AsyncGenerator[AgentEvent, None]:
    """A title, tags and the like: the model alone, without tools and session.

    An answer that is not streamed is brought into the JSON shape asked for.
    """
    agent = entry.agent.model_copy(update={"session": False})
    backend = make_backend(agent, agent.task_model or entry.model)
    turn = build_turn(agent, call.body, with_tools=False)
    answered = backend.run(turn)
    if not call.body.get("stream"):
        answered = shaped(answered, task)
    async with aclosing(answered) as events:
        async for event in events:
            yield event


async def shaped(
    events: AsyncGenerator[AgentEvent, None], task: str
) -> AsyncGenerator[AgentEvent, None]:
    """The text of a task's answer, brought into shape; thoughts are left out."""
    parts: list[str] = []
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextDelta):
                parts.append(event.text)
    yield TextDelta(shape_task_answer(task, "".join(parts)))
    yield Finished()


async def respond(
    events: AsyncGenerator[AgentEvent, None],
    call: PipeRequest,
    agent_id: str,
    sentence: Sentence,
) -> dict[str, Any] | StreamingResponse:
    """The events in the form that this caller reads."""
    stream = bool(call.body.get("stream"))
    if stream and call.in_chat and not call.task:
        used = call_ids(call.body.get("messages") or ())
        renderer = ChatRenderer(agent_id, sentence, used)
        return event_stream(chat_stream(events, renderer, call.emit))
    options = call.body.get("stream_options")
    include_usage = isinstance(options, Mapping) and options.get("include_usage")
    completion = CompletionRenderer(
        str(call.body.get("model", "")), sentence, bool(include_usage)
    )
    if stream:
        return event_stream(completion_stream(events, completion))
    return await whole_completion(events, completion, call.in_chat)


def sentence_for(
    language: str, names: Mapping[str, Any], code: str, fields: Mapping[str, Any]
) -> str:
    return translate(PIPE_TEXTS, code, language, {**names, **fields})
