"""What the tags of models say: `cap:artist`, `rel:works-with:luna`, or just a word."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import AqueductError
from shared.host.usable_models import UsableModel

CAPABILITY_PREFIX = "cap:"
RELATION_PREFIX = "rel:"
# One word, or several joined by hyphens, in any script.
TAG_WORD = re.compile(r"[^\W_]+(-[^\W_]+)*")
TAG_WORD_LIMIT = 40
TAXONOMY_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Relation:
    """`relation` of a model to `target`, which is an id or a name as it was written."""

    relation: str
    target: str


def same_tags(tags: Iterable[str], tag: str) -> list[str]:
    """Those of the tags that are this one, in whatever case they are written."""
    wanted = tag.strip().casefold()
    return [each for each in tags if each.strip().casefold() == wanted]


def capability_in(tag: str) -> str | None:
    """The capability that a tag names, or None."""
    if not tag.casefold().startswith(CAPABILITY_PREFIX):
        return None
    return tag[len(CAPABILITY_PREFIX) :].strip() or None


def relation_in(tag: str, prefix: str = RELATION_PREFIX) -> Relation | None:
    """The relation that a tag names, or None; a target may contain colons."""
    if not tag.casefold().startswith(prefix.casefold()):
        return None
    relation, colon, target = tag[len(prefix) :].partition(":")
    if not colon or not relation.strip() or not target.strip():
        return None
    return Relation(relation.strip(), target.strip())


def capabilities_of(model: UsableModel) -> list[str]:
    return [name for tag in model.tags if (name := capability_in(tag))]


def carries_tag(model: UsableModel, tag: str) -> bool:
    """Whether a model has this tag, or the capability of this name, in any case."""
    wanted = tag.strip().casefold()
    own = {each.casefold() for each in model.tags}
    return bool(wanted) and (wanted in own or CAPABILITY_PREFIX + wanted in own)


def tag_word(text: str) -> str:
    """A capability or relation as it is written in a tag; else AqueductError."""
    word = re.sub(r"[\s_]+", "-", text.strip().casefold())
    if len(word) > TAG_WORD_LIMIT or not TAG_WORD.fullmatch(word):
        raise AqueductError("bad_tag", limit=TAG_WORD_LIMIT)
    return word


def taxonomy(models: Iterable[UsableModel]) -> dict[str, Any]:
    """How often each capability, relation and other tag occurs, most frequent first."""
    counted: dict[str, Counter[str]] = {
        "capabilities": Counter(),
        "relations": Counter(),
        "other_tags": Counter(),
    }
    untagged = total = 0
    for model in models:
        total += 1
        untagged += not model.tags
        for tag in model.tags:
            if capability := capability_in(tag):
                counted["capabilities"][capability] += 1
            elif relation := relation_in(tag):
                counted["relations"][relation.relation] += 1
            else:
                counted["other_tags"][tag] += 1
    most = {kind: in_order(found) for kind, found in counted.items()}
    return {"models": total, "untagged": untagged, **most}


def in_order(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent ones first, those that are alike by name."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0].casefold()))
    return dict(ordered[:TAXONOMY_LIMIT])
