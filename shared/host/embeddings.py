"""Open WebUI's embedding model."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from shared.host.resources import shared_resource


async def embedding_model_name() -> str | None:
    """Engine and name of the model an admin has set, such as "openai/text-3".

    None where this process goes on with another one: all replicas read the name from
    their database, but only the one that was told of a change loads the new model.
    """
    from open_webui.main import app
    from open_webui.models.config import Config

    found = await Config.get_many("rag.embedding_engine", "rag.embedding_model")
    engine, model = found.get("rag.embedding_engine"), found.get("rag.embedding_model")
    name = f"{engine or 'local'}/{model or ''}"
    embed = getattr(app.state, "EMBEDDING_FUNCTION", None)
    kept: dict[str, Any] = shared_resource("embedding_model", dict)
    return name if embed is None or is_model_of(embed, name, kept) else None


def is_model_of(embed: Any, name: str, kept: dict[str, Any]) -> bool:
    """Whether this function may be the model of that name; `kept` knows the last one.

    A function that is new while the name is not tells nothing: Open WebUI loads a model
    first and writes its name down then.
    """
    is_known = "loaded" in kept and kept["loaded"]() is embed
    if not is_known and kept.get("name") != name:
        kept |= {"loaded": weakref.ref(embed), "name": name}
    return not is_known or kept["name"] == name


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
