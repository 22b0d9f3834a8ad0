"""Installs, updates, rolls back and removes the functions of the suite.

An update replaces code and nothing else: valves, on or off, global, and a name or
description the administrator changed all stay. What is not Aqueduct's, or was edited by
hand, is replaced only when that is asked for (`force`). Everything is looked at before
anything is written, so a refusal leaves the server as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from packaging.version import Version

from devkit.errors import InstallError
from devkit.installer.client import WebUIClient
from devkit.installer.orchestrator import (
    create_orchestrator,
    is_shared,
    remove_orchestrator,
)
from devkit.installer.steps import Change, State, Step
from devkit.installer.valves import misfits
from devkit.manifest import FunctionEntry, Kind, Manifest, read_manifest

_OBSTACLES = {
    State.EDITED: "was edited by hand; `status` and `install --dry-run` show it, "
    "--force replaces it (the edited text stays in Open WebUI's history).",
    State.FOREIGN: "is the id of a function that does not come from Aqueduct; "
    "--force replaces or removes it.",
}


class Installer:
    """Brings built files and one server together; every method may raise InstallError.

    with Installer.connect(url, key, root) as installer:
        for step in installer.install():
            print(step.entry.id, step.change)
    """

    def __init__(
        self, client: WebUIClient, manifest: Manifest, texts: dict[str, str]
    ) -> None:
        """`texts` are the built files by function id."""
        self._client = client
        self._manifest = manifest
        self._texts = texts

    @classmethod
    def connect(cls, url: str, key: str, root: Path) -> Self:
        """An installer for the files in dist/ of the project at `root`."""
        manifest = read_manifest(root)
        texts = {entry.id: _read_dist(root, entry) for entry in manifest.functions}
        return cls(WebUIClient(url, key), manifest, texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def check_server(self) -> str | None:
        """Refuses a server that is too old; gives a sentence if it is newer than what
        the suite was tested with."""
        version = self._client.version()
        least = self._manifest.min_open_webui_version
        tested = self._manifest.tested_open_webui_version
        if Version(version) < Version(least):
            raise InstallError(f"Open WebUI is {version}; this needs {least} or newer.")
        if Version(version) > Version(tested):
            return f"Open WebUI is {version}; the suite was tested with {tested}."
        return None

    def status(self, ids: list[str] | None = None) -> list[Step]:
        """The functions with these ids, or all of the suite, as the server has them."""
        entries = self._manifest.select(ids)
        known = {kind: self._client.ids(kind) for kind in {e.kind for e in entries}}
        return [
            Step(
                entry,
                self._texts[entry.id],
                (
                    self._client.get(entry.kind, entry.id)
                    if entry.id in known[entry.kind]
                    else None
                ),
            )
            for entry in entries
        ]

    def plan(self, ids: list[str] | None = None, *, force: bool = False) -> list[Step]:
        """What installing these functions would do; `force` also replaces hand edits
        and functions of others. The error names everything that stands in the way."""
        self.check_server()
        steps = [_planned(step) for step in self.status(ids)]
        obstacles = [o for step in steps for o in self._obstacles(step, force)]
        if obstacles:
            raise InstallError("\n".join(obstacles))
        return steps

    def plan_rollback(self, ids: list[str] | None = None) -> list[Step]:
        """The way back to the version before, for what is installed of these; one that
        has none stays as it is."""
        self.check_server()
        steps = [self._back(step) for step in self.status(ids) if step.stored]
        if steps and all(step.change is Change.NOTHING for step in steps):
            names = ", ".join(step.entry.id for step in steps)
            raise InstallError(f"There is no earlier version of {names}.")
        return steps

    def plan_removal(
        self, ids: list[str] | None = None, *, force: bool = False
    ) -> list[Step]:
        """Removing what is installed of these; their valves and history go too."""
        self.check_server()
        steps = [step for step in self.status(ids) if step.stored]
        for step in steps:
            if step.state is State.FOREIGN and not force:
                raise InstallError(f"{step.entry.id} {_OBSTACLES[step.state]}")
        return [replace(step, change=Change.REMOVE) for step in steps]

    def apply(self, steps: Sequence[Step]) -> Iterator[Step]:
        """Does what was planned; yields each step once it is done."""
        for step in steps:
            kind, id_ = step.entry.kind, step.entry.id
            if step.change is Change.INSTALL:
                self._install(step)
            elif step.change is Change.UPDATE:
                self._client.update(kind, step.form())
            elif step.change is Change.ROLLBACK:
                self._client.set_version(kind, id_, step.version_id)
            elif step.change is Change.REMOVE:
                self._client.delete(kind, id_)
            yield step

    def install(
        self, ids: list[str] | None = None, *, force: bool = False
    ) -> list[Step]:
        """Plans and applies in one go; gives what was done."""
        return list(self.apply(self.plan(ids, force=force)))

    def add_orchestrator(self, base_model: str) -> bool:
        """Makes the workspace model "Orchestrator" on top of a base model, once; False
        if it is there already, and stays as it is."""
        return create_orchestrator(self._client, base_model)

    def is_shared(self, model: str) -> bool:
        """Whether anybody but admins may use a model."""
        return is_shared(self._client, model)

    def remove_orchestrator(self) -> bool | None:
        """Removes that model; False if it stays because somebody changed it, None if
        there is none."""
        return remove_orchestrator(self._client)

    def _obstacles(self, step: Step, force: bool) -> Iterator[str]:
        entry = step.entry
        if step.state in _OBSTACLES and not force:
            yield f"{entry.id} {_OBSTACLES[step.state]}"
        if step.change is Change.UPDATE:
            stored = self._client.valves(entry.kind, entry.id)
            for misfit in misfits(entry, step.text, stored):
                yield f"{entry.id}: a stored valve no longer fits: {misfit}"
        elif step.change is Change.INSTALL:
            for misfit in misfits(entry, step.text, entry.valves):
                yield f"{entry.id}: a valve of the manifest does not fit: {misfit}"

    def _install(self, step: Step) -> None:
        """Switched on last, with its valves set; a half-made one would look like an
        installed one to the next run, so it goes."""
        entry = step.entry
        self._client.create(entry.kind, step.form())
        try:
            if entry.valves:
                self._client.set_valves(entry.kind, entry.id, entry.valves)
            if entry.kind is not Kind.TOOL:
                self._client.switch(
                    entry.id, active=entry.active, global_=entry.global_
                )
        except InstallError:
            self._client.delete(entry.kind, entry.id)
            raise

    def _back(self, step: Step) -> Step:
        entry, stored = step.entry, step.stored
        assert stored is not None
        if not stored.version_id:
            return step
        entries = partial(self._client.history_entry, entry.kind, entry.id)
        before = entries(stored.version_id)["parent_id"]
        if not before:
            return step
        content = entries(before)["snapshot"]["content"]
        return replace(step, text=content, change=Change.ROLLBACK, version_id=before)


def _planned(step: Step) -> Step:
    if step.stored is None:
        return replace(step, change=Change.INSTALL)
    form = step.form()
    same = (
        step.stored.content == form["content"]
        and step.stored.name == form["name"]
        and step.stored.meta == form["meta"]
    )
    return step if same else replace(step, change=Change.UPDATE)


def _read_dist(root: Path, entry: FunctionEntry) -> str:
    try:
        return (root / entry.dist).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InstallError(
            f"{entry.dist} does not exist; run `devkit build` first."
        ) from error
