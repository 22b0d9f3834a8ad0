"""Which models a picker offers, and in which order."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from shared.host.usable_models import UsableModel

TAG_PREFIX = "tag:"


def offered_models(
    models: Mapping[str, UsableModel], rule: str
) -> dict[str, UsableModel]:
    """The models that a rule lets through, hidden ones left out.

    An empty rule means all of them; otherwise it lists ids and tags, as in
    `gpt-5, tag:writing`, and a model needs to match one of these.
    """
    wanted = [part.strip() for part in rule.split(",") if part.strip()]
    tags = {
        part.removeprefix(TAG_PREFIX).strip().lower()
        for part in wanted
        if part.startswith(TAG_PREFIX)
    }
    return {
        model.id: model
        for model in models.values()
        if not model.meta.get("hidden")
        and (
            not wanted
            or model.id in wanted
            or tags.intersection(tag.lower() for tag in model.tags)
        )
    }


def in_picker_order(
    models: Iterable[UsableModel],
    current_id: str,
    recent: Sequence[str],
    answered: Collection[str] = (),
) -> list[UsableModel]:
    """Last chosen first, then those that share most tags with the current model.

    Models that have `answered` already come after the others, the current model last;
    models that are otherwise alike are in the order of their names.
    """
    listed = list(models)
    current_tags = {
        tag.lower() for model in listed if model.id == current_id for tag in model.tags
    }
    rank = {model_id: place for place, model_id in enumerate(recent)}

    def place(model: UsableModel) -> tuple[bool, bool, int, int, str, str]:
        shared_tags = current_tags.intersection(tag.lower() for tag in model.tags)
        return (
            model.id == current_id,
            model.id in answered,
            rank.get(model.id, len(rank)),
            -len(shared_tags),
            model.name.casefold(),
            model.id,
        )

    return sorted(listed, key=place)


def picker_labels(models: Sequence[UsableModel]) -> dict[str, str]:
    """A label for each id: the name, with the id where two have the same name."""
    names = [model.name for model in models]
    return {
        model.id: (
            model.name if names.count(model.name) == 1 else f"{model.name} ({model.id})"
        )
        for model in models
    }
