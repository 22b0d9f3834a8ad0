"""Tags that a model proposes and a user agrees to.

The user is asked in a dialog every time: whatever another model's answer talks the
caller into, nothing is written without them.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from shared.errors import AqueductError
from shared.host.confirmations import confirm
from shared.host.model_tags import TagsChange, change_tags, may_edit_model, own_tags
from shared.host.turns import unbroken
from shared.host.usable_models import UsableModel
from shared.orchestration.caller import Caller
from shared.orchestration.models_found import named_model
from shared.orchestration.tags import (
    CAPABILITY_PREFIX,
    RELATION_PREFIX,
    same_tags,
    tag_word,
)

MARKDOWN_SIGNS = "\\`*_[]<>"


async def add_capability(caller: Caller, name: str, capability: str) -> dict[str, Any]:
    """Give a model the tag `cap:…`."""
    model = await unbroken(editable_model(caller, name))
    return await add_tag(caller, model, CAPABILITY_PREFIX + tag_word(capability))


async def add_relation(
    caller: Caller, name: str, relation: str, target: str
) -> dict[str, Any]:
    """Give a model the tag `rel:…:…`, with the target's id."""
    model = await unbroken(editable_model(caller, name))
    models = await unbroken(caller.models())
    target_id = (await asyncio.to_thread(named_model, models, target)).id
    tag = f"{RELATION_PREFIX}{tag_word(relation)}:{target_id}"
    return await add_tag(caller, model, tag)


async def editable_model(caller: Caller, name: str) -> UsableModel:
    """The model; AqueductError where the user may not edit it, before any dialog."""
    model = await asyncio.to_thread(named_model, await caller.models(), name)
    if not await may_edit_model(caller.person, model.id):
        raise AqueductError("may_not_edit")
    return model


async def add_tag(caller: Caller, model: UsableModel, tag: str) -> dict[str, Any]:
    own = await unbroken(own_tags(model.id))
    if same_tags(own, tag):
        return unchanged(model, own)

    def added(tags: Sequence[str]) -> Sequence[str]:
        return tags if same_tags(tags, tag) else [*tags, tag]

    return await change_with_consent(caller, model, "tag_add", tag, added)


async def drop_tag(caller: Caller, name: str, tag: str) -> dict[str, Any]:
    """Take a tag from a model; nothing changes where it has none like this."""
    model = await unbroken(editable_model(caller, name))
    own = await unbroken(own_tags(model.id))
    found = same_tags(own, tag)
    if not found:
        return unchanged(model, own)

    def remaining(tags: Sequence[str]) -> Sequence[str]:
        return [each for each in tags if each not in same_tags(tags, tag)]

    return await change_with_consent(
        caller, model, "tag_remove", ", ".join(found), remaining
    )


async def change_with_consent(
    caller: Caller, model: UsableModel, code: str, tag: str, change: TagsChange
) -> dict[str, Any]:
    """Ask the user, then save; what they may do is checked once more after that."""
    asker = (await unbroken(caller.models())).get(caller.model_id)
    question = caller.text(
        code,
        asker=plain_markdown(asker.name if asker else caller.model_id),
        model=plain_markdown(model.name),
        # Between backticks, where only backticks mean anything.
        tag=tag.replace("`", "'"),
    )
    await confirm(
        caller.event_call, caller.session_id, caller.text("tag_title"), question
    )
    return await unbroken(save_tags(caller, model, change))


async def save_tags(
    caller: Caller, model: UsableModel, change: TagsChange
) -> dict[str, Any]:
    if not await may_edit_model(caller.person, model.id):
        raise AqueductError("may_not_edit")
    tags = await change_tags(caller.request, caller.person, model.id, change)
    return {"changed": True, "model": model.id, "tags": tags}


def unchanged(model: UsableModel, tags: Sequence[str]) -> dict[str, Any]:
    return {"changed": False, "model": model.id, "tags": list(tags)}


def plain_markdown(text: str) -> str:
    """A name as it is, whatever signs it holds."""
    return "".join(f"\\{char}" if char in MARKDOWN_SIGNS else char for char in text)
