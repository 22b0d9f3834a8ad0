"""Roles: a model that is played by the first of several agents who can."""

import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from shared.agents.config import AgentConfig

SLOT_NAME = re.compile(r"primary|backup_[1-9]")
ROLE_KEYS = frozenset({"id", "name", "description", "access", "slots", "offer_slots"})


class RoleAgent(AgentConfig):
    """`slots` names the agents, `primary` first, then `backup_1`, `backup_2` and so on.

    `offer_slots`: each slot is a model of its own, too, which never falls back.
    """

    slots: dict[str, str] = Field(min_length=1)
    offer_slots: bool = False

    @model_validator(mode="before")
    @classmethod
    def _is_no_agent_itself(cls, data: Any) -> Any:
        if strange := sorted(str(key) for key in data.keys() - ROLE_KEYS):
            raise ValueError(f"an entry with `slots` has no `{strange[0]}`")
        return data

    @field_validator("slots")
    @classmethod
    def _are_in_order(cls, slots: dict[str, str]) -> dict[str, str]:
        if "primary" not in slots or not all(map(SLOT_NAME.fullmatch, slots)):
            raise ValueError(
                "the slots are `primary`, `backup_1`, `backup_2` and so on"
            )
        return {name: slots[name] for name in sorted(slots, key=slot_order)}


def slot_order(name: str) -> int:
    return 0 if name == "primary" else int(name.removeprefix("backup_"))
