"""What the agents pipe does, apart from its valves."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import httpx
from starlette.responses import StreamingResponse

from shared.agents.answers import (
    EventEmitter,
    chat_stream,
    completion_stream,
    event_stream,
    guarded,
    whole_completion,
)
from shared.agents.catalogue import AgentEntry, discover_models, find_entry
from shared.agents.config import AgentConfig, AgentsConfig
from shared.agents.recovery import Sentence, recover_leaked_calls
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
from shared.backends.http import Endpoint, Timeouts, new_http_client
from shared.backends.openai import OpenAIBackend
from shared.errors import AqueductError
from shared.events import AgentEvent, Finished, TextDelta
from shared.host.models import publish_model
from shared.host.resources import shared_resource
from shared.host.tools import HostToolRunner
from shared.render.chunks import CompletionRenderer
from shared.render.items import ChatRenderer
from shared.texts import translate

PROBLEM_MODEL = "configuration-error"
EMPTY_MODEL = "not-configured"


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


def make_backend(agent: AgentConfig, model: str) -> Backend:
    """The backend for one of the agent's models, on the server's shared client."""
    endpoint = Endpoint(
        agent=agent.label,
        url=agent.url,
        key=agent.key.get_secret_value(),
        headers={k: v.get_secret_value() for k, v in agent.headers.items()},
        timeouts=Timeouts(**agent.timeouts.model_dump()),
    )
    client: httpx.AsyncClient = shared_resource("http", new_http_client)
    return OpenAIBackend(client, endpoint, model, agent.api, agent.session)


async def list_models(config: AgentsConfig, pipe_id: str) -> list[dict[str, str]]:
    """The virtual models, in the order of AGENTS, as Open WebUI wants them."""
    kept: dict[str, Any] = shared_resource("discovered", dict)
    published: set[str] = shared_resource("published", set)
    per_agent = await asyncio.gather(*(entries_of(a, kept) for a in config.agents))
    entries = [entry for entries in per_agent for entry in entries]
    for entry in entries:
        model_id = f"{pipe_id}.{entry.id}"
        if entry.agent.access == "public" and model_id not in published:
            await publish_model(model_id, entry.name, entry.agent.description)
            published.add(model_id)
    models = [{"id": entry.id, "name": entry.name} for entry in entries]
    if config.problems:
        place = str(config.problems[0]).replace("`", "")  # no Markdown in a name
        name = f"Agents: configuration error in {place}"
        models.append({"id": PROBLEM_MODEL, "name": clip(name, 120)})
    elif not config.agents:
        models.append({"id": EMPTY_MODEL, "name": "Agents: nothing configured yet"})
    return models


async def entries_of(agent: AgentConfig, kept: dict[str, Any]) -> list[AgentEntry]:
    """The virtual models of one agent: itself, or what its server offers."""
    if not agent.discover:
        return [AgentEntry(agent.id, agent.label, agent, agent.model)]
    models = await discover_models(agent, make_backend(agent, ""), kept)
    return [
        AgentEntry(f"{agent.id}.{m.id}", f"{agent.label}: {m.name}", agent, m.id)
        for m in models
    ]


def clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def configuration_help(config: AgentsConfig) -> str:
    """What the model called "configuration error" answers: how to mend it."""
    lines = [f"- {problem}" for problem in config.problems]
    head = (
        "The agents function needs its valve `AGENTS` mended"
        if lines
        else ("The agents function has no agents yet: its valve `AGENTS` is empty")
    )
    return "\n".join(
        [
            f"{head} (Admin Panel → Functions → Agents → the gear).",
            *(["", *lines] if lines else []),
            "",
            "An agent is written like this:",
            "",
            "```yaml",
            "- id: my-agent",
            "  name: My agent",
            "  url: http://localhost:8000/v1",
            "  model: my-model",
            "  key: ${secret:MY_KEY}",
            "```",
        ]
    )


async def answer(
    config: AgentsConfig, call: PipeRequest
) -> dict[str, Any] | str | StreamingResponse:
    """The pipe's answer to one call: to a task, to a chat, or to an API caller."""
    model_id = str(call.body.get("model", "")).partition(".")[2]
    if model_id in (PROBLEM_MODEL, EMPTY_MODEL):
        return "" if call.task else configuration_help(config)
    entry = find_entry(config, model_id)
    if entry is None:
        events = unknown_agent(model_id)
        return await respond(events, call, agent_id=model_id, names={"agent": model_id})
    backend = make_backend(entry.agent, entry.model)
    names = {"agent": entry.agent.label, "host": Endpoint("", entry.agent.url).host}
    if call.task and not call.body.get("stream"):
        return await answer_task(entry, call, names)
    turn = await prepare_turn(entry.agent, call)
    policy = tool_policy(entry.agent, turn, call)
    run = backend.run
    if entry.agent.recover_tool_calls:
        run = partial(run_recovering, backend, partial(sentence_for, call.language))
    events = answer_with_tools(run, turn, policy)
    return await respond(events, call, entry.agent.id, names)


def run_recovering(
    backend: Backend, sentence: Sentence, turn: Turn
) -> AsyncGenerator[AgentEvent, None]:
    """A backend's run, leaked calls mended; without tools there is nothing to mend."""
    events = backend.run(turn)
    return recover_leaked_calls(events, turn, sentence) if turn.tools else events


async def unknown_agent(agent_id: str) -> AsyncGenerator[AgentEvent, None]:
    """The events of an agent that is no longer configured."""
    raise AqueductError("unknown_agent", agent=agent_id)
    yield  # makes this a generator, like a backend's


async def prepare_turn(agent: AgentConfig, call: PipeRequest) -> Turn:
    """The turn with its session and files; an errand has neither, and no tools."""
    body = call.body
    session = None
    if not call.task:
        if agent.session:
            session = await parent_session(agent.id, call.metadata)
        if agent.files == "attach":
            body = await attach_files(body, call.metadata.get("files") or (), call.user)
    return build_turn(
        agent,
        body,
        user_id=str(call.user.get("id", "")),
        chat_id=str(call.metadata.get("chat_id") or ""),
        session=session,
        with_tools=not call.task,
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


async def answer_task(
    entry: AgentEntry, call: PipeRequest, names: Mapping[str, Any]
) -> dict[str, Any] | StreamingResponse:
    """A title, tags and the like: the agent's model alone, in the JSON asked for."""
    agent = entry.agent
    backend = make_backend(
        agent.model_copy(update={"session": False}), agent.task_model or entry.model
    )
    turn = replace(await prepare_turn(agent, call), session=None)
    events = shaped(backend.run(turn), call.task or "")
    return await respond(events, call, agent.id, names)


async def shaped(
    events: AsyncGenerator[AgentEvent, None], task: str
) -> AsyncGenerator[AgentEvent, None]:
    """The text of an errand's answer, brought into shape; thoughts are left out."""
    parts: list[str] = []
    try:
        async for event in events:
            if isinstance(event, TextDelta):
                parts.append(event.text)
    finally:
        await events.aclose()
    yield TextDelta(shape_task_answer(task, "".join(parts)))
    yield Finished()


async def respond(
    events: AsyncGenerator[AgentEvent, None],
    call: PipeRequest,
    agent_id: str,
    names: Mapping[str, Any],
) -> dict[str, Any] | StreamingResponse:
    """The events in the form that this caller reads."""
    sentence = partial(sentence_for, call.language)
    events = guarded(events, names)
    if call.body.get("stream") and call.in_chat and not call.task:
        used = call_ids(call.body.get("messages") or ())
        renderer = ChatRenderer(agent_id, sentence, used)
        return event_stream(chat_stream(events, renderer, call.emit))
    options = call.body.get("stream_options") or {}
    completion = CompletionRenderer(
        str(call.body.get("model", "")), sentence, bool(options.get("include_usage"))
    )
    if call.body.get("stream"):
        return event_stream(completion_stream(events, completion))
    return await whole_completion(events, completion, call.in_chat)


def sentence_for(language: str, code: str, fields: Mapping[str, Any]) -> str:
    return translate(AGENT_TEXTS, code, language, fields)
