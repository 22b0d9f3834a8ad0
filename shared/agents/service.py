"""What the agents pipe does with one call."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from starlette.responses import StreamingResponse

from shared.agents.answers import (
    chat_stream,
    completion_stream,
    event_stream,
    whole_completion,
)
from shared.agents.approvals import ChatDialogs, Grants
from shared.agents.attachments import MAX_FILES_MIB, FileStorage, attach_files
from shared.agents.catalogue import AgentEntry, answering_chain, find_entry
from shared.agents.config import AgentConfig
from shared.agents.dialog_texts import DIALOG_TEXTS
from shared.agents.listing import EMPTY_MODEL, PROBLEM_MODEL, configuration_help
from shared.agents.login_warnings import LoginWatch
from shared.agents.parsing import AgentsConfig
from shared.agents.plans import PoolPlan
from shared.agents.recovery import recover_leaked_calls
from shared.agents.request import PipeRequest
from shared.agents.routed import Run, agent_run, count_fallback, pool_of_call
from shared.agents.sessions import SessionPlace, parent_session
from shared.agents.tasks import task_events
from shared.agents.texts import AGENT_TEXTS
from shared.agents.texts_a2a import A2A_TEXTS
from shared.agents.texts_files import FILE_TEXTS
from shared.agents.texts_programs import PROGRAM_TEXTS
from shared.agents.tool_rounds import ToolPolicy, answer_with_tools
from shared.agents.turns import build_turn, call_ids
from shared.backends.base import Turn
from shared.errors import AqueductError
from shared.events import AgentEvent, Handover, SessionState, Status
from shared.host.callers import unless_hung_up
from shared.host.resources import shared_resource
from shared.host.tools import HostToolRunner
from shared.render.chunks import CompletionRenderer
from shared.render.items import ChatRenderer
from shared.render.joining import DELTAS
from shared.routing.fallback import Candidate, first_answer
from shared.routing.texts import ROUTING_TEXTS
from shared.texts import Sentence, translate
from shared.toolcalls.sentences import RECOVERY_TEXTS

PIPE_TEXTS = {
    **AGENT_TEXTS,
    **PROGRAM_TEXTS,
    **A2A_TEXTS,
    **FILE_TEXTS,
    **DIALOG_TEXTS,
    **RECOVERY_TEXTS,
    **ROUTING_TEXTS,
}


async def answer(
    config: AgentsConfig, call: PipeRequest
) -> dict[str, Any] | str | StreamingResponse:
    """The pipe's answer to one call: to a task, to a chat, or to an API caller."""
    model_id = str(call.body.get("model", "")).partition(".")[2]
    if model_id in (PROBLEM_MODEL, EMPTY_MODEL):
        return "" if call.task else configuration_help(config)
    entry = find_entry(config, model_id)
    chain = answering_chain(config, entry)
    if entry is None or not chain:
        gone = partial(sentence_for, call.language, {"agent": model_id})
        return await respond(unknown_agent(), call, model_id, gone)
    first = chain[0]
    if len(chain) == 1:
        events = agent_events(first, call, pool_of_call(config, chain, first))
    else:
        events = first_answer(candidates(config, chain, call, entry))
    return await respond(events, call, first.agent.id, own_sentence(call, first))


def own_sentence(call: PipeRequest, entry: AgentEntry) -> Sentence:
    """Sentences that name this agent and its place unless told otherwise."""
    return partial(sentence_for, call.language, names_of(entry))


def names_of(entry: AgentEntry) -> dict[str, str]:
    return {"agent": entry.agent.label, "host": entry.agent.place or entry.agent.label}


def candidates(
    config: AgentsConfig,
    chain: Sequence[AgentEntry],
    call: PipeRequest,
    asked: AgentEntry,
) -> Iterator[Candidate]:
    """Who may answer, in order; whoever takes over says so."""
    first = chain[0].agent
    for entry in chain:
        agent = entry.agent
        fields = {"agent": asked.agent.label, "model": agent.label}
        notice = sentence_for(call.language, {}, "answered_by", fields)
        pool = config.plans[first.id].spec.name
        yield Candidate(
            partial(agent_events, entry, call, pool_of_call(config, chain, entry)),
            names_of(entry),
            (Handover(agent.id, agent.label), Status(notice, True)),
            partial(count_fallback, pool, agent.id),
        )


async def unknown_agent() -> AsyncGenerator[AgentEvent, None]:
    """The events of an agent that is no longer configured."""
    raise AqueductError("unknown_agent")
    yield  # makes this a generator, like a backend's


def agent_events(
    entry: AgentEntry, call: PipeRequest, plan: PoolPlan | None
) -> AsyncGenerator[AgentEvent, None]:
    """What one agent says to this call: to a task, or to a turn."""
    if call.task:
        sentence = own_sentence(call, entry)
        return task_events(entry, call, call.task, plan, sentence)
    return turn_events(entry, call, plan)


async def turn_events(
    entry: AgentEntry, call: PipeRequest, plan: PoolPlan | None
) -> AsyncGenerator[AgentEvent, None]:
    """A turn from its preparation to its end: whatever fails, fails in here."""
    agent = entry.agent
    sentence = own_sentence(call, entry)
    run = agent_run(entry, plan, call, sentence)
    body, too_large = call.body, False
    if agent.files == "attach":
        body, too_large = await attach_files(body, call.metadata, call.user)
    if too_large:
        limit = {"limit": MAX_FILES_MIB}
        yield Status(sentence("files_not_given", limit), done=True)
    turn = await prepare_turn(agent, call, sentence, body)
    if agent.recover_tool_calls:
        run = partial(run_recovering, run, sentence)
    answered = answer_with_tools(run, turn, tool_policy(agent, turn, call))
    files = FileStorage(call.request, call.user, sentence)
    logins = LoginWatch(agent, sentence)
    place = kept_session_place(agent, call)
    try:
        async with aclosing(answered) as events:
            async for event in events:
                # Not a generator each, as every word would have to pass through all.
                if isinstance(event, DELTAS):
                    yield event
                    continue
                await logins.look(event)
                if isinstance(event, SessionState):
                    event = place.sealed(event)
                for shown in await files.take(event):
                    yield shown
    except AqueductError as error:
        await logins.failed(error.code, error.fields)
        raise


def kept_session_place(agent: AgentConfig, call: PipeRequest) -> SessionPlace:
    user_id = str(call.user.get("id", ""))
    chat_id = str(call.metadata.get("chat_id") or "")
    return SessionPlace(user_id, chat_id, agent.id, agent.backend)


def run_recovering(
    run: Run, sentence: Sentence, turn: Turn
) -> AsyncGenerator[AgentEvent, None]:
    """A model call, leaked tool calls recovered; without tools there are none."""
    events = run(turn)
    return recover_leaked_calls(events, turn, sentence) if turn.tools else events


async def prepare_turn(
    agent: AgentConfig, call: PipeRequest, sentence: Sentence, body: Mapping[str, Any]
) -> Turn:
    """The turn with its session and a way to ask the user."""
    place = kept_session_place(agent, call)
    session, forks = None, False
    if agent.session:
        session, forks = await parent_session(place, call.metadata)
    grants: Grants = shared_resource("approvals", dict)
    dialogs = ChatDialogs(
        agent.approvals,
        (place.user_id, place.chat_id, agent.id),
        sentence,
        grants,
        call.event_call if call.in_chat else None,
        call.emit,
    )
    return build_turn(
        agent,
        body,
        user_id=place.user_id,
        chat_id=place.chat_id,
        session=session,
        forks=forks,
        dialogs=dialogs,
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
    whole = whole_completion(events, completion, call.in_chat)
    if call.in_chat or call.task:
        return await whole
    return await unless_hung_up(call.request, whole)


def sentence_for(
    language: str, names: Mapping[str, Any], code: str, fields: Mapping[str, Any]
) -> str:
    """The sentence for a code; of several attempts, each on a line of its own."""
    known = {**names, **fields}
    if "attempts" in fields:
        # With numbers, as Open WebUI shows an error without its line breaks.
        known["tried"] = "\n".join(
            f"{number}. {sentence_for(language, names, *attempt)}"
            for number, attempt in enumerate(fields["attempts"], 1)
        )
    return translate(PIPE_TEXTS, code, language, known)
