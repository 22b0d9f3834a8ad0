"""Sentences in the user's language."""

from collections.abc import Callable, Mapping
from typing import Any

Sentence = Callable[[str, Mapping[str, Any]], str]


class _Fields(dict[str, Any]):
    """Fields of a template: a missing one is left out, never an error."""

    def __missing__(self, key: str) -> str:
        return ""


def translate(
    table: Mapping[str, Mapping[str, str]],
    code: str,
    language: str,
    fields: Mapping[str, Any],
) -> str:
    """The sentence `code` of a table {code: {language: template}}.

    `language` is a BCP 47 tag such as "de-DE"; English where there is no
    translation. A `{detail}` that is empty takes its colon and brackets with it.
    """
    templates = table[code]
    template = templates.get(language.split("-")[0].lower()) or templates["en"]
    detail = str(fields.get("detail") or "")
    filled = _Fields(fields)
    filled["detail"] = f" ({detail})" if detail else ""
    for key, value in fields.items():
        if isinstance(value, float):
            filled[key] = f"{value:g}"
    return template.format_map(filled)
