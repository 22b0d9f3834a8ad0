"""The memory's vectors in each vector store, through Open WebUI's own client for it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from devkit.bundle import host
from devkit.paths import ROOT
from devkit.server import settings
from tests.contract import vector_store_calls
from tests.postgres import PostgresServer

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        not host.is_available(), reason="needs Open WebUI: run `make test`"
    ),
]

# The libraries that Open WebUI's client needs, and what chooses that client.
STORES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "chroma": (("chromadb",), {"VECTOR_DB": "chroma"}),
    "qdrant": (
        ("qdrant-client",),
        {
            "VECTOR_DB": "qdrant",
            "QDRANT_URI": "http://127.0.0.1",
            "ENABLE_QDRANT_MULTITENANCY_MODE": "false",
        },
    ),
    "qdrant_multitenancy": (
        ("qdrant-client",),
        {"VECTOR_DB": "qdrant", "QDRANT_URI": "http://127.0.0.1"},
    ),
    "milvus": (("pymilvus", "milvus-lite"), {"VECTOR_DB": "milvus"}),
    "milvus_multitenancy": (
        ("pymilvus", "milvus-lite"),
        {"VECTOR_DB": "milvus", "ENABLE_MILVUS_MULTITENANCY_MODE": "true"},
    ),
    "pgvector": (("pgvector",), {"VECTOR_DB": "pgvector"}),
}


@pytest.fixture(scope="module")
def pgvector_url() -> Iterator[str]:
    with PostgresServer() as server:
        with psycopg.connect(server.url) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"
            ).fetchone()
        if found is None:
            pytest.skip("needs pgvector: apt-get install postgresql-NN-pgvector")
        yield server.url.replace(":", "+psycopg:", 1)


@pytest.mark.parametrize("name", STORES)
def test_a_store_keeps_finds_replaces_and_drops(name, tmp_path, request):
    libraries, choice = STORES[name]
    for library in libraries:
        if importlib.util.find_spec(library.replace("-", "_")) is None:
            pytest.skip(f"needs {' and '.join(libraries)}: pip install them")
    if name == "pgvector":
        choice = choice | {"PGVECTOR_DB_URL": request.getfixturevalue("pgvector_url")}
    seen = what_is_seen(tmp_path, choice)
    assert seen.pop("client").endswith(f".{name}")
    assert seen == {
        "at first": None,
        "put": {"1": 1.0, "2": 0.5, "3": -0.5},
        "of another": {"4": 0.9},
        "replaced": {"1": 0.25, "2": 0.5, "3": -0.5},
        "dropped": {"1": 0.25, "3": -0.5},
        "removed": None,
        "beside it": {"1": 0.25, "3": -0.5},
        "reset": None,
        "put again": {"5": 0.75},
    }


def what_is_seen(folder: Any, choice: dict[str, str]) -> dict[str, Any]:
    # Open WebUI reads its settings once, on import, so it gets a process of its own.
    (folder / "vector_db").mkdir()  # where Milvus keeps its file
    process = subprocess.run(
        [sys.executable, "-m", vector_store_calls.__name__],
        env=settings(folder, "of no use") | {"FROM_INIT_PY": "true"} | choice,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    seen: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return seen
