"""Open WebUI's database: which one it is, and where its data folder lies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any


def on_postgres() -> bool:
    """Whether this Open WebUI keeps its data in PostgreSQL."""
    from open_webui.env import DATABASE_URL

    return str(DATABASE_URL).startswith("postgres")


def on_sqlcipher() -> bool:
    """Whether this Open WebUI keeps its data in an encrypted SQLite file."""
    from open_webui.env import DATABASE_URL

    return str(DATABASE_URL).startswith("sqlite+sqlcipher")


def data_folder() -> Path:
    """Open WebUI's DATA_DIR."""
    from open_webui.env import DATA_DIR

    return Path(DATA_DIR)


@asynccontextmanager
async def database_session() -> AsyncIterator[Any]:
    """A SQLAlchemy AsyncSession on Open WebUI's own pool; commit it yourself."""
    from open_webui.internal.db import get_async_db

    async with get_async_db() as session:
        yield session
