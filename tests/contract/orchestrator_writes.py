"""Tags and limits among changes at the same moment, on Open WebUI's real database.

Run by test_orchestrator_writes.py in a process of its own, as importing Open WebUI
opens its database: `python -m tests.contract.orchestrator_writes`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from shared.host.model_tags import write_tags

MANY = 12


async def new_model(person: Any) -> None:
    from open_webui.models.models import ModelForm, ModelMeta, ModelParams, Models

    meta = ModelMeta(description="before", tags=[{"name": "kept"}])
    form = ModelForm(id="luna", name="Luna", meta=meta, params=ModelParams())
    await Models.insert_new_model(form, person.id)


async def add(person: Any, number: int) -> None:
    await write_tags(person, "luna", lambda tags: [*tags, f"cap:{number}"])


async def tags_of_many_at_once_are_all_there(person: Any) -> None:
    from open_webui.models.models import Models

    await asyncio.gather(*(add(person, number) for number in range(MANY)))
    entry = await Models.get_model_by_id("luna")
    tags = [tag["name"] for tag in entry.meta.model_dump()["tags"]]
    assert sorted(tags) == sorted(["kept", *(f"cap:{n}" for n in range(MANY))]), tags


async def what_others_save_meanwhile_stays(person: Any) -> None:
    """A tag that waits for an editor's save is put into what the editor has saved."""
    from open_webui.internal.db import get_async_db
    from open_webui.models.models import Model, Models
    from sqlalchemy import text

    async with get_async_db() as editor:
        await editor.execute(text("BEGIN IMMEDIATE"))
        adding = asyncio.create_task(add(person, MANY))
        stored = await editor.get(Model, "luna")
        # The tag's writer begins, and has to wait.
        for _ in range(1000):
            await asyncio.sleep(0)
        stored.name = "Luna the second"
        stored.meta = {**stored.meta, "description": "after"}
        await editor.commit()
    await adding
    entry = await Models.get_model_by_id("luna")
    assert (entry.name, entry.meta.description) == ("Luna the second", "after")
    assert {"name": f"cap:{MANY}"} in entry.meta.model_dump()["tags"]


def main() -> None:
    import open_webui.config  # noqa: F401 - brings the database up to date
    from open_webui.models.users import Users

    with asyncio.Runner() as runner:
        adding = Users.insert_new_user("u", "U", "u@example.org", role="admin")
        person = runner.run(adding)
        runner.run(new_model(person))
        runner.run(tags_of_many_at_once_are_all_there(person))
        runner.run(what_others_save_meanwhile_stays(person))


if __name__ == "__main__":
    main()
