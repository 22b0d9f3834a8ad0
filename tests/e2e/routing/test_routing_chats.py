"""What routing does to chats: waiting, trying again, falling back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import error, eventually, items, shimmering
from tests.e2e.routing.conftest import Configure, Start
from tests.e2e.routing.servers import Model, agent
from tests.webui import WebUI

QUICK = {"attempts": 3, "base": 0.01, "cap": 0.01}
NUMBERS = itertools.count(1)


def new_id() -> str:
    """An agent's id of its own, so that no test meets the queue of another."""
    return f"fleet{next(NUMBERS)}"


def lines(answer: dict[str, Any]) -> list[str]:
    return [line["description"] for line in answer.get("statusHistory") or []]


async def test_one_waits_and_sees_its_place_move(
    chats: ChatSocket, start: Start, configure: Configure
):
    model, name = await start(Model("A", held=True)), new_id()
    configure(agent(name, model, concurrency=1, queue={"notify_after": 0}))
    first = await chats.send(f"agents.{name}", "one")
    await eventually(lambda: model.answering == 1, "the first to be served")
    second = await chats.send(f"agents.{name}", "two")
    async for event in second.events():
        if event["type"] == "status":
            break
    third = await chats.send(f"agents.{name}", "three")
    async for event in third.events():
        if event["type"] == "status":
            break
    assert event["data"]["description"].startswith("Waiting: position 2 of 2")
    model.release()
    await first.answer()
    async for event in third.events():
        if event["type"] == "status":
            break
    assert event["data"]["description"].startswith("Waiting: position 1 of 1, about")
    model.release(2)
    await second.answer()
    answer = await third.answer()
    assert answer["content"] == "A answers."
    assert lines(answer)[-1].startswith("Waited ")
    assert shimmering(answer) == []
    assert model.asked == ["one", "two", "three"]


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "running"])
async def test_stop_frees_the_place_at_once(
    chats: ChatSocket, start: Start, configure: Configure, waits: bool
):
    model, name = await start(Model("A", held=True)), new_id()
    configure(agent(name, model, concurrency=1, queue={"notify_after": 0}))
    first = await chats.send(f"agents.{name}", "one")
    await eventually(lambda: model.answering == 1, "the first to be served")
    second = await chats.send(f"agents.{name}", "two")
    async for event in second.events():
        if event["type"] == "status":
            break
    stopped, other = (second, first) if waits else (first, second)
    await stopped.stop()
    stopped_answer = await stopped.answer()
    assert shimmering(stopped_answer) == []
    model.release(2)
    assert (await other.answer())["content"] == "A answers."
    assert model.asked == (["one"] if waits else ["one", "two"])


async def test_another_upstream_takes_over_unnoticed(
    chats: ChatSocket, start: Start, configure: Configure
):
    ill, well = await start(Model("Ill", 503)), await start(Model("Well"))
    name = new_id()
    configure(agent(name, ill, well, retry=QUICK))
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert answer["content"] == "Well answers."
    assert error(answer) == ""
    assert shimmering(answer) == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_what_may_pass_is_tried_again(
    chats: ChatSocket, start: Start, configure: Configure, status: int
):
    model, name = await start(Model("A", status, status)), new_id()
    configure(agent(name, model, retry=QUICK))
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert answer["content"] == "A answers."
    assert len(model.asked) == 3
    assert "trying again" in lines(answer)[0]
    assert shimmering(answer) == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_server_is_given_the_time_it_asks_for(
    chats: ChatSocket, start: Start, configure: Configure, status: int, form: str
):
    model, name = Model("A", status), new_id()
    later = datetime.now(UTC) + timedelta(minutes=2)
    model.retry_after = "120" if form == "seconds" else format_datetime(later, True)
    await start(model)
    configure(agent(name, model, retry={"budget": 60}))
    first = await (await chats.send(f"agents.{name}", "one")).answer()
    assert f"({status})" in error(first)
    second = await (await chats.send(f"agents.{name}", "two")).answer()
    assert "Please try again in about 1" in error(second)  # a hundred and some seconds
    assert model.asked == ["one"]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_what_stays_wrong_is_told_at_once(
    chats: ChatSocket, start: Start, configure: Configure, status: int
):
    model, name = await start(Model("A", *[status] * 5)), new_id()
    configure(agent(name, model, retry=QUICK))
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert f"({status})" in error(answer)
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "did not accept its key (401)"),
        (403, "does not allow this (403)"),
        (404, "does not know this model or address (404)"),
    ],
)
async def test_a_shut_upstream_is_not_asked_and_says_why(
    chats: ChatSocket, start: Start, configure: Configure, status: int, sentence: str
):
    model, name = await start(Model("A", *[status] * 5)), new_id()
    configure(agent(name, model, retry=QUICK))
    for _ in range(2):
        answer = await (await chats.send(f"agents.{name}", "one")).answer()
        assert sentence in error(answer)
    assert len(model.asked) == 1


async def test_a_failing_upstream_is_left_alone_and_tried_again_by_one(
    chats: ChatSocket, start: Start, configure: Configure
):
    model, name = await start(Model("A", 500, 500)), new_id()
    rules = {
        "retry": QUICK | {"attempts": 1},
        "breaker": {"failures": 2, "open_for": 2.0},
    }
    configure(agent(name, model, **rules))
    for _ in range(2):
        await (await chats.send(f"agents.{name}", "one")).answer()
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert "failed several times" in error(answer)
    assert len(model.asked) == 2
    while error(answer):
        answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert answer["content"] == "A answers."


async def test_a_backup_answers_and_says_so(
    chats: ChatSocket, start: Start, configure: Configure
):
    ill, well = await start(Model("Ill", *[500] * 5)), await start(Model("Well"))
    name, backup = new_id(), new_id()
    configure(agent(name, ill, retry=QUICK, fallback=[backup]), agent(backup, well))
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert answer["content"] == "Well answers."
    assert lines(answer)[-1] == (
        f"Agent {name} could not answer; Agent {backup} answers instead"
    )
    assert shimmering(answer) == []
    [note] = items(answer, "x_aqueduct:answered_by")
    assert (note["agent"], note["name"]) == (backup, f"Agent {backup}")


async def test_a_backup_answers_when_the_queue_takes_too_long(
    chats: ChatSocket, start: Start, configure: Configure
):
    slow, well = await start(Model("Slow", held=True)), await start(Model("Well"))
    name, backup = new_id(), new_id()
    queue = {"deadline": {"person": 0.2}, "notify_after": 0}
    configure(
        agent(name, slow, concurrency=1, queue=queue, fallback=[backup]),
        agent(backup, well),
    )
    first = await chats.send(f"agents.{name}", "one")
    await eventually(lambda: slow.answering == 1, "the first to be served")
    answer = await (await chats.send(f"agents.{name}", "two")).answer()
    assert answer["content"] == "Well answers."
    slow.release()
    assert (await first.answer())["content"] == "Slow answers."


async def test_all_errors_are_told_together(
    chats: ChatSocket, start: Start, configure: Configure
):
    one, two = await start(Model("A", 401)), await start(Model("B", 500))
    name, backup = new_id(), new_id()
    configure(
        agent(name, one, fallback=[backup]),
        agent(backup, two, retry=QUICK | {"attempts": 1}),
    )
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert error(answer).splitlines() == [
        "Nobody could answer:",
        f"1. Agent {name} did not accept its key (401). An administrator has to check "
        "it. (This is a 401.)",
        f"2. Agent {backup} has a fault on its own side (500). Please try again later. "
        "(This is a 500.)",
    ]


async def test_a_role_is_played_by_the_first_who_can_and_a_slot_by_itself_alone(
    suite_installed: WebUI, chats: ChatSocket, start: Start, configure: Configure
):
    ill, well = await start(Model("Ill", *[500] * 9)), await start(Model("Well"))
    role, name, backup = new_id(), new_id(), new_id()
    slots = {"primary": name, "backup_1": backup}
    configure(
        {"id": role, "name": "Writer", "slots": slots, "offer_slots": True},
        agent(name, ill, retry=QUICK),
        agent(backup, well),
    )
    with suite_installed.client() as admin:
        models = admin.get("/api/models").raise_for_status().json()["data"]
    offered = {
        m["id"]: m["name"] for m in models if m["id"].startswith(f"agents.{role}")
    }
    assert offered == {
        f"agents.{role}": "Writer",
        f"agents.{role}.primary": "Writer: primary",
        f"agents.{role}.backup_1": "Writer: backup_1",
    }
    answer = await (await chats.send(f"agents.{role}", "one")).answer()
    assert answer["content"] == "Well answers."
    assert (
        lines(answer)[-1] == f"Writer could not answer; Agent {backup} answers instead"
    )
    pinned = await (await chats.send(f"agents.{role}.primary", "two")).answer()
    assert "has a fault on its own side (500)" in error(pinned)
    assert well.asked == ["one"]
    by_name = await (await chats.send(f"agents.{role}.backup_1", "three")).answer()
    assert by_name["content"] == "Well answers."
    assert lines(by_name) == []


async def test_after_a_word_was_said_the_partial_answer_stays(
    chats: ChatSocket, start: Start, configure: Configure, suite_installed: WebUI
):
    well, name, backup = await start(Model("Well")), new_id(), new_id()
    url = f"{suite_installed.demo.url}/v1"
    first = {"id": name, "url": url, "model": "aqueduct-demo", "retry": QUICK}
    configure(first | {"fallback": [backup]}, agent(backup, well))
    suite_installed.demo.reset()
    answer = await (await chats.send(f"agents.{name}", "/break cut")).answer()
    assert answer["content"].startswith("This message holds nothing but commands")
    assert "broke off" in error(answer)
    assert well.asked == []
    assert len(suite_installed.demo.requests()) == 1


async def test_chats_of_one_pool_run_beside_each_other(
    chats: ChatSocket, start: Start, configure: Configure
):
    one, two = await start(Model("A", held=True)), await start(Model("B", held=True))
    name = new_id()
    configure(agent(name, one, two))
    turns = [await chats.send(f"agents.{name}", str(i)) for i in range(2)]
    await eventually(lambda: (one.answering, two.answering) == (1, 1), "both to work")
    one.release()
    two.release()
    said = await asyncio.gather(*(turn.answer() for turn in turns))
    assert sorted(answer["content"] for answer in said) == ["A answers.", "B answers."]


@pytest.fixture
def reload_function(suite_installed: WebUI) -> Iterator[Callable[[], None]]:
    """Replace the function by a text that differs; what was there comes back."""
    path = "/api/v1/functions/id/agents"
    with suite_installed.client() as admin:
        before = admin.get(path).raise_for_status().json()

        def update(text: str) -> None:
            form = {key: before[key] for key in ("id", "name", "meta")}
            form["content"] = text
            admin.post(f"{path}/update", json=form).raise_for_status()

        yield lambda: update(before["content"] + "\n# The same, once more.\n")
        update(before["content"])


async def test_a_reload_of_the_function_keeps_the_queue(
    chats: ChatSocket,
    start: Start,
    configure: Configure,
    reload_function: Callable[[], None],
):
    model, name = await start(Model("A", held=True)), new_id()
    entry = agent(name, model, concurrency=1, queue={"notify_after": 0})
    configure(entry)
    first = await chats.send(f"agents.{name}", "one")
    await eventually(lambda: model.answering == 1, "the first to be served")
    reload_function()
    configure(entry)
    second = await chats.send(f"agents.{name}", "two")
    async for event in second.events():
        if event["type"] == "status":
            break
    assert event["data"]["description"].startswith("Waiting: position 1 of 1")
    model.release(2)
    assert (await first.answer())["content"] == "A answers."
    assert (await second.answer())["content"] == "A answers."
    assert model.asked == ["one", "two"]
