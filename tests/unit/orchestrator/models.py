"""Models for the tests: id, name and tags."""

from __future__ import annotations

from typing import Any

from shared.host.usable_models import UsableModel


def model(model_id: str, *tags: str, name: str = "", **meta: Any) -> UsableModel:
    return UsableModel(model_id, name or model_id.capitalize(), "", tags, meta)


def by_id(*models: UsableModel) -> dict[str, UsableModel]:
    return {each.id: each for each in models}
