"""The models that a server offers."""

import pytest

from shared.backends.openai import OpenAIBackend
from shared.errors import UpstreamBroken
from tests.unit.backends.upstream import KEY, make_endpoint, saying, serve


@pytest.mark.parametrize(
    ("payload", "models"),
    [
        (
            {"object": "list", "data": [{"id": "b"}, {"id": "a", "name": "A"}]},
            [("b", "b"), ("a", "A")],
        ),
        ([{"id": "a"}], [("a", "a")]),
        ({"data": []}, []),
        ({"data": [{"name": "no id"}, "text", {"id": "a"}]}, [("a", "a")]),
    ],
)
async def test_the_models_a_server_offers(client, payload, models):
    async def script(exchange):
        await exchange.answer(200, payload)

    async with serve(script) as server:
        backend = OpenAIBackend(client, make_endpoint(server.url), "")
        found = await backend.discover()
        [asked] = server.asked
    assert [(model.id, model.name) for model in found] == models
    assert asked.path == "/v1/models"
    assert asked.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("said", ["<html>", '{"models": 5}', "null", '"text"'])
async def test_a_list_of_models_that_is_none(client, said):
    async with serve(saying(said, kind="application/json")) as server:
        backend = OpenAIBackend(client, make_endpoint(server.url), "")
        with pytest.raises(UpstreamBroken, match="unreadable"):
            await backend.health()
