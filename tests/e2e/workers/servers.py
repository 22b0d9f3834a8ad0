"""Two Open WebUI processes on one Redis and one database, as behind a balancer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from devkit.demo_agent import DemoAgent
from devkit.demo_config import agents_yaml
from devkit.server import OpenWebUI
from devkit.webui import Account, sign_in
from tests.e2e.continue_with.models import agent_entries
from tests.postgres import PostgresServer
from tests.redis import RedisServer
from tests.webui import WebUI

ADMIN = ("admin@example.org", "correct horse")


@dataclass(frozen=True)
class Workers:
    """The addresses of two workers of one Open WebUI, and somebody who uses it.

    `database` is the address of the PostgreSQL they share, `other_log` a worker's log.
    """

    one: str
    other: str
    user: Account
    database: str
    other_log: Path


@contextmanager
def two_workers(folder: Path, demo: DemoAgent) -> Iterator[Workers]:
    """Start everything, install the suite, and add a user."""
    with ExitStack() as running:
        slow = DemoAgent(folder / "slow.log", pace=0.15)
        running.callback(slow.stop)
        slow.start()
        redis = running.enter_context(RedisServer())
        database = running.enter_context(PostgresServer()).url
        env = {
            # Psycopg 3, which Open WebUI brings along, for its synchronous part too.
            "DATABASE_URL": database.replace(":", "+psycopg:", 1),
            "REDIS_URL": redis.url,
            "WEBSOCKET_MANAGER": "redis",
            "WEBUI_ADMIN_EMAIL": ADMIN[0],
            "WEBUI_ADMIN_PASSWORD": ADMIN[1],
        }
        servers = [
            OpenWebUI(folder / name, secret_key="of no use outside the tests", env=env)
            for name in ("one", "other")
        ]
        # One after the other: the first makes the tables.
        one, other = (running.enter_context(server) for server in servers)
        place = WebUI(one, sign_in(one.url, *ADMIN), demo)
        place.install()
        place.set_active("conversation_memory", False)
        place.set_agents(agents_yaml(agent_entries(demo.url, slow.url)))
        with place.client() as admin:
            admin.get("/api/models").raise_for_status()
        owner = place.create_user("Owner")
        yield Workers(one.url, other.url, owner, database, other.log_path)
