"""A suite of three functions that a test can release in new versions."""

from __future__ import annotations

import json
from typing import Any

from devkit.bundle.suite import build_all, dist_files, write_dist
from devkit.installer import Installer
from devkit.manifest import read_manifest
from tests.unit.devkit.project import Project

PIPE = """
from pydantic import BaseModel


class Pipe:
    class Valves(BaseModel):
        size: int = 1
        name: str = ""

    def pipe(self, body: dict) -> str:
        return "{word}"
"""

FILTER = """
class Filter:
    def inlet(self, body: dict) -> dict:
        return body
"""

TOOL = """
class Tools:
    def add(self, a: int, b: int) -> int:
        \"\"\"Adds two numbers.\"\"\"
        return a + b
"""

# Ids of their own, so that the suite itself may be installed on the same server.
ENTRIES: list[dict[str, Any]] = [
    {"id": "test_pipe", "kind": "pipe", "valves": {"size": 2}},
    {"id": "test_filter", "kind": "filter", "global": True, "active": False},
    {"id": "test_tool", "kind": "tool"},
]


class Suite(Project):
    """Three functions; `release` writes their sources, manifest and dist/."""

    def release(
        self, version: str = "1.0.0", word: str = "one", **changes: Any
    ) -> None:
        sources = {"test_pipe": PIPE.replace("{word}", word), "test_filter": FILTER}
        functions = []
        for entry in ENTRIES:
            id_ = entry["id"]
            self.write(f"functions/{id_}.py", sources.get(id_, TOOL))
            functions.append(
                {
                    "name": id_.replace("_", " ").title(),
                    "source": f"functions/{id_}.py",
                    "dist": f"dist/{id_}.py",
                    "description": f"The {id_} of the tests.",
                }
                | entry
            )
        manifest = {
            "version": version,
            "min_open_webui_version": "0.12.0",
            "tested_open_webui_version": "0.12.4",
            "functions": functions,
        }
        self.write("manifest.json", json.dumps(manifest | changes))
        self.build_dist()

    def build_dist(self) -> None:
        built = build_all(self.root, read_manifest(self.root))
        write_dist(self.root, dist_files(built))

    def text(self, id_: str) -> str:
        return (self.root / f"dist/{id_}.py").read_text()


def connect(openwebui, suite) -> Installer:
    return Installer.connect(openwebui.url, openwebui.admin_token, suite.root)
