"""Which models there are, and what stays of a list when its server goes down."""

import asyncio

import pytest

from shared.agents.catalogue import DISCOVERY_TTL, discover_models, find_entry
from shared.agents.parsing import parse_agents
from shared.backends.base import DiscoveredModel
from shared.errors import UpstreamUnreachable

PATIENCE = 20.0  # seconds until a condition that does not come about fails a test
CONFIG = parse_agents("""
- id: scout
  name: Scout
  url: http://localhost:1/v1
  model: scout-1
- id: lab
  url: http://localhost:2/v1
  discover: true
  key: sk-secret
""")
LAB = CONFIG.find("lab")


class Server:
    """A backend that offers models, or fails, or does not answer."""

    def __init__(self, *models, error=None, silent=False) -> None:
        self.models = models
        self.error = error
        self.silent = silent
        self.asked = 0

    async def discover(self):
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        return [DiscoveredModel(model, model.upper()) for model in self.models]


DOWN = UpstreamUnreachable("connection_refused")


def expire(kept):
    """As if the lists had been asked for a long time ago."""
    for key, (models, asked_at, refresh) in kept.items():
        kept[key] = (models, asked_at - 2 * DISCOVERY_TTL, refresh)


async def refreshed(kept):
    """Wait until every question under way has its answer."""
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(task for _, _, task in kept.values() if task))


A, B, C = (DiscoveredModel(model, model.upper()) for model in "abc")


async def test_a_list_is_asked_for_once_in_a_while():
    kept, server = {}, Server("a", "b")
    assert await discover_models(LAB, server, kept) == [A, B]
    assert await discover_models(LAB, server, kept) == [A, B]
    assert server.asked == 1


async def test_an_old_list_is_given_at_once_and_then_renewed():
    kept, server = {}, Server("a")
    await discover_models(LAB, server, kept)
    expire(kept)
    server.models = ("c",)
    assert await discover_models(LAB, server, kept) == [A]
    await refreshed(kept)
    assert await discover_models(LAB, server, kept) == [C]
    assert server.asked == 2


async def test_a_server_that_is_down_keeps_its_last_list():
    kept = {}
    await discover_models(LAB, Server("a"), kept)
    down = Server(error=DOWN)
    for asked in (1, 2):
        expire(kept)
        assert await discover_models(LAB, down, kept) == [A]
        await refreshed(kept)
        assert await discover_models(LAB, down, kept) == [A]
        assert down.asked == asked  # and not again for everyone who looks


async def test_a_server_that_was_never_up_has_nothing_and_comes_later():
    kept = {}
    assert await discover_models(LAB, Server(error=DOWN), kept) == []
    expire(kept)
    assert await discover_models(LAB, Server("a"), kept) == [A]


async def test_a_server_that_does_not_answer_is_not_waited_for():
    async with asyncio.timeout(PATIENCE):
        assert await discover_models(LAB, Server(silent=True), {}) == []


async def test_many_who_look_at_once_ask_once():
    kept, server = {}, Server("a")
    looks = [discover_models(LAB, server, kept) for _ in range(5)]
    assert await asyncio.gather(*looks) == [[A]] * 5
    assert server.asked == 1


async def test_another_address_is_another_list():
    kept = {}
    await discover_models(LAB, Server("a"), kept)
    moved = LAB.model_copy(update={"url": "http://localhost:3/v1"})
    assert await discover_models(moved, Server("b"), kept) == [B]


async def test_a_stop_is_not_taken_for_a_failure():
    task = asyncio.create_task(discover_models(LAB, Server(silent=True), {}))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_names_no_key(caplog):
    await discover_models(LAB, Server(error=DOWN), {})
    assert "lab" in caplog.text
    assert "sk-secret" not in caplog.text


@pytest.mark.parametrize(
    ("model_id", "agent", "name", "model"),
    [
        ("scout", "scout", "Scout", "scout-1"),
        ("lab.m", "lab", "lab: m", "m"),
        ("lab.org/m.v1:8b", "lab", "lab: org/m.v1:8b", "org/m.v1:8b"),
    ],
)
def test_a_model_id_names_an_agent_and_a_model(model_id, agent, name, model):
    entry = find_entry(CONFIG, model_id)
    assert (entry.agent.id, entry.name, entry.model) == (agent, name, model)
    assert entry.id == model_id


@pytest.mark.parametrize("model_id", ["", "lab", "lab.", "scout.m", "gone", "gone.m"])
def test_a_model_id_of_nobody(model_id):
    assert find_entry(CONFIG, model_id) is None
