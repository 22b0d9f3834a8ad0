"""The part of Open WebUI's REST API that an installer needs.

Routes and answers as in Open WebUI 0.12.4: open_webui/routers/functions.py and tools.py,
which are alike but for switching on and off. `/functions/sync` is left out on purpose:
it deletes every function it is not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from devkit.errors import InstallError
from devkit.manifest import Kind

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Stored:
    """A function or tool as Open WebUI holds it; tools are always active, never global."""

    id: str
    name: str
    content: str
    meta: dict[str, Any]
    version_id: str | None
    is_active: bool
    is_global: bool

    @property
    def frontmatter(self) -> Mapping[str, str]:
        """What the server read from the head of the content."""
        return self.meta.get("manifest") or {}


class WebUIClient:
    """A session with one server. Every method raises InstallError with one sentence:
    what the server said, or that it cannot be reached."""

    def __init__(
        self, url: str, key: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        """`key` is an API key or a login token of an administrator."""
        self.url = url.rstrip("/")
        key = key.strip()
        if not key.isascii() or not key.isprintable():
            # httpx would refuse too, with the key in its words.
            raise InstallError(
                "The key contains characters that no API key has; was it copied whole?"
            )
        try:
            host = httpx.URL(self.url).host
        except httpx.InvalidURL as error:
            raise InstallError(
                f"{url!r} is not a valid address: {_clause(error)}."
            ) from error
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=120,  # a function file may be slow to load
            transport=transport,
            # A proxy of the shell is not for a server on this machine.
            trust_env=host not in _LOOPBACK,
        )

    def close(self) -> None:
        self._http.close()

    def version(self) -> str:
        """The version of Open WebUI."""
        return str(self._get("/api/version")["version"])

    def ids(self, kind: Kind) -> set[str]:
        """The ids of all tools, or of all functions if `kind` is not a tool."""
        return {item["id"] for item in self._get(f"{_base(kind)}/list")}

    def get(self, kind: Kind, id_: str) -> Stored:
        """One function or tool with its content."""
        found = self._get(f"{_base(kind)}/id/{id_}")
        return Stored(
            id=found["id"],
            name=found["name"],
            content=found["content"],
            meta=found["meta"] or {},
            version_id=found.get("version_id"),
            is_active=found.get("is_active", True),
            is_global=found.get("is_global", False),
        )

    def create(self, kind: Kind, form: Mapping[str, Any]) -> None:
        """Adds a function, switched off; the form is {id, name, content, meta,
        commit_message}."""
        self._post(f"{_base(kind)}/create", form)

    def update(self, kind: Kind, form: Mapping[str, Any]) -> None:
        """Replaces name, content and meta; valves and switches stay. The server refuses
        if the stored valves do not fit the new content."""
        self._post(f"{_base(kind)}/id/{form['id']}/update", form)

    def delete(self, kind: Kind, id_: str) -> None:
        """Removes it with its valves and history."""
        self._request("DELETE", f"{_base(kind)}/id/{id_}/delete")

    def valves(self, kind: Kind, id_: str) -> dict[str, Any]:
        """The stored valves: only those somebody has set."""
        return self._get(f"{_base(kind)}/id/{id_}/valves") or {}

    def set_valves(self, kind: Kind, id_: str, valves: Mapping[str, Any]) -> None:
        """Replaces the stored valves."""
        self._post(f"{_base(kind)}/id/{id_}/valves/update", valves)

    def switch(self, id_: str, *, active: bool, global_: bool) -> None:
        """Switches a function. The server only knows how to flip, so it is read first;
        global before active, so that it is never on for the wrong models."""
        stored = self.get(Kind.PIPE, id_)
        path = f"{_base(Kind.PIPE)}/id/{id_}/toggle"
        if stored.is_global != global_:
            self._post(f"{path}/global", {})
        if stored.is_active != active:
            self._post(path, {})

    def history_entry(self, kind: Kind, id_: str, version_id: str) -> dict[str, Any]:
        """A saved version: {id, parent_id, snapshot: {name, content, meta}, ...}."""
        return dict(self._get(f"{_base(kind)}/id/{id_}/history/{version_id}"))

    def set_version(self, kind: Kind, id_: str, version_id: str) -> None:
        """Makes a saved version the one in use; valves and switches stay."""
        path = f"{_base(kind)}/id/{id_}/update/version"
        self._post(path, {"version_id": version_id})

    def usable_model_ids(self) -> set[str]:
        """The ids of all models that this admin may choose in a chat."""
        return {model["id"] for model in self._get("/api/models")["data"]}

    def workspace_model(self, id_: str) -> dict[str, Any] | None:
        """A model under Workspace > Models, or None."""
        found = self._get("/api/v1/models/all")
        return next((model for model in found if model["id"] == id_), None)

    def create_workspace_model(self, form: Mapping[str, Any]) -> None:
        """Adds a model; the form is {id, base_model_id, name, meta, params,
        access_grants}."""
        self._post("/api/v1/models/create", form)

    def delete_workspace_model(self, id_: str) -> None:
        self._post("/api/v1/models/model/delete", {"id": id_})

    def tool_grants(self, id_: str) -> list[dict[str, Any]]:
        """Who may use a tool: [{principal_type, principal_id, permission}]."""
        return list(self._get(f"/api/v1/tools/id/{id_}").get("access_grants") or [])

    def set_tool_grants(self, id_: str, grants: Sequence[Mapping[str, Any]]) -> None:
        """Replaces who may use a tool."""
        path = f"/api/v1/tools/id/{id_}/access/update"
        self._post(path, {"access_grants": [dict(grant) for grant in grants]})

    def _get(self, path: str) -> Any:
        return self._request("GET", path)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._request("POST", path, body)

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise InstallError(
                f"{self.url} cannot be reached: {_clause(error)}."
            ) from error
        try:
            answer = response.json()
        except ValueError as error:
            raise InstallError(
                f"{self.url} does not answer as Open WebUI would: {method} {path} "
                f"returned status {response.status_code} without JSON."
            ) from error
        if response.is_error:
            raise InstallError(_refusal(response.status_code, answer))
        return answer


def _clause(error: Exception) -> str:
    """The words of an error, to stand inside a sentence."""
    return str(error).rstrip(". ") or type(error).__name__


def _refusal(status: int, answer: Any) -> str:
    detail = str(answer.get("detail") if isinstance(answer, dict) else answer)
    if status in (401, 403):
        return f"Open WebUI does not accept this key as an admin's ({status}): {detail}"
    # Open WebUI keeps the cause of some errors to itself.
    hint = " Its log has the cause." if "[ERROR:" in detail else ""
    return f"Open WebUI says ({status}): {detail}{hint}"


def _base(kind: Kind) -> str:
    return "/api/v1/tools" if kind is Kind.TOOL else "/api/v1/functions"
