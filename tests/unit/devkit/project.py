"""A project small enough to read in a test."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devkit.bundle.layout import BuiltFile
from devkit.bundle.suite import build
from devkit.manifest import Manifest

SOURCE = "functions/sample.py"


@dataclass
class Project:
    """A project folder that holds shared modules and one function file."""

    root: Path

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(textwrap.dedent(text).lstrip("\n").encode())

    def manifest(self, **changes: Any) -> Manifest:
        entry = {
            "id": "sample",
            "kind": "pipe",
            "name": "Sample",
            "source": SOURCE,
            "dist": "dist/sample.py",
            "description": "Says hello.",
        }
        return Manifest.model_validate(
            {
                "version": "1.2.3",
                "min_open_webui_version": "0.12.0",
                "tested_open_webui_version": "0.12.4",
                "functions": [entry | changes],
            }
        )

    def build(self, **changes: Any) -> BuiltFile:
        manifest = self.manifest(**changes)
        return build(self.root, manifest, manifest.functions[0])
