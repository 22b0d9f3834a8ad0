"""Which model is meant by a name, or is best for a tag."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from shared.errors import AqueductError
from shared.host.usable_models import UsableModel
from shared.orchestration.tags import capabilities_of, carries_tag, relation_in

CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class FoundModels:
    """`how` they match: exact, prefix, part or similar; the best kind there is."""

    how: str
    models: Sequence[UsableModel]


def offered_to_models(models: Mapping[str, UsableModel]) -> dict[str, UsableModel]:
    """The models without those that are hidden from lists."""
    return {key: model for key, model in models.items() if not model.meta.get("hidden")}


def find_models(models: Mapping[str, UsableModel], name: str) -> FoundModels:
    """The models that a name may mean, by id or name; a hidden one by its id only.

    Among a thousand models what is similar takes tens of milliseconds: call it, and
    `named_model`, in a thread.
    """
    wanted = name.strip().casefold()
    if name.strip() in models:
        return FoundModels("exact", [models[name.strip()]])
    offered = sorted(offered_to_models(models).values(), key=model_words)
    words = {model.id: model_words(model) for model in offered}
    tests = {
        "exact": lambda word: word == wanted,
        "prefix": lambda word: word.startswith(wanted),
        "part": lambda word: wanted in word,
    }
    for how, test in tests.items() if wanted else ():
        found = [model for model in offered if any(map(test, words[model.id]))]
        if found:
            return FoundModels(how, found)
    owners = {word: model for model in offered for word in words[model.id]}
    close = get_close_matches(wanted, owners, n=CANDIDATES, cutoff=0.6)
    similar = {owners[word].id: owners[word] for word in close}
    return FoundModels("similar", list(similar.values()))


def named_model(models: Mapping[str, UsableModel], name: str) -> UsableModel:
    """The one model that a name means; AqueductError with the candidates if none.

    What is merely similar is not taken for it: a message would go to the wrong model.
    """
    found = find_models(models, name)
    if len(found.models) == 1 and found.how != "similar":
        return found.models[0]
    candidates = [model.id for model in found.models[:CANDIDATES]]
    code = "unclear_model" if candidates else "no_such_model"
    raise AqueductError(code, model=name, candidates=", ".join(candidates))


def carriers_of(models: Iterable[UsableModel], tag: str) -> list[UsableModel]:
    """The models with this tag or capability, by name."""
    return sorted(
        (model for model in models if carries_tag(model, tag)), key=model_words
    )


def best_carrier(
    carriers: Sequence[UsableModel], caller: UsableModel | None
) -> UsableModel:
    """The best of several models that carry the same tag.

    First those to which the asking model has a relation; then the one with the fewest
    capabilities, since who can do one thing is there for it; then by name.
    """
    related = {
        relation.target.casefold()
        for tag in (caller.tags if caller else ())
        if (relation := relation_in(tag))
    }
    return min(
        carriers,
        key=lambda model: (
            related.isdisjoint(model_words(model)),
            len(capabilities_of(model)),
            model_words(model),
        ),
    )


def model_words(model: UsableModel) -> tuple[str, str]:
    """Name and id, for comparing and for sorting."""
    return (model.name.casefold(), model.id.casefold())
