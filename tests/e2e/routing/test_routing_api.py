"""What routing does to programs: refusals they understand, and places they leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.e2e.agents.answers import eventually
from tests.e2e.routing.conftest import Configure, Start
from tests.e2e.routing.servers import NOBODY, Model, agent
from tests.e2e.routing.test_routing_chats import QUICK, new_id
from tests.webui import WebUI


@pytest_asyncio.fixture(loop_scope="session")
async def client(suite_installed: WebUI) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{suite_installed.url}/api",
        api_key=suite_installed.admin_token,
        max_retries=0,
        http_client=httpx.AsyncClient(trust_env=False, timeout=60),
    ) as client:
        yield client


async def ask(client: AsyncOpenAI, name: str, text: str, stream: bool = False) -> str:
    """The whole answer of an agent."""
    messages = [{"role": "user", "content": text}]
    answer = await client.chat.completions.create(
        model=f"agents.{name}",
        messages=messages,  # type: ignore[arg-type]
        stream=stream,
    )
    if not stream:
        return answer.choices[0].message.content
    parts = [c.choices[0].delta.content or "" async for c in answer if c.choices]
    return "".join(parts)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "running"])
async def test_who_hangs_up_frees_the_place(
    client: AsyncOpenAI, start: Start, configure: Configure, stream: bool, waits: bool
):
    model, name = await start(Model("A", held=True)), new_id()
    configure(agent(name, model, concurrency=1))
    first = asyncio.create_task(ask(client, name, "one", stream))
    await eventually(lambda: model.answering == 1, "the first to be served")
    second = asyncio.create_task(ask(client, name, "two", stream))
    await queued(client, name, 1)
    gone, other = (second, first) if waits else (first, second)
    gone.cancel()
    await asyncio.wait([gone])
    # Nobody has released anything: what comes free was left.
    await queued(client, name, 0)
    asked = ["one"] if waits else ["one", "two"]
    await eventually(
        lambda: (model.asked, model.answering) == (asked, 1), "the one that is left"
    )
    model.release()
    assert await other == "A answers."
    assert model.asked == asked


async def queued(client: AsyncOpenAI, name: str, count: int) -> None:
    """Wait until so many requests wait for this agent."""
    url = str(client.base_url).replace("/api/", "/api/v1/aqueduct/routing.json")
    headers = {"Authorization": f"Bearer {client.api_key}"}

    def waiting() -> bool:
        report = httpx.get(url, headers=headers, trust_env=False).raise_for_status()
        pools = {pool["name"]: pool for pool in report.json()["pools"]}
        return sum(pools[name]["waiting"].values()) == count

    await eventually(waiting, f"{count} to wait")


async def test_a_full_queue_is_a_rate_limit(
    client: AsyncOpenAI, start: Start, configure: Configure
):
    model, name = await start(Model("A", held=True)), new_id()
    queue = {"max_waiting": {"background": 0}}
    configure(agent(name, model, concurrency=1, queue=queue))
    first = asyncio.create_task(ask(client, name, "one"))
    await eventually(lambda: model.answering == 1, "the first to be served")
    with pytest.raises(openai.RateLimitError) as raised:
        await ask(client, name, "two")
    assert "is busy: too many are waiting" in raised.value.message
    model.release()
    await first
    second = asyncio.create_task(ask(client, name, "three"))
    await eventually(lambda: model.answering == 1, "the third to be served")
    with pytest.raises(openai.RateLimitError) as raised:
        await ask(client, name, "four")
    assert int(raised.value.response.headers["retry-after"]) >= 1
    model.release()
    await second


async def test_a_queue_that_takes_too_long_is_a_timeout(
    client: AsyncOpenAI, start: Start, configure: Configure
):
    model, name = await start(Model("A", held=True)), new_id()
    queue = {"deadline": {"background": 0.2}}
    configure(agent(name, model, concurrency=1, queue=queue))
    first = asyncio.create_task(ask(client, name, "one"))
    await eventually(lambda: model.answering == 1, "the first to be served")
    with pytest.raises(openai.APIStatusError) as raised:
        await ask(client, name, "two")
    assert raised.value.status_code == 504
    model.release()
    await first


async def test_a_server_that_is_left_alone_is_not_available(
    client: AsyncOpenAI, start: Start, configure: Configure
):
    model, name = await start(Model("A", 500)), new_id()
    breaker = {"failures": 1, "open_for": 60}
    configure(agent(name, model, retry=QUICK | {"attempts": 1}, breaker=breaker))
    for status in (502, 503):
        with pytest.raises(openai.APIStatusError) as raised:
            await ask(client, name, "one")
        assert raised.value.status_code == status
    assert model.asked == ["one"]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_the_answer_says_who_answered(
    client: AsyncOpenAI, start: Start, configure: Configure, stream: bool
):
    ill, well = await start(Model("Ill", *[500] * 5)), await start(Model("Well"))
    name, backup = new_id(), new_id()
    configure(agent(name, ill, retry=QUICK, fallback=[backup]), agent(backup, well))
    answer = await client.chat.completions.create(
        model=f"agents.{name}",
        messages=[{"role": "user", "content": "one"}],
        stream=stream,
    )
    said = [chunk async for chunk in answer] if stream else [answer]
    assert (said[0].model_extra or {})["answered_by"] == backup


async def test_the_last_error_tells_a_program_what_to_do(
    client: AsyncOpenAI, start: Start, configure: Configure
):
    ill, busy = await start(Model("Ill", 401)), Model("Busy", 429)
    busy.retry_after = "60"
    await start(busy)
    name, backup = new_id(), new_id()
    configure(agent(name, ill, fallback=[backup]), agent(backup, busy))
    with pytest.raises(openai.RateLimitError) as raised:
        await ask(client, name, "one")
    assert raised.value.response.headers["retry-after"] == "60"
    assert "did not accept its key (401)" in raised.value.message


async def test_a_title_comes_from_the_backup_when_the_agent_is_not_there(
    suite_installed: WebUI, start: Start, configure: Configure
):
    gone, well = Model("Gone"), await start(Model("Well"))
    gone.url = NOBODY
    name, backup = new_id(), new_id()
    configure(agent(name, gone, retry=QUICK, fallback=[backup]), agent(backup, well))
    task = {
        "model": f"agents.{name}",
        "messages": [{"role": "user", "content": "What can I cook?"}],
    }
    with suite_installed.client() as admin:
        path = "/api/v1/tasks/title/completions"
        answer = await asyncio.to_thread(admin.post, path, json=task)
    [choice] = answer.raise_for_status().json()["choices"]
    assert json.loads(choice["message"]["content"]) == {"title": "Dinner"}
