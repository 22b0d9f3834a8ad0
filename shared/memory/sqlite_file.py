"""The memory's SQLite file: its tables, their versions, and connections to it."""

import asyncio
import queue
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

# An exchange's id is its owner's key in the high bits and a number of its own in the
# low ones. What belongs to one user is thus one range of ids in every table and in
# the full-text index, and reading it costs the same whatever others have stored.
OWNER_SHIFT = 24
READERS = 4
BUSY_TIMEOUT_MS = 5000

# Each script brings the file from the version of its position to the next one.
# `feature` is apart from `exchange` because a recall reads it whole.
SQLITE_MIGRATIONS = (
    """
    CREATE TABLE owner (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        user_id TEXT NOT NULL UNIQUE,
        last INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE exchange (
        id INTEGER PRIMARY KEY,
        chat_id TEXT NOT NULL,
        question_id TEXT NOT NULL,
        answer_id TEXT NOT NULL,
        question TEXT NOT NULL,
        answer TEXT NOT NULL,
        asked_at INTEGER NOT NULL,
        speaker TEXT NOT NULL,
        model TEXT NOT NULL
    );
    CREATE INDEX exchange_message ON exchange (chat_id, question_id);
    CREATE TABLE feature (
        id INTEGER PRIMARY KEY,
        chat INTEGER NOT NULL,
        question INTEGER NOT NULL,
        digest INTEGER NOT NULL,
        asked_at INTEGER NOT NULL,
        length INTEGER NOT NULL,
        question_length INTEGER NOT NULL,
        embedder INTEGER,
        vector BLOB
    );
    CREATE INDEX feature_embedder ON feature (embedder, asked_at);
    CREATE TABLE embedder (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        dimension INTEGER NOT NULL,
        UNIQUE (name, dimension)
    );
    CREATE TABLE excluded (
        user_id TEXT NOT NULL,
        chat_id TEXT NOT NULL,
        PRIMARY KEY (user_id, chat_id)
    ) WITHOUT ROWID;
    CREATE TABLE forgotten (
        user_id TEXT NOT NULL,
        chat_id TEXT NOT NULL,
        question_id TEXT NOT NULL,
        PRIMARY KEY (user_id, chat_id, question_id)
    ) WITHOUT ROWID;
    CREATE INDEX forgotten_chat ON forgotten (chat_id);
    CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE VIRTUAL TABLE word USING fts5 (
        question, answer, content = '', detail = column, columnsize = 0,
        tokenize = 'porter unicode61 remove_diacritics 0'
    );
    """,
    # Vectors of 16-bit floats became packed ones; they are made anew.
    "UPDATE feature SET embedder = NULL, vector = NULL",
    # What is to stay out is known by its message alone, for copies of chats keep it.
    """
    CREATE TABLE left_out (
        user_id TEXT NOT NULL,
        question_id TEXT NOT NULL,
        PRIMARY KEY (user_id, question_id)
    ) WITHOUT ROWID;
    INSERT INTO left_out SELECT DISTINCT user_id, question_id FROM forgotten;
    DROP TABLE forgotten;
    CREATE TABLE lease (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        until REAL NOT NULL
    ) WITHOUT ROWID
    """,
)


class NewerSchemaError(Exception):
    """The tables were made by a newer version of the suite."""


def open_sqlite(path: Path) -> sqlite3.Connection:
    """A connection any thread may use, one at a time."""
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.execute("PRAGMA journal_mode = WAL")
    # What was deleted is overwritten, not merely unlinked.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA mmap_size = 268435456")
    return connection


def migrate_sqlite(connection: sqlite3.Connection) -> None:
    """Bring the tables to the present version; raises NewerSchemaError."""

    def version() -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    newest = len(SQLITE_MIGRATIONS)
    if version() == newest:
        return
    with sqlite_transaction(connection):
        # Another process may have been faster.
        found = version()
        if found > newest:
            raise NewerSchemaError(f"version {found}, this one knows {newest}")
        for script in SQLITE_MIGRATIONS[found:]:
            for statement in script.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {newest}")


@contextmanager
def sqlite_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # SQLite has rolled back itself where the disk was full.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def is_open(path: Path, kept: dict[str, Any]) -> bool:
    """Whether `SqliteFile` has made and migrated this file before."""
    return bool(kept.get("opened") == (path, len(SQLITE_MIGRATIONS)))


class SqliteFile:
    """Runs work on the file in threads of its own.

    `kept` is a dict that outlives a reload of the function's module; connections and
    threads are kept there.
    """

    def __init__(self, path: Path, kept: dict[str, Any]) -> None:
        self.path = path
        self._kept = kept
        if not is_open(path, kept):
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(open_sqlite(path)) as connection:
                migrate_sqlite(connection)
            kept["idle"] = queue.LifoQueue()
            kept["readers"] = ThreadPoolExecutor(READERS, "aqueduct-memory-reader")
            # SQLite has one writer at a time; who waits for another process to be
            # done must not take a reader's thread.
            kept["writer"] = ThreadPoolExecutor(1, "aqueduct-memory-writer")
            kept["opened"] = (path, len(SQLITE_MIGRATIONS))

    async def in_reader(self, work: Callable[..., Any], *args: Any) -> Any:
        """What `read` gives, from a thread of its own."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._kept["readers"], self.read, work, *args)

    async def in_writer(self, work: Callable[..., Any], *args: Any) -> Any:
        """What `write` gives, from a thread of its own."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._kept["writer"], self.write, work, *args)

    def read(self, work: Callable[..., Any], *args: Any) -> Any:
        """Give what `work(connection, *args)` gives: one view of the file for all."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            found = work(connection, *args)
            connection.execute("COMMIT")
            return found

    def write(self, work: Callable[..., Any], *args: Any) -> Any:
        """The same within a transaction."""
        with self._connection() as connection, sqlite_transaction(connection):
            return work(connection, *args)

    def close(self) -> None:
        """Close every idle connection and end the threads."""
        self._kept["readers"].shutdown()
        self._kept["writer"].shutdown()
        idle = self._kept["idle"]
        while not idle.empty():
            idle.get_nowait().close()
        self._kept.clear()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        idle: queue.LifoQueue[sqlite3.Connection] = self._kept["idle"]
        try:
            connection = idle.get_nowait()
        except queue.Empty:
            connection = open_sqlite(self.path)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        idle.put(connection)
