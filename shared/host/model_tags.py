"""Writing the tags of a model, with the rights of who asks for it."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
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
    return tag_names(entry.meta.model_dump()) if entry else []


def tag_names(meta: Mapping[str, Any]) -> list[str]:
    return [str(tag["name"]) for tag in meta.get("tags") or []]


async def change_tags(
    request: Any, person: Any, model_id: str, change: TagsChange
) -> list[str]:
    """Change the tags in the model's entry and nothing else of it; the new tags.

    The list of models is read anew, so that the next question sees them.
    """
    from open_webui.events import EVENTS, publish_event
    from open_webui.models.models import Models
    from open_webui.utils.models import get_all_models

    if await Models.get_model_by_id(model_id) is None:
        await add_entry(request, person, model_id)
    name, tags = await write_tags(person, model_id, change)
    await publish_event(
        request,
        EVENTS.MODEL_UPDATED,
        actor=person,
        subject_id=model_id,
        data={"name": name},
    )
    await get_all_models(request, user=person)
    return tags


async def write_tags(
    person: Any, model_id: str, change: TagsChange
) -> tuple[str, list[str]]:
    """Change the tags of an entry as it is now; its name and the new tags.

    Nobody else writes it in between, which Open WebUI's own update, with a transaction
    of its own, could not promise. AqueductError `tags_not_saved` where it is gone.
    """
    from fastapi import HTTPException
    from open_webui.internal.db import get_async_db
    from open_webui.models.models import Model, ModelForm, ModelMeta, Models
    from sqlalchemy import text

    async with get_async_db() as session:
        if session.bind.dialect.name == "sqlite":
            # SQLite knows no lock on a row.
            await session.execute(text("BEGIN IMMEDIATE"))
        stored = await session.get(Model, model_id, with_for_update=True)
        if stored is None:
            raise AqueductError("tags_not_saved")
        meta = ModelMeta(**deepcopy(stored.meta or {})).model_dump()
        tags = list(change(tag_names(meta)))
        form = ModelForm(
            id=model_id,
            name=stored.name,
            base_model_id=stored.base_model_id,
            meta=ModelMeta(**meta | {"tags": [{"name": tag} for tag in tags]}),
            params=stored.params or {},
        )
        try:
            # Open WebUI's own way to write an entry together with its history.
            await Models._write_model(session, form, person.id, stored)
        except HTTPException as error:
            raise AqueductError("tags_not_saved") from error
        await session.commit()
    return str(form.name), tags


async def add_entry(request: Any, person: Any, model_id: str) -> None:
    """An entry for a model that a provider lists; it stays for admins only."""
    from open_webui.models.models import ModelForm, ModelMeta, ModelParams, Models

    name = str(request.app.state.MODELS[model_id].get("name") or model_id)
    form = ModelForm(id=model_id, name=name, meta=ModelMeta(), params=ModelParams())
    await Models.insert_new_model(form, person.id)
