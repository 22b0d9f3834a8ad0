"""What recovery tells a user."""

from collections.abc import Mapping
from typing import Any

from shared.texts import translate

RECOVERY_TEXTS: dict[str, dict[str, str]] = {
    "recovered": {
        "en": "Recovered a call to {tool}",
        "de": "Aufruf von {tool} wiederhergestellt",
        "es": "Se recuperó una llamada a {tool}",
        "fr": "Appel à {tool} récupéré",
        "zh": "已恢复对 {tool} 的调用",
    },
    "cut": {
        "en": "*(A tool call was cut off by the length limit and was not run.)*",
        "de": "*(Ein Werkzeugaufruf wurde durch die Längengrenze abgeschnitten und nicht ausgeführt.)*",
        "es": "*(El límite de longitud cortó una llamada a una herramienta; no se ejecutó.)*",
        "fr": "*(Un appel d'outil a été coupé par la limite de longueur et n'a pas été exécuté.)*",
        "zh": "*（工具调用因长度限制被截断，没有执行。）*",
    },
}


def recovery_sentence(code: str, metadata: Mapping[str, Any], **fields: Any) -> str:
    """The sentence `code` in the language of the request's user."""
    variables = metadata.get("variables")
    variables = variables if isinstance(variables, Mapping) else {}
    language = str(variables.get("{{USER_LANGUAGE}}") or "en")
    return translate(RECOVERY_TEXTS, code, language, fields)
