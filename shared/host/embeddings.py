"""Open WebUI's embedding model."""

from collections.abc import Mapping, Sequence
from typing import Any


async def embedding_model_name() -> str:
    """Engine and name of the model an admin has set, such as "openai/text-3"."""
    from open_webui.models.config import Config

    found = await Config.get_many("rag.embedding_engine", "rag.embedding_model")
    engine, model = found.get("rag.embedding_engine"), found.get("rag.embedding_model")
    return f"{engine or 'local'}/{model or ''}"


async def embed_texts(
    texts: Sequence[str],
    user: Mapping[str, Any] | None = None,
    *,
    is_query: bool = False,
) -> list[list[float]] | None:
    """A vector for each text; None where no embedding model is there to be used.

    `user` is Open WebUI's `__user__`, for engines that pass a person on. Raises what the engine
    raises: an external one may be down.
    """
    from fastapi import HTTPException
    from open_webui.config import (
        RAG_EMBEDDING_CONTENT_PREFIX,
        RAG_EMBEDDING_QUERY_PREFIX,
    )
    from open_webui.main import app
    from open_webui.models.users import UserModel

    embed = getattr(app.state, "EMBEDDING_FUNCTION", None)
    if embed is None:
        return None
    prefix = RAG_EMBEDDING_QUERY_PREFIX if is_query else RAG_EMBEDDING_CONTENT_PREFIX
    person = None
    if user:
        person = UserModel(**{k: v for k, v in user.items() if k != "valves"})
    try:
        vectors = await embed(list(texts), prefix=prefix, user=person)
    except (ValueError, HTTPException):
        return None  # no model is loaded, or this is the slim image
    return [list(map(float, vector)) for vector in vectors] if vectors else None
