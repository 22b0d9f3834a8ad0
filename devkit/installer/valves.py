"""Whether stored valves still fit, asked before anything is sent."""

from __future__ import annotations

import sys
import types
import uuid
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from devkit.manifest import FunctionEntry


def misfits(entry: FunctionEntry, text: str, stored: Mapping[str, Any]) -> list[str]:
    """`valve: what is wrong` for the stored valves that the built `text` would refuse.

    The rule is Open WebUI's (open_webui/utils/valves.py): unknown valves are ignored,
    and valves that have no value yet may be filled in later. If the text needs a library
    that is not installed here, the answer is left to the server.
    """
    try:
        valves = _valves_class(entry, text)
    except ImportError:
        return []
    if valves is None:
        return []
    try:
        valves(**{key: value for key, value in stored.items() if value is not None})
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        if all(fault["type"] == "missing" for fault in faults):
            return []
        return [f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults]
    return []


def _valves_class(entry: FunctionEntry, text: str) -> type[BaseModel] | None:
    name = f"aqueduct_{entry.id}_{uuid.uuid4().hex}"
    module = types.ModuleType(name)
    # Dataclasses and pydantic look their module up to resolve annotations.
    sys.modules[name] = module
    try:
        exec(compile(text, entry.dist, "exec"), module.__dict__)
    finally:
        del sys.modules[name]
    entry_class = getattr(module, entry.kind.entry_class)
    valves: type[BaseModel] | None = getattr(entry_class, "Valves", None)
    return valves
