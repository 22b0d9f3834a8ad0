"""Writing the tags of a model, with the rights of who asks for it."""

from collections.abc import Callable, Sequence
from typing import Any

from shared.errors import AqueductError

TagsChange = Callable[[Sequence[str]], Sequence[str]]


async def may_edit_model(person: Any, model_id: str) -> bool:
    """Whether Open WebUI lets this user edit the model (routers/models.py).

    A model without an entry of its own, as a provider lists it, is for admins.
    """
    from open_webui.models.access_grants import AccessGrants
    from open_webui.models.models import Models

    if person.role == "admin":
        return True
    entry = await Models.get_model_by_id(model_id)
    if entry is None:
        return False
    return entry.user_id == person.id or await AccessGrants.has_access(
        user_id=person.id,
        resource_type="model",
        resource_id=model_id,
        permission="write",
    )


async def own_tags(model_id: str) -> list[str]:
    """The tags in the model's entry: those that can be changed."""
    from open_webui.models.models import Models

    entry = await Models.get_model_by_id(model_id)
    return entry_tags(entry) if entry else []


def entry_tags(entry: Any) -> list[str]:
    tags = entry.meta.model_dump().get("tags") or []
    return [str(tag["name"]) for tag in tags]


async def change_tags(
    request: Any, person: Any, model_id: str, change: TagsChange
) -> list[str]:
    """Change the tags in the model's entry and nothing else of it; the new tags.

    The list of models is read anew, so that the next question sees them.
    AqueductError `tags_not_saved` where somebody saved the model at the same moment.
    """
    from fastapi import HTTPException
    from open_webui.events import EVENTS, publish_event
    from open_webui.models.models import ModelForm, ModelMeta, Models
    from open_webui.utils.models import get_all_models

    entry = await Models.get_model_by_id(model_id)
    if entry is None:
        await add_entry(request, person, model_id)
        entry = await Models.get_model_by_id(model_id)
    tags = list(change(entry_tags(entry)))
    meta = {**entry.meta.model_dump(), "tags": [{"name": tag} for tag in tags]}
    # Without `is_active`, which somebody may be switching.
    kept = entry.model_dump(exclude={"is_active", "access_grants", "meta"})
    form = ModelForm(**kept, meta=ModelMeta(**meta))
    try:
        await Models.update_model_by_id(model_id, form, user_id=person.id)
    except HTTPException as error:
        raise AqueductError("tags_not_saved") from error
    await publish_event(
        request,
        EVENTS.MODEL_UPDATED,
        actor=person,
        subject_id=model_id,
        data={"name": entry.name},
    )
    await get_all_models(request, user=person)
    return tags


async def add_entry(request: Any, person: Any, model_id: str) -> None:
    """An entry for a model that a provider lists; it stays for admins only."""
    from open_webui.models.models import ModelForm, ModelMeta, ModelParams, Models

    name = str(request.app.state.MODELS[model_id].get("name") or model_id)
    form = ModelForm(id=model_id, name=name, meta=ModelMeta(), params=ModelParams())
    await Models.insert_new_model(form, person.id)
