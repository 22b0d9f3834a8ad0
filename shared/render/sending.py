"""Objects as they are sent."""

from collections.abc import Mapping
from typing import Any

from shared.json_text import dump_json


def server_sent(payload: Mapping[str, Any]) -> bytes:
    """One server-sent event with JSON as its data."""
    return b"data: " + dump_json(payload) + b"\n\n"
