"""The model of manifest.json: what the suite consists of.

The manifest is written by hand and is the one place that holds the version of the
suite and the Open WebUI versions it needs and was tested with. The JSON schema beside
it (manifest.schema.json) is generated from this model by `python -m devkit schema`.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from devkit.errors import ManifestError

MANIFEST_NAME = "manifest.json"
SCHEMA_NAME = "manifest.schema.json"


class Kind(StrEnum):
    """What Open WebUI takes a file for."""

    PIPE = "pipe"
    FILTER = "filter"
    ACTION = "action"
    EVENT = "event"
    TOOL = "tool"

    @property
    def entry_class(self) -> str:
        """The class Open WebUI's loader looks for (open_webui/utils/plugin.py)."""
        return "Tools" if self is Kind.TOOL else self.value.capitalize()


def _frontmatter_value(value: str) -> str:
    """Open WebUI reads the frontmatter line by line, up to the first triple quote."""
    if value != value.strip() or not value.isprintable():
        raise ValueError("must be a single line without spaces around it")
    if '"""' in value or "\\" in value:
        raise ValueError("must hold neither a triple quote nor a backslash")
    return value


def _version(value: str) -> str:
    try:
        Version(value)
    except InvalidVersion as error:
        raise ValueError("is not a version number such as 1.2.3") from error
    return value


Line = Annotated[str, Field(min_length=1), AfterValidator(_frontmatter_value)]
VersionNumber = Annotated[str, AfterValidator(_version)]


class FunctionEntry(BaseModel):
    """One function of the suite. `valves`, `active` and `global` are the state it gets
    when it is installed for the first time; an update never touches them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$", description="The id inside Open WebUI."
    )
    kind: Kind
    name: Line = Field(description="The title shown in Open WebUI.")
    source: str = Field(pattern=r"^[a-z0-9_/]+\.py$", description="What is built.")
    dist: str = Field(description="The built file: dist/<id>.py.")
    description: Line
    icon: Line | None = Field(None, description="A data: or https: URL of an image.")
    i18n: dict[str, dict[str, str]] = Field(
        {},
        description="Translations by language: `name`, `description` and, for the "
        "buttons of an action, `actions.<button>.name`.",
    )
    valves: dict[str, JsonValue] = Field({}, description="Valves at first install.")
    active: bool = Field(True, description="Switched on at first install.")
    global_: bool = Field(
        False, alias="global", description="For every model at first install."
    )

    @model_validator(mode="after")
    def _consistent(self) -> FunctionEntry:
        if self.dist != f"dist/{self.id}.py":
            raise ValueError(f'"dist" must be "dist/{self.id}.py"')
        if self.icon and not self.icon.startswith(("data:image/", "https://")):
            raise ValueError('"icon" must start with data:image/ or https://')
        if self.global_ and self.kind not in (Kind.FILTER, Kind.ACTION):
            raise ValueError('"global" exists for filters and actions only')
        if not self.active and self.kind is Kind.TOOL:
            raise ValueError('"active" does not exist for tools')
        return self


class Manifest(BaseModel):
    """manifest.json. The versions hold for every function of the suite."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: str | None = Field(None, alias="$schema")
    version: VersionNumber = Field(description="The version of every function.")
    min_open_webui_version: VersionNumber
    tested_open_webui_version: VersionNumber
    functions: tuple[FunctionEntry, ...]

    @model_validator(mode="after")
    def _unique_ids(self) -> Manifest:
        ids = [entry.id for entry in self.functions]
        if doubled := sorted({id_ for id_ in ids if ids.count(id_) > 1}):
            raise ValueError(f"the id {doubled[0]!r} is listed twice")
        return self

    def select(self, ids: list[str] | None = None) -> list[FunctionEntry]:
        """The entries with these ids in manifest order, or all without ids.

        Raises ManifestError for an id the manifest does not list.
        """
        known = {entry.id for entry in self.functions}
        if unknown := sorted(set(ids or ()) - known):
            raise ManifestError(
                f"{MANIFEST_NAME} has no function {unknown[0]!r}; it lists "
                f"{', '.join(sorted(known)) or 'none'}."
            )
        return [entry for entry in self.functions if not ids or entry.id in ids]


def read_manifest(root: Path) -> Manifest:
    """The validated manifest of the project at `root`; raises ManifestError."""
    path = root / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ManifestError(f"{path} does not exist.") from error
    except ValidationError as error:
        raise ManifestError(_sentence(error)) from error


def schema_text() -> str:
    """The JSON schema of manifest.json, as it is published beside it."""
    schema: dict[str, Any] = Manifest.model_json_schema(by_alias=True)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _sentence(error: ValidationError) -> str:
    faults = [
        f"{'.'.join(map(str, fault['loc'])) or 'the document'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)
    ]
    return f"{MANIFEST_NAME} is not valid: {'; '.join(faults)}."
