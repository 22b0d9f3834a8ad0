"""What becomes of a chat, and of a server, for each way in which a server can fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from devkit.chat_socket import ChatSocket
from tests.e2e.agents.answers import error, eventually, shimmering
from tests.e2e.routing.conftest import Configure, Start
from tests.e2e.routing.servers import (
    NOBODY,
    WELL,
    Model,
    agent,
    end_step,
    hang_up,
    hang_up_later,
    overloaded,
    refuse,
    say,
    say_nothing,
    say_step,
)
from tests.e2e.routing.test_routing_chats import QUICK, lines, new_id
from tests.unit.backends.upstream import Exchange, Script
from tests.webui import WebUI

ONCE = QUICK | {"attempts": 1}
Standing = Callable[[str], dict[str, Any]]


@pytest.fixture
def standing(suite_installed: WebUI) -> Standing:
    """`standing(pool)`: how its only server stands, as administrators are told."""

    def ask(name: str) -> dict[str, Any]:
        with suite_installed.client() as admin:
            report = admin.get("/api/v1/aqueduct/routing.json").raise_for_status()
        [pool] = [pool for pool in report.json()["pools"] if pool["name"] == name]
        [upstream] = pool["upstreams"]
        return upstream

    return ask


@pytest.mark.parametrize("fault", [hang_up, hang_up_later, overloaded, say_nothing])
async def test_another_server_answers_for_one_that_fails_before_its_first_word(
    chats: ChatSocket, start: Start, configure: Configure, fault: Script
):
    ill, well = await start(Model("Ill", fault)), await start(Model("Well"))
    name = new_id()
    configure(agent(name, ill, well, retry=QUICK, timeouts={"first_token": 0.5}))
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert answer["content"] == "Well answers."
    assert error(answer) == ""
    assert shimmering(answer) == []
    assert (ill.asked, well.asked) == (["one"], ["one"])


async def test_another_server_answers_for_one_that_is_not_there(
    chats: ChatSocket, start: Start, configure: Configure
):
    well, name = await start(Model("Well")), new_id()
    gone = Model("Gone")
    gone.url = NOBODY
    configure(agent(name, gone, well, retry=QUICK))
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert answer["content"] == "Well answers."
    assert error(answer) == ""


@pytest.mark.parametrize("fault", [hang_up_later, overloaded])
async def test_a_stream_that_fails_before_its_first_word_is_tried_again(
    chats: ChatSocket, start: Start, configure: Configure, fault: Script
):
    model, name = await start(Model("A", fault, fault)), new_id()
    configure(agent(name, model, retry=QUICK))
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert answer["content"] == "A answers."
    assert model.asked == ["one"] * 3


async def test_a_backup_answers_for_a_server_that_says_nothing(
    chats: ChatSocket, start: Start, configure: Configure
):
    ill, well = await start(Model("Ill", say_nothing)), await start(Model("Well"))
    name, backup = new_id(), new_id()
    silent = {"timeouts": {"first_token": 0.5}, "fallback": [backup]}
    configure(agent(name, ill, retry=QUICK, **silent), agent(backup, well))
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert answer["content"] == "Well answers."
    # One that hangs would hang again for as long.
    assert ill.asked == ["one"]


@pytest.mark.parametrize("status", [429, 503])
async def test_the_time_a_server_asks_for_is_waited_and_then_it_answers(
    chats: ChatSocket,
    start: Start,
    configure: Configure,
    standing: Standing,
    status: int,
):
    model, name = Model("A", status), new_id()
    model.retry_after = "3"
    await start(model)
    configure(agent(name, model, retry=QUICK))
    turn = await chats.send(f"agents.{name}", "one")
    # Left to the settings of this agent, the pause would be 10 ms.
    await eventually(
        lambda: standing(name)["breaker"] == "paused"
        and standing(name)["retry_in"] > 1,
        "the pause",
    )
    assert model.asked == ["one"]
    answer = await turn.answer()
    assert answer["content"] == "A answers."
    assert "trying again" in lines(answer)[0]
    assert shimmering(answer) == []
    assert model.asked == ["one", "one"]


async def test_a_server_of_which_half_the_answers_fail_is_left_alone(
    chats: ChatSocket, start: Start, configure: Configure, standing: Standing
):
    model, name = await start(Model("A", WELL, 500, WELL, 500, WELL)), new_id()
    breaker = {"failures": 100, "error_rate": 0.5, "min_requests": 4, "open_for": 60}
    configure(agent(name, model, retry=ONCE, breaker=breaker))
    for number in range(4):
        assert standing(name)["breaker"] == "closed"
        answer = await (await chats.send(f"agents.{name}", str(number))).answer()
        assert ("(500)" in error(answer)) == (number % 2 == 1)
    assert standing(name)["breaker"] == "open"
    answer = await (await chats.send(f"agents.{name}", "4")).answer()
    assert "failed several times and is left alone for" in error(answer)
    assert model.asked == ["0", "1", "2", "3"]


async def test_a_server_that_is_ill_is_asked_how_it_is_before_it_is_asked_anything(
    chats: ChatSocket, start: Start, configure: Configure, standing: Standing
):
    model, name = await start(Model("A", 500)), new_id()
    breaker = {"failures": 1, "open_for": 1, "health": True}
    configure(agent(name, model, retry=ONCE, breaker=breaker))
    model.ill = True
    looked_at = model.looked_at

    async def ask(text: str) -> dict[str, Any]:
        return await (await chats.send(f"agents.{name}", text)).answer()

    assert "(500)" in error(await ask("one"))
    while model.looked_at == looked_at:
        assert error(await ask("two")) != ""
    assert standing(name)["breaker"] == "open"
    assert model.asked == ["one"]
    model.ill = False
    while error(answer := await ask("three")):
        pass
    assert answer["content"] == "A answers."
    assert standing(name)["breaker"] == "closed"
    assert model.asked == ["one", "three"]


async def test_what_an_agent_does_before_its_first_word_is_shown_at_once(
    chats: ChatSocket, start: Start, configure: Configure
):
    go = asyncio.Event()

    async def works(exchange: Exchange) -> None:
        await say_step(exchange, "Reading")
        await go.wait()
        await end_step(exchange, "Reading", "Done.")

    model, name = await start(Model("A", works)), new_id()
    configure(agent(name, model, backend="agui", concurrency=1))
    turn = await chats.send(f"agents.{name}", "one")
    async for event in turn.events():
        if event["type"] == "status":
            break
    assert event["data"] == {"description": "Reading", "done": False}
    go.set()
    answer = await turn.answer()
    assert answer["content"] == "Done."
    assert shimmering(answer) == []


async def test_after_the_work_of_one_that_failed_a_line_says_so(
    chats: ChatSocket, start: Start, configure: Configure
):
    async def fails(exchange: Exchange) -> None:
        await say_step(exchange, "Reading")

    async def works(exchange: Exchange) -> None:
        await say_step(exchange, "Writing")
        await end_step(exchange, "Writing", "Done.")

    ill, well, name = Model("Ill", fails), Model("Well", works), new_id()
    configure(
        agent(name, await start(ill), await start(well), backend="agui", retry=QUICK)
    )
    answer = await (await chats.send(f"agents.{name}", "one")).answer()
    assert answer["content"] == "Done."
    assert shimmering(answer) == []
    host = urlsplit(ill.url).netloc
    assert list(dict.fromkeys(lines(answer))) == [
        "Reading",
        f"{host} could not answer; trying again",
        "Writing",
    ]


@pytest.mark.parametrize("whose", ["agent", "server"])
async def test_a_wrong_key_shuts_out_those_who_show_it(
    chats: ChatSocket,
    start: Start,
    configure: Configure,
    standing: Standing,
    whose: str,
):
    async def look(exchange: Exchange) -> None:
        if exchange.headers["authorization"] == "Bearer right":
            await say(exchange, "Welcome.")
        else:
            await refuse(exchange, 401)

    model, one, two = await start(Model("A", *[look] * 9)), new_id(), new_id()
    pool = f"pool-{one}"
    server = {"url": model.url} | ({"key": "wrong"} if whose == "server" else {})
    configure(
        {"pool": pool, "upstreams": [server]},
        {"id": one, "pool": pool, "model": "m", "key": "wrong"},
        {"id": two, "pool": pool, "model": "m", "key": "right"},
    )

    async def ask(name: str) -> dict[str, Any]:
        return await (await chats.send(f"agents.{name}", name)).answer()

    for _ in range(2):
        assert "did not accept its key (401)" in error(await ask(one))
    answer = await ask(two)
    if whose == "agent":
        assert answer["content"] == "Welcome."
        assert model.asked == [one, two]
        assert standing(pool)["breaker"] == "closed"
        assert standing(pool)["models"] == {f"m ({one})": "status_401"}
    else:
        assert "did not accept its key (401)" in error(answer)
        assert model.asked == [one]
