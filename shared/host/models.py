"""Open WebUI's entries for models: who may use them, and what is said of them."""

PUBLIC_READ = {"principal_type": "user", "principal_id": "*", "permission": "read"}


async def publish_model(model_id: str, name: str, description: str) -> None:
    """Let every user see and use a model of a pipe.

    A model without an entry is for admins only. An entry that exists is the
    admin's own and stays as it is.
    """
    from open_webui.models.models import ModelForm, ModelMeta, ModelParams, Models
    from open_webui.models.users import Users

    if await Models.get_model_by_id(model_id) is not None:
        return
    owner = await Users.get_super_admin_user()
    if owner is None:
        return
    form = ModelForm(
        id=model_id,
        base_model_id=None,
        name=name,
        meta=ModelMeta(description=description or None),
        params=ModelParams(),
        access_grants=[PUBLIC_READ],
    )
    await Models.insert_new_model(form, owner.id)
