"""A server that is killed at work, and an embedding service that never answers."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest

from devkit.demo_config import agents_yaml, demo_agents
from devkit.server import OpenWebUI
from devkit.webui import set_valves, sign_in
from tests.e2e.deaf_embedder import DeafEmbedder
from tests.e2e.memory_scene import FILTER, MODEL, eventually, rows, stored, told
from tests.e2e.test_memory_postgres import chat_from_before
from tests.e2e.test_memory_recall import ASKED, TOLD, asked
from tests.webui import WebUI

OLD_CHATS = 120


@pytest.fixture(scope="module")
def embedder() -> Iterator[DeafEmbedder]:
    with DeafEmbedder() as embedder:
        yield embedder


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo_agent, embedder) -> Iterator[WebUI]:
    email, password = "admin@example.org", "correct horse"
    server = OpenWebUI(
        tmp_path_factory.mktemp("openwebui-killed"),
        secret_key="of no use outside the tests",
        env={
            "WEBUI_ADMIN_EMAIL": email,
            "WEBUI_ADMIN_PASSWORD": password,
            "RAG_EMBEDDING_ENGINE": "openai",
            "RAG_OPENAI_API_BASE_URL": embedder.url,
            "RAG_OPENAI_API_KEY": "of no use",
        },
    )
    with server:
        yield WebUI(server, sign_in(server.url, email, password), demo_agent)


def kill(place: WebUI) -> None:
    """End the server as a power cut does."""
    [process] = [
        child
        for child in psutil.Process().children()
        if str(place.server.port) in child.cmdline()
    ]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def backfilled(place: WebUI) -> dict[str, object]:
    found = rows(place, "SELECT value FROM state WHERE name = 'backfill'")
    return dict(json.loads(found[0][0])) if found else {"done": 0}


def check_file(place: WebUI) -> None:
    """Table and index are whole and say the same."""
    path = place.server.data / "aqueduct" / "memory.db"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.execute("INSERT INTO word (word) VALUES ('integrity-check')")
        count = (
            "SELECT (SELECT count(*) FROM exchange) - (SELECT count(*) FROM feature)"
        )
        assert connection.execute(count).fetchone() == (0,)


async def test_a_killed_server_goes_on_with_the_chats_from_before(place):
    chats = {chat_from_before(place) for _ in range(OLD_CHATS)}
    place.install()
    await eventually(lambda: backfilled(place)["done"] >= 5)
    kill(place)
    done = backfilled(place)["done"]
    assert done < OLD_CHATS
    check_file(place)
    before = rows(place, "SELECT id, chat_id FROM exchange ORDER BY id")
    # The one in flight may be there already, and those before it all are.
    assert len(before) in (done, done + 1)
    place.server.start()
    place.server.wait()
    await eventually(lambda: backfilled(place).get("finished"))
    after = rows(place, "SELECT id, chat_id FROM exchange ORDER BY id")
    assert after[: len(before)] == before
    assert [row[1] for row in after] == sorted(chats)
    check_file(place)


async def test_an_embedding_that_never_comes_costs_the_vectors_only(place, embedder):
    place.set_agents(agents_yaml(demo_agents(place.demo.url)))
    ada = place.create_user("Ada")
    with place.client() as admin:
        set_valves(admin, FILTER, max_wait_ms=4_000)
    async with place.chats(ada) as chats:
        turn = await chats.send(MODEL, TOLD)
        await turn.answer()
    await eventually(lambda: stored(place, turn.chat_id))
    embedder.asked.clear()
    await asked(place, ada)
    assert embedder.asked.is_set()
    assert "Ophelia" in told(place)
    assert told(place).endswith(ASKED)
    assert "Recall by words alone" in place.log_path.read_text(errors="replace")
