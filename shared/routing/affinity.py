"""What makes two requests belong to one chat."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def affinity_key(
    user_id: str, chat_id: str, model: str, messages: Sequence[Mapping[str, Any]]
) -> str:
    """A hash of the chat; without one, of the model and how the conversation began.

    An API caller sends the whole conversation each time: its beginning, up to the
    first message of the user, is what an upstream has in its cache.
    """
    told: Any = chat_id
    if not chat_id:
        asked = [i for i, m in enumerate(messages) if m.get("role") == "user"]
        told = [dict(m) for m in messages[: asked[0] + 1 if asked else 1]]
    text = json.dumps([user_id, model, told], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=12).hexdigest()
