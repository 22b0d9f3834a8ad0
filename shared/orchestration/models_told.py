"""What models are told about the other models."""

import asyncio
from collections.abc import Mapping
from typing import Any

from shared.host.dialogs import Emit
from shared.host.model_facts import model_facts
from shared.host.usable_models import UsableModel
from shared.orchestration.caller import Caller
from shared.orchestration.models_found import (
    CANDIDATES,
    carriers_of,
    find_models,
    model_words,
    offered_to_models,
)
from shared.orchestration.relation_picture import graph_page
from shared.orchestration.relations import model_graph
from shared.orchestration.tags import RELATION_PREFIX, carries_tag, taxonomy
from shared.orchestration.tool_results import clipped

PAGE_SIZE = 25
DESCRIPTION_LIMIT = 240


def describe_for_model(caller: Caller, model: UsableModel) -> dict[str, Any]:
    """A model in a few words; what is not known of it is left out."""
    facts = model_facts(caller.request, model.id)
    able = model.meta.get("capabilities") or {}
    told = {
        "id": model.id,
        "name": model.name,
        "description": clipped(model.description, DESCRIPTION_LIMIT),
        "tags": list(model.tags),
        "capabilities": [name for name, can in able.items() if can],
        "tools": list(model.meta.get("toolIds") or []),
        "context_size": facts.context_size,
        "agent": facts.is_agent,
        "you": model.id == caller.model_id,
    }
    return {key: value for key, value in told.items() if value or key in ("id", "name")}


async def told_models(
    caller: Caller, query: str | None, tag: str | None, page: int
) -> dict[str, Any]:
    """One page of the models that match, with their total."""
    words = (query or "").casefold().split()
    matching = sorted(
        (
            model
            for model in offered_to_models(await caller.models()).values()
            if (not tag or carries_tag(model, tag)) and has_words(model, words)
        ),
        key=model_words,
    )
    pages = max(1, -(-len(matching) // PAGE_SIZE))
    number = min(max(page, 1), pages)
    shown = matching[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
    return {
        "total": len(matching),
        "page": number,
        "pages": pages,
        "models": [describe_for_model(caller, model) for model in shown],
    }


def has_words(model: UsableModel, words: list[str]) -> bool:
    text = " ".join([model.id, model.name, model.description, *model.tags]).casefold()
    return all(word in text for word in words)


async def told_carriers(caller: Caller, tag: str) -> dict[str, Any]:
    """The models that carry a tag or capability."""
    offered = offered_to_models(await caller.models()).values()
    carriers = carriers_of(offered, tag)
    return {
        "total": len(carriers),
        "models": [describe_for_model(caller, each) for each in carriers[:PAGE_SIZE]],
    }


async def told_match(caller: Caller, name: str) -> dict[str, Any]:
    """The one model that a name means, or the candidates."""
    found = await asyncio.to_thread(find_models, await caller.models(), name)
    told = [describe_for_model(caller, each) for each in found.models[:CANDIDATES]]
    if len(found.models) == 1:
        return {"match": found.how, "model": told[0]}
    how = found.how if told else "none"
    return {"match": how, "total": len(found.models), "candidates": told}


async def told_graph(caller: Caller, prefix: str | None) -> dict[str, Any]:
    """Who is related to whom; the user sees a picture of it above the answer."""
    offered = offered_to_models(await caller.models())
    graph = model_graph(offered, prefix or RELATION_PREFIX)
    told: dict[str, Any] = graph.as_json()
    if graph.nodes and caller.emit is not None and caller.chat_id:
        page = graph_page(
            graph, caller.text("graph_title"), caller.text("graph_unknown")
        )
        await show_picture(caller.emit, page)
        told["picture"] = "The user sees the graph as a picture; do not draw it again."
    return told


async def show_picture(emit: Emit, page: str) -> None:
    await emit({"type": "embeds", "data": {"embeds": [page]}})


async def told_taxonomy(caller: Caller) -> Mapping[str, Any]:
    """How tags are spread over the models that the user may use."""
    return taxonomy(offered_to_models(await caller.models()).values())
