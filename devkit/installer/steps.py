"""One function, the server's state of it, and what is to be done about the two."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from devkit.bundle.layout import content_hash, stated_hash
from devkit.installer.client import Stored
from devkit.manifest import FunctionEntry

_VERSION_LINE = re.compile(r"^version: (.+)$", re.MULTILINE)


class Change(StrEnum):
    """What is done with a function."""

    INSTALL = "install"
    UPDATE = "update"
    NOTHING = "nothing"
    ROLLBACK = "roll back"
    REMOVE = "remove"


class State(StrEnum):
    """How what is installed relates to what is built."""

    MISSING = "not installed"
    CURRENT = "current"
    DIFFERENT = "another build"
    EDITED = "edited by hand"
    FOREIGN = "not Aqueduct's"


@dataclass(frozen=True)
class Step:
    """A function, the text it is to have, and what the server holds. `version_id` is
    the saved version that a rollback goes to."""

    entry: FunctionEntry
    text: str
    stored: Stored | None
    change: Change = Change.NOTHING
    version_id: str = ""

    @property
    def state(self) -> State:
        """Hand edits show by the hash that every built text carries in its notice."""
        if self.stored is None:
            return State.MISSING
        content = self.stored.content
        stated = stated_hash(content)
        if stated is None:
            return State.FOREIGN
        if stated != content_hash(content):
            return State.EDITED
        return State.CURRENT if content == self.text else State.DIFFERENT

    @property
    def installed_version(self) -> str:
        return version_of(self.stored.content) if self.stored else ""

    @property
    def target_version(self) -> str:
        return "" if self.change is Change.REMOVE else version_of(self.text)

    def diff(self) -> str:
        """A unified diff from the installed text to the new one; empty if equal."""
        old = self.stored.content if self.stored else ""
        lines = difflib.unified_diff(
            old.splitlines(keepends=True),
            self.text.splitlines(keepends=True),
            f"installed/{self.entry.id}.py",
            self.entry.dist,
        )
        return "".join(lines)

    def form(self) -> dict[str, Any]:
        """What /create and /update take. A name or description that the administrator
        changed stays: it differs from what the installed text says of itself."""
        name, description = self.entry.name, self.entry.description
        meta: dict[str, Any] = {}
        if self.stored:
            meta = self.stored.meta
            if self.stored.name != self.stored.frontmatter.get("title"):
                name = self.stored.name
            if meta.get("description") != self.stored.frontmatter.get("description"):
                description = meta.get("description") or ""
        return {
            "id": self.entry.id,
            "name": name,
            "content": self.text,
            "meta": meta | {"description": description} | self._translations(meta),
            "commit_message": f"Aqueduct {version_of(self.text)}",
        }

    def _translations(self, meta: dict[str, Any]) -> dict[str, Any]:
        """Open WebUI's `i18n`; what an administrator translated goes before ours."""
        own = meta.get("i18n") or {}
        languages = dict.fromkeys([*self.entry.i18n, *own])
        merged = {
            language: self.entry.i18n.get(language, {}) | own.get(language, {})
            for language in languages
        }
        return {"i18n": merged} if merged else {}


def version_of(text: str) -> str:
    """The version a function's text gives in its frontmatter."""
    found = _VERSION_LINE.search(text)
    return found[1].strip() if found else "?"
