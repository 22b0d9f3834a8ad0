"""Open WebUI's users."""

from typing import Any

from shared.errors import AqueductError

RECENT_KEY = "aqueduct"
RECENT_LIMIT = 8


async def current_person(user_id: str) -> Any:
    """The user as the database has them now; AqueductError when they are gone."""
    from open_webui.models.users import Users

    person = await Users.get_user_by_id(user_id)
    if person is None or person.role not in ("user", "admin"):
        raise AqueductError("user_gone")
    return person


def person_settings(person: Any) -> dict[str, Any]:
    """What the user has set in the interface: the model's `system`, `params` …"""
    return dict(person.settings.ui or {}) if person.settings else {}


def recent_models(person: Any) -> list[str]:
    """Ids of the models this user chose last in a picker of ours, newest first."""
    stored = person.settings.model_dump() if person.settings else {}
    recent = (stored.get(RECENT_KEY) or {}).get("recent_models") or []
    return [str(model_id) for model_id in recent]


async def remember_models(person: Any, chosen: list[str]) -> None:
    """Put the chosen models at the front of the user's recent ones."""
    from open_webui.models.users import Users

    kept = list(dict.fromkeys([*chosen, *recent_models(person)]))[:RECENT_LIMIT]
    await Users.update_user_settings_by_id(
        person.id, {RECENT_KEY: {"recent_models": kept}}
    )
