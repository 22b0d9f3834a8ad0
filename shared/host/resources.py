"""What lives as long as the server: one key on Open WebUI's `app.state`.

A function's module is thrown away when its text changes, and the old object is not
told. What is kept here is therefore made of library types only (clients, dicts), so
that a new module finds it and goes on using it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

STATE_KEY = "aqueduct"

Resource = TypeVar("Resource")


def shared_resource(name: str, make: Callable[[], Resource]) -> Resource:
    """The server-wide object of this name, made on first use.

    Call it in the event loop only: there, nothing runs between look-up and store.
    """
    from open_webui.main import app

    kept: dict[str, Any] | None = getattr(app.state, STATE_KEY, None)
    if kept is None:
        kept = {}
        setattr(app.state, STATE_KEY, kept)
    if name not in kept:
        kept[name] = make()
    return kept[name]
