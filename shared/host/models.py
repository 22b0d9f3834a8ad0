"""Open WebUI's entries for models: who may use them, and what is said of them."""

from typing import Any

PUBLIC_READ = {"principal_type": "user", "principal_id": "*", "permission": "read"}
MARK = "aqueduct"


async def publish_model(model_id: str, name: str, description: str) -> None:
    """Let every user see and use a model of a pipe.

    A model without an entry is for admins only. An entry keeps what an admin changed
    in it: it is renamed and described anew only while it says what we wrote.
    """
    from open_webui.models.models import ModelForm, Models
    from open_webui.models.users import Users
    from sqlalchemy.exc import IntegrityError

    said = {"name": name, "description": description}
    known = await Models.get_model_by_id(model_id)
    if known is not None:
        if said_before(known) not in (None, said):
            form = ModelForm(**known.model_dump())
            form.name = name
            form.meta = described(form.meta, said)
            await Models.update_model_by_id(model_id, form)
        return
    owner = await Users.get_super_admin_user()
    if owner is None:
        return
    form = ModelForm(
        id=model_id,
        base_model_id=None,
        name=name,
        meta=described(None, said),
        params={},
        access_grants=[PUBLIC_READ],
    )
    try:
        await Models.insert_new_model(form, owner.id)
    except IntegrityError:
        return  # another worker was faster


def said_before(entry: Any) -> dict[str, Any] | None:
    """What we wrote into an entry, or None where it is not ours as it stands."""
    meta = entry.meta.model_dump() if entry.meta else {}
    ours = meta.get(MARK)
    if not isinstance(ours, dict) or ours.get("name") != entry.name:
        return None
    if (ours.get("description") or None) != meta.get("description"):
        return None
    return ours


def described(meta: Any, said: dict[str, Any]) -> Any:
    """A model's meta with our description, and a mark of what we wrote."""
    from open_webui.models.models import ModelMeta

    kept = meta.model_dump() if meta is not None else {}
    ours = {"description": said["description"] or None, MARK: said}
    return ModelMeta(**{**kept, **ours})
