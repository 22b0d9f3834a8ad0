"""What an admin can set for tool-call recovery."""

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

from pydantic import BaseModel, Field

from shared.toolcalls.thoughts import ThoughtScan


class RecoveryOptions(BaseModel):
    """The valves of the recovery filter."""

    priority: int = Field(
        default=0,
        description="Filters run from low to high. Keep this one before filters that "
        "read the answer.",
    )
    leave_out: str = Field(
        default="",
        description="Families that are not recovered, such as pythonic, react; divided "
        "by commas or spaces.",
    )
    off_for_models: str = Field(
        default="",
        description="Models that are left alone: ids or patterns such as gpt-*, divided "
        "by commas or spaces.",
    )
    scan_thoughts: ThoughtScan = Field(
        default="auto",
        description="Recover calls from separate reasoning fields: of the families that "
        "call there (auto), of all (on), or not (off).",
    )
    show_status: bool = Field(
        default=True, description="Show a line when a call was recovered."
    )
    debug_log: bool = Field(
        default=False,
        description="Log each recovery: tool and family, never any text of the chat.",
    )

    def left_out(self) -> frozenset[str]:
        """The families that are not recovered."""
        return frozenset(_option_words(self.leave_out))

    def is_off_for(self, model: Mapping[str, Any]) -> bool:
        """Whether the admin left this model out, by its id or its name."""
        patterns = _option_words(self.off_for_models)
        names = [str(model.get(key) or "") for key in ("id", "name")]
        return any(fnmatch(name, pattern) for pattern in patterns for name in names)


def _option_words(text: str) -> list[str]:
    return text.replace(",", " ").split()
