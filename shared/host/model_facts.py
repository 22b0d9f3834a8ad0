"""What Open WebUI's list of models tells of one, beyond its name and its tags."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AGENTS_PIPE_ID = "agents"
# As OpenRouter, Groq, vLLM and LM Studio name it in their lists of models.
CONTEXT_KEYS = (
    "context_length",
    "context_window",
    "max_model_len",
    "max_context_length",
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`context_size` is in tokens, None where the provider does not tell it."""

    context_size: int | None
    is_agent: bool
    base_model_id: str | None


def model_facts(request: Any, model_id: str) -> ModelFacts:
    """What is known of a model; of a workspace model, what is known of its base."""
    listed = request.app.state.MODELS
    model = listed.get(model_id) or {}
    base_id = (model.get("info") or {}).get("base_model_id")
    base = listed.get(base_id) if base_id else None
    return ModelFacts(
        context_size=told_context_size(model) or told_context_size(base or {}),
        is_agent=str(base_id or model_id).split(".")[0] == AGENTS_PIPE_ID
        and "pipe" in model,
        base_model_id=base_id,
    )


def told_context_size(model: Mapping[str, Any]) -> int | None:
    """The context size in a provider's own words about a model."""
    for place in (model, model.get("openai") or {}):
        for key in CONTEXT_KEYS:
            size = place.get(key)
            if isinstance(size, int) and size > 0:
                return size
    return None
