"""What an admin and a user can set."""

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

from pydantic import BaseModel, Field


class MemoryOptions(BaseModel):
    """The valves of the memory."""

    priority: int = Field(default=0, description="Filters run from low to high.")
    max_notes: int = Field(
        default=6, ge=1, le=20, description="Exchanges recalled at most for an answer."
    )
    token_budget: int = Field(
        default=1500, ge=100, description="Tokens that all notes together may take."
    )
    keep_exchanges: int = Field(
        default=0,
        ge=0,
        description="Send only the last N exchanges of a long chat to the model, and "
        "recall from the rest. 0 sends all. Has no effect in a turn without recall, or "
        "while Open WebUI's own context compaction is on.",
    )
    max_wait_ms: int = Field(
        default=400, ge=0, description="A recall that takes longer is left out."
    )
    max_chars: int = Field(
        default=12_000, ge=200, description="Longer texts are stored shortened."
    )
    barred_models: str = Field(
        default="",
        description="Models that never receive notes: ids or patterns such as gpt-*, "
        "divided by commas or spaces.",
    )
    bar_external_models: bool = Field(
        default=False,
        description="Models of connections marked as external never receive notes.",
    )
    backfill: bool = Field(
        default=True,
        description="Also index, slowly and in the background, the chats from before.",
    )


class PersonalMemoryOptions(BaseModel):
    """What each user decides for themselves."""

    remember: bool = Field(default=True, description="Store my conversations.")
    recall: bool = Field(
        default=True, description="Bring earlier exchanges back into my chats."
    )
    other_chats: bool = Field(
        default=True, description="Recall from my other chats too, not only this one."
    )


def is_barred(options: MemoryOptions, model: Mapping[str, Any]) -> bool:
    """Whether this model of Open WebUI's list may not be told notes.

    A workspace model is barred with the model it is based on.
    """
    info = model.get("info") or {}
    base = info.get("base_model_id") if isinstance(info, Mapping) else None
    ids = [str(one).lower() for one in (model.get("id"), base) if one]
    patterns = re.split(r"[,\s]+", options.barred_models.lower().strip())
    if any(fnmatch(one, pattern) for one in ids for pattern in patterns if pattern):
        return True
    return options.bar_external_models and model.get("connection_type") == "external"
