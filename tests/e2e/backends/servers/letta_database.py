"""Make Letta's tables in an empty PostgreSQL: letta_database.py URL.

Its migrations are not in the package. Runs in the environment of
requirements/programs/letta.txt.
"""

import sys

import letta.orm  # noqa: F401 (knows the tables)
from letta.orm.base import Base
from sqlalchemy import create_engine, text

url = sys.argv[1].replace("postgresql://", "postgresql+pg8000://")
with create_engine(url).begin() as database:
    database.execute(text("CREATE EXTENSION vector"))
    Base.metadata.create_all(database)
    # A migration adds this; the models only name it.
    database.execute(text("CREATE SEQUENCE IF NOT EXISTS message_seq_id"))
    default = "ALTER COLUMN sequence_id SET DEFAULT nextval('message_seq_id')"
    database.execute(text(f"ALTER TABLE messages {default}"))
