"""Identifiers that we make."""

import uuid


def new_id(kind: str) -> str:
    """A new identifier such as `call_…`, as long as those of the OpenAI APIs."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"
