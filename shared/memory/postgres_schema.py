"""The memory's tables in PostgreSQL, a schema of its own with a version, and its SQL."""

from typing import Any

from shared.memory.sqlite_file import NewerSchemaError


class MemorySqlError(Exception):
    """PostgreSQL refused a statement: the name of the driver's error, no values."""


# Any number of ours: one replica migrates while the others wait.
MIGRATION_LOCK = 7_032_118_445

# `words` are stems with the owner's key before them ("12:rome"), so that looking one
# up in the index finds the owner's exchanges and no others.
POSTGRES_MIGRATIONS = (
    """
    CREATE TABLE aqueduct_memory.owner (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        user_id text NOT NULL UNIQUE
    );
    CREATE TABLE aqueduct_memory.exchange (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        user_id text NOT NULL,
        chat_id text NOT NULL,
        question_id text NOT NULL,
        answer_id text NOT NULL,
        question text NOT NULL,
        answer text NOT NULL,
        asked_at bigint NOT NULL,
        speaker text NOT NULL,
        model text NOT NULL,
        chat bigint NOT NULL,
        question_key bigint NOT NULL,
        digest bigint NOT NULL,
        length integer NOT NULL,
        question_length integer NOT NULL,
        question_words tsvector NOT NULL,
        words tsvector NOT NULL,
        embedder text,
        scale real NOT NULL DEFAULT 1,
        UNIQUE (user_id, chat_id, question_id)
    );
    CREATE INDEX exchange_words ON aqueduct_memory.exchange USING gin (words);
    CREATE INDEX exchange_chat ON aqueduct_memory.exchange (chat_id);
    CREATE INDEX exchange_embedder ON aqueduct_memory.exchange (embedder, asked_at);
    CREATE INDEX exchange_feature ON aqueduct_memory.exchange (user_id, id) INCLUDE
        (chat, question_key, asked_at, length, question_length, embedder, scale);
    CREATE TABLE aqueduct_memory.excluded (
        user_id text NOT NULL,
        chat_id text NOT NULL,
        PRIMARY KEY (user_id, chat_id)
    );
    CREATE TABLE aqueduct_memory.forgotten (
        user_id text NOT NULL,
        chat_id text NOT NULL,
        question_id text NOT NULL,
        PRIMARY KEY (user_id, chat_id, question_id)
    );
    CREATE INDEX forgotten_chat ON aqueduct_memory.forgotten (chat_id);
    CREATE TABLE aqueduct_memory.state (name text PRIMARY KEY, value text NOT NULL)
    """,
    # Ids of vectors became UUIDs; the vectors are made anew.
    "UPDATE aqueduct_memory.exchange SET embedder = NULL",
    # What is to stay out is known by its message alone, for copies of chats keep it.
    # `collection` tells which collections of vectors there are.
    """
    CREATE TABLE aqueduct_memory.left_out (
        user_id text NOT NULL,
        question_id text NOT NULL,
        PRIMARY KEY (user_id, question_id)
    );
    INSERT INTO aqueduct_memory.left_out
        SELECT DISTINCT user_id, question_id FROM aqueduct_memory.forgotten;
    DROP TABLE aqueduct_memory.forgotten;
    CREATE TABLE aqueduct_memory.collection (
        key bigint GENERATED ALWAYS AS IDENTITY,
        user_id text NOT NULL,
        embedder text NOT NULL,
        PRIMARY KEY (user_id, embedder)
    );
    INSERT INTO aqueduct_memory.collection (user_id, embedder)
        SELECT DISTINCT user_id, embedder FROM aqueduct_memory.exchange
        WHERE embedder IS NOT NULL;
    CREATE TABLE aqueduct_memory.lease (
        name text PRIMARY KEY,
        holder text NOT NULL,
        until timestamptz NOT NULL
    )
    """,
)


POSTGRES_COLUMNS = (
    "id, chat_id, question_id, answer_id, question, answer, asked_at, speaker, model"
)
SAVE_SQL = """
    INSERT INTO aqueduct_memory.exchange (user_id, chat_id, question_id, answer_id,
        question, answer, asked_at, speaker, model, chat, question_key, digest, length,
        question_length, question_words, words)
    SELECT :user_id, :chat_id, :question_id, :answer_id, :question, :answer, :asked_at,
        :speaker, :model, :chat, :question_key, :digest, :length, :question_length,
        made.question_words, made.question_words || made.answer_words
    FROM (SELECT
        array_to_tsvector(ARRAY(SELECT CAST(:prefix AS text) || lexeme
            FROM unnest(to_tsvector('english', :asked)))) AS question_words,
        array_to_tsvector(ARRAY(SELECT CAST(:prefix AS text) || lexeme
            FROM unnest(to_tsvector('english', :answered)))) AS answer_words) AS made
    WHERE NOT EXISTS (SELECT FROM aqueduct_memory.left_out
        WHERE user_id = :user_id AND question_id = :question_id)
    ON CONFLICT (user_id, chat_id, question_id) DO UPDATE SET
        answer_id = excluded.answer_id, question = excluded.question,
        answer = excluded.answer, model = excluded.model, digest = excluded.digest,
        question_key = excluded.question_key, length = excluded.length,
        question_length = excluded.question_length, words = excluded.words,
        question_words = excluded.question_words, embedder = NULL
    WHERE exchange.digest <> excluded.digest
    RETURNING id
    """
SKIP_SQL = """
    INSERT INTO aqueduct_memory.left_out (user_id, question_id)
    SELECT :u, question_id FROM unnest(CAST(:questions AS text[])) AS asked (question_id)
    ON CONFLICT DO NOTHING
    """
# The time is the database's, which all replicas share.
LEASE_SQL = """
    INSERT INTO aqueduct_memory.lease AS held (name, holder, until)
    VALUES (:name, :holder, clock_timestamp() + make_interval(secs => :seconds))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE held.holder = excluded.holder OR held.until <= clock_timestamp()
    RETURNING name
    """
# Packed as FEATURE_ROW says; `collection` is 0 where there is no vector.
FEATURE_SQL = """
    SELECT string_agg(int8send(id) || int8send(chat) || int8send(question_key)
        || int8send(asked_at) || int8send(length) || int8send(question_length)
        || int8send(coalesce(collection.key, 0)) || float8send(scale), '' ORDER BY id)
    FROM aqueduct_memory.exchange LEFT JOIN aqueduct_memory.collection
        USING (user_id, embedder)
    WHERE user_id = :user_id
    """
COLLECTION_SQL = """
    SELECT key, embedder FROM aqueduct_memory.collection WHERE user_id = :user_id
    """
MATCH_SQL = """
    SELECT term.place, string_agg(int8send(exchange.id), ''),
        string_agg(int8send(exchange.id), '')
            FILTER (WHERE exchange.question_words @@ term.query)
    FROM (SELECT place - 1 AS place,
            CAST(quote_literal(CAST(:prefix AS text) || lexeme) AS tsquery) AS query
          FROM unnest(CAST(:terms AS text[])) WITH ORDINALITY AS asked (word, place),
               unnest(to_tsvector('english', word))) AS term
    JOIN aqueduct_memory.exchange ON exchange.words @@ term.query
    WHERE exchange.user_id = :user_id GROUP BY term.place
    """


async def migrate_postgres(sessions: Any) -> None:
    """Bring the schema to the present version; raises NewerSchemaError."""
    newest = len(POSTGRES_MIGRATIONS)
    async with sessions() as session:
        await run_sql(session, f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        await run_sql(session, "CREATE SCHEMA IF NOT EXISTS aqueduct_memory")
        await run_sql(
            session,
            "CREATE TABLE IF NOT EXISTS aqueduct_memory.version "
            "(version integer NOT NULL)",
        )
        rows = await run_sql(session, "SELECT version FROM aqueduct_memory.version")
        found = rows[0][0] if rows else 0
        if found > newest:
            raise NewerSchemaError(f"version {found}, this one knows {newest}")
        for script in POSTGRES_MIGRATIONS[found:]:
            for statement in script.split(";\n"):
                await run_sql(session, statement)
        if found < newest:
            await run_sql(session, "DELETE FROM aqueduct_memory.version")
            await run_sql(
                session,
                "INSERT INTO aqueduct_memory.version VALUES (:newest)",
                newest=newest,
            )
        await session.commit()


async def run_sql(session: Any, sql: str, **values: Any) -> list[Any]:
    """The rows of a statement; none where it gives none.

    Raises MemorySqlError and not SQLAlchemy's error, whose text repeats the values,
    what somebody said among them, and would carry them into the log.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        result = await session.execute(text(sql), values)
        return list(result.all()) if result.returns_rows else []
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise MemorySqlError(type(cause).__name__) from None
