"""The little of Open WebUI's REST API that `make up` and the tests speak.

Installing functions is the installer's; this is people, valves and models.
Routes as in Open WebUI 0.12.4, `open_webui/routers/{auths,functions}.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from devkit.errors import DevkitError


class WebUIError(DevkitError):
    """Open WebUI answered with an error; the message names request and answer."""


@dataclass(frozen=True)
class Account:
    """A person in Open WebUI, signed in."""

    id: str
    name: str
    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)

    def client(self, url: str) -> httpx.Client:
        """Return a client of the server at `url` which acts as this person."""
        return httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
            # The server is on this machine; a proxy of the shell is not for it.
            trust_env=False,
        )


def sign_in(url: str, email: str, password: str) -> Account:
    """Sign in; raises WebUIError when the server refuses."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        found = _json(
            client.post(
                "/api/v1/auths/signin", json={"email": email, "password": password}
            )
        )
    return Account(found["id"], found["name"], email, password, found["token"])


def create_user(
    admin: httpx.Client, name: str, *, email: str, password: str, role: str = "user"
) -> Account:
    """Add a person, signed in; raises WebUIError when the address is taken."""
    form = {"name": name, "email": email, "password": password, "role": role}
    found = _json(admin.post("/api/v1/auths/add", json=form))
    return Account(found["id"], name, email, password, found["token"])


def valves(admin: httpx.Client, function_id: str) -> dict[str, Any]:
    """Return the stored valves of a function: only those somebody has set."""
    return _json(admin.get(f"/api/v1/functions/id/{function_id}/valves")) or {}


def set_valves(admin: httpx.Client, function_id: str, **changed: Any) -> None:
    """Set some valves of a function and leave its others as they are."""
    # The route replaces all that is stored, hence the old ones go along.
    _json(
        admin.post(
            f"/api/v1/functions/id/{function_id}/valves/update",
            json=valves(admin, function_id) | changed,
        )
    )


def model_ids(client: httpx.Client) -> list[str]:
    """Return the ids of the models this person may use."""
    return [model["id"] for model in _json(client.get("/api/models"))["data"]]


def _json(response: httpx.Response) -> Any:
    if response.is_success:
        return response.json()
    request = response.request
    raise WebUIError(
        f"Open WebUI answered {request.method} {request.url.path} with "
        f"{response.status_code}: {response.text[:500]}"
    )
