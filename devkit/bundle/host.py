"""Loads built files with Open WebUI's own loader, in a process of its own.

Importing Open WebUI reads the environment and opens its database, so it never happens
in the process of the developer's tools: `python -m devkit.bundle.host IN OUT` does it
with a throwaway data folder.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devkit.bundle.layout import BuiltFile
from devkit.errors import BuildError
from devkit.manifest import Kind


def is_available() -> bool:
    """Whether Open WebUI can be imported here."""
    return importlib.util.find_spec("open_webui") is not None


def load_all(built: Sequence[BuiltFile]) -> dict[str, list[str]]:
    """What Open WebUI finds wrong with each file, by function id.

    Checks that a file loads, as the kind the manifest says; that its frontmatter reads
    as it was written; that the text is stored unchanged; that the manifest's default
    valves fit and have a settings form. Raises BuildError if Open WebUI does not start.
    """
    jobs = [
        {
            "id": item.entry.id,
            "kind": item.entry.kind.value,
            "title": item.entry.name,
            "description": item.entry.description,
            "valves": item.entry.valves,
            "text": item.text,
        }
        for item in built
    ]
    with tempfile.TemporaryDirectory(prefix="aqueduct-check-") as folder:
        jobs_file, report_file = Path(folder, "jobs.json"), Path(folder, "report.json")
        jobs_file.write_text(json.dumps(jobs), encoding="utf-8")
        process = subprocess.run(
            [sys.executable, "-m", __name__, str(jobs_file), str(report_file)],
            env=os.environ | _environment(folder),
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            last = (process.stderr.strip().splitlines() or ["no output"])[-1]
            raise BuildError(f"Open WebUI's loader did not start: {last}")
        report: dict[str, list[str]] = json.loads(report_file.read_text("utf-8"))
        return report


def _environment(folder: str) -> dict[str, str]:
    return {
        "DATA_DIR": folder,
        "DATABASE_URL": f"sqlite:///{folder}/webui.db",
        "WEBUI_SECRET_KEY": "not-a-secret",
        "ENABLE_DB_MIGRATIONS": "false",
        "ENABLE_PLUGINS": "true",
        "ENABLE_FUNCTIONS": "true",
        "ENABLE_TOOLS": "true",
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
    }


async def _faults(job: dict[str, Any]) -> list[str]:
    from open_webui.utils import plugin

    text = job["text"]
    faults = []
    if plugin.replace_imports(text) != text:
        faults.append("Open WebUI would store a changed text")
    try:
        if job["kind"] == Kind.TOOL:
            loaded, frontmatter, _ = await plugin.load_tool_module_by_id(
                job["id"], content=text
            )
            kind = job["kind"]
        else:
            loaded, kind, frontmatter, _ = await plugin.load_function_module_by_id(
                job["id"], content=text
            )
        if valves := getattr(loaded, "Valves", None):
            valves(**job["valves"])
            plugin.resolve_valves_schema_options(valves, valves.model_json_schema())
        elif job["valves"]:
            faults.append("the manifest sets valves, but there is no class Valves")
    except Exception as error:  # noqa: BLE001 - the file may raise anything at all
        return [*faults, f"{type(error).__name__}: {error}"]
    if kind != job["kind"]:
        faults.append(f"it loads as a {kind}, not as a {job['kind']}")
    for key in ("title", "description"):
        if frontmatter.get(key) != job[key]:
            faults.append(f"its {key} reads as {frontmatter.get(key)!r}")
    return faults


def _main(jobs_file: str, report_file: str) -> None:
    jobs = json.loads(Path(jobs_file).read_text(encoding="utf-8"))
    report = {job["id"]: asyncio.run(_faults(job)) for job in jobs}
    Path(report_file).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
