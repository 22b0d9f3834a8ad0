"""Open WebUI's users."""

from collections.abc import Mapping
from typing import Any


def user_model(user: Mapping[str, Any]) -> Any:
    """Open WebUI's own object for the `__user__` that a function is given."""
    from open_webui.models.users import UserModel

    return UserModel(**{key: user[key] for key in user if key != "valves"})
