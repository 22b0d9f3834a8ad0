"""The models a user may use, by Open WebUI's own rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class UsableModel:
    """A model of the server as one user sees it."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    meta: Mapping[str, Any]


async def usable_models(request: Any, person: Any) -> dict[str, UsableModel]:
    """All models this user may use, by id; hidden ones too, as they can be called."""
    from open_webui.utils.models import get_all_models

    state = request.app.state
    if not state.MODELS:
        await get_all_models(request, user=person)
    return await allowed_models(list(dict(state.MODELS.items()).values()), person)


async def usable_model(request: Any, person: Any, model_id: str) -> UsableModel | None:
    """One model, or None where it is gone or not for this user."""
    found = request.app.state.MODELS.get(model_id)
    return (await allowed_models([found], person)).get(model_id) if found else None


def direct_model(request: Any) -> UsableModel | None:
    """The model of a direct connection, whose answer an action was called for.

    Such a model is known to the user's browser only; the server cannot call it.
    """
    if not getattr(request.state, "direct", False):
        return None
    return describe_model(request.state.model)


async def allowed_models(
    models: list[dict[str, Any]], person: Any
) -> dict[str, UsableModel]:
    from open_webui.utils.models import get_filtered_models

    return {
        model["id"]: describe_model(model)
        for model in await get_filtered_models(models, person)
        if (model.get("pipeline") or {}).get("type") != "filter"
    }


def describe_model(model: Mapping[str, Any]) -> UsableModel:
    """A model of Open WebUI's list in our words; its tags come in two forms."""
    meta = (model.get("info") or {}).get("meta") or {}
    tags = [*(meta.get("tags") or []), *(model.get("tags") or [])]
    names = (tag.get("name") if isinstance(tag, dict) else tag for tag in tags)
    return UsableModel(
        id=str(model["id"]),
        name=str(model.get("name") or model["id"]),
        description=str(meta.get("description") or ""),
        tags=tuple(dict.fromkeys(str(name) for name in names if name)),
        meta=meta,
    )
