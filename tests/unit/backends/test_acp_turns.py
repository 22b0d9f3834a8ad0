"""Turns with ACP agents: a small agent in a process of its own, driven as real ones."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from shared.backends.acp import AcpBackend
from shared.backends.acp_pool import AcpPool
from shared.backends.acp_sessions import AcpSettings
from shared.backends.acp_wire import AcpConnection
from shared.backends.base import Turn
from shared.backends.http import Timeouts
from shared.backends.processes import (
    Program,
    end_orphans,
    is_server,
    pid_namespace,
    server_mark,
)
from shared.errors import UpstreamError
from shared.events import AgentEvent, FileOutput, TextDelta
from tests.unit.backends.recorded import Person, hear, session_of, user_turn
from tests.unit.backends.running import processes, until
from tests.unit.backends.support import text_of
from tests.unit.backends.upstream import PATIENCE

AGENT = str(Path(__file__).with_name("fake_acp_agent.py"))
SECRET = "sk-very-secret"
QUICK = Timeouts(connect=20, first_token=20, between_tokens=20)
Make = Callable[..., AcpBackend]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """`make("load", …)`: a backend for the agent with these options."""
    pool = AcpPool()

    def backend(*options: str, model: str = "", **settings) -> AcpBackend:
        command = (sys.executable, AGENT, *options)
        program = Program(command, {"AGENT_KEY": SECRET})
        known = AcpSettings(("fake", *options), program, QUICK)
        return AcpBackend(pool, replace(known, **settings), tmp_path / "ws", model)

    yield backend
    await pool.close()
    assert processes() == []


def in_chat(*said: str, **fields) -> Turn:
    return user_turn(*said, user_id="ada", chat_id="chat-1", **fields)


def folders_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*"))


async def next_turn(backend: AcpBackend, before: list[AgentEvent], *said: str) -> str:
    told = await hear(backend, in_chat(*said, session=session_of(before)))
    return text_of(told.events)


async def test_an_agent_is_kept_for_the_chats_next_turn(make: Make):
    backend = make()
    first = await hear(backend, in_chat("one"))
    assert text_of(first.events) == "heard 1: one"
    kept = processes()
    second = await next_turn(backend, first.events, "one", "heard", "two")
    assert second == "heard 2: two"
    assert processes() == kept


async def test_another_chat_has_an_agent_and_a_folder_of_its_own(
    make: Make, tmp_path: Path
):
    backend = make()
    await hear(backend, in_chat("one"))
    await hear(backend, replace(in_chat("one"), chat_id="chat-2"))
    await hear(backend, replace(in_chat("one"), user_id="bob"))
    await hear(backend, replace(in_chat("one"), chat_id="../../elsewhere"))
    assert len(processes()) == 4
    folders = folders_in(tmp_path / "ws")
    assert [f for f in folders if "/x" not in f] == [
        "ada/chat-1",
        "ada/chat-2",
        "bob/chat-1",
    ]
    assert len(folders) == 4


@pytest.mark.parametrize("option", ["load", "resume"])
async def test_a_session_is_opened_again_without_its_history(make: Make, option: str):
    backend = make(option, idle_seconds=0)
    first = await hear(backend, in_chat("one"))
    await until(lambda: not processes())
    second = await next_turn(backend, first.events, "one", "heard", "two")
    assert second == "heard 2: two"


async def test_a_session_that_is_gone_begins_anew_with_the_branch(make: Make):
    backend = make(idle_seconds=0)
    first = await hear(backend, in_chat("one"))
    await until(lambda: not processes())
    second = await next_turn(backend, first.events, "one", "heard", "two")
    assert second.startswith("heard 1: # The conversation so far")
    assert "one" in second


async def test_a_fork_begins_anew_with_the_branch(make: Make):
    backend = make("load")
    first = await hear(backend, in_chat("one"))
    turn = in_chat("one", "heard", "two", session=session_of(first.events), forks=True)
    second = await hear(backend, turn)
    assert session_of(second.events) != session_of(first.events)
    assert text_of(second.events).startswith("heard 1: # The conversation so far")


@pytest.mark.parametrize(
    ("allows", "word", "outcome"),
    [
        (True, "permission", "once"),
        (False, "permission", "reject"),
        (True, "forever", "cancelled"),
        (False, "forever", "cancelled"),
    ],
)
async def test_permission_is_given_once_or_not_at_all(
    make: Make, allows: bool, word: str, outcome: str
):
    person = Person(allows=allows)
    told = await hear(make(), in_chat(word, dialogs=person))
    assert text_of(told.events) == f"outcome: {outcome}"
    [request] = person.asked
    assert (request.tool, request.title) == ("edit", "Write out.txt")
    assert request.paths == ("out.txt",)


async def test_what_is_unknown_or_odd_is_passed_over(make: Make):
    told = await hear(make(), in_chat("noise"))
    assert text_of(told.events) == "refused with -32601"


async def test_an_agent_that_crashes_says_so_and_no_secret(make: Make, caplog):
    backend = make()
    told = await hear(backend, in_chat("crash"))
    assert text_of(told.events) == "Half an ans"
    assert told.code == "program_ended"
    assert "exit code 3" in told.sentence
    assert "no such key: ***" in caplog.text
    assert SECRET not in caplog.text
    again = await hear(backend, in_chat("one"))
    assert text_of(again.events) == "heard 1: one"


async def test_an_error_holds_no_secret(make: Make):
    told = await hear(make(), in_chat("secret"))
    assert told.code == "said_error"
    assert "the key *** was refused" in told.sentence


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ("broken", "program_ended"),
        ("locked", "login_expired"),
        ("deaf", "program_silent"),
    ],
)
async def test_an_agent_that_does_not_start(make: Make, option: str, code: str):
    patience = 0.5 if option == "deaf" else 20
    told = await hear(
        make(option, timeouts=replace(QUICK, connect=patience)), in_chat("one")
    )
    assert told.code == code
    await until(lambda: not processes() or option == "locked")


async def test_an_agent_that_wants_a_login_chosen(make: Make):
    told = await hear(make("locked", auth="api-key"), in_chat("one"))
    assert text_of(told.events) == "heard 1: one"


async def test_an_agent_that_hangs_while_a_session_is_opened_is_ended(make: Make):
    backend = make("hanging", timeouts=replace(QUICK, connect=0.5))
    assert (await hear(backend, in_chat("one"))).code == "program_silent"
    await until(lambda: not processes())


async def test_a_program_that_is_missing(make: Make, tmp_path: Path):
    backend = make(program=Program(("no-such-agent",)))
    told = await hear(backend, user_turn("one", user_id="ada"))
    assert told.code == "program_missing"
    assert folders_in(tmp_path / "ws") == []
    assert "no-such-agent" in told.sentence


async def test_an_agent_that_falls_silent_is_ended(make: Make):
    told = await hear(
        make(timeouts=replace(QUICK, first_token=0.3)), in_chat("silence")
    )
    assert told.code == "silent_first"
    await until(lambda: not processes())


async def stopped(backend: AcpBackend, turn: Turn) -> list[AgentEvent]:
    """A turn that the user stops once the agent says something."""
    events: list[AgentEvent] = []
    async with aclosing(backend.run(turn)) as run:
        async for event in run:
            events.append(event)
            if isinstance(event, TextDelta):
                break
    return events


async def test_stop_leaves_the_agent_at_rest(make: Make):
    backend = make()
    events = await stopped(backend, in_chat("slow"))
    kept = processes()
    assert len(kept) == 1
    assert await next_turn(backend, events, "slow", "…", "two") == "heard 2: two"
    assert processes() == kept


async def test_stop_reaches_its_own_turn_of_two_with_one_session(
    make: Make, monkeypatch
):
    told: list[AcpConnection] = []
    notify = AcpConnection.notify

    async def heard(connection: AcpConnection, method: str, params) -> None:
        if method == "session/cancel":
            told.append(connection)
        await notify(connection, method, params)

    backend = make("load")
    first = await hear(backend, in_chat("one"))
    turn = in_chat("one", "heard", "slow", session=session_of(first.events))
    async with aclosing(backend.run(turn)) as other:
        async for event in other:
            if isinstance(event, TextDelta):
                break
        monkeypatch.setattr(AcpConnection, "notify", heard)
        await stopped(backend, turn)
    mine, others = told
    assert mine is not others


async def test_stop_ends_what_the_agent_left_running(make: Make):
    await stopped(make(), in_chat("command"))
    await until(lambda: not processes("sleep"))
    assert len(processes("fake_acp_agent")) == 1


async def test_stop_ends_an_agent_that_does_not_listen(make: Make):
    await stopped(make(), in_chat("hang"))
    await until(lambda: not processes())


async def test_a_cancelled_task_stops_the_agent(make: Make):
    backend = make()
    said = asyncio.Event()

    async def listen() -> None:
        async for event in backend.run(in_chat("hang")):
            if isinstance(event, TextDelta):
                said.set()

    task = asyncio.create_task(listen())
    await asyncio.wait_for(said.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not processes())


async def test_stop_while_the_user_is_asked_tells_the_agent(make: Make):
    asked = asyncio.Event()

    class Undecided(Person):
        async def approve(self, request):
            asked.set()
            await asyncio.Event().wait()

    backend = make()
    run = backend.run(in_chat("permission", dialogs=Undecided()))

    async def listen() -> None:
        async with aclosing(run):
            async for _ in run:
                pass

    task = asyncio.create_task(listen())
    await asyncio.wait_for(asked.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # It got an answer, so it is at rest and serves the next turn.
    assert len(processes()) == 1
    assert text_of((await hear(backend, in_chat("one"))).events) == "heard 1: one"


async def test_no_more_agents_than_allowed(make: Make):
    backend = make(max_processes=1)
    async with aclosing(backend.run(in_chat("slow"))) as run:
        await anext(run)
        other = replace(in_chat("one"), chat_id="chat-2")
        told = await hear(backend, other)
        assert told.code == "too_many_programs"
    # One that only waits makes room.
    assert text_of((await hear(backend, other)).events) == "heard 1: one"
    await until(lambda: len(processes()) == 1)


async def test_an_idle_agent_ends(make: Make):
    await hear(make(idle_seconds=0.05), in_chat("one"))
    await until(lambda: not processes())


async def test_a_retired_pool_ends_its_agents_when_they_are_done(make: Make):
    backend = make()
    await hear(backend, replace(in_chat("one"), chat_id="chat-2"))
    async with aclosing(backend.run(in_chat("slow"))) as run:
        await anext(run)
        backend.pool.retire()
        await until(lambda: len(processes()) == 1)
    await until(lambda: not processes())


async def test_modes_and_models_are_chosen_once(make: Make):
    backend = make(mode="plan", model="big")
    first = await hear(backend, in_chat("chosen"))
    assert text_of(first.events) == "plan big"
    assert await next_turn(backend, first.events, "a", "b", "chosen") == "plan big"
    told = await hear(replace(backend, model="huge"), in_chat("chosen"))
    assert told.code == "model_unknown"
    assert "small, big" in told.sentence


async def test_the_models_are_those_of_a_session(make: Make):
    models = await make().discover()
    assert [(m.id, m.name) for m in models] == [("small", "Small"), ("big", "Big")]


async def test_discovery_of_an_agent_that_is_missing(make: Make):
    with pytest.raises(UpstreamError):
        await make(program=Program(("no-such-agent",))).discover()


def picture_turn(*words: str) -> Turn:
    data = base64.b64encode(b"pixels").decode()
    parts = [
        {"type": "text", "text": words[0]},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "file", "file": {"filename": "../a.txt", "file_data": "data:,aGk="}},
    ]
    return replace(in_chat("x"), messages=({"role": "user", "content": parts},))


@pytest.mark.parametrize(
    ("options", "blocks"),
    [
        ((), "text resource_link resource_link"),
        (("image",), "text image resource_link resource_link"),
    ],
)
async def test_files_lie_in_the_workspace(
    make: Make, tmp_path: Path, options: tuple[str, ...], blocks: str
):
    told = await hear(make(*options), picture_turn("blocks"))
    assert text_of(told.events) == blocks
    folder = tmp_path / "ws" / "ada" / "chat-1"
    assert (folder / "a.txt").read_bytes() == b"hi"
    assert (folder / "image-1.png").read_bytes() == b"pixels"
    # What the user sent is not what the agent made.
    assert not [e for e in told.events if isinstance(e, FileOutput)]


async def test_files_that_the_agent_made_are_attached(make: Make):
    told = await hear(make(), in_chat("write"))
    files = [e for e in told.events if isinstance(e, FileOutput)]
    assert [(f.name, f.mime_type) for f in files] == [
        ("out.txt", "text/plain"),
        ("sub/also.md", "text/markdown"),
    ]
    assert base64.b64decode(files[0].url.partition(",")[2]) == b"made"


async def test_an_agent_elsewhere_works_in_a_folder_there(make: Make):
    backend = make(remote_folder="/srv/work")
    assert text_of((await hear(backend, in_chat("where"))).events) == "/srv/work"


@pytest.mark.parametrize(
    ("options", "blocks"),
    [
        ((), "text text text"),
        (("embeddedContext",), "text resource resource"),
        (("embeddedContext", "image"), "text image resource"),
    ],
)
async def test_files_for_an_agent_elsewhere_are_in_the_message(
    make: Make, options: tuple[str, ...], blocks: str
):
    backend = make(*options, remote_folder="/srv/work")
    told = await hear(backend, picture_turn("blocks"))
    assert text_of(told.events) == blocks


async def test_a_turn_without_a_chat_leaves_nothing(make: Make, tmp_path: Path):
    told = await hear(make(), user_turn("one", user_id="ada"))
    assert text_of(told.events) == "heard 1: one"
    await hear(make(), replace(in_chat("one"), chat_id="temporary:abc"))
    await until(lambda: not processes() and not folders_in(tmp_path / "ws"))


async def test_the_environment_is_an_agents_own(make: Make, monkeypatch):
    monkeypatch.setenv("WEBUI_SECRET_KEY", "nobody's business")
    told = await hear(make(), in_chat("environment"))
    names = set(text_of(told.events).split())
    assert {"AGENT_KEY", "PATH"} <= names
    assert "WEBUI_SECRET_KEY" not in names


@pytest.mark.parametrize(
    ("namespace", "ended"), [(pid_namespace(), True), ("another", False)]
)
async def test_what_a_killed_server_left_is_ended_by_the_next(
    make: Make, monkeypatch, namespace: str, ended: bool
):
    mark = f"{namespace} 999999999 1"
    monkeypatch.setattr("shared.backends.processes.server_mark", lambda: mark)
    await hear(make(), in_chat("one"))
    assert processes(mark=mark)
    await asyncio.to_thread(end_orphans)
    assert bool(processes(mark=mark)) is not ended


def test_this_server_is_known_to_run():
    _, pid, started = server_mark().split()
    assert is_server(int(pid), started)
    assert not is_server(int(pid), "1")
    assert not is_server(999999999, started)
