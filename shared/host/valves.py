"""What an admin and users have set for a function of ours."""

from typing import Any


async def function_valves(function_id: str) -> dict[str, Any]:
    """The valves an admin has set; empty where the function is not installed."""
    from open_webui.models.functions import Functions

    return await Functions.get_function_valves_by_id(function_id) or {}


async def user_function_valves(function_id: str, user_id: str) -> dict[str, Any]:
    """The valves this user has set."""
    from open_webui.models.functions import Functions

    found = await Functions.get_user_valves_by_id_and_user_id(function_id, user_id)
    return found or {}


async def function_is_active(function_id: str) -> bool:
    from open_webui.models.functions import Functions

    function = await Functions.get_function_by_id(function_id)
    return function is not None and bool(function.is_active)


async def user_named(user_id: str) -> tuple[str, Any]:
    """A user's name and Open WebUI's model of them; ("", None) where they are gone."""
    from open_webui.models.users import Users

    user = await Users.get_user_by_id(user_id)
    return (user.name, user) if user is not None else ("", None)
