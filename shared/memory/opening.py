"""The server's one memory: where it is, and the work on it in the background."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from shared.host.database import (
    data_folder,
    database_session,
    on_postgres,
    on_sqlcipher,
)
from shared.host.embeddings import embed_texts, embedding_model_name
from shared.host.resources import shared_resource
from shared.host.vectors import HostVectors
from shared.memory.base import Embedder, Floats, MemoryStore
from shared.memory.postgres_schema import POSTGRES_MIGRATIONS, migrate_postgres
from shared.memory.postgres_store import PostgresStore
from shared.memory.sqlite_file import SqliteFile, is_open
from shared.memory.sqlite_store import SqliteStore
from shared.memory.vectors import unit_vector, vectors_or_none

BATCH = 16
# After a full batch the indexer rests as long as it worked, at most this many seconds.
LONGEST_REST = 5.0

memory_log = logging.getLogger("aqueduct.memory")


class PlainFileError(Exception):
    """What is kept encrypted may not be copied into a file that is not."""


async def open_memory() -> MemoryStore:
    """The store, made or migrated on first use.

    A file of its own beside Open WebUI's SQLite database: writing to the full-text
    index then never locks a chat out, and a damaged index never takes chats with it.
    Where Open WebUI runs on PostgreSQL, a schema of its own in that database, so that
    all replicas share it. Raises PlainFileError where Open WebUI's own is encrypted.
    """
    kept: dict[str, Any] = shared_resource("memory", dict)
    lock = shared_resource("memory_opening", asyncio.Lock)
    async with lock:
        if on_postgres():
            if kept.get("migrated") != len(POSTGRES_MIGRATIONS):
                await migrate_postgres(database_session)
                kept["migrated"] = len(POSTGRES_MIGRATIONS)
            return PostgresStore(database_session, HostVectors())
        if on_sqlcipher():
            raise PlainFileError(
                "Open WebUI's database is encrypted, ours would not be"
            )
        path = data_folder() / "aqueduct" / "memory.db"
        if is_open(path, kept):
            return SqliteStore(SqliteFile(path, kept))
        return SqliteStore(await asyncio.to_thread(SqliteFile, path, kept))


def log_once(what: str, text: str, *values: Any) -> None:
    """Log a warning that would be true many times a minute."""
    said: set[str] = shared_resource("memory_said_once", set)
    if what not in said:
        said.add(what)
        memory_log.warning(text, *values)


async def model_name() -> str | None:
    """The embedding model's name; None where this process cannot use it."""
    name = await embedding_model_name()
    if name is None:
        log_once(
            "stale model",
            "Another replica has loaded a new embedding model; words alone are "
            "compared here, and no vectors made, until this one is restarted",
        )
    return name


async def embed_question(
    question: str, user: Mapping[str, Any] | None, seconds: float
) -> tuple[Embedder, Floats] | None:
    """The question's vector; None without a model, or where it takes too long."""
    try:
        async with asyncio.timeout(seconds):
            name, vectors = await asyncio.gather(
                model_name(), embed_texts([question], user, is_query=True)
            )
    except Exception as error:  # noqa: BLE001 - any engine an admin may have set
        memory_log.warning("Recall by words alone, no vector: %r", error)
        return None
    if not vectors or name is None:
        return None
    return Embedder(name, len(vectors[0])), unit_vector(vectors[0])


def in_background(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Run work as a task that is held on to and whose error is logged."""
    tasks: set[asyncio.Task[None]] = shared_resource("memory_tasks", set)

    async def guarded_work() -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - nobody awaits it who could be told
            memory_log.exception("%s failed", name)

    task = asyncio.create_task(guarded_work(), name=f"aqueduct {name}")
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def start_once(name: str, work: Coroutine[Any, Any, None]) -> None:
    """The same, unless a task of this name is running."""
    tasks: set[asyncio.Task[None]] = shared_resource("memory_tasks", set)
    if any(task.get_name() == f"aqueduct {name}" for task in tasks):
        work.close()
    else:
        in_background(name, work)


def request_indexing(store: MemoryStore) -> None:
    """See to it that all that is stored gets its vector, soon and in the background."""
    wanted: dict[str, bool] = shared_resource("memory_indexing", dict)
    wanted["again"] = True
    start_once("indexing", index_while_wanted(store, wanted))


async def index_while_wanted(store: MemoryStore, wanted: dict[str, bool]) -> None:
    # What is stored while the last batch is being written asks for another round.
    while wanted.pop("again", False):
        await index_pending(store)


async def index_pending(store: MemoryStore) -> None:
    """Give a vector to everything that has none of the present model.

    That is new exchanges, old ones after a change of model, and all of them after the
    vectors were wiped. Ends where there is no model; the next exchange starts it anew.
    """
    # What the model did not take. After a restart it is tried once more.
    rejected: set[tuple[str, int, int]] = shared_resource("memory_rejected", set)
    while embedder := await present_embedder():
        started = time.monotonic()
        waiting = [
            (user_id, stored)
            for user_id, stored in await store.pending(embedder, BATCH + len(rejected))
            if (embedder.name, stored.id, stored.exchange.digest) not in rejected
        ][:BATCH]
        if not waiting:
            await store.drop_other_vectors(embedder)
            return
        vectors = await vectors_or_none(
            encode_content, embedding_works, [stored.exchange for _, stored in waiting]
        )
        if await model_name() != embedder.name:
            continue  # changed under way: nobody knows which model made these
        made: list[tuple[str, int, int, Floats]] = []
        for (user_id, stored), vector in zip(waiting, vectors, strict=True):
            if vector is None:
                rejected.add((embedder.name, stored.id, stored.exchange.digest))
            else:
                made.append((user_id, stored.id, stored.exchange.digest, vector))
        if made and not await store.set_vectors(embedder, made):
            return
        if len(waiting) == BATCH:
            await asyncio.sleep(min(time.monotonic() - started, LONGEST_REST))


async def embedding_works() -> bool:
    """Whether the model takes a text that no model rejects."""
    return await present_embedder() is not None


async def present_embedder() -> Embedder | None:
    """The model an admin has set, with the length of its vectors."""
    name = await model_name()
    probe = await embed_texts(["dimension"]) if name else None
    return Embedder(name, len(probe[0])) if name and probe else None


async def encode_content(texts: Any) -> list[list[float]]:
    """Vectors of stored texts; raises RuntimeError where the model went away."""
    vectors = await embed_texts(texts)
    if vectors is None:
        raise RuntimeError("the embedding model is gone")
    return vectors
